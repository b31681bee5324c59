//! Which broker joins the nodes, and who keeps presence: one of the drivers, or one for each of the two.

use super::nats::{self, Nats, NatsOptions};
use super::node::{self, Identity, Membership, Speaker};
use super::redis::{self, Listener, Redis, RedisOptions};
use crossbeam_channel::Receiver;
use ringcast_proto::control::Command;
use ringcast_runtime::{BrokerDriver, BrokerLine, Pool};
use ringcast_state::ShardId;
use ringcast_state::broker::{BrokerAsk, BrokerNews, BrokerRequest, NodeMessage};
use std::io;
use std::sync::{Arc, OnceLock};

/// What is configured; nothing where the memory of this process is enough.
pub struct EngineOptions {
    /// Config group `broker.nats`, where it is the broker.
    pub nats: Option<NatsOptions>,
    /// Where it is the broker.
    pub redis: Option<RedisOptions>,
    /// Who keeps presence, where that is neither the broker nor the memory of each node.
    pub presence: Option<RedisOptions>,
}

/// What runs.
#[derive(Default)]
pub struct Engine {
    /// Joined with the other nodes, where there can be any.
    pub membership: Option<Membership>,
    /// The broker, where it is Redis.
    pub redis: Option<Arc<Redis>>,
}

impl EngineOptions {
    /// Names of the brokers, where several share the channels in this order.
    pub fn brokers(&self) -> Vec<String> {
        match (&self.nats, &self.redis) {
            (Some(_), _) => vec!["NATS".to_owned()],
            (None, Some(redis)) => redis.shards.iter().map(|shard| shard.place.to_string()).collect(),
            (None, None) => vec!["memory".to_owned()],
        }
    }
}

/// Why it did not start: the message of the log, and the cause.
type Failure = (&'static str, io::Error);

/// What is connected, and serves the shards once there are any.
pub struct Connected {
    line: Arc<LaterLine>,
    nats: Option<(Arc<Nats>, Receiver<Command>)>,
    redis: Option<(Arc<Redis>, Receiver<Command>)>,
    presence: Option<Arc<Redis>>,
}

/// Connects, before any client can come.
pub fn connect(options: &EngineOptions, uid: &str) -> Result<Connected, Failure> {
    let line = Arc::new(LaterLine::default());
    let redis = options.redis.as_ref().map(|redis| redis::start(redis, uid, line.clone()));
    let redis = redis.transpose().map_err(|error| ("error connecting to Redis", error))?;
    let presence = options.presence.as_ref().map(|presence| redis::start_presence(presence, uid, line.clone()));
    let presence = presence.transpose().map_err(|error| ("error connecting to Redis for presence", error))?;
    let nats = options.nats.as_ref().map(|nats| nats::start(nats, uid, line.clone()));
    let nats = nats.transpose().map_err(|error| ("error connecting to NATS", error))?;
    Ok(Connected { line, nats, redis, presence })
}

impl Connected {
    /// Serves the shards, and joins the other nodes.
    pub fn join(self, pool: &Pool, identity: Identity) -> Result<Engine, Failure> {
        let Self { line: later, nats, redis, presence } = self;
        let line = pool.broker_line();
        later.0.get_or_init(|| line.clone());
        let engine = Engine { membership: None, redis: redis.as_ref().map(|(redis, _)| redis.clone()) };
        let membership = match (nats, redis) {
            (None, None) => return Ok(engine),
            (Some((nats, control)), _) => join(pool, &line, (nats.clone(), presence), nats, control, identity),
            (None, Some((redis, control))) => join(pool, &line, (redis.clone(), presence), redis, control, identity),
        };
        let membership = membership.map_err(|error| ("error joining the other nodes", error))?;
        Ok(Engine { membership: Some(membership), ..engine })
    }
}

/// To the shards once there are any. Before, nobody has asked anything, and what other nodes command concerns no client.
#[derive(Default)]
struct LaterLine(OnceLock<BrokerLine>);

impl Listener for LaterLine {
    fn home(&self, channel: &str) -> ShardId {
        self.0.get().map_or(ShardId(0), |line| line.home(channel))
    }

    fn tell(&self, shard: ShardId, news: Vec<BrokerNews>) {
        if let Some(line) = self.0.get() {
            line.tell(shard, news);
        }
    }
}

fn join(
    pool: &Pool,
    line: &BrokerLine,
    (broker, presence): (Arc<dyn BrokerDriver>, Option<Arc<Redis>>),
    speaker: Arc<dyn Speaker>,
    control: Receiver<Command>,
    identity: Identity,
) -> io::Result<Membership> {
    line.serve(match presence {
        Some(presence) => Arc::new(Split { broker, presence }),
        None => broker,
    });
    node::start(identity, speaker, control, line.clone(), pool.metrics_line())
}

/// Presence is kept elsewhere than publications are handed on.
struct Split {
    broker: Arc<dyn BrokerDriver>,
    presence: Arc<dyn BrokerDriver>,
}

impl BrokerDriver for Split {
    fn take(&self, shard: ShardId, requests: Vec<BrokerRequest>) {
        let is_presence = |request: &BrokerRequest| {
            matches!(
                request.ask,
                BrokerAsk::AddPresence { .. }
                    | BrokerAsk::RemovePresence { .. }
                    | BrokerAsk::Presence { .. }
                    | BrokerAsk::PresenceStats { .. }
            )
        };
        let (presence, rest): (Vec<_>, Vec<_>) = requests.into_iter().partition(is_presence);
        for (driver, requests) in [(&self.presence, presence), (&self.broker, rest)] {
            if !requests.is_empty() {
                driver.take(shard, requests);
            }
        }
    }

    fn tell_nodes(&self, shard: ShardId, messages: Vec<NodeMessage>) {
        self.broker.tell_nodes(shard, messages);
    }
}
