//! Plain counters and histograms of one shard: no locks, no atomics, arrays indexed by label values. Whoever shows them takes a
//! copy between two turns. Durations are microseconds.
//!
//! A shard reads its clock once a turn, so durations begin with the turn that took the message in; those that end with a
//! write end when the bytes of the turn are in the kernel's hands ([`Shard::handle_written`](crate::Shard::handle_written)).
//! Names and labels are given to them in `src/web`; source: metrics §1.

mod histogram;
mod labels;
mod tally;
mod unwritten;

pub use histogram::{Bucket, Histogram, VALUE_MAX};
pub use labels::{Action, ApiProtocol, BrokerMessage, FrameType, Suppressed};
pub use tally::Tally;

pub(crate) use unwritten::{Unwritten, micros};

use crate::{Time, TransportKind};
use ringcast_proto::api::Method;
use std::time::Duration;

/// Messages of one kind, and their bytes without what the transport puts around them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub messages: u64,
    /// Bytes before compression.
    pub bytes: u64,
}

/// What a client said of its program when it connected: as there is no list of known programs, names are not shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// It has a name: label `client_name` is `unregistered`, else `unnamed`.
    pub is_named: bool,
    /// It has a version: label `client_version` is `unregistered`, else `unversioned`.
    pub is_versioned: bool,
}

/// Counters for each kind of program.
pub type PerProgram = [u64; 4];

impl Program {
    /// All kinds, in the order of [`PerProgram`].
    pub const ALL: [Program; 4] = [
        Program { is_named: false, is_versioned: false },
        Program { is_named: true, is_versioned: false },
        Program { is_named: false, is_versioned: true },
        Program { is_named: true, is_versioned: true },
    ];

    pub(crate) fn index(self) -> usize {
        usize::from(self.is_named) | usize::from(self.is_versioned) << 1
    }
}

/// What the connections of one transport did.
#[derive(Clone, Debug, Default)]
pub struct TransportMetrics {
    /// Messages to clients by [`FrameType`], counted when they are queued.
    pub sent: [Traffic; FrameType::COUNT],
    /// Messages of clients by [`FrameType`].
    pub received: [Traffic; FrameType::COUNT],
    /// Connected clients.
    pub connections: PerProgram,
    /// All that ever connected.
    pub connections_accepted: PerProgram,
    /// Ping to pong.
    pub ping_pong: Histogram,
}

impl TransportMetrics {
    fn add(&mut self, other: &TransportMetrics) {
        add_traffic(&mut self.sent, &other.sent);
        add_traffic(&mut self.received, &other.received);
        add_counts(&mut self.connections, &other.connections);
        add_counts(&mut self.connections_accepted, &other.connections_accepted);
        self.ping_pong.add(&other.ping_pong);
    }
}

/// Counters and histograms of one shard since it began. Sums over shards are those of the node.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// By [`TransportKind`].
    pub transports: [TransportMetrics; TransportKind::COUNT],
    /// Durations of commands by [`FrameType`], to the write of the answer.
    pub commands: [Histogram; FrameType::COUNT],
    /// Error replies by command and code.
    pub reply_errors: Tally<(FrameType, u32)>,
    /// Connections closed by the server, by code; not those that are gone (3000).
    pub disconnects: Tally<u32>,
    /// Subscriptions ended by the server, by code.
    pub unsubscribes: Tally<u32>,
    /// Live subscriptions, of clients without and with a name.
    pub subscriptions: [u64; 2],
    /// All that ever became live, likewise.
    pub subscriptions_accepted: [u64; 2],
    /// Recoveries: [failed, succeeded][without, with publications].
    pub recoveries: [[u64; 2]; 2],
    /// Publications brought by each successful recovery.
    pub recovered_publications: Histogram,
    /// Messages given to the broker.
    pub broker_sent: [u64; BrokerMessage::COUNT],
    /// Messages that came from it.
    pub broker_received: [u64; BrokerMessage::COUNT],
    /// Publications that were not published again.
    pub suppressed: [u64; Suppressed::COUNT],
    /// What the shard did.
    pub actions: [u64; Action::COUNT],
    /// Deliveries that a tag filter kept back.
    pub filtered: u64,
    /// Clients closed because the process ran short of memory; they are among `disconnects`, too.
    pub shed_clients: u64,
    /// Publications of histories that were forgotten for the same reason.
    pub shed_publications: u64,
    /// Requests of the server API, to the write of the answer; see [`Metrics::calls`].
    pub api_calls: [Histogram; Method::ALL.len() * ApiProtocol::COUNT],
    /// Their errors by method and code, without a code for a body that cannot be read; of a broadcast's channels the method is
    /// `broadcast_publish`. The last is the protocol.
    pub api_errors: Tally<(&'static str, Option<u32>, &'static str)>,
    /// Questions to all shards for the `channels` method.
    pub surveys: Histogram,
    /// From the turn that accepted a publication to the write of the turn that fanned it out; one value per delivery. What waits
    /// for a socket whose peer does not read counts as written, for it waits for the peer, and so does what `client.write_delay`
    /// holds back: the delay is not in it.
    pub publish_to_write: Histogram,
    /// From the turn that accepted a publication to its home; one value per publication, recorded by the home.
    pub accept_to_home: Histogram,
    /// From the home to a shard with subscribers; one value per publication and shard, recorded there.
    pub home_to_shard: Histogram,
    /// From the turn that takes a publication to its subscribers to the end of that turn's writes; likewise.
    pub shard_to_socket: Histogram,
}

impl Metrics {
    /// Place of a method in `api_calls`.
    pub fn call(protocol: ApiProtocol, method: Method) -> usize {
        protocol as usize * Method::ALL.len() + method as usize
    }

    /// Adds what another shard counted.
    pub fn add(&mut self, other: &Metrics) {
        self.transports.iter_mut().zip(&other.transports).for_each(|(to, from)| to.add(from));
        add_histograms(&mut self.commands, &other.commands);
        self.reply_errors.add(&other.reply_errors);
        self.disconnects.add(&other.disconnects);
        self.unsubscribes.add(&other.unsubscribes);
        add_counts(&mut self.subscriptions, &other.subscriptions);
        add_counts(&mut self.subscriptions_accepted, &other.subscriptions_accepted);
        add_counts(self.recoveries.as_flattened_mut(), other.recoveries.as_flattened());
        self.recovered_publications.add(&other.recovered_publications);
        add_counts(&mut self.broker_sent, &other.broker_sent);
        add_counts(&mut self.broker_received, &other.broker_received);
        add_counts(&mut self.suppressed, &other.suppressed);
        add_counts(&mut self.actions, &other.actions);
        self.filtered += other.filtered;
        self.shed_clients += other.shed_clients;
        self.shed_publications += other.shed_publications;
        add_histograms(&mut self.api_calls, &other.api_calls);
        self.api_errors.add(&other.api_errors);
        self.surveys.add(&other.surveys);
        self.publish_to_write.add(&other.publish_to_write);
        self.accept_to_home.add(&other.accept_to_home);
        self.home_to_shard.add(&other.home_to_shard);
        self.shard_to_socket.add(&other.shard_to_socket);
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions[action as usize] += 1;
    }

    /// What the connections of a transport did.
    pub fn of(&self, kind: TransportKind) -> &TransportMetrics {
        &self.transports[kind as usize]
    }

    pub(crate) fn of_mut(&mut self, kind: TransportKind) -> &mut TransportMetrics {
        &mut self.transports[kind as usize]
    }

    /// Connected clients of all transports.
    pub fn num_clients(&self) -> u64 {
        self.transports.iter().flat_map(|transport| transport.connections).sum()
    }

    /// Messages of the same length went to some connections.
    pub(crate) fn sent(&mut self, kind: TransportKind, frame: FrameType, messages: u64, bytes_each: usize) {
        let traffic = &mut self.of_mut(kind).sent[frame as usize];
        traffic.messages += messages;
        traffic.bytes += messages * bytes_each as u64;
    }

    pub(crate) fn received(&mut self, kind: TransportKind, frame: FrameType, bytes: usize) {
        let traffic = &mut self.of_mut(kind).received[frame as usize];
        traffic.messages += 1;
        traffic.bytes += bytes as u64;
    }

    /// The home has taken a message as the channel's broker, and sent it on.
    pub(crate) fn brokered(&mut self, message: BrokerMessage) {
        self.broker_sent[message as usize] += 1;
        self.broker_received[message as usize] += 1;
    }

    pub(crate) fn connected(&mut self, kind: TransportKind, program: Program) {
        self.act(Action::AddClient);
        let transport = self.of_mut(kind);
        transport.connections[program.index()] += 1;
        transport.connections_accepted[program.index()] += 1;
    }

    pub(crate) fn disconnected(&mut self, kind: TransportKind, program: Program) {
        self.act(Action::RemoveClient);
        self.of_mut(kind).connections[program.index()] -= 1;
    }

    pub(crate) fn subscribed(&mut self, is_named: bool) {
        self.act(Action::AddSubscription);
        self.subscriptions[usize::from(is_named)] += 1;
        self.subscriptions_accepted[usize::from(is_named)] += 1;
    }

    pub(crate) fn unsubscribed(&mut self, is_named: bool) {
        self.act(Action::RemoveSubscription);
        self.subscriptions[usize::from(is_named)] -= 1;
    }

    pub(crate) fn recovered(&mut self, is_recovered: bool, publications: usize) {
        self.recoveries[usize::from(is_recovered)][usize::from(publications > 0)] += 1;
        if is_recovered {
            self.recovered_publications.record(publications as u64);
        }
    }
}

/// A shard as it is at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Since the shard began.
    pub metrics: Metrics,
    /// Users whose home the shard is.
    pub users: usize,
    /// It has connections of nobody; all of a node are one user more.
    pub has_anonymous: bool,
    /// Channels with subscribers whose home the shard is.
    pub channels: usize,
    /// Bytes of messages that wait for room in the rings to other shards.
    pub outbox_bytes: usize,
    /// Deliveries, joins and leaves given up because a shard did not keep up.
    pub shed: u64,
    /// The last publications of the delivery check, in the order of the brokers; empty without it, and of many shards together.
    pub delivery: Vec<Trip>,
}

/// A publication of the delivery check that came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trip {
    /// When it was published; nothing if none came back yet.
    pub sent_at: Option<Time>,
    /// How long it was under way.
    pub took: Duration,
}

impl Snapshot {
    /// Adds another shard.
    pub fn add(&mut self, other: &Snapshot) {
        self.metrics.add(&other.metrics);
        self.users += other.users;
        self.has_anonymous |= other.has_anonymous;
        self.channels += other.channels;
        self.outbox_bytes += other.outbox_bytes;
        self.shed += other.shed;
    }

    /// Distinct users with connections, when the snapshot is that of all shards.
    pub fn num_users(&self) -> usize {
        self.users + usize::from(self.has_anonymous)
    }
}

fn add_counts(to: &mut [u64], from: &[u64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

fn add_traffic(to: &mut [Traffic], from: &[Traffic]) {
    for (to, from) in to.iter_mut().zip(from) {
        to.messages += from.messages;
        to.bytes += from.bytes;
    }
}

fn add_histograms(to: &mut [Histogram], from: &[Histogram]) {
    to.iter_mut().zip(from).for_each(|(to, from)| to.add(from));
}
