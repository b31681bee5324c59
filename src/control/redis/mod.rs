//! Redis as the broker of several nodes: orders publications, keeps history and presence, and hands on what is published. Two
//! connections to each Redis, one for PUB/SUB and one for everything else, all on one thread.
//!
//! A question is answered once. While a connection is down, what is asked over it is refused at once; one that does not answer
//! within `io_timeout` counts as down. After a lost PUB/SUB connection all channels are subscribed again before the shards hear of it.

mod answer;
mod cluster;
mod commands;
mod connection;
mod counters;
mod dialect;
mod news;
mod options;
mod probe;
mod replicas;
mod scripts;
mod sentinel;
mod subscriptions;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub use counters::Fault;
pub use counters::PubSub;
pub use options::{Address, Endpoint, Login, Place, RedisOptions, Sentinels, Tls};

use crate::control::node::{ControlMessages, Speaker};
use cluster::{Cluster, Map};
use commands::{Commands, Order};
use connection::{Connection, Places, within};
use counters::Counters;
use crossbeam_channel::Receiver;
use dialect::Dialect;
pub(super) use news::{Asker, Listener, News, Question, Told};
use replicas::{Reading, Replicas};
use ringcast_proto::control::{Body, Command, encode};
use ringcast_proto::redis::{Keys, consistent_index};
use ringcast_runtime::BrokerDriver;
use ringcast_state::ShardId;
use ringcast_state::broker::{BrokerAsk, BrokerRequest, NodeMessage};
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use subscriptions::Subscriptions;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tracing::{error, info};

/// The engine that is asked. Its thread ends when all that refer to it are gone.
pub struct Redis {
    shards: Vec<Inboxes>,
    keys: Keys,
    /// Id of this node.
    node: String,
    /// Which Redis carries the next control message.
    round: AtomicUsize,
    counters: Arc<Counters>,
    control: Receiver<Command>,
}

/// Where the two connections of one Redis take their orders.
///
/// Bound: the shards'; each has a bounded number of questions without an answer, and an order of control follows from a
/// call of the server API.
struct Inboxes {
    commands: UnboundedSender<Order>,
    subscriptions: UnboundedSender<subscriptions::Order>,
    /// Where presence is read at replicas.
    replicas: Option<UnboundedSender<Vec<Reading>>>,
}

/// Where questions for replicas go, and what serves them.
type Reader = (UnboundedSender<Vec<Reading>>, JoinHandle<()>);

/// What both connections of every Redis share.
struct Node<'a> {
    options: &'a RedisOptions,
    id: &'a str,
    /// Has PUB/SUB connections.
    hears: bool,
    control: ControlMessages,
    counters: Arc<Counters>,
    listener: Arc<dyn Listener>,
    runtime: &'a Runtime,
}

/// Connects, and serves the shards' questions from then on. `node` is the id of this node, under which others reach it; what they
/// tell it comes out of the receiver, in no order among several Redis. Fails when a Redis cannot be reached.
pub fn start(
    options: &RedisOptions,
    node: &str,
    listener: Arc<dyn Listener>,
) -> io::Result<(Arc<Redis>, Receiver<Command>)> {
    connect(options, node, listener, true)
}

/// The same for presence alone: nothing is heard.
pub fn start_presence(options: &RedisOptions, node: &str, listener: Arc<dyn Listener>) -> io::Result<Arc<Redis>> {
    connect(options, node, listener, false).map(|(redis, _)| redis)
}

fn connect(
    options: &RedisOptions,
    node: &str,
    listener: Arc<dyn Listener>,
    hears: bool,
) -> io::Result<(Arc<Redis>, Receiver<Command>)> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let (control, controlled) = ControlMessages::channel(node);
    let counters = Arc::<Counters>::default();
    let here = Node { options, id: node, hears, control, counters: counters.clone(), listener, runtime: &runtime };
    let (mut shards, mut connections) = (Vec::new(), Vec::new());
    for endpoint in &options.shards {
        let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", endpoint.place));
        let (inboxes, both) = here.open(endpoint).map_err(explain)?;
        shards.push(inboxes);
        connections.extend(both);
    }
    info!(shards = shards.len(), prefix = options.prefix, "connected to Redis");
    thread::Builder::new().name("redis".into()).spawn(move || serve(runtime, connections))?;
    let keys = Dialect::new(options, false).keys;
    let (node, round, control) = (node.to_owned(), AtomicUsize::new(0), controlled.clone());
    Ok((Arc::new(Redis { shards, keys, node, round, counters, control }), controlled))
}

impl Node<'_> {
    /// Both connections to one Redis.
    fn open(&self, endpoint: &Endpoint) -> io::Result<(Inboxes, Vec<JoinHandle<()>>)> {
        let (commands, orders) = unbounded_channel();
        let (subscriptions, questions) = unbounded_channel();
        let (known, places) = Places::channel();
        let (endpoint, map) = self.runtime.block_on(self.find_cluster(endpoint))?;
        let dialect = || Dialect::new(self.options, map.is_some());
        let readers = self.start_replicas(&endpoint, dialect(), &commands)?;
        let asking = match &map {
            Some(map) => {
                let parts = cluster::Parts {
                    endpoint: endpoint.clone(),
                    dialect: dialect(),
                    listener: self.listener.clone(),
                    inbox: orders,
                    hearing: subscriptions.clone(),
                    places: known,
                };
                let cluster = Cluster::new(parts, map);
                self.runtime.spawn(cluster.run())
            }
            None => {
                let first = self.runtime.block_on(Commands::open(&endpoint, &places))?;
                if let Place::Sentinel(sentinels) = &endpoint.place {
                    self.runtime.spawn(sentinel::watch(sentinels.clone(), endpoint.clone(), known));
                }
                let commands = Commands {
                    endpoint: endpoint.clone(),
                    places: places.clone(),
                    dialect: dialect(),
                    listener: self.listener.clone(),
                    inbox: orders,
                };
                self.runtime.spawn(commands.run(first))
            }
        };
        let mut connections = vec![asking];
        let (replicas, reading) = readers.unzip();
        connections.extend(reading);
        if !self.hears {
            return Ok((Inboxes { commands, subscriptions, replicas }, connections));
        }
        let second = self.runtime.block_on(Connection::open(&endpoint, &places))?;
        let hearing = Subscriptions {
            endpoint,
            places,
            dialect: dialect(),
            listener: self.listener.clone(),
            inbox: questions,
            commands: commands.downgrade(),
            node: self.id.to_owned(),
            control: self.control.clone(),
            counters: self.counters.clone(),
            channels: HashSet::new(),
        };
        connections.push(self.runtime.spawn(hearing.run(second)));
        Ok((Inboxes { commands, subscriptions, replicas }, connections))
    }

    /// The connections to replicas, where presence is to be read there.
    fn start_replicas(
        &self,
        endpoint: &Endpoint,
        dialect: Dialect,
        master: &UnboundedSender<Order>,
    ) -> io::Result<Option<Reader>> {
        match (endpoint.has_replica_client, self.options.presence_read_from_replica) {
            (true, true) if !matches!(endpoint.place, Place::Fixed(_)) => (),
            (true, true) => {
                return Err(io::Error::other(
                    "presence_read_from_replica is true, and a Redis that is alone has no replicas: \
                     expected sentinel_address or cluster_address",
                ));
            }
            (false, true) => {
                return Err(io::Error::other(
                    "presence_read_from_replica is true, expected replica_client.enabled to be true, too",
                ));
            }
            (true, false) => {
                info!(
                    "replica_client.enabled is true: nothing is read there unless presence_read_from_replica is, too"
                );
                return Ok(None);
            }
            (false, false) => return Ok(None),
        }
        let (sender, inbox) = unbounded_channel();
        let replicas = Replicas::new(endpoint.clone(), dialect, self.listener.clone(), inbox, master.clone());
        Ok(Some((sender, self.runtime.spawn(replicas.run()))))
    }

    /// Looks whether there is a cluster, and who serves it.
    async fn find_cluster(&self, endpoint: &Endpoint) -> io::Result<(Endpoint, Option<Map>)> {
        let seeds = match &endpoint.place {
            Place::Cluster(seeds) => seeds.clone(),
            Place::Fixed(address @ Address::Tcp(_)) => vec![address.clone()],
            _ => return Ok((endpoint.clone(), None)),
        };
        let look = async {
            let mut connection = Connection::open_any(endpoint, &seeds).await?;
            Ok(Map::ask(&mut connection).await)
        };
        let is_sure = matches!(endpoint.place, Place::Cluster(_));
        match within(endpoint.connect_timeout, look).await? {
            Ok(map) => Ok((Endpoint { place: Place::Cluster(seeds), ..endpoint.clone() }, Some(map))),
            Err(error) if is_sure => Err(error),
            Err(_) => Ok((endpoint.clone(), None)),
        }
    }
}

/// Runs the connections until nobody can ask them any more.
fn serve(runtime: Runtime, connections: Vec<JoinHandle<()>>) {
    runtime.block_on(async {
        for connection in connections {
            if let Err(error) = connection.await {
                error!(%error, "a connection to Redis is not served any more");
            }
        }
    });
}

impl Redis {
    /// How its PUB/SUB does.
    pub fn pub_sub(&self) -> PubSub {
        PubSub { waiting: self.control.len(), ..self.counters.read() }
    }

    fn tell(&self, node: Option<&str>, body: Body, said: Option<Told>) {
        let message = encode(&self.node, body);
        let channel = node.map_or_else(|| self.keys.control(), |node| self.keys.node(node));
        let turn = self.round.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        // Fails only while the server stops.
        let _ = self.shards[turn].commands.send(Order::Tell { channel, message, said });
    }

    fn shard_of(&self, channel: &str) -> usize {
        if self.shards.len() == 1 { 0 } else { consistent_index(channel, self.shards.len()) }
    }
}

impl Speaker for Redis {
    fn say(&self, node: Option<&str>, body: Body) {
        self.tell(node, body, None);
    }
}

impl BrokerDriver for Redis {
    fn tell_nodes(&self, shard: ShardId, messages: Vec<NodeMessage>) {
        for NodeMessage { to, body, teller } in messages {
            self.tell(to.as_deref(), body, teller.map(|teller| Told::Shard(shard, teller)));
        }
    }

    fn take(&self, shard: ShardId, requests: Vec<BrokerRequest>) {
        let mut parts: Vec<([Vec<Question>; 2], Vec<Reading>)> =
            self.shards.iter().map(|_| Default::default()).collect();
        for asked in requests {
            let index = self.shard_of(asked.ask.channel());
            let (part, readings) = &mut parts[index];
            let is_about_hearing = matches!(asked.ask, BrokerAsk::Subscribe { .. } | BrokerAsk::Unsubscribe { .. });
            let question = Question { shard, asked };
            match self.shards[index].replicas.as_ref().and_then(|_| Reading::of(&question)) {
                Some(reading) => readings.push(reading),
                None => part[usize::from(is_about_hearing)].push(question),
            }
        }
        for (inboxes, ([questions, hearing], readings)) in self.shards.iter().zip(parts) {
            // Sending fails only while the server stops.
            if !questions.is_empty() {
                let _ = inboxes.commands.send(Order::Ask(questions));
            }
            if !hearing.is_empty() {
                let _ = inboxes.subscriptions.send(subscriptions::Order::Ask(hearing));
            }
            if let Some(replicas) = inboxes.replicas.as_ref().filter(|_| !readings.is_empty()) {
                let _ = replicas.send(readings);
            }
        }
    }
}
