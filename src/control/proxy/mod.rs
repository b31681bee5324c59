//! Proxies: asks the application's backends what the shards want to know, over HTTP and GRPC. On threads of the control plane,
//! each with connections of its own; a backend that hangs delays nobody but those who wait for it. Source: behaviour §9.

mod answers;
mod backend;
mod client;
mod forward;
mod grpc;
mod http;
mod question;

pub use backend::{BackendOptions, GrpcBackend, HttpBackend, StatusTransform};
pub use forward::Forwarding;

use answers::AnswerDesk;
use backend::Backend;
use ringcast_proto::proxy::ProxyReply;
use ringcast_runtime::{BackendLine, Questions};
use ringcast_state::ShardId;
use ringcast_state::proxy::{ProxyAnswer, ProxyId, ProxyListId, ProxyQuestion};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{self, Receiver};
use tracing::warn;

/// Threads that ask: one can ask some ten thousand times a second.
const THREADS_MAX: usize = 4;

/// Batches that wait for a thread; the others wait in the line, which is bounded, too.
const BATCHES_MAX: usize = 16;

/// By the ids that the shards name.
type Backends = Vec<Option<Arc<Backend>>>;

/// What a thread asks: the list that counts, and the one before it, which questions on their way may mean. Older ones, which a reload
/// right after another leaves behind, fail.
struct Lists {
    id: ProxyListId,
    now: Backends,
    before: Backends,
}

impl Lists {
    fn find(&self, (list, proxy): (ProxyListId, ProxyId)) -> Option<Arc<Backend>> {
        let list = if list == self.id {
            &self.now
        } else if list.0.checked_add(1) == Some(self.id.0) {
            &self.before
        } else {
            return None;
        };
        list.get(usize::from(proxy.0)).cloned().flatten()
    }
}

/// Asks. Its threads start with the first proxy that is configured, and end with the shards.
pub struct Proxy {
    line: Arc<BackendLine>,
    threads: Vec<Arc<RwLock<Lists>>>,
    id: ProxyListId,
}

impl Proxy {
    /// Answers the shards from now on.
    pub fn start(options: Vec<Option<BackendOptions>>, line: BackendLine) -> io::Result<Self> {
        let mut proxy = Self { line: Arc::new(line), threads: Vec::new(), id: ProxyListId(0) };
        proxy.start_threads(&options)?;
        Ok(proxy)
    }

    /// Asks other backends from now on: the list that is returned. What is asked already comes to its end.
    pub fn set_options(&mut self, options: Vec<Option<BackendOptions>>) -> io::Result<ProxyListId> {
        self.id = ProxyListId(self.id.0.wrapping_add(1));
        if self.threads.is_empty() {
            self.start_threads(&options)?;
        }
        for lists in &self.threads {
            let mut lists = lists.write().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::replace(&mut lists.now, open(&options));
            *lists = Lists { id: self.id, now: std::mem::take(&mut lists.now), before };
        }
        Ok(self.id)
    }

    fn start_threads(&mut self, options: &[Option<BackendOptions>]) -> io::Result<()> {
        if options.iter().all(Option::is_none) {
            return Ok(());
        }
        let count = thread::available_parallelism()?.get().min(THREADS_MAX);
        for number in 0..count {
            let lists = Lists { id: self.id, now: open(options), before: Vec::new() };
            self.threads.push(start_thread(number, lists, self.line.clone())?);
        }
        Ok(())
    }
}

fn open(options: &[Option<BackendOptions>]) -> Backends {
    options.iter().map(|options| options.clone().map(|options| Arc::new(Backend::new(options)))).collect()
}

fn start_thread(number: usize, lists: Lists, line: Arc<BackendLine>) -> io::Result<Arc<RwLock<Lists>>> {
    let lists = Arc::new(RwLock::new(lists));
    let (sender, batches) = mpsc::channel(BATCHES_MAX);
    let questions = line.questions().clone();
    // Waits where tokio cannot.
    thread::Builder::new().name(format!("proxy-in-{number}")).spawn(move || {
        while let Ok(batch) = questions.recv() {
            if sender.blocking_send(batch).is_err() {
                return;
            }
        }
    })?;
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let asked = lists.clone();
    thread::Builder::new()
        .name(format!("proxy-{number}"))
        .spawn(move || runtime.block_on(run(batches, asked, line)))?;
    Ok(lists)
}

async fn run(mut batches: Receiver<Questions>, lists: Arc<RwLock<Lists>>, line: Arc<BackendLine>) {
    let answers = Arc::new(AnswerDesk::new(line));
    while let Some((shard, questions)) = batches.recv().await {
        for question in questions {
            let backend = lists.read().unwrap_or_else(PoisonError::into_inner).find(question.proxy);
            ask(shard, question, backend, &answers);
        }
    }
}

fn ask(shard: ShardId, question: ProxyQuestion, backend: Option<Arc<Backend>>, answers: &Arc<AnswerDesk>) {
    let request = question.request;
    let Some(backend) = backend else {
        warn!("a proxy is asked that has no endpoint");
        return answers.add(shard, request, ProxyAnswer::Failed);
    };
    let Some(place) = backend.take_place() else { return answers.add(shard, request, ProxyAnswer::Failed) };
    let answers = answers.clone();
    tokio::spawn(async move {
        let reply: Option<ProxyReply> = backend.ask(question).await;
        drop(place);
        answers.add(shard, request, reply.map_or(ProxyAnswer::Failed, question::answer));
    });
}
