//! Answers on their way to the shards: those that are there at the same time travel together, for waking a shard costs more.

use ringcast_runtime::{Answers, BackendLine};
use ringcast_state::proxy::ProxyAnswer;
use ringcast_state::{RequestId, ShardId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The answers of one thread. Bound: the requests in flight of its backends, as tasks that can run do run before it is emptied.
pub struct AnswerDesk {
    line: Arc<BackendLine>,
    waiting: Mutex<BTreeMap<ShardId, Answers>>,
}

impl AnswerDesk {
    pub fn new(line: Arc<BackendLine>) -> Self {
        Self { line, waiting: Mutex::default() }
    }

    /// Takes an answer along. Called on the thread that runs tokio.
    pub fn add(self: &Arc<Self>, shard: ShardId, request: RequestId, answer: ProxyAnswer) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = waiting.is_empty();
        waiting.entry(shard).or_default().push((request, answer));
        if is_first {
            let own = self.clone();
            // Its turn comes after that of the tasks whose answers are there as well.
            tokio::spawn(async move { own.send() });
        }
    }

    fn send(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for (shard, answers) in waiting {
            self.line.answer(shard, answers);
        }
    }
}
