//! The messages inside the envelopes. Source: protocol §3.
//!
//! The numbers are the protobuf fields; JSON uses the same names. A `Bytes` field is a payload: one JSON value, or opaque
//! bytes in Protobuf. An empty one is absent.

use crate::codes;
use crate::json::json_message;
use bytes::Bytes;
use std::collections::BTreeMap;

/// An error as it stands in a reply; see [`codes::ReplyError`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Error {
    /// Code of protocol §13.1.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// Text of the code.
    #[prost(string, tag = "2")]
    pub message: String,
    /// True when the same command may succeed later.
    #[prost(bool, tag = "3")]
    pub temporary: bool,
}

json_message!(Error { "code" => code, "message" => message, "temporary" => temporary });

impl From<&codes::ReplyError> for Error {
    fn from(error: &codes::ReplyError) -> Self {
        Self { code: error.code, message: error.message.clone().into_owned(), temporary: error.temporary }
    }
}

impl From<Error> for codes::ReplyError {
    fn from(error: Error) -> Self {
        Self { code: error.code, message: error.message.into(), temporary: error.temporary }
    }
}

/// Commands of a client whose transport is one way. Source: protocol §14.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EmulationRequest {
    /// Node of the connect reply.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Session of the connect reply.
    #[prost(string, tag = "2")]
    pub session: String,
    /// A frame of commands. In JSON the frame is the content of a string.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
}

json_message!(EmulationRequest { "node" => node, "session" => session, "data" => data });

/// Who published, joined or is present.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ClientInfo {
    /// User id; empty for an anonymous user.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Client id.
    #[prost(string, tag = "2")]
    pub client: String,
    /// From the connection token or proxy.
    #[prost(bytes = "bytes", tag = "3")]
    pub conn_info: Bytes,
    /// From the subscription token or proxy.
    #[prost(bytes = "bytes", tag = "4")]
    pub chan_info: Bytes,
}

json_message!(ClientInfo { "user" (always) => user, "client" (always) => client, "conn_info" => conn_info, "chan_info" => chan_info });

/// A message in a channel.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Publication {
    /// Payload, or a delta against the one before.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
    /// Publisher, when it is a client.
    #[prost(message, optional, tag = "5")]
    pub info: Option<ClientInfo>,
    /// Place in the stream, from 1; 0 without history.
    #[prost(uint64, tag = "6")]
    pub offset: u64,
    /// For filters and applications.
    #[prost(btree_map = "string, string", tag = "7")]
    pub tags: BTreeMap<String, String>,
    /// `data` is a delta.
    #[prost(bool, tag = "8")]
    pub delta: bool,
    /// Unix time in milliseconds.
    #[prost(int64, tag = "9")]
    pub time: i64,
    /// Set when it differs from the subscribed channel.
    #[prost(string, tag = "10")]
    pub channel: String,
    /// Key in a map or polled channel.
    #[prost(string, tag = "11")]
    pub key: String,
    /// The key was removed.
    #[prost(bool, tag = "12")]
    pub removed: bool,
    /// Order in a map.
    #[prost(sint64, tag = "13")]
    pub score: i64,
    /// Epoch of the stream, on its first publication.
    #[prost(string, tag = "14")]
    pub epoch: String,
    /// Between brokers only.
    #[prost(bytes = "bytes", tag = "15")]
    pub prev_data: Bytes,
    /// Version given by the publisher.
    #[prost(uint64, tag = "16")]
    pub version: u64,
}

json_message!(Publication {
    "data" => data, "info" => info, "offset" => offset, "tags" => tags, "delta" => delta, "time" => time, "channel" => channel,
    "key" => key, "removed" => removed, "score" => score, "epoch" => epoch, "prev_data" => prev_data, "version" => version,
});

/// Push: a client subscribed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Join {
    /// Who.
    #[prost(message, optional, tag = "1")]
    pub info: Option<ClientInfo>,
}

json_message!(Join { "info" => info });

/// Push: a client unsubscribed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Leave {
    /// Who.
    #[prost(message, optional, tag = "1")]
    pub info: Option<ClientInfo>,
}

json_message!(Leave { "info" => info });

/// Push: the server ended the subscription; see [`codes::Unsubscribe`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Unsubscribe {
    /// Code of protocol §13.2.
    #[prost(uint32, tag = "2")]
    pub code: u32,
    /// Text of the code.
    #[prost(string, tag = "3")]
    pub reason: String,
}

json_message!(Unsubscribe { "code" => code, "reason" => reason });

impl From<&codes::Unsubscribe> for Unsubscribe {
    fn from(unsubscribe: &codes::Unsubscribe) -> Self {
        Self { code: unsubscribe.code, reason: unsubscribe.reason.clone().into_owned() }
    }
}

/// Push: the server subscribed the client.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Subscribe {
    /// The client may recover.
    #[prost(bool, tag = "1")]
    pub recoverable: bool,
    /// Epoch of the stream.
    #[prost(string, tag = "4")]
    pub epoch: String,
    /// Top of the stream.
    #[prost(uint64, tag = "5")]
    pub offset: u64,
    /// The server checks the client's position.
    #[prost(bool, tag = "6")]
    pub positioned: bool,
    /// From the caller of the API.
    #[prost(bytes = "bytes", tag = "7")]
    pub data: Bytes,
}

json_message!(Subscribe {
    "recoverable" => recoverable, "epoch" => epoch, "offset" => offset, "positioned" => positioned, "data" => data,
});

/// Push: a message outside channels.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Message {
    /// Payload.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}

json_message!(Message { "data" => data });

/// Push: the connect result of a unidirectional connection. Fields as in [`ConnectResult`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Connect {
    /// Client id.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Server version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// From the connect proxy.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
    /// Server-side subscriptions by channel.
    #[prost(btree_map = "string, message", tag = "4")]
    pub subs: BTreeMap<String, SubscribeResult>,
    /// The connection expires after `ttl`.
    #[prost(bool, tag = "5")]
    pub expires: bool,
    /// Seconds.
    #[prost(uint32, tag = "6")]
    pub ttl: u32,
    /// Ping interval, seconds.
    #[prost(uint32, tag = "7")]
    pub ping: u32,
    /// The server wants pongs.
    #[prost(bool, tag = "8")]
    pub pong: bool,
    /// Session id.
    #[prost(string, tag = "9")]
    pub session: String,
    /// Node id.
    #[prost(string, tag = "10")]
    pub node: String,
    /// Unix time in milliseconds; config key `client.connect_include_server_time`.
    #[prost(int64, tag = "11")]
    pub time: i64,
}

json_message!(Connect {
    "client" => client, "version" => version, "data" => data, "subs" => subs, "expires" => expires, "ttl" => ttl, "ping" => ping,
    "pong" => pong, "session" => session, "node" => node, "time" => time,
});

/// Push: the server closes the connection; see [`codes::Disconnect`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Disconnect {
    /// Code of protocol §13.3.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// Text of the code.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// In the schema, never set.
    #[prost(bool, tag = "3")]
    pub reconnect: bool,
}

json_message!(Disconnect { "code" => code, "reason" => reason, "reconnect" => reconnect });

impl From<&codes::Disconnect> for Disconnect {
    fn from(disconnect: &codes::Disconnect) -> Self {
        Self { code: disconnect.code, reason: disconnect.reason.clone().into_owned(), reconnect: false }
    }
}

/// Push: the connection has a new expiry.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Refresh {
    /// The connection expires after `ttl`.
    #[prost(bool, tag = "1")]
    pub expires: bool,
    /// Seconds.
    #[prost(uint32, tag = "2")]
    pub ttl: u32,
}

json_message!(Refresh { "expires" => expires, "ttl" => ttl });

/// First command of a connection.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConnectRequest {
    /// JWT; empty without one.
    #[prost(string, tag = "1")]
    pub token: String,
    /// For the connect proxy.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// Server-side subscriptions to recover, by channel.
    #[prost(btree_map = "string, message", tag = "3")]
    pub subs: BTreeMap<String, SubscribeRequest>,
    /// Name of the client program, at most 16 characters.
    #[prost(string, tag = "4")]
    pub name: String,
    /// Version of the client program, at most 64 characters.
    #[prost(string, tag = "5")]
    pub version: String,
    /// Stand in for HTTP headers that a browser cannot set.
    #[prost(btree_map = "string, string", tag = "6")]
    pub headers: BTreeMap<String, String>,
    /// Features the client knows; bit 0 is dictionary compression.
    #[prost(int64, tag = "7")]
    pub flag: i64,
    /// Dictionary the client holds.
    #[prost(string, tag = "8")]
    pub dict: String,
    /// Hint at the shape of the traffic.
    #[prost(string, tag = "9")]
    pub profile: String,
}

json_message!(ConnectRequest {
    "token" => token, "data" => data, "subs" => subs, "name" => name, "version" => version, "headers" => headers, "flag" => flag,
    "dict" => dict, "profile" => profile,
});

/// Dictionary for the frames after the connect reply. Source: protocol §11.4.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Dictionary {
    /// Hash of the content.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Compressed content on Protobuf connections.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// Compressed content on JSON connections.
    #[prost(string, tag = "3")]
    pub data_b64: String,
}

json_message!(Dictionary { "id" => id, "data" => data, "data_b64" => data_b64 });

/// The connection is open.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConnectResult {
    /// Client id.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Server version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// The client must refresh its token within `ttl`.
    #[prost(bool, tag = "3")]
    pub expires: bool,
    /// Seconds.
    #[prost(uint32, tag = "4")]
    pub ttl: u32,
    /// From the connect proxy.
    #[prost(bytes = "bytes", tag = "5")]
    pub data: Bytes,
    /// Server-side subscriptions by channel.
    #[prost(btree_map = "string, message", tag = "6")]
    pub subs: BTreeMap<String, SubscribeResult>,
    /// Ping interval, seconds.
    #[prost(uint32, tag = "7")]
    pub ping: u32,
    /// The server wants pongs.
    #[prost(bool, tag = "8")]
    pub pong: bool,
    /// Session id, on transports that need one.
    #[prost(string, tag = "9")]
    pub session: String,
    /// Node id, on transports that need one.
    #[prost(string, tag = "10")]
    pub node: String,
    /// Unix time in milliseconds; config key `client.connect_include_server_time`.
    #[prost(int64, tag = "11")]
    pub time: i64,
    /// Features that are on.
    #[prost(int64, tag = "12")]
    pub flag: i64,
    /// Dictionary for the frames that follow.
    #[prost(message, optional, tag = "13")]
    pub dict: Option<Dictionary>,
}

json_message!(ConnectResult {
    "client" => client, "version" => version, "expires" => expires, "ttl" => ttl, "data" => data, "subs" => subs, "ping" => ping,
    "pong" => pong, "session" => session, "node" => node, "time" => time, "flag" => flag, "dict" => dict,
});

/// New token for the connection.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RefreshRequest {
    /// JWT.
    #[prost(string, tag = "1")]
    pub token: String,
}

json_message!(RefreshRequest { "token" => token });

/// The connection lives on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RefreshResult {
    /// Client id.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Server version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// The connection expires after `ttl`.
    #[prost(bool, tag = "3")]
    pub expires: bool,
    /// Seconds.
    #[prost(uint32, tag = "4")]
    pub ttl: u32,
}

json_message!(RefreshResult { "client" => client, "version" => version, "expires" => expires, "ttl" => ttl });

/// Subscription to a channel.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubscribeRequest {
    /// Channel name.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// Subscription JWT; empty without one.
    #[prost(string, tag = "2")]
    pub token: String,
    /// Recover since `offset` and `epoch`.
    #[prost(bool, tag = "3")]
    pub recover: bool,
    /// Epoch the client knows.
    #[prost(string, tag = "6")]
    pub epoch: String,
    /// Last offset the client has seen.
    #[prost(uint64, tag = "7")]
    pub offset: u64,
    /// For the subscribe proxy.
    #[prost(bytes = "bytes", tag = "8")]
    pub data: Bytes,
    /// Wish: positioning.
    #[prost(bool, tag = "9")]
    pub positioned: bool,
    /// Wish: recovery.
    #[prost(bool, tag = "10")]
    pub recoverable: bool,
    /// Wish: join and leave pushes.
    #[prost(bool, tag = "11")]
    pub join_leave: bool,
    /// `fossil` or empty.
    #[prost(string, tag = "12")]
    pub delta: String,
    /// Tags filter.
    #[prost(message, optional, tag = "13")]
    pub tf: Option<FilterNode>,
    /// Bit 0 channel compaction, bit 1 error when unrecovered.
    #[prost(int64, tag = "14")]
    pub flag: i64,
    /// 0 stream, 1 to 3 maps, 4 shared poll.
    #[prost(int32, tag = "15")]
    pub r#type: i32,
    /// Map: 2 state, 1 stream, 0 live.
    #[prost(int32, tag = "16")]
    pub phase: i32,
    /// Map: next page.
    #[prost(string, tag = "17")]
    pub cursor: String,
    /// Map: size of a page.
    #[prost(int32, tag = "18")]
    pub limit: i32,
    /// Map: ascending order.
    #[prost(bool, tag = "19")]
    pub asc: bool,
}

json_message!(SubscribeRequest {
    "channel" => channel, "token" => token, "recover" => recover, "epoch" => epoch, "offset" => offset, "data" => data,
    "positioned" => positioned, "recoverable" => recoverable, "join_leave" => join_leave, "delta" => delta, "tf" => tf,
    "flag" => flag, "type" => r#type, "phase" => phase, "cursor" => cursor, "limit" => limit, "asc" => asc,
});

/// The subscription stands.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubscribeResult {
    /// The client must refresh the subscription within `ttl`.
    #[prost(bool, tag = "1")]
    pub expires: bool,
    /// Seconds.
    #[prost(uint32, tag = "2")]
    pub ttl: u32,
    /// Recovery is on.
    #[prost(bool, tag = "3")]
    pub recoverable: bool,
    /// Epoch of the stream.
    #[prost(string, tag = "6")]
    pub epoch: String,
    /// Recovered publications, ascending.
    #[prost(message, repeated, tag = "7")]
    pub publications: Vec<Publication>,
    /// Nothing is missing.
    #[prost(bool, tag = "8")]
    pub recovered: bool,
    /// Position from which the stream goes on.
    #[prost(uint64, tag = "9")]
    pub offset: u64,
    /// Positioning is on.
    #[prost(bool, tag = "10")]
    pub positioned: bool,
    /// From the subscribe proxy or token.
    #[prost(bytes = "bytes", tag = "11")]
    pub data: Bytes,
    /// Recovery was tried.
    #[prost(bool, tag = "12")]
    pub was_recovering: bool,
    /// Delta is on.
    #[prost(bool, tag = "13")]
    pub delta: bool,
    /// Numeric channel id of the pushes that follow.
    #[prost(int64, tag = "14")]
    pub id: i64,
    /// As in the request; 1 for every kind of map.
    #[prost(int32, tag = "15")]
    pub r#type: i32,
    /// Map: phase reached.
    #[prost(int32, tag = "16")]
    pub phase: i32,
    /// Map: next page; empty on the last.
    #[prost(string, tag = "17")]
    pub cursor: String,
    /// Map: entries.
    #[prost(message, repeated, tag = "18")]
    pub state: Vec<Publication>,
    /// Milliseconds the client should wait between its publications.
    #[prost(uint32, tag = "19")]
    pub publish_debounce: u32,
}

json_message!(SubscribeResult {
    "expires" => expires, "ttl" => ttl, "recoverable" => recoverable, "epoch" => epoch, "publications" => publications,
    "recovered" => recovered, "offset" => offset, "positioned" => positioned, "data" => data, "was_recovering" => was_recovering,
    "delta" => delta, "id" => id, "type" => r#type, "phase" => phase, "cursor" => cursor, "state" => state,
    "publish_debounce" => publish_debounce,
});

/// A key of a polled channel and the version the client holds.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyedItem {
    /// Key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
}

json_message!(KeyedItem { "key" => key, "version" => version });

/// Keys with one signature over them. Source: protocol §8.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TrackBatch {
    /// `<iat>:<exp>:<hex hmac>`.
    #[prost(string, tag = "1")]
    pub signature: String,
    /// The signed keys, in the signed order.
    #[prost(message, repeated, tag = "2")]
    pub items: Vec<KeyedItem>,
}

json_message!(TrackBatch { "signature" => signature, "items" => items });

/// New token for a subscription, or keys to follow.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubRefreshRequest {
    /// Channel name.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// Subscription JWT.
    #[prost(string, tag = "2")]
    pub token: String,
    /// 0 refresh, 1 track, 2 untrack.
    #[prost(int32, tag = "3")]
    pub r#type: i32,
    /// Keys to follow.
    #[prost(message, repeated, tag = "4")]
    pub track: Vec<TrackBatch>,
    /// Keys to forget.
    #[prost(string, repeated, tag = "5")]
    pub untrack: Vec<String>,
}

json_message!(SubRefreshRequest {
    "channel" => channel, "token" => token, "type" => r#type, "track" => track, "untrack" => untrack,
});

/// The subscription lives on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubRefreshResult {
    /// The subscription expires after `ttl`.
    #[prost(bool, tag = "1")]
    pub expires: bool,
    /// Seconds.
    #[prost(uint32, tag = "2")]
    pub ttl: u32,
    /// Cached publications newer than the client's versions.
    #[prost(message, repeated, tag = "3")]
    pub items: Vec<Publication>,
}

json_message!(SubRefreshResult { "expires" => expires, "ttl" => ttl, "items" => items });

/// End of a subscription.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UnsubscribeRequest {
    /// Channel name.
    #[prost(string, tag = "1")]
    pub channel: String,
}

json_message!(UnsubscribeRequest { "channel" => channel });

/// A message for a channel.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PublishRequest {
    /// Channel name.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// Payload.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// 0 stream, 1 map.
    #[prost(int32, tag = "3")]
    pub r#type: i32,
    /// Map: key.
    #[prost(string, tag = "4")]
    pub key: String,
    /// Map: remove the key.
    #[prost(bool, tag = "5")]
    pub removed: bool,
}

json_message!(PublishRequest { "channel" => channel, "data" => data, "type" => r#type, "key" => key, "removed" => removed });

/// Who is subscribed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PresenceRequest {
    /// Channel name.
    #[prost(string, tag = "1")]
    pub channel: String,
}

json_message!(PresenceRequest { "channel" => channel });

/// Answer to [`PresenceRequest`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PresenceResult {
    /// By client id.
    #[prost(btree_map = "string, message", tag = "1")]
    pub presence: BTreeMap<String, ClientInfo>,
}

json_message!(PresenceResult { "presence" (always) => presence });

/// How many are subscribed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PresenceStatsRequest {
    /// Channel name.
    #[prost(string, tag = "1")]
    pub channel: String,
}

json_message!(PresenceStatsRequest { "channel" => channel });

/// Answer to [`PresenceStatsRequest`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PresenceStatsResult {
    /// Connections.
    #[prost(uint32, tag = "1")]
    pub num_clients: u32,
    /// Different users among them.
    #[prost(uint32, tag = "2")]
    pub num_users: u32,
}

json_message!(PresenceStatsResult { "num_clients" (always) => num_clients, "num_users" (always) => num_users });

/// Place in a stream.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StreamPosition {
    /// Last offset seen.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Epoch of the stream.
    #[prost(string, tag = "2")]
    pub epoch: String,
}

json_message!(StreamPosition { "offset" => offset, "epoch" => epoch });

/// Stored publications.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HistoryRequest {
    /// Channel name.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// 0 position only, negative everything.
    #[prost(int32, tag = "7")]
    pub limit: i32,
    /// Start, exclusive.
    #[prost(message, optional, tag = "8")]
    pub since: Option<StreamPosition>,
    /// Newest first.
    #[prost(bool, tag = "9")]
    pub reverse: bool,
}

json_message!(HistoryRequest { "channel" => channel, "limit" => limit, "since" => since, "reverse" => reverse });

/// Answer to [`HistoryRequest`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HistoryResult {
    /// In the asked for order.
    #[prost(message, repeated, tag = "1")]
    pub publications: Vec<Publication>,
    /// Epoch of the stream.
    #[prost(string, tag = "2")]
    pub epoch: String,
    /// Top of the stream.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
}

json_message!(HistoryResult { "publications" (always) => publications, "epoch" (always) => epoch, "offset" (always) => offset });

/// Call of a method behind a proxy.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RpcRequest {
    /// Payload.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// Method name.
    #[prost(string, tag = "2")]
    pub method: String,
}

json_message!(RpcRequest { "data" => data, "method" => method });

/// Answer to [`RpcRequest`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RpcResult {
    /// Payload.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}

json_message!(RpcResult { "data" => data });

/// A message without an answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SendRequest {
    /// Payload.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}

json_message!(SendRequest { "data" => data });

/// A message without fields: ping, and the results of publish and unsubscribe.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Empty {}

json_message!(Empty {});

/// Condition on tags. Source: protocol §10.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FilterNode {
    /// Empty for a leaf, else `and`, `or`, `not`.
    #[prost(string, tag = "1")]
    pub op: String,
    /// Leaf: tag.
    #[prost(string, tag = "2")]
    pub key: String,
    /// Leaf: comparison.
    #[prost(string, tag = "3")]
    pub cmp: String,
    /// Leaf: single value.
    #[prost(string, tag = "4")]
    pub val: String,
    /// Leaf: values of `in` and `nin`.
    #[prost(string, repeated, tag = "5")]
    pub vals: Vec<String>,
    /// Children.
    #[prost(message, repeated, tag = "6")]
    pub nodes: Vec<FilterNode>,
}

json_message!(FilterNode { "op" => op, "key" => key, "cmp" => cmp, "val" => val, "vals" => vals, "nodes" => nodes });
