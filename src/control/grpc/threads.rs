//! The threads that speak GRPC. Each runs its own connections: a task that it wakes waits until those before it have run, so that
//! what many requests cause leaves together.

use std::io;
use std::thread;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Running threads. They end when this is dropped.
pub struct Threads {
    threads: Vec<Thread>,
}

struct Thread {
    runtime: Handle,
    /// Dropped to end it.
    _end: oneshot::Sender<()>,
}

impl Threads {
    /// Starts one for each core.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism()?.get();
        Ok(Self { threads: (0..count).map(Thread::start).collect::<Result<_, _>>()? })
    }

    /// What runs on them.
    pub fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.threads.iter().map(|thread| &thread.runtime)
    }

    /// The first.
    pub fn first(&self) -> &Handle {
        &self.threads[0].runtime
    }
}

impl Thread {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let (end, ended) = oneshot::channel();
        let handle = runtime.handle().clone();
        thread::Builder::new().name(format!("grpc-{number}")).spawn(move || {
            // The sender says nothing and is dropped.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { runtime: handle, _end: end })
    }
}
