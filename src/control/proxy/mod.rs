//! Proxies: asks the application's backends what the shards want to know, over HTTP and GRPC. On threads of the control plane,
//! each with connections of its own; a backend that hangs delays nobody but those who wait for it. Source: behaviour §9.

mod answers;
mod backend;
mod client;
mod forward;
mod grpc;
mod http;
mod meter;
mod question;
mod stream;

pub use backend::{BackendOptions, GrpcBackend, HttpBackend, StatusTransform};
pub use forward::{Forwarding, metadata};
pub use meter::{MeterSnapshot, Meters};

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

/// Where a thread finds backends.
#[derive(Clone)]
pub struct Directory(Arc<RwLock<Lists>>);

impl Directory {
    /// None, and a warning, where there is none.
    fn find(&self, proxy: (ProxyListId, ProxyId)) -> Option<Arc<Backend>> {
        let backend = self.0.read().unwrap_or_else(PoisonError::into_inner).find(proxy);
        if backend.is_none() {
            warn!("a proxy is asked that has no endpoint");
        }
        backend
    }
}

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
    threads: Vec<Directory>,
    id: ProxyListId,
    meters: Arc<Meters>,
}

impl Proxy {
    /// Answers the shards from now on.
    pub fn start(options: Vec<Option<BackendOptions>>, line: BackendLine) -> io::Result<Self> {
        let meters = Arc::default();
        let mut proxy = Self { line: Arc::new(line), threads: Vec::new(), id: ProxyListId(0), meters };
        proxy.start_threads(&options)?;
        Ok(proxy)
    }

    /// What is counted of the backends, those of earlier lists included.
    pub fn meters(&self) -> Arc<Meters> {
        self.meters.clone()
    }

    /// Asks other backends from now on: the list that is returned. What is asked already comes to its end.
    pub fn set_options(&mut self, options: Vec<Option<BackendOptions>>) -> io::Result<ProxyListId> {
        self.id = ProxyListId(self.id.0.wrapping_add(1));
        if self.threads.is_empty() {
            self.start_threads(&options)?;
        }
        for Directory(lists) in &self.threads {
            let mut lists = lists.write().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::replace(&mut lists.now, open(&options, &self.meters));
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
            let (directory, line) = (self.directory(options), self.line.clone());
            let batches = pump(format!("proxy-in-{number}"), line.questions())?;
            start_thread(format!("proxy-{number}"), run(batches, directory, Arc::new(AnswerDesk::new(line))))?;
        }
        let (directory, line) = (self.directory(options), self.line.clone());
        let acts = pump("proxy-in-s".to_owned(), line.acts())?;
        start_thread("proxy-streams".to_owned(), stream::run(acts, directory, Arc::new(AnswerDesk::new(line))))
    }

    /// For a thread, with connections of its own.
    fn directory(&mut self, options: &[Option<BackendOptions>]) -> Directory {
        let lists = Lists { id: self.id, now: open(options, &self.meters), before: Vec::new() };
        let directory = Directory(Arc::new(RwLock::new(lists)));
        self.threads.push(directory.clone());
        directory
    }
}

fn open(options: &[Option<BackendOptions>], meters: &Arc<Meters>) -> Backends {
    let backend = |options: &BackendOptions| Arc::new(Backend::new(options.clone(), meters.clone()));
    options.iter().map(|options| options.as_ref().map(backend)).collect()
}

/// Waits for the shards where tokio cannot, on a thread.
fn pump<T: Send + 'static>(name: String, batches: &crossbeam_channel::Receiver<T>) -> io::Result<Receiver<T>> {
    let (sender, receiver) = mpsc::channel(BATCHES_MAX);
    let batches = batches.clone();
    thread::Builder::new().name(name).spawn(move || {
        while let Ok(batch) = batches.recv() {
            if sender.blocking_send(batch).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn start_thread(name: String, work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    thread::Builder::new().name(name).spawn(move || runtime.block_on(work))?;
    Ok(())
}

async fn run(mut batches: Receiver<Questions>, directory: Directory, answers: Arc<AnswerDesk>) {
    while let Some((shard, questions)) = batches.recv().await {
        for question in questions {
            let backend = directory.find(question.proxy);
            ask(shard, question, backend, &answers);
        }
    }
}

fn ask(shard: ShardId, question: ProxyQuestion, backend: Option<Arc<Backend>>, answers: &Arc<AnswerDesk>) {
    let request = question.request;
    let Some(backend) = backend else { return answers.add(shard, request, ProxyAnswer::Failed) };
    let Some(place) = backend.take_place() else { return answers.add(shard, request, ProxyAnswer::Failed) };
    let answers = answers.clone();
    tokio::spawn(async move {
        let reply: Option<ProxyReply> = backend.ask(question).await;
        drop(place);
        answers.add(shard, request, reply.map_or(ProxyAnswer::Failed, question::answer));
    });
}
