//! Questions of a shard to the broker that orders channels for several nodes, and what the broker tells: publications, joins and
//! leaves of the channels that the shard has subscribed to there.
//!
//! Who serves the questions keeps this: every question gets one answer; questions about one channel are carried out in the order in
//! which they were asked; answers and events of one channel come in the order in which the broker gave them on each of its
//! connections. A publication may come before or after the answer to the `Publish` that made it.

use crate::message::ChannelName;
use crate::{ClientId, Position, RequestId};
use bytes::Bytes;
use ringcast_proto::api::NodeResult;
use ringcast_proto::client::{self as wire, ClientInfo};
use ringcast_proto::control::{Body, Command};
use std::sync::Arc;
use std::time::Duration;

/// A question, and the name under which its answer is awaited.
#[derive(Debug)]
pub struct BrokerRequest {
    /// To be sent back with the answer.
    pub request: RequestId,
    /// The question.
    pub ask: BrokerAsk,
}

/// What a shard asks of the broker.
#[derive(Debug)]
pub enum BrokerAsk {
    /// Tell what is published from now on. Answered with `Done` once the broker has acknowledged it; asked again for a channel that
    /// is subscribed already, likewise. After `Failed` the channel is not subscribed. Else it stays so until
    /// `Unsubscribe`: whoever lost the connection subscribes again and then tells [`BrokerEvent::Hearing`].
    Subscribe {
        /// Channel.
        channel: ChannelName,
    },
    /// Tell no more. Answered with `Done` or `Failed`; in both cases the channel is not subscribed any more.
    Unsubscribe {
        /// Channel.
        channel: ChannelName,
    },
    /// Answered with `Published`.
    Publish(Box<BrokerPublish>),
    /// Tell all nodes that somebody came. Answered with `Done`.
    PublishJoin {
        /// Channel.
        channel: ChannelName,
        /// Who.
        info: Arc<ClientInfo>,
    },
    /// Tell all nodes that somebody went. Answered with `Done`.
    PublishLeave {
        /// Channel.
        channel: ChannelName,
        /// Who.
        info: Arc<ClientInfo>,
    },
    /// Answered with `History`; makes the epoch if the stream has none.
    History {
        /// Channel.
        channel: ChannelName,
        /// Exclusive start, whatever its epoch is now: the shard compares epochs.
        since: Option<u64>,
        /// At most so many publications; 0 for the top alone, `None` for all.
        limit: Option<usize>,
        /// Newest first, from the one before `since` on.
        reverse: bool,
        /// Life of epoch and top from now on, at least; zero for ever.
        meta_ttl: Duration,
    },
    /// Forget publications, keep the position. Answered with `Done`.
    RemoveHistory {
        /// Channel.
        channel: ChannelName,
    },
    /// Enter somebody, or keep the entry alive, for the driver's `presence_ttl`. Answered with `Done`.
    AddPresence {
        /// Channel.
        channel: ChannelName,
        /// Key of the entry, as text the same as `info.client`.
        client: ClientId,
        /// Who.
        info: Arc<ClientInfo>,
    },
    /// Take an entry out. Answered with `Done`.
    RemovePresence {
        /// Channel.
        channel: ChannelName,
        /// Key of the entry.
        client: ClientId,
        /// Who.
        info: Arc<ClientInfo>,
    },
    /// Answered with `Presence`.
    Presence {
        /// Channel.
        channel: ChannelName,
    },
    /// Answered with `PresenceStats`, or with `Presence` where the broker does not count.
    PresenceStats {
        /// Channel.
        channel: ChannelName,
    },
}

/// A publication to put in order.
#[derive(Debug)]
pub struct BrokerPublish {
    /// Channel.
    pub channel: ChannelName,
    /// Payload.
    pub data: Bytes,
    /// The publishing client, absent for the server API.
    pub info: Option<Arc<ClientInfo>>,
    /// Tags.
    pub tags: std::collections::BTreeMap<String, String>,
    /// Keep it in history; `None` is handed on only.
    pub history: Option<HistoryTerms>,
    /// Subscribers that can may get the difference to the publication before.
    pub use_delta: bool,
    /// Repeated within `idempotency_ttl` it publishes nothing; empty for none.
    pub idempotency_key: String,
    /// See `idempotency_key`.
    pub idempotency_ttl: Duration,
    /// Publish only if higher than the last; 0 for none. Of use with history only.
    pub version: u64,
    /// Epoch of the version.
    pub version_epoch: String,
}

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryTerms {
    /// Publications, `history_size`.
    pub size: usize,
    /// Life of publications, `history_ttl`.
    pub ttl: Duration,
    /// Life of epoch and top, `history_meta_ttl`.
    pub meta_ttl: Duration,
}

/// What the broker answers.
#[derive(Clone, Debug)]
pub enum BrokerAnswer {
    /// It is so.
    Done,
    /// Position after the publication, default without history.
    Published {
        /// Where the stream stands.
        position: Position,
        /// Why nothing was published, if nothing was.
        suppressed: Option<Suppression>,
    },
    /// A part of a stream.
    History {
        /// Top of the stream.
        top: Position,
        /// In the order asked for, each with its offset.
        publications: Vec<wire::Publication>,
    },
    /// Everybody who is there, each once.
    Presence(Vec<Arc<ClientInfo>>),
    /// How many there are.
    PresenceStats {
        /// Connections.
        clients: u32,
        /// Users.
        users: u32,
    },
    /// It did not work.
    Failed(BrokerError),
}

/// Why nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppression {
    /// The idempotency key was used before.
    Idempotency,
    /// The version is not higher.
    Version,
}

/// Why the broker did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerError {
    /// It cannot be reached, or failed; who asked is told to come again.
    Unavailable,
    /// It can never do this, such as history over NATS.
    Unsupported,
    /// It can never do this with this channel, such as publish to a pattern.
    BadChannel,
}

/// What the broker tells unasked.
#[derive(Clone, Debug)]
pub enum BrokerEvent {
    /// A publication in a subscribed channel.
    Publication(Box<BrokerPublication>),
    /// Somebody came or went, on whatever node.
    Membership {
        /// Channel.
        channel: ChannelName,
        /// Who.
        info: Arc<ClientInfo>,
        /// Came, not went.
        joined: bool,
    },
    /// These channels of the shard are subscribed again after the connection was lost: what was published in between did not come.
    Hearing {
        /// Channels.
        channels: Vec<ChannelName>,
    },
}

/// A publication as it comes from the broker.
#[derive(Clone, Debug)]
pub struct BrokerPublication {
    /// Channel.
    pub channel: ChannelName,
    /// Place in the stream; default without history.
    pub position: Position,
    /// Payload, publisher, tags; its own offset, epoch, delta and prev_data are not looked at.
    pub publication: wire::Publication,
    /// Payload of the publication before it in the stream, where a delta is wanted.
    pub previous: Option<Bytes>,
}

/// A message from the broker to a shard.
#[derive(Clone, Debug)]
pub enum BrokerNews {
    /// The answer to a question of the shard.
    Answer(RequestId, BrokerAnswer),
    /// About a channel whose home the shard is.
    Event(BrokerEvent),
    /// A command that another node was called with; for the home of its user.
    Command(Box<Body>),
    /// A question of another node, or an answer of one; for the shard of `Compass::addressee`.
    Survey(Box<Command>),
    /// The other nodes, for every shard.
    Nodes(Arc<[NodeResult]>),
    /// A node has said farewell; for every shard.
    Left(Arc<str>),
    /// Whether the broker took a message to other nodes, for the shard whose it was.
    Told(Teller, bool),
}

/// A message to other nodes.
#[derive(Debug, PartialEq)]
pub struct NodeMessage {
    /// Only to the node with this id; to all others if none is named.
    pub to: Option<String>,
    /// What it says.
    pub body: Body,
    /// Who wants to know whether the broker took it: is to get one [`BrokerNews::Told`].
    pub teller: Option<Teller>,
}

/// Who tells other nodes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teller {
    /// A call of the server API.
    Call(RequestId),
    /// Who waits for answers of other nodes.
    Survey(RequestId),
}

impl BrokerAsk {
    /// The channel that it is about.
    pub fn channel(&self) -> &ChannelName {
        match self {
            BrokerAsk::Subscribe { channel }
            | BrokerAsk::Unsubscribe { channel }
            | BrokerAsk::PublishJoin { channel, .. }
            | BrokerAsk::PublishLeave { channel, .. }
            | BrokerAsk::History { channel, .. }
            | BrokerAsk::RemoveHistory { channel }
            | BrokerAsk::AddPresence { channel, .. }
            | BrokerAsk::RemovePresence { channel, .. }
            | BrokerAsk::Presence { channel }
            | BrokerAsk::PresenceStats { channel } => channel,
            BrokerAsk::Publish(publish) => &publish.channel,
        }
    }
}
