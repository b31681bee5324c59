//! Answers on their way to the shards: those that are there at the same time travel together, for waking a shard costs more.

use ringcast_runtime::{Answers, BackendLine, News};
use ringcast_state::proxy::{ProxyAnswer, StreamId, StreamNews};
use ringcast_state::{RequestId, ShardId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The answers of one thread. Bound: the requests in flight of its backends, and what its streams may say, as tasks that can run do run
/// before it is emptied.
pub struct AnswerDesk {
    line: Arc<BackendLine>,
    waiting: Mutex<BTreeMap<ShardId, (Answers, News)>>,
}

impl AnswerDesk {
    pub fn new(line: Arc<BackendLine>) -> Self {
        Self { line, waiting: Mutex::default() }
    }

    /// Takes an answer along. Called on the thread that runs tokio.
    pub fn add(self: &Arc<Self>, shard: ShardId, request: RequestId, answer: ProxyAnswer) {
        self.put(shard, |(answers, _)| answers.push((request, answer)));
    }

    /// Takes something along that was said on a stream; likewise.
    pub fn tell(self: &Arc<Self>, shard: ShardId, stream: StreamId, news: StreamNews) {
        self.put(shard, |(_, all)| all.push((stream, news)));
    }

    fn put(self: &Arc<Self>, shard: ShardId, put: impl FnOnce(&mut (Answers, News))) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = waiting.is_empty();
        put(waiting.entry(shard).or_default());
        if is_first {
            let own = self.clone();
            // Its turn comes after that of the tasks whose answers are there as well.
            tokio::spawn(async move { own.send() });
        }
    }

    fn send(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for (shard, (answers, news)) in waiting {
            if !answers.is_empty() {
                self.line.answer(shard, answers);
            }
            if !news.is_empty() {
                self.line.tell(shard, news);
            }
        }
    }
}
