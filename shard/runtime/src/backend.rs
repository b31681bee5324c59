//! Questions to the application's backends: shards ask, the control plane answers. Both travel in batches, because waking a thread
//! costs more than a question.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use ringcast_state::proxy::{ProxyAnswer, ProxyQuestion};
use ringcast_state::{RequestId, Shard, ShardId};

use crate::pool::{Control, Line};

/// Batches of all shards that wait for the control plane; more wait in the shards.
const BATCHES_MAX: usize = 1024;

/// Questions in a batch.
const BATCH_MAX: usize = 256;

/// Who asks, and what.
pub type Questions = (ShardId, Vec<ProxyQuestion>);

/// What came of some questions of one shard.
pub type Answers = Vec<(RequestId, ProxyAnswer)>;

/// Where the shards ask backends.
pub struct BackendLine {
    questions: Receiver<Questions>,
    line: Line,
}

impl BackendLine {
    pub(crate) fn new(questions: Receiver<Questions>, line: Line) -> Self {
        Self { questions, line }
    }

    /// Batches of questions, and who asks; the end comes when the shards have ended. Bound: 1024 batches of 256 questions. The shards
    /// give up those that are not answered in time, taken out or not.
    pub fn questions(&self) -> &Receiver<Questions> {
        &self.questions
    }

    /// Answers questions of a shard, with one wake for all of them. Every question wants one answer, of whatever kind.
    pub fn answer(&self, shard: ShardId, answers: Answers) {
        self.line.tell(shard, Control::Backend(answers));
    }
}

/// The way of questions from the shards.
pub(crate) fn channel() -> (Sender<Questions>, Receiver<Questions>) {
    bounded(BATCHES_MAX)
}

/// Takes a shard's questions to the control plane.
pub(crate) struct BackendDesk {
    shard: ShardId,
    questions: Sender<Questions>,
    /// There was no room for it.
    held: Option<Questions>,
}

impl BackendDesk {
    pub fn new(shard: ShardId, questions: Sender<Questions>) -> Self {
        Self { shard, questions, held: None }
    }

    /// Sends what a turn asked.
    pub fn ask(&mut self, state: &mut Shard) {
        while let Some(batch) = self.held.take().or_else(|| self.next_batch(state)) {
            if let Err(TrySendError::Full(batch)) = self.questions.try_send(batch) {
                self.held = Some(batch);
                return;
            }
        }
    }

    fn next_batch(&self, state: &mut Shard) -> Option<Questions> {
        let first = state.take_proxy_question()?;
        let mut batch = vec![first];
        batch.extend(std::iter::from_fn(|| state.take_proxy_question()).take(BATCH_MAX - 1));
        Some((self.shard, batch))
    }
}
