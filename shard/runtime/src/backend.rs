//! Questions to the application's backends, and streams of theirs: shards ask, the control plane answers. Both travel in batches, because
//! waking a thread costs more than a question.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use ringcast_state::proxy::{ProxyAnswer, ProxyQuestion, StreamAct, StreamId, StreamNews};
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

/// What one shard has done about streams, in this order.
pub type Acts = (ShardId, Vec<StreamAct>);

/// What was said on streams of one shard.
pub type News = Vec<(StreamId, StreamNews)>;

/// Where the shards ask backends.
pub struct BackendLine {
    ends: Ends,
    line: Line,
}

/// What comes from the shards.
#[derive(Clone)]
pub(crate) struct Ends {
    questions: Receiver<Questions>,
    acts: Receiver<Acts>,
}

/// Where the shards put it.
#[derive(Clone)]
pub(crate) struct Beginnings {
    questions: Sender<Questions>,
    acts: Sender<Acts>,
}

impl BackendLine {
    pub(crate) fn new(ends: Ends, line: Line) -> Self {
        Self { ends, line }
    }

    /// Batches of questions, and who asks; the end comes when the shards have ended. Bound: 1024 batches of 256 questions. The shards
    /// give up those that are not answered in time, taken out or not.
    pub fn questions(&self) -> &Receiver<Questions> {
        &self.ends.questions
    }

    /// Batches of acts about streams, and whose they are; as `questions`. Those of a shard come in their order, so that one thread is to
    /// take them out.
    pub fn acts(&self) -> &Receiver<Acts> {
        &self.ends.acts
    }

    /// Answers questions of a shard, with one wake for all of them. Every question wants one answer, of whatever kind.
    pub fn answer(&self, shard: ShardId, answers: Answers) {
        self.line.tell(shard, Control::Backend(answers));
    }

    /// Tells a shard what was said on its streams. Each may say as much as it was allowed to.
    pub fn tell(&self, shard: ShardId, news: News) {
        self.line.tell(shard, Control::Streams(news));
    }
}

/// The way from the shards.
pub(crate) fn channel() -> (Beginnings, Ends) {
    let ((to_questions, questions), (to_acts, acts)) = (bounded(BATCHES_MAX), bounded(BATCHES_MAX));
    (Beginnings { questions: to_questions, acts: to_acts }, Ends { questions, acts })
}

/// Takes a shard's questions to the control plane.
pub(crate) struct BackendDesk {
    shard: ShardId,
    to: Beginnings,
    /// There was no room for it.
    held: Option<Questions>,
    /// Likewise.
    held_acts: Option<Acts>,
}

impl BackendDesk {
    pub fn new(shard: ShardId, to: Beginnings) -> Self {
        Self { shard, to, held: None, held_acts: None }
    }

    /// Sends what a turn asked.
    pub fn ask(&mut self, state: &mut Shard) {
        while let Some(batch) = self.held.take().or_else(|| self.next_batch(state)) {
            if let Err(TrySendError::Full(batch)) = self.to.questions.try_send(batch) {
                self.held = Some(batch);
                return;
            }
        }
    }

    /// Sends what a turn did about streams, its writes included.
    pub fn act(&mut self, state: &mut Shard) {
        while let Some(batch) = self.held_acts.take().or_else(|| self.next_acts(state)) {
            if let Err(TrySendError::Full(batch)) = self.to.acts.try_send(batch) {
                self.held_acts = Some(batch);
                return;
            }
        }
    }

    fn next_acts(&self, state: &mut Shard) -> Option<Acts> {
        let first = state.take_stream_act()?;
        let mut batch = vec![first];
        batch.extend(std::iter::from_fn(|| state.take_stream_act()).take(BATCH_MAX - 1));
        Some((self.shard, batch))
    }

    fn next_batch(&self, state: &mut Shard) -> Option<Questions> {
        let first = state.take_proxy_question()?;
        let mut batch = vec![first];
        batch.extend(std::iter::from_fn(|| state.take_proxy_question()).take(BATCH_MAX - 1));
        Some((self.shard, batch))
    }
}
