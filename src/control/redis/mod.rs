//! Redis as the broker of several nodes: orders publications, keeps history and presence, and hands on what is published. Two
//! connections to each Redis, one for PUB/SUB and one for everything else, all on one thread.
//!
//! A question is answered once. While a connection is down, what is asked over it is refused at once; one that does not answer
//! within `io_timeout` counts as down. After a lost PUB/SUB connection all channels are subscribed again before the shards hear of it.

mod answer;
mod commands;
mod connection;
mod dialect;
mod news;
mod options;
mod scripts;
mod subscriptions;
#[cfg(test)]
mod tests;

pub use options::{Address, Endpoint, Login, Place, RedisOptions, Sentinels};

use commands::{Commands, Order};
use connection::Connection;
use crossbeam_channel::{Receiver, Sender, bounded};
use dialect::Dialect;
use news::{Listener, Question};
use ringcast_proto::control::{Body, Command, encode};
use ringcast_proto::redis::{Keys, consistent_index};
use ringcast_runtime::{BrokerDriver, BrokerLine};
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

/// Control messages that wait to be worked off; more are lost, as PUB/SUB may lose any. The reference's bound.
const CONTROL_MAX: usize = 4096;

/// The engine that is asked. Its thread ends when all that refer to it are gone.
pub struct Redis {
    shards: Vec<Inboxes>,
    keys: Keys,
    /// Id of this node.
    node: String,
    /// Which Redis carries the next control message.
    round: AtomicUsize,
}

/// Where the two connections of one Redis take their orders.
///
/// Bound: the shards'; each has a bounded number of questions without an answer, and an order of control follows from a
/// call of the server API.
struct Inboxes {
    commands: UnboundedSender<Order>,
    subscriptions: UnboundedSender<Vec<Question>>,
}

/// Connects, and serves the shards' questions from then on. `node` is the id of this node, under which others reach it; what they
/// tell it comes out of the receiver, in no order among several Redis. Fails when a Redis cannot be reached.
pub fn start(options: &RedisOptions, node: &str, line: BrokerLine) -> io::Result<(Arc<Redis>, Receiver<Command>)> {
    let (redis, control) = connect(options, node, Arc::new(line.clone()))?;
    line.serve(redis.clone());
    Ok((redis, control))
}

fn connect(
    options: &RedisOptions,
    node: &str,
    listener: Arc<dyn Listener>,
) -> io::Result<(Arc<Redis>, Receiver<Command>)> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let (control, controlled) = bounded(CONTROL_MAX);
    let keys = Dialect::new(options).keys;
    let names = vec![keys.control(), keys.node(node)];
    let (mut shards, mut connections) = (Vec::new(), Vec::new());
    for endpoint in &options.shards {
        let opened = open(options, endpoint, (names.clone(), control.clone()), node, &listener, &runtime);
        let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", endpoint.place));
        let (inboxes, both) = opened.map_err(explain)?;
        shards.push(inboxes);
        connections.extend(both);
    }
    info!(shards = shards.len(), prefix = options.prefix, "connected to Redis");
    thread::Builder::new().name("redis".into()).spawn(move || serve(runtime, connections))?;
    Ok((Arc::new(Redis { shards, keys, node: node.to_owned(), round: AtomicUsize::new(0) }), controlled))
}

/// Both connections to one Redis.
fn open(
    options: &RedisOptions,
    endpoint: &Endpoint,
    control: (Vec<String>, Sender<Command>),
    node: &str,
    listener: &Arc<dyn Listener>,
    runtime: &Runtime,
) -> io::Result<(Inboxes, [JoinHandle<()>; 2])> {
    let (commands, orders) = unbounded_channel();
    let (subscriptions, questions) = unbounded_channel();
    let first = runtime.block_on(Commands::open(endpoint))?;
    let second = runtime.block_on(Connection::open(endpoint))?;
    let asking = Commands {
        endpoint: endpoint.clone(),
        dialect: Dialect::new(options),
        listener: listener.clone(),
        inbox: orders,
    };
    let hearing = Subscriptions {
        endpoint: endpoint.clone(),
        dialect: Dialect::new(options),
        listener: listener.clone(),
        inbox: questions,
        node: node.to_owned(),
        control,
        channels: HashSet::new(),
    };
    let connections = [runtime.spawn(asking.run(first)), runtime.spawn(hearing.run(second))];
    Ok((Inboxes { commands, subscriptions }, connections))
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
    fn shard_of(&self, channel: &str) -> usize {
        if self.shards.len() == 1 { 0 } else { consistent_index(channel, self.shards.len()) }
    }

    /// Tells all nodes, this one too, or the one that is named. Lost when Redis cannot be reached.
    pub fn say(&self, node: Option<&str>, body: Body) {
        let message = encode(&self.node, body);
        let channel = node.map_or_else(|| self.keys.control(), |node| self.keys.node(node));
        let turn = self.round.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        // Fails only while the server stops.
        let _ = self.shards[turn].commands.send(Order::Tell { channel, message });
    }
}

impl BrokerDriver for Redis {
    fn tell_nodes(&self, messages: Vec<NodeMessage>) {
        messages.into_iter().for_each(|message| self.say(message.to.as_deref(), message.body));
    }

    fn take(&self, shard: ShardId, requests: Vec<BrokerRequest>) {
        let mut parts: Vec<[Vec<Question>; 2]> = self.shards.iter().map(|_| Default::default()).collect();
        for asked in requests {
            let part = &mut parts[self.shard_of(asked.ask.channel())];
            let is_about_hearing = matches!(asked.ask, BrokerAsk::Subscribe { .. } | BrokerAsk::Unsubscribe { .. });
            part[usize::from(is_about_hearing)].push(Question { shard, asked });
        }
        for (inboxes, [questions, hearing]) in self.shards.iter().zip(parts) {
            // Sending fails only while the server stops.
            if !questions.is_empty() {
                let _ = inboxes.commands.send(Order::Ask(questions));
            }
            if !hearing.is_empty() {
                let _ = inboxes.subscriptions.send(hearing);
            }
        }
    }
}
