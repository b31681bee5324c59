//! What is told to the shards: collected while a batch is worked off, told once.

use super::answer::{self, Expected};
use super::replicas::AtReplica;
use ringcast_proto::control::Body;
use ringcast_proto::redis::Value;
use ringcast_state::broker::{BrokerAnswer, BrokerError, BrokerEvent, BrokerNews, BrokerRequest, Teller};
use ringcast_state::{RequestId, ShardId};
use tokio::sync::oneshot;

/// Who hears answers and events.
pub trait Listener: Send + Sync + 'static {
    /// The shard that a channel's events are for.
    fn home(&self, channel: &str) -> ShardId;
    /// Tells one shard, in this order.
    fn tell(&self, shard: ShardId, news: Vec<BrokerNews>);
}

/// Who asked.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The shard.
    pub shard: ShardId,
    /// Its name for the question.
    pub request: RequestId,
}

/// Whom an answer of Redis is for.
pub enum Recipient {
    /// A shard.
    Shard(Asker),
    /// Wants to know whether it was done.
    Teller(Told),
    /// A shard, which the master answers where a replica does not.
    Reader(Box<AtReplica>),
    /// Nobody: what we ask for ourselves.
    Nobody,
}

impl Recipient {
    /// Hands over the answer.
    pub fn answer(self, expected: Expected, value: Value, news: &mut News) {
        match self {
            Recipient::Shard(asker) => news.answer(asker, answer::read(expected, value)),
            Recipient::Reader(reader) if matches!(value, Value::Error(_) | Value::Null) => reader.ask_master(),
            Recipient::Reader(reader) => news.answer(reader.reading.asker, answer::read(expected, value)),
            Recipient::Teller(told) => told.tell(!matches!(value, Value::Error(_)), news),
            Recipient::Nobody => (),
        }
    }

    /// There will be none.
    pub fn refuse(self, news: &mut News) {
        match self {
            Recipient::Shard(asker) => news.refuse(asker),
            Recipient::Reader(reader) => reader.ask_master(),
            Recipient::Teller(told) => told.tell(false, news),
            Recipient::Nobody => (),
        }
    }
}

/// Who wants to know whether a message was taken.
pub enum Told {
    /// A probe; dropped where it was not.
    Probe(oneshot::Sender<()>),
    /// A shard.
    Shard(ShardId, Teller),
}

impl Told {
    /// Tells it.
    pub fn tell(self, is_told: bool, news: &mut News) {
        match self {
            // Whoever waited may have given up.
            Told::Probe(probe) if is_told => drop(probe.send(())),
            Told::Probe(_) => (),
            Told::Shard(shard, teller) => news.add(shard, BrokerNews::Told(teller, is_told)),
        }
    }
}

/// A question and who asked it.
pub struct Question {
    /// The shard.
    pub shard: ShardId,
    /// The question.
    pub asked: BrokerRequest,
}

impl Question {
    /// Who asked.
    pub fn asker(&self) -> Asker {
        Asker { shard: self.shard, request: self.asked.request }
    }
}

/// News of one batch, for each shard that there are any for.
#[derive(Default)]
pub struct News(Vec<(ShardId, Vec<BrokerNews>)>);

impl News {
    /// Adds the answer to a question.
    pub fn answer(&mut self, asker: Asker, answer: BrokerAnswer) {
        self.add(asker.shard, BrokerNews::Answer(asker.request, answer));
    }

    /// Answers that Redis cannot be reached, or failed.
    pub fn refuse(&mut self, asker: Asker) {
        self.answer(asker, BrokerAnswer::Failed(BrokerError::Unavailable));
    }

    /// Adds an event for a shard.
    pub fn event(&mut self, shard: ShardId, event: BrokerEvent) {
        self.add(shard, BrokerNews::Event(event));
    }

    /// Adds a command of another node.
    pub fn command(&mut self, shard: ShardId, body: Body) {
        self.add(shard, BrokerNews::Command(Box::new(body)));
    }

    fn add(&mut self, shard: ShardId, news: BrokerNews) {
        match self.0.iter_mut().find(|(other, _)| *other == shard) {
            Some((_, list)) => list.push(news),
            None => self.0.push((shard, vec![news])),
        }
    }

    /// Tells all of it.
    pub fn tell(&mut self, listener: &dyn Listener) {
        for (shard, news) in self.0.drain(..) {
            listener.tell(shard, news);
        }
    }
}
