//! What a backend is asked, and what it may answer. Source: behaviour §9.

use super::{Background, ProxyId, ProxyListId};
use crate::message::Overrides;
use crate::{ClientId, RequestId, TransportKind};
use bytes::Bytes;
use ringcast_proto::client::Encoding;
use ringcast_proto::codes::{Disconnect, ReplyError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A question to a backend. Tell `Shard::handle_proxy_answer` what came of it, at most once.
#[derive(Clone, Debug)]
pub struct ProxyQuestion {
    /// Where the answer is awaited.
    pub request: RequestId,
    /// Which backend.
    pub proxy: (ProxyListId, ProxyId),
    /// On whose behalf.
    pub asker: ProxyAsker,
    /// What the client wants.
    pub event: ProxyEvent,
}

/// The client that a question is about: what every event tells of it.
#[derive(Clone, Debug)]
pub struct ProxyAsker {
    /// Its id.
    pub client: ClientId,
    /// How it is connected.
    pub transport: TransportKind,
    /// Its protocol.
    pub encoding: Encoding,
    /// Its user; empty for an anonymous one, and before it is known.
    pub user: Arc<str>,
    /// What it brought with it.
    pub background: Option<Arc<Background>>,
}

/// What a client wants. Payloads are as they came; how they travel (`binary_encoding`) is up to whoever asks the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the client's command")]
pub enum ProxyEvent {
    /// To connect, without a token. The channels are those that it wants from the start.
    Connect { data: Bytes, name: String, version: String, channels: Vec<String> },
    /// To go on: its time is over.
    Refresh,
    /// To subscribe.
    Subscribe { channel: Arc<str>, data: Bytes },
    /// To stay in a channel: the time of its subscription is over.
    SubRefresh { channel: Arc<str> },
    /// To publish into a channel.
    Publish { channel: Arc<str>, data: Bytes },
    /// To have a method called.
    Rpc { method: String, data: Bytes },
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyAnswer {
    /// The result of [`ProxyEvent::Connect`]; none where the backend does not say who it is.
    Connect(Option<Box<ConnectAnswer>>),
    /// The result of [`ProxyEvent::Refresh`] and [`ProxyEvent::SubRefresh`].
    Refresh(RefreshAnswer),
    /// The result of [`ProxyEvent::Subscribe`]: it may.
    Subscribe(Box<SubscribeAnswer>),
    /// The result of [`ProxyEvent::Publish`].
    Publish(PublishAnswer),
    /// The result of [`ProxyEvent::Rpc`]: its data, empty for none.
    Rpc(Bytes),
    /// The result of [`StreamAct::Publish`](super::StreamAct::Publish).
    Sent,
    /// The command is refused; what asked to go on is over.
    Error(ReplyError),
    /// The client is closed; what asked to go on is over.
    Disconnect(Disconnect),
    /// A result with a payload that cannot be read: the command fails, a connection that asked to go on is closed with 3004, a
    /// subscription is over.
    NotBase64,
    /// No answer, or none that can be read. What asked to go on does for another minute.
    Failed,
}

/// How a publication is to be made. The default publishes what the client sent, as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishAnswer {
    /// In place of what the client sent.
    pub data: Option<Bytes>,
    /// Not kept in history.
    pub skip_history: bool,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Empty for none.
    pub idempotency_key: String,
    /// Subscribers that can may get the difference to the publication before; what the namespace says does not count.
    pub delta: bool,
    /// Version; 0 for none.
    pub version: u64,
    /// Epoch of the version.
    pub version_epoch: String,
}

/// Who connects, and with what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectAnswer {
    /// Empty for an anonymous user.
    pub user: String,
    /// Unix seconds; 0 for no end.
    pub expire_at: i64,
    /// Connection info that others see.
    pub info: Bytes,
    /// Payload of the connect reply.
    pub data: Bytes,
    /// Data of the connection that clients do not see; empty for none.
    pub meta: Bytes,
    /// Channels that it is subscribed to from the start, on the terms of their namespaces.
    pub channels: Vec<String>,
    /// The same with terms. An expiry does not count, as in the reference.
    pub subs: BTreeMap<String, SubscribeAnswer>,
}

/// The terms of a subscription. The default is those of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeAnswer {
    /// Unix seconds; 0 for no end.
    pub expire_at: i64,
    /// Channel info of the client.
    pub info: Bytes,
    /// Payload of the subscribe reply.
    pub data: Bytes,
    /// Options other than those of the namespace.
    pub overrides: Overrides,
    /// Of a subscription from the start: it recovers the latest publication unasked.
    pub cache_recover: bool,
}

/// How long something goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefreshAnswer {
    /// It is over.
    pub expired: bool,
    /// Unix seconds; 0 for no end of a subscription.
    pub expire_at: i64,
    /// What others see from now on; empty for what they saw before.
    pub info: Bytes,
    /// Data of a connection that clients do not see; empty for what it was before.
    pub meta: Bytes,
}
