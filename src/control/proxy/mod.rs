//! Proxies: asks the application's backends what the shards want to know, over HTTP and GRPC. On threads of the control plane,
//! each with connections of its own; a backend that hangs delays nobody but those who wait for it. Source: behaviour §9.

mod answers;
mod backend;
mod client;
mod grpc;
mod http;
mod question;

pub use backend::{BackendOptions, GrpcBackend, HttpBackend, StatusTransform};

use answers::AnswerDesk;
use backend::Backend;
use ringcast_proto::proxy::ProxyReply;
use ringcast_runtime::{BackendLine, Questions};
use ringcast_state::ShardId;
use ringcast_state::proxy::{ProxyAnswer, ProxyQuestion};
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

/// The running threads; they end with the shards.
pub struct Proxy {
    backends: Vec<Arc<RwLock<Backends>>>,
}

impl Proxy {
    /// Answers the shards from now on.
    pub fn start(options: &[Option<BackendOptions>], line: BackendLine) -> io::Result<Self> {
        let line = Arc::new(line);
        let threads = thread::available_parallelism()?.get().min(THREADS_MAX);
        let backends = (0..threads).map(|number| start_thread(number, options, line.clone()));
        Ok(Self { backends: backends.collect::<io::Result<_>>()? })
    }

    /// Asks other backends from now on. What is asked already comes to its end.
    pub fn set_options(&self, options: &[Option<BackendOptions>]) {
        for backends in &self.backends {
            *backends.write().unwrap_or_else(PoisonError::into_inner) = open(options);
        }
    }
}

fn open(options: &[Option<BackendOptions>]) -> Backends {
    options.iter().map(|options| options.clone().map(|options| Arc::new(Backend::new(options)))).collect()
}

fn start_thread(
    number: usize,
    options: &[Option<BackendOptions>],
    line: Arc<BackendLine>,
) -> io::Result<Arc<RwLock<Backends>>> {
    let backends = Arc::new(RwLock::new(open(options)));
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
    let asked = backends.clone();
    thread::Builder::new()
        .name(format!("proxy-{number}"))
        .spawn(move || runtime.block_on(run(batches, asked, line)))?;
    Ok(backends)
}

async fn run(mut batches: Receiver<Questions>, backends: Arc<RwLock<Backends>>, line: Arc<BackendLine>) {
    let answers = Arc::new(AnswerDesk::new(line));
    while let Some((shard, questions)) = batches.recv().await {
        for question in questions {
            let known = backends.read().unwrap_or_else(PoisonError::into_inner);
            let backend = known.get(usize::from(question.proxy.0)).cloned().flatten();
            drop(known);
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
        let reply: Option<ProxyReply> = backend.ask(question::encode(question)).await;
        drop(place);
        answers.add(shard, request, reply.map_or(ProxyAnswer::Failed, question::answer));
    });
}
