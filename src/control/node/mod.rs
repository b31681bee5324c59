//! The nodes of a cluster: tells the others that this one is there, and the shards who else is. Source: behaviour §10.3.

mod heard;
mod registry;

pub use heard::{ControlMessages, Unheard};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use registry::Registry;
use ringcast_proto::control::{Body, Command, Node, Shutdown};
use ringcast_runtime::BrokerLine;
use ringcast_runtime::metrics::MetricsLine;
use ringcast_state::broker::BrokerNews;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Time between two words of a node about itself, as the reference.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(3);

/// How long the shards may take to count.
const COUNT_PATIENCE: Duration = Duration::from_secs(1);

/// Time for the last message to leave.
const FAREWELL: Duration = Duration::from_millis(30);

/// Tells other nodes something, through the broker that joins them.
pub trait Speaker: Send + Sync {
    /// Tells all nodes, this one too, or the one that is named. Lost when the broker cannot be reached.
    fn say(&self, node: Option<&str>, body: Body);
}

/// Who this node is.
pub struct Identity {
    /// Its id.
    pub uid: String,
    /// Config key `node.name`.
    pub name: String,
    /// Version of the program.
    pub version: String,
}

/// Where the list of nodes is kept.
pub struct Nodes {
    identity: Identity,
    speaker: Arc<dyn Speaker>,
    line: BrokerLine,
    metrics: MetricsLine,
    registry: Registry,
    began: Instant,
}

/// Takes part in the cluster until this is dropped, which tells the others that the node leaves.
pub struct Membership {
    speaker: Arc<dyn Speaker>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.speaker.say(None, Body::Shutdown(Shutdown {}));
        // The process ends after this, and with it the thread that has to write the message.
        thread::sleep(FAREWELL);
    }
}

/// Starts to take part; `control` is what [`a driver`] gave.
pub fn start(
    identity: Identity,
    speaker: Arc<dyn Speaker>,
    control: Receiver<Command>,
    line: BrokerLine,
    metrics: MetricsLine,
) -> io::Result<Membership> {
    let registry = Registry::default();
    let membership = Membership { speaker: speaker.clone() };
    let nodes = Nodes { identity, speaker, line, metrics, registry, began: Instant::now() };
    thread::Builder::new().name("nodes".into()).spawn(move || nodes.run(&control))?;
    Ok(membership)
}

impl Nodes {
    fn run(mut self, control: &Receiver<Command>) {
        let mut announce_at = Instant::now();
        loop {
            if announce_at <= Instant::now() {
                self.announce(None);
                announce_at = Instant::now() + ANNOUNCE_EVERY;
            }
            match control.recv_deadline(announce_at) {
                Ok(command) => self.handle(command),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.registry.take_changed(Instant::now()) {
                self.line.tell_all(&BrokerNews::Nodes(self.registry.nodes()));
            }
        }
    }

    fn announce(&self, to: Option<&str>) {
        let mut shards = self.metrics.snapshots(COUNT_PATIENCE).into_iter().flatten().map(|shard| shard.state);
        let Some(mut node) = shards.next() else { return };
        shards.for_each(|shard| node.add(&shard));
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.speaker.say(
            to,
            Body::Node(Node {
                uid: self.identity.uid.clone(),
                name: self.identity.name.clone(),
                version: self.identity.version.clone(),
                num_clients: count(node.metrics.num_clients() as usize),
                num_users: count(node.num_users()),
                num_channels: count(node.channels),
                uptime: count(self.began.elapsed().as_secs() as usize),
                num_subs: count(node.metrics.subscriptions.iter().sum::<u64>() as usize),
                ..Node::default()
            }),
        );
    }

    fn handle(&mut self, command: Command) {
        match command.body {
            Some(Body::Node(node)) => {
                let uid = node.uid.clone();
                if self.registry.add(node, Instant::now()) {
                    // It learns of us before it has to wait.
                    self.announce(Some(&uid));
                }
            }
            Some(Body::Shutdown(_)) => {
                self.registry.remove(&command.uid);
                self.line.tell_all(&BrokerNews::Left(command.uid.into()));
            }
            Some(Body::SurveyRequest(_) | Body::SurveyResponse(_)) => self.line.tell_survey(command),
            _ => (),
        }
    }
}
