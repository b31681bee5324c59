//! The server API: requests of a backend and our responses. Source: server API §1 to §3.
//!
//! Messages carry their protobuf numbers for GRPC; HTTP uses JSON. Methods of maps, shared poll and those beyond the open
//! source reference are not here yet: a path of theirs is unknown.

mod json;
mod legacy;
mod message;

pub use crate::client::{
    ClientInfo, FilterNode, PresenceRequest, PresenceResult, PresenceStatsRequest,
    PresenceStatsResult, RpcResult, StreamPosition,
};
pub use legacy::{LegacyCommand, decode_legacy_commands, encode_legacy_reply};
pub use message::*;

use crate::DecodeError;
use crate::codes::ApiError;
use base64::Engine;
use bytes::Bytes;

/// Most commands of one batch.
pub const BATCH_COMMANDS_MAX: usize = 65_536;

/// A method of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is the request of its name")]
pub enum Method {
    Publish,
    Broadcast,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Presence,
    PresenceStats,
    History,
    HistoryRemove,
    Info,
    Rpc,
    Refresh,
    Channels,
    Batch,
}

impl Method {
    /// All methods, in the order of their numbers in a batch.
    pub const ALL: [Self; 14] = [
        Self::Publish,
        Self::Broadcast,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Disconnect,
        Self::Presence,
        Self::PresenceStats,
        Self::History,
        Self::HistoryRemove,
        Self::Info,
        Self::Rpc,
        Self::Refresh,
        Self::Channels,
        Self::Batch,
    ];

    /// The last part of the path, without a slash.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == path)
    }

    /// Name in paths, batches, metrics and consumers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Broadcast => "broadcast",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Disconnect => "disconnect",
            Self::Presence => "presence",
            Self::PresenceStats => "presence_stats",
            Self::History => "history",
            Self::HistoryRemove => "history_remove",
            Self::Info => "info",
            Self::Rpc => "rpc",
            Self::Refresh => "refresh",
            Self::Channels => "channels",
            Self::Batch => "batch",
        }
    }

    /// Number of the legacy endpoint. Source: server API §1.2.
    #[must_use]
    pub fn from_legacy_number(number: i64) -> Option<Self> {
        Some(match number {
            0 => Self::Publish,
            1 => Self::Broadcast,
            2 => Self::Unsubscribe,
            3 => Self::Disconnect,
            4 => Self::Presence,
            5 => Self::PresenceStats,
            6 => Self::History,
            7 => Self::HistoryRemove,
            8 => Self::Channels,
            9 => Self::Info,
            10 => Self::Rpc,
            11 => Self::Subscribe,
            12 => Self::Refresh,
            _ => return None,
        })
    }
}

/// A decoded request.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the message it holds")]
pub enum Request {
    Publish(PublishRequest),
    Broadcast(BroadcastRequest),
    Subscribe(Box<SubscribeRequest>),
    Unsubscribe(Box<UnsubscribeRequest>),
    Disconnect(Box<DisconnectRequest>),
    Presence(PresenceRequest),
    PresenceStats(PresenceStatsRequest),
    History(HistoryRequest),
    HistoryRemove(HistoryRemoveRequest),
    Info,
    Rpc(RpcRequest),
    Refresh(Box<RefreshRequest>),
    Channels(ChannelsRequest),
    Batch(BatchRequest),
}

/// Many requests in one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchRequest {
    /// Requests, or what is to be answered in their place: 107 for `null`, 104 for an unknown method. Bound:
    /// [`BATCH_COMMANDS_MAX`].
    pub commands: Vec<Result<Box<Request>, ApiError>>,
    /// Order does not matter.
    pub parallel: bool,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the message it holds")]
pub enum ApiResult {
    Publish(PublishResult),
    Broadcast(BroadcastResult),
    Subscribe,
    Unsubscribe,
    Disconnect,
    Presence(PresenceResult),
    PresenceStats(PresenceStatsResult),
    History(HistoryResult),
    HistoryRemove,
    Info(InfoResult),
    Rpc(RpcResult),
    Refresh,
    Channels(ChannelsResult),
    Batch(BatchResult),
}

/// What came of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchResult {
    /// In the order of the commands.
    pub replies: Vec<Result<ApiResult, ApiError>>,
}

impl Request {
    /// The method this is a request of.
    #[must_use]
    pub fn method(&self) -> Method {
        match self {
            Self::Publish(_) => Method::Publish,
            Self::Broadcast(_) => Method::Broadcast,
            Self::Subscribe(_) => Method::Subscribe,
            Self::Unsubscribe(_) => Method::Unsubscribe,
            Self::Disconnect(_) => Method::Disconnect,
            Self::Presence(_) => Method::Presence,
            Self::PresenceStats(_) => Method::PresenceStats,
            Self::History(_) => Method::History,
            Self::HistoryRemove(_) => Method::HistoryRemove,
            Self::Info => Method::Info,
            Self::Rpc(_) => Method::Rpc,
            Self::Refresh(_) => Method::Refresh,
            Self::Channels(_) => Method::Channels,
            Self::Batch(_) => Method::Batch,
        }
    }
}

impl ApiResult {
    /// The method this is a result of.
    #[must_use]
    pub fn method(&self) -> Method {
        match self {
            Self::Publish(_) => Method::Publish,
            Self::Broadcast(_) => Method::Broadcast,
            Self::Subscribe => Method::Subscribe,
            Self::Unsubscribe => Method::Unsubscribe,
            Self::Disconnect => Method::Disconnect,
            Self::Presence(_) => Method::Presence,
            Self::PresenceStats(_) => Method::PresenceStats,
            Self::History(_) => Method::History,
            Self::HistoryRemove => Method::HistoryRemove,
            Self::Info(_) => Method::Info,
            Self::Rpc(_) => Method::Rpc,
            Self::Refresh => Method::Refresh,
            Self::Channels(_) => Method::Channels,
            Self::Batch(_) => Method::Batch,
        }
    }
}

/// Decodes the JSON body of a request: one object in valid UTF-8, or `null` for an empty one.
pub fn decode_request(method: Method, body: &[u8]) -> Result<Request, DecodeError> {
    json::decode_request(method, body)
}

/// Appends the JSON body of a response: `{"result":...}` or `{"error":...}`, a batch without the wrapper. A payload that is
/// not JSON cannot be written; the response is then error 100.
pub fn encode_response(method: Method, response: &Result<ApiResult, ApiError>, out: &mut Vec<u8>) {
    debug_assert!(
        response
            .as_ref()
            .is_ok_and(|result| result.method() == method)
            || response.is_err(),
        "result of another method"
    );
    json::encode_response(response, out);
}

/// Appends the bare error object of transport error mode.
pub fn encode_transport_error(error: &ApiError, out: &mut Vec<u8>) {
    json::encode_error(error, out);
}

/// Base64 as the reference takes it: standard alphabet, with padding, line breaks ignored.
fn decode_base64(text: &str) -> Result<Bytes, ApiError> {
    let without_breaks: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    match base64::engine::general_purpose::STANDARD.decode(without_breaks) {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => Err(ApiError::BAD_REQUEST),
    }
}
