//! Between the shards and the broker that orders channels for several nodes. Its driver runs on the control plane. Questions
//! go there and news come back in batches, because waking a thread costs more than a question.

use std::sync::{Arc, OnceLock};

use ringcast_proto::control::Command;
use ringcast_state::broker::{BrokerNews, BrokerRequest, NodeMessage};
use ringcast_state::{Compass, ShardId};

use crate::pool::{Control, Line};

/// Whoever asks the broker for the shards.
pub trait BrokerDriver: Send + Sync {
    /// Takes the questions of one turn of a shard, in the order of their asking. Called on the shard's thread: must not wait.
    ///
    /// Bound: a shard has `Limits::broker_requests_max` questions without an answer, and gives each up after
    /// `Limits::request_timeout`.
    fn take(&self, shard: ShardId, requests: Vec<BrokerRequest>);

    /// Tells other nodes what a shard has to say to them, for as long as the broker can be reached, and then whoever wants to know it
    /// whether that worked. Called as `take`.
    ///
    /// Bound: each follows from a call of the server API or is part of a survey, and these are bounded.
    fn tell_nodes(&self, shard: ShardId, messages: Vec<NodeMessage>);
}

/// Tells the shards what the broker says, from any thread.
#[derive(Clone)]
pub struct BrokerLine {
    line: Line,
    compass: Compass,
    desk: BrokerDesk,
}

/// Where the shards find the driver, once there is one.
#[derive(Clone, Default)]
pub(crate) struct BrokerDesk(Arc<OnceLock<Arc<dyn BrokerDriver>>>);

impl BrokerDesk {
    pub fn driver(&self) -> Option<&dyn BrokerDriver> {
        self.0.get().map(AsRef::as_ref)
    }
}

impl BrokerLine {
    pub(crate) fn new(line: Line, compass: Compass, desk: BrokerDesk) -> Self {
        Self { line, compass, desk }
    }

    /// From now on the driver gets the questions; those asked before fail. False if there is a driver already.
    pub fn serve(&self, driver: Arc<dyn BrokerDriver>) -> bool {
        self.desk.0.set(driver).is_ok()
    }

    /// The shard that a channel's events are for. Answers go to whoever asked.
    pub fn home(&self, channel: &str) -> ShardId {
        self.compass.home(channel)
    }

    /// A question or an answer of another node, for the shard that it is for.
    pub fn tell_survey(&self, command: Command) {
        if let Some(shard) = self.compass.addressee(&command) {
            self.tell(shard, vec![BrokerNews::Survey(Box::new(command))]);
        }
    }

    /// The same news for every shard.
    pub fn tell_all(&self, news: &BrokerNews) {
        self.line.tell_all(|| Control::Broker(vec![news.clone()]));
    }

    /// News for one shard, taken in this order: one message and one wake. News told by one thread keep their order.
    pub fn tell(&self, shard: ShardId, news: Vec<BrokerNews>) {
        self.line.tell(shard, Control::Broker(news));
    }
}
