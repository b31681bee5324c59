//! Everything that crosses a shard's border on the way to another shard.
//!
//! Between two shards messages keep their order, and nothing overtakes: an answer that says "you are subscribed from
//! offset 7 on" is followed by publication 8. A message to the own shard takes the same way, without a ring.
//!
//! Each [`Message::Subscribe`] is counted by the home whatever it answers, and is matched by exactly one
//! [`Message::Unsubscribe`] from the same shard.

use crate::channel::{Position, Publication};
use crate::{ClientId, RequestId, ShardId, Time, Variant};
use bytes::Bytes;
use ringcast_proto::client::{ClientInfo, Encoding};
use ringcast_proto::codes::{Disconnect, ReplyError};
use ringcast_proto::filter::Filter;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A channel's name as shards pass it around.
pub type ChannelName = Arc<str>;

/// What one shard tells another.
#[derive(Debug)]
pub enum Message {
    /// To the home: a client of the sending shard wants to subscribe.
    Subscribe(Box<Subscribe>),
    /// To the home: that subscription is over.
    Unsubscribe(Box<Unsubscribe>),
    /// To the home: the presence entry of a subscriber says something else.
    Renew(Box<Renew>),
    /// To the home: put a publication in order.
    Publish(Box<Publish>),
    /// To the home: who is there.
    Presence(Box<Ask>),
    /// To the home: what was published.
    History(Box<AskHistory>),
    /// To the home: forget publications, keep the position.
    HistoryRemove(Box<Ask>),

    /// From the home: answer to `Subscribe`; deliveries of this subscription follow it.
    Subscribed(Box<Subscribed>),
    /// From the home: the other answer to `Subscribe`, where a broker orders channels and does not.
    SubscribeFailed {
        /// The question.
        request: RequestId,
        /// Why.
        error: ReplyError,
    },
    /// From the home: answer to `Publish` and `HistoryRemove`.
    Published {
        /// The question.
        request: RequestId,
        /// Position after it; offset 0 and no epoch in a channel without history.
        result: Result<Position, ReplyError>,
    },
    /// From the home: answer to `Presence`.
    PresenceIs {
        /// The question.
        request: RequestId,
        /// All members, or how many.
        members: Result<Members, ReplyError>,
    },
    /// From the home: answer to `History`.
    HistoryIs {
        /// The question.
        request: RequestId,
        /// Publications in the order asked for.
        result: Result<Box<Publications>, ReplyError>,
    },
    /// From the home to a listening shard: for all its subscribers.
    Deliver {
        /// Channel.
        channel: ChannelName,
        /// Encoded for every encoding that the home knows subscribers of.
        publication: Arc<Publication>,
    },
    /// From the home to a listening shard: somebody came or went.
    Membership {
        /// Channel.
        channel: ChannelName,
        /// Who.
        info: Arc<ClientInfo>,
        /// Join or leave.
        joined: bool,
    },
    /// From the home to a listening shard: publications of the broker were lost. Those who have a position must resubscribe and
    /// recover.
    PositionLost {
        /// Channel.
        channel: ChannelName,
    },
    /// Deliveries were dropped because the receiving shard did not keep up: its subscribers of the channel must
    /// resubscribe and recover.
    Insufficient {
        /// Channel.
        channel: ChannelName,
    },

    /// To the shard that owns a connection: commands that came by a request of their own.
    Emulate {
        /// Slot that the session names.
        slot: u32,
        /// The session, which must be that of the connection.
        session: ClientId,
        /// A frame of commands.
        data: Bytes,
        /// Another node sent it, and waits for an answer; it does not know the encoding, so JSON is the content of a string.
        asker: Option<Box<NodeAsker>>,
    },

    /// To the home of a user: a connection of the sending shard is authenticated as that user.
    UserConnect(Box<UserConnect>),
    /// To the home of a user: that connection is gone, or was refused.
    UserDisconnect {
        /// The user.
        user: Arc<str>,
    },
    /// From the home of a user: whether the connection is within the limit.
    UserConnected {
        /// The question.
        request: RequestId,
        /// False when the limit is reached; `UserDisconnect` must follow.
        allowed: bool,
    },
    /// To the home of a user: have this done on every shard that has connections of the user.
    UserCommand(Box<UserCommand>),
    /// From the home of a user to a shard with connections of the user.
    UserAct(Box<UserCommand>),
    /// From the home of a user to the shard that asked: so many `Done` will come.
    Expect {
        /// The question.
        request: RequestId,
        /// Number of shards that were told.
        answers: u32,
    },
    /// To the shard that asked: carried out here.
    Done {
        /// The question.
        request: RequestId,
        /// For at least one connection it could not be done.
        failed: bool,
        /// So many further `Done` will come: of connections for which something else is awaited first.
        more: u32,
    },

    /// To every shard: report something of yours.
    Survey {
        /// The question.
        request: RequestId,
        /// What to report.
        question: Arc<Survey>,
    },
    /// The report.
    SurveyIs {
        /// The question.
        request: RequestId,
        /// The answer.
        answer: Box<SurveyAnswer>,
    },
}

/// Another node that waits for the answer to a survey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAsker {
    /// Its id.
    pub uid: String,
    /// Its name for the survey.
    pub id: u64,
}

/// See [`Message::Subscribe`].
#[derive(Debug)]
pub struct Subscribe {
    /// Where the answer is awaited.
    pub request: RequestId,
    /// Channel.
    pub channel: ChannelName,
    /// Later than this nobody waits for the answer.
    pub deadline: Time,
    /// In which form this subscriber gets publications.
    pub variant: Variant,
    /// Who subscribes; present when `presence` or `join_leave` is.
    pub member: Option<Member>,
    /// Wants the position, and every offset from it on.
    pub positioned: bool,
    /// Asks for what it missed.
    pub recover: Option<Recover>,
}

/// A subscriber as others see it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Key of the presence entry.
    pub client: ClientId,
    /// Shown in presence, joins and leaves.
    pub info: Arc<ClientInfo>,
    /// Keep a presence entry.
    pub presence: bool,
    /// Tell others about coming and going.
    pub join_leave: bool,
}

/// From where a subscriber wants to recover.
#[derive(Clone, Debug)]
pub struct Recover {
    /// Last offset seen.
    pub offset: u64,
    /// Epoch of that offset; empty accepts any.
    pub epoch: String,
    /// Only the latest publication (`force_recovery_mode: cache`).
    pub cache: bool,
    /// At most so many publications, `client.recovery_max_publication_limit`; 0 for no limit.
    pub limit: usize,
    /// Of what was missed, only this is wanted.
    pub filter: Option<Arc<Filter>>,
}

/// See [`Message::Unsubscribe`].
#[derive(Debug)]
pub struct Unsubscribe {
    /// Channel.
    pub channel: ChannelName,
    /// As in the `Subscribe`.
    pub variant: Variant,
    /// As in the `Subscribe`.
    pub positioned: bool,
    /// As in the `Subscribe`.
    pub member: Option<Member>,
}

/// See [`Message::Renew`].
#[derive(Debug)]
pub struct Renew {
    /// Channel.
    pub channel: ChannelName,
    /// As in the `Subscribe`, but for the info.
    pub member: Member,
}

/// See [`Message::Publish`].
#[derive(Debug)]
pub struct Publish {
    /// Where the answer is awaited.
    pub request: RequestId,
    /// Channel.
    pub channel: ChannelName,
    /// Later than this the home drops it.
    pub deadline: Time,
    /// The turn in which its shard took it in.
    pub accepted_at: Time,
    /// Payload.
    pub data: Bytes,
    /// The publishing client, absent for the server API.
    pub info: Option<Arc<ClientInfo>>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Not kept in history.
    pub skip_history: bool,
    /// Subscribers that can may get the difference to the publication before.
    pub delta: bool,
    /// Empty for none.
    pub idempotency_key: String,
    /// Version; 0 for none.
    pub version: u64,
    /// Epoch of the version.
    pub version_epoch: String,
}

/// A question about one channel.
#[derive(Debug)]
pub struct Ask {
    /// Where the answer is awaited.
    pub request: RequestId,
    /// Channel.
    pub channel: ChannelName,
    /// Later than this nobody waits for the answer.
    pub deadline: Time,
    /// Of presence only the numbers are wanted.
    pub stats: bool,
}

/// Who is in a channel.
#[derive(Debug)]
pub enum Members {
    /// Each connection once.
    All(Vec<Arc<ClientInfo>>),
    /// Told only to those who want no more.
    Counted {
        /// Connections.
        clients: u32,
        /// Users, anonymous ones as one.
        users: u32,
    },
}

impl Members {
    /// Connections and users.
    pub fn count(&self) -> (u32, u32) {
        match self {
            Members::All(members) => {
                let users: BTreeSet<&str> = members.iter().map(|info| &*info.user).collect();
                (members.len() as u32, users.len() as u32)
            }
            Members::Counted { clients, users } => (*clients, *users),
        }
    }

    /// By client id.
    pub fn into_map(self) -> BTreeMap<String, ClientInfo> {
        let members = match self {
            Members::All(members) => members,
            Members::Counted { .. } => Vec::new(),
        };
        members.iter().map(|info| (info.client.clone(), info.as_ref().clone())).collect()
    }
}

/// See [`Message::History`].
#[derive(Debug)]
pub struct AskHistory {
    /// Where the answer is awaited.
    pub request: RequestId,
    /// Channel.
    pub channel: ChannelName,
    /// Later than this nobody waits for the answer.
    pub deadline: Time,
    /// Exclusive start.
    pub since: Option<Position>,
    /// At most so many; `None` for all.
    pub limit: Option<usize>,
    /// Newest first.
    pub reverse: bool,
    /// Encoding that the answer needs; `None` where contents are enough.
    pub encoding: Option<Encoding>,
}

/// See [`Message::Subscribed`].
#[derive(Debug)]
pub struct Subscribed {
    /// The question.
    pub request: RequestId,
    /// Channel.
    pub channel: ChannelName,
    /// Top of the stream at this moment, for a subscriber that wanted the position.
    pub top: Option<Position>,
    /// What came of the wish to recover, if there was one.
    pub recovery: Option<Recovery>,
}

/// Outcome of a recovery.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Everything missed is in `publications`, or nothing was missed.
    pub recovered: bool,
    /// Those that are wanted, ascending; empty unless recovered.
    pub publications: Vec<Arc<Publication>>,
}

/// A part of a stream.
#[derive(Debug)]
pub struct Publications {
    /// Top of the stream.
    pub top: Position,
    /// In the order asked for.
    pub publications: Vec<Arc<Publication>>,
}

/// See [`Message::UserConnect`].
#[derive(Debug)]
pub struct UserConnect {
    /// Where the permission is awaited (`client.user_connection_limit`).
    pub request: RequestId,
    /// Never empty: anonymous connections have no home.
    pub user: Arc<str>,
    /// The connection.
    pub client: ClientId,
    /// Other connections of the user are closed (`single_connection` of the personal channel).
    pub is_only: bool,
}

/// Something to do with all connections of a user, narrowed by client id.
#[derive(Clone, Debug)]
pub struct UserCommand {
    /// The shard that asked, and where `Done` is awaited there; `None` when nobody waits.
    pub origin: Option<(ShardId, RequestId)>,
    /// Empty for anonymous connections.
    pub user: Arc<str>,
    /// Only this connection, when not empty.
    pub client: Arc<str>,
    /// Only the connection of this session, when not empty.
    pub session: Arc<str>,
    /// What to do.
    pub act: Arc<UserAct>,
}

/// See [`UserCommand`].
#[derive(Debug)]
#[expect(missing_docs, reason = "fields are those of the server API methods of the same name")]
pub enum UserAct {
    /// Server-side subscription.
    Subscribe(ServerSubscribe),
    /// Ends a subscription.
    Unsubscribe { channel: String },
    /// Closes connections.
    Disconnect { disconnect: Disconnect, whitelist: Vec<String> },
    /// New expiry, or the end of it.
    Refresh { expired: bool, expire_at: i64, info: Bytes },
}

/// A subscription that the server makes for a client.
#[derive(Debug)]
pub struct ServerSubscribe {
    /// Channel.
    pub channel: ChannelName,
    /// Channel info of the client, shown in presence.
    pub info: Bytes,
    /// Payload of the subscribe push.
    pub data: Bytes,
    /// Unix seconds, 0 for none.
    pub expire_at: i64,
    /// Recover from here.
    pub recover_since: Option<Position>,
    /// Options that replace those of the namespace.
    pub overrides: Overrides,
}

/// Options of one subscription that replace those of its namespace where set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the channel option of the same name")]
pub struct Overrides {
    pub presence: Option<bool>,
    pub join_leave: Option<bool>,
    pub force_recovery: Option<bool>,
    pub force_positioning: Option<bool>,
    pub force_push_join_leave: Option<bool>,
}

/// What every shard is asked to report.
#[derive(Debug)]
pub enum Survey {
    /// Active channels whose home is there; a glob pattern, empty for all.
    Channels {
        /// `*` does not stop at separators.
        pattern: String,
    },
    /// Counters for `info`.
    Info,
}

/// A shard's report.
#[derive(Debug)]
#[expect(missing_docs, reason = "counters are those of the `info` method")]
pub enum SurveyAnswer {
    /// Channel and number of subscribers.
    Channels(Vec<(ChannelName, u32)>),
    /// Counters.
    Info { num_clients: u32, num_users: u32, has_anonymous: bool, num_channels: u32, num_subs: u32 },
}

impl Message {
    /// Bytes that the message holds while it waits, roughly; for the bound of the [`Outbox`](crate::Outbox).
    pub(crate) fn weight(&self) -> usize {
        const BASE: usize = 96;
        BASE + match self {
            Message::Publish(publish) => publish.data.len(),
            Message::Emulate { data, .. } => data.len(),
            Message::Deliver { publication, .. } => publication.weight(),
            Message::Subscribed(subscribed) => {
                let held = subscribed.recovery.as_ref().map_or(0, |r| r.publications.len());
                held * size_of::<usize>()
            }
            _ => 0,
        }
    }
}
