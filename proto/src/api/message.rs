//! Requests and results of the server API. Source: server API §3.
//!
//! The numbers are the protobuf fields; JSON uses the same names. A `Bytes` field is a payload; the `b64...` field beside it
//! holds the same in base64 and wins.

use super::decode_base64;
use crate::client::{ClientInfo, FilterNode, StreamPosition};
use crate::codes::ApiError;
use crate::json::json_message;
use bytes::Bytes;
use std::collections::BTreeMap;

/// An error as it stands in a response; see [`ApiError`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Error {
    /// Code of server API §1.1.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// Text of the code.
    #[prost(string, tag = "2")]
    pub message: String,
}

json_message!(Error { "code" => code, "message" => message });

impl From<&ApiError> for Error {
    fn from(error: &ApiError) -> Self {
        Self { code: error.code, message: error.message.clone().into_owned() }
    }
}

/// Publishes to one channel.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PublishRequest {
    /// Channel name.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// Payload; see [`PublishRequest::payload`].
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// Payload in base64.
    #[prost(string, tag = "3")]
    pub b64data: String,
    /// Do not store it.
    #[prost(bool, tag = "4")]
    pub skip_history: bool,
    /// For filters and applications.
    #[prost(btree_map = "string, string", tag = "5")]
    pub tags: BTreeMap<String, String>,
    /// The same key again gives the same result and publishes nothing.
    #[prost(string, tag = "6")]
    pub idempotency_key: String,
    /// Send deltas where subscribers take them.
    #[prost(bool, tag = "7")]
    pub delta: bool,
    /// Dropped unless above the last version of the channel; 0 without.
    #[prost(uint64, tag = "8")]
    pub version: u64,
    /// Versions of different epochs are not compared.
    #[prost(string, tag = "9")]
    pub version_epoch: String,
}

json_message!(PublishRequest {
    "channel" => channel, "data" => data, "b64data" => b64data, "skip_history" => skip_history, "tags" => tags,
    "idempotency_key" => idempotency_key, "delta" => delta, "version" => version, "version_epoch" => version_epoch,
});

impl PublishRequest {
    /// The bytes to publish.
    pub fn payload(&self) -> Result<Bytes, ApiError> {
        effective(&self.data, &self.b64data)
    }
}

/// `plain` unless `base64` is given.
fn effective(plain: &Bytes, base64: &str) -> Result<Bytes, ApiError> {
    if base64.is_empty() { Ok(plain.clone()) } else { decode_base64(base64).ok_or(ApiError::BAD_REQUEST) }
}

/// Answer to [`PublishRequest`]. Both fields are zero without history.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PublishResult {
    /// Place in the stream.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Epoch of the stream.
    #[prost(string, tag = "2")]
    pub epoch: String,
}

json_message!(PublishResult { "offset" => offset, "epoch" => epoch });

/// What came of one channel of a broadcast.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PublishResponse {
    /// Set when it failed.
    #[prost(message, optional, tag = "1")]
    pub error: Option<Error>,
    /// Set when it did not.
    #[prost(message, optional, tag = "2")]
    pub result: Option<PublishResult>,
}

json_message!(PublishResponse { "error" => error, "result" => result });

impl From<Result<PublishResult, ApiError>> for PublishResponse {
    fn from(result: Result<PublishResult, ApiError>) -> Self {
        match result {
            Ok(result) => Self { error: None, result: Some(result) },
            Err(error) => Self { error: Some(Error::from(&error)), result: None },
        }
    }
}

/// Publishes the same to many channels. Fields as in [`PublishRequest`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BroadcastRequest {
    /// Channel names.
    #[prost(string, repeated, tag = "1")]
    pub channels: Vec<String>,
    /// Payload; see [`BroadcastRequest::payload`].
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// Payload in base64.
    #[prost(string, tag = "3")]
    pub b64data: String,
    /// Do not store it.
    #[prost(bool, tag = "4")]
    pub skip_history: bool,
    /// For filters and applications.
    #[prost(btree_map = "string, string", tag = "5")]
    pub tags: BTreeMap<String, String>,
    /// The same key and channel again give the same result and publish nothing.
    #[prost(string, tag = "6")]
    pub idempotency_key: String,
    /// Send deltas where subscribers take them.
    #[prost(bool, tag = "7")]
    pub delta: bool,
    /// Dropped unless above the last version of the channel; 0 without.
    #[prost(uint64, tag = "8")]
    pub version: u64,
    /// Versions of different epochs are not compared.
    #[prost(string, tag = "9")]
    pub version_epoch: String,
}

json_message!(BroadcastRequest {
    "channels" => channels, "data" => data, "b64data" => b64data, "skip_history" => skip_history, "tags" => tags,
    "idempotency_key" => idempotency_key, "delta" => delta, "version" => version, "version_epoch" => version_epoch,
});

impl BroadcastRequest {
    /// The bytes to publish.
    pub fn payload(&self) -> Result<Bytes, ApiError> {
        effective(&self.data, &self.b64data)
    }
}

/// Answer to [`BroadcastRequest`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BroadcastResult {
    /// In the order of the channels.
    #[prost(message, repeated, tag = "1")]
    pub responses: Vec<PublishResponse>,
}

json_message!(BroadcastResult { "responses" => responses });

/// A boolean that may be absent.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct BoolValue {
    /// The boolean.
    #[prost(bool, tag = "1")]
    pub value: bool,
}

json_message!(BoolValue { "value" => value });

/// Channel options for one subscription; absent ones come from the namespace.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubscribeOptionOverride {
    /// Option `presence`.
    #[prost(message, optional, tag = "1")]
    pub presence: Option<BoolValue>,
    /// Option `join_leave`.
    #[prost(message, optional, tag = "2")]
    pub join_leave: Option<BoolValue>,
    /// Option `force_recovery`.
    #[prost(message, optional, tag = "3")]
    pub force_recovery: Option<BoolValue>,
    /// Option `force_positioning`.
    #[prost(message, optional, tag = "4")]
    pub force_positioning: Option<BoolValue>,
    /// Option `force_push_join_leave`.
    #[prost(message, optional, tag = "5")]
    pub force_push_join_leave: Option<BoolValue>,
}

json_message!(SubscribeOptionOverride {
    "presence" => presence, "join_leave" => join_leave, "force_recovery" => force_recovery, "force_positioning" => force_positioning,
    "force_push_join_leave" => force_push_join_leave,
});

/// Subscribes connections of a user.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubscribeRequest {
    /// Channel name.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// User id; empty for anonymous connections.
    #[prost(string, tag = "2")]
    pub user: String,
    /// Unix time in seconds; 0 for no end.
    #[prost(int64, tag = "3")]
    pub expire_at: i64,
    /// Channel info; see [`SubscribeRequest::info_payload`].
    #[prost(bytes = "bytes", tag = "4")]
    pub info: Bytes,
    /// Channel info in base64.
    #[prost(string, tag = "5")]
    pub b64info: String,
    /// Only this connection.
    #[prost(string, tag = "6")]
    pub client: String,
    /// For the push; see [`SubscribeRequest::payload`].
    #[prost(bytes = "bytes", tag = "7")]
    pub data: Bytes,
    /// `data` in base64.
    #[prost(string, tag = "8")]
    pub b64data: String,
    /// Recover from here.
    #[prost(message, optional, tag = "9")]
    pub recover_since: Option<StreamPosition>,
    /// Options that differ from the namespace.
    #[prost(message, optional, tag = "10")]
    pub r#override: Option<SubscribeOptionOverride>,
    /// Only this session.
    #[prost(string, tag = "11")]
    pub session: String,
    /// Only connections whose labels match.
    #[prost(message, optional, tag = "12")]
    pub label_filter: Option<FilterNode>,
    /// With an empty user: all connections.
    #[prost(bool, tag = "13")]
    pub all_users: bool,
}

json_message!(SubscribeRequest {
    "channel" => channel, "user" => user, "expire_at" => expire_at, "info" => info, "b64info" => b64info, "client" => client,
    "data" => data, "b64data" => b64data, "recover_since" => recover_since, "override" => r#override, "session" => session,
    "label_filter" => label_filter, "all_users" => all_users,
});

impl SubscribeRequest {
    /// The bytes for the push.
    pub fn payload(&self) -> Result<Bytes, ApiError> {
        effective(&self.data, &self.b64data)
    }

    /// The channel info.
    pub fn info_payload(&self) -> Result<Bytes, ApiError> {
        effective(&self.info, &self.b64info)
    }
}

/// Ends subscriptions of a user.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UnsubscribeRequest {
    /// Channel name.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// User id; empty for anonymous connections.
    #[prost(string, tag = "2")]
    pub user: String,
    /// Only this connection.
    #[prost(string, tag = "3")]
    pub client: String,
    /// Only this session.
    #[prost(string, tag = "4")]
    pub session: String,
    /// Only connections whose labels match.
    #[prost(message, optional, tag = "5")]
    pub label_filter: Option<FilterNode>,
    /// With an empty user: all connections.
    #[prost(bool, tag = "6")]
    pub all_users: bool,
}

json_message!(UnsubscribeRequest {
    "channel" => channel, "user" => user, "client" => client, "session" => session, "label_filter" => label_filter,
    "all_users" => all_users,
});

/// Code and reason of a disconnect asked for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Disconnect {
    /// 4000 to 4999.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// Text for the client.
    #[prost(string, tag = "2")]
    pub reason: String,
}

json_message!(Disconnect { "code" => code, "reason" => reason });

/// Closes connections of a user.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DisconnectRequest {
    /// User id; empty for anonymous connections.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Default 3503 "force disconnect".
    #[prost(message, optional, tag = "2")]
    pub disconnect: Option<Disconnect>,
    /// Only this connection.
    #[prost(string, tag = "3")]
    pub client: String,
    /// Connections to keep.
    #[prost(string, repeated, tag = "4")]
    pub whitelist: Vec<String>,
    /// Only this session.
    #[prost(string, tag = "5")]
    pub session: String,
    /// Only connections whose labels match.
    #[prost(message, optional, tag = "6")]
    pub label_filter: Option<FilterNode>,
    /// With an empty user: all connections.
    #[prost(bool, tag = "7")]
    pub all_users: bool,
}

json_message!(DisconnectRequest {
    "user" => user, "disconnect" => disconnect, "client" => client, "whitelist" => whitelist, "session" => session,
    "label_filter" => label_filter, "all_users" => all_users,
});

/// Gives connections of a user a new expiry.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RefreshRequest {
    /// User id; empty for anonymous connections.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Only this connection.
    #[prost(string, tag = "2")]
    pub client: String,
    /// Close them with 3005.
    #[prost(bool, tag = "3")]
    pub expired: bool,
    /// Unix time in seconds; 0 for no end.
    #[prost(int64, tag = "4")]
    pub expire_at: i64,
    /// New connection info.
    #[prost(bytes = "bytes", tag = "5")]
    pub info: Bytes,
    /// Only this session.
    #[prost(string, tag = "6")]
    pub session: String,
    /// Only connections whose labels match.
    #[prost(message, optional, tag = "7")]
    pub label_filter: Option<FilterNode>,
    /// With an empty user: all connections.
    #[prost(bool, tag = "8")]
    pub all_users: bool,
}

json_message!(RefreshRequest {
    "user" => user, "client" => client, "expired" => expired, "expire_at" => expire_at, "info" => info, "session" => session,
    "label_filter" => label_filter, "all_users" => all_users,
});

/// Stored publications.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HistoryRequest {
    /// Channel name.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// 0 position only, negative everything.
    #[prost(int32, tag = "2")]
    pub limit: i32,
    /// Start, exclusive.
    #[prost(message, optional, tag = "3")]
    pub since: Option<StreamPosition>,
    /// Newest first.
    #[prost(bool, tag = "4")]
    pub reverse: bool,
}

json_message!(HistoryRequest { "channel" => channel, "limit" => limit, "since" => since, "reverse" => reverse });

/// A stored publication.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Publication {
    /// Payload.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// Publisher, when it is a client.
    #[prost(message, optional, tag = "3")]
    pub info: Option<ClientInfo>,
    /// Place in the stream.
    #[prost(uint64, tag = "4")]
    pub offset: u64,
    /// As published.
    #[prost(btree_map = "string, string", tag = "5")]
    pub tags: BTreeMap<String, String>,
}

json_message!(Publication { "data" => data, "info" => info, "offset" => offset, "tags" => tags });

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

/// Drops the stored publications of a channel.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HistoryRemoveRequest {
    /// Channel name.
    #[prost(string, tag = "1")]
    pub channel: String,
}

json_message!(HistoryRemoveRequest { "channel" => channel });

/// One node of the cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeResult {
    /// Node id.
    #[prost(string, tag = "1")]
    pub uid: String,
    /// Config key `node.name`.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Server version.
    #[prost(string, tag = "3")]
    pub version: String,
    /// Connections.
    #[prost(uint32, tag = "4")]
    pub num_clients: u32,
    /// Different users among them.
    #[prost(uint32, tag = "5")]
    pub num_users: u32,
    /// Channels with subscribers.
    #[prost(uint32, tag = "6")]
    pub num_channels: u32,
    /// Seconds.
    #[prost(uint32, tag = "7")]
    pub uptime: u32,
    /// Snapshot of the counters.
    #[prost(message, optional, tag = "8")]
    pub metrics: Option<Metrics>,
    /// Use of the machine.
    #[prost(message, optional, tag = "9")]
    pub process: Option<Process>,
    /// Subscriptions.
    #[prost(uint32, tag = "10")]
    pub num_subs: u32,
}

json_message!(NodeResult {
    "uid" (always) => uid, "name" (always) => name, "version" (always) => version, "num_clients" (always) => num_clients,
    "num_users" (always) => num_users, "num_channels" (always) => num_channels, "uptime" => uptime, "metrics" => metrics,
    "process" => process, "num_subs" (always) => num_subs,
});

/// Counters of a node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metrics {
    /// Seconds between snapshots.
    #[prost(double, tag = "1")]
    pub interval: f64,
    /// By name.
    #[prost(btree_map = "string, double", tag = "2")]
    pub items: BTreeMap<String, f64>,
}

json_message!(Metrics { "interval" => interval, "items" => items });

/// Use of the machine by a node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Process {
    /// Percent of one core.
    #[prost(double, tag = "1")]
    pub cpu: f64,
    /// Resident bytes.
    #[prost(int64, tag = "2")]
    pub rss: i64,
}

json_message!(Process { "cpu" => cpu, "rss" => rss });

/// Answer to an info request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InfoResult {
    /// All nodes.
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<NodeResult>,
}

json_message!(InfoResult { "nodes" => nodes });

/// Call of a server extension.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RpcRequest {
    /// Method name.
    #[prost(string, tag = "1")]
    pub method: String,
    /// Payload.
    #[prost(bytes = "bytes", tag = "2")]
    pub params: Bytes,
}

json_message!(RpcRequest { "method" => method, "params" => params });

/// Active channels.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ChannelsRequest {
    /// Glob; empty for all.
    #[prost(string, tag = "1")]
    pub pattern: String,
}

json_message!(ChannelsRequest { "pattern" => pattern });

/// Answer to [`ChannelsRequest`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ChannelsResult {
    /// By channel name.
    #[prost(btree_map = "string, message", tag = "1")]
    pub channels: BTreeMap<String, ChannelInfo>,
}

json_message!(ChannelsResult { "channels" (always) => channels });

/// One active channel.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ChannelInfo {
    /// Subscribers.
    #[prost(uint32, tag = "1")]
    pub num_clients: u32,
}

json_message!(ChannelInfo { "num_clients" => num_clients });
