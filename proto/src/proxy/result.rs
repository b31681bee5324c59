//! What backends answer. Source: behaviour §9.
//!
//! A `Bytes` field is a payload; the `b64...` field beside it holds the same in base64 and wins, but in a publish result. Results that
//! [`decode`](super::ProxyReply) gives out have it decoded already.

use super::request::Publication;
use crate::DecodeError;
use crate::api::{SubscribeOptionOverride, decode_base64};
use crate::client::FilterNode;
use crate::json::json_message;
use bytes::Bytes;
use std::collections::BTreeMap;

/// An error for the client.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Error {
    /// Code; 400 to 1999 for those of applications.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// Text.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Worth a retry.
    #[prost(bool, tag = "3")]
    pub temporary: bool,
}

json_message!(Error { "code" => code, "message" => message, "temporary" => temporary });

/// The end of the connection.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Disconnect {
    /// Code; 4000 to 4999 for those of applications.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// Text.
    #[prost(string, tag = "2")]
    pub reason: String,
}

json_message!(Disconnect { "code" => code, "reason" => reason });

/// Options of a subscription that a connect result makes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubscribeOptions {
    /// Unix time in seconds; 0 for no end.
    #[prost(int64, tag = "1")]
    pub expire_at: i64,
    /// Info about the client or the subscription.
    #[prost(bytes = "bytes", tag = "2")]
    pub info: Bytes,
    /// `info` in base64, which wins; empty once decoded.
    #[prost(string, tag = "3")]
    pub b64info: String,
    /// Payload.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
    /// `data` in base64, which wins; empty once decoded.
    #[prost(string, tag = "5")]
    pub b64data: String,
    /// Options that differ from the namespace.
    #[prost(message, optional, tag = "6")]
    pub r#override: Option<SubscribeOptionOverride>,
    /// Only publications with these tags.
    #[prost(message, optional, tag = "7")]
    pub server_tags_filter: Option<FilterNode>,
    /// Recover the latest publication without being asked.
    #[prost(bool, tag = "8")]
    pub cache_recover: bool,
}

json_message!(SubscribeOptions {
    "expire_at" => expire_at, "info" => info, "b64info" => b64info, "data" => data, "b64data" => b64data, "override" => r#override, "server_tags_filter" => server_tags_filter, "cache_recover" => cache_recover,
});

/// What a connection may do in channels.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ChannelsCapability {
    /// Channels to subscribe to.
    #[prost(string, repeated, tag = "1")]
    pub channels: Vec<String>,
    /// Capabilities of the subscription.
    #[prost(string, repeated, tag = "2")]
    pub allow: Vec<String>,
    /// How `channels` are meant: exact, `wildcard` or `regex`.
    #[prost(string, tag = "3")]
    pub r#match: String,
}

json_message!(ChannelsCapability {
    "channels" => channels, "allow" => allow, "match" => r#match,
});

/// Answer to `ConnectRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConnectResult {
    /// User id; empty for an anonymous client.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Unix time in seconds; 0 for no end.
    #[prost(int64, tag = "2")]
    pub expire_at: i64,
    /// Info about the client or the subscription.
    #[prost(bytes = "bytes", tag = "3")]
    pub info: Bytes,
    /// `info` in base64, which wins; empty once decoded.
    #[prost(string, tag = "4")]
    pub b64info: String,
    /// Payload.
    #[prost(bytes = "bytes", tag = "5")]
    pub data: Bytes,
    /// `data` in base64, which wins; empty once decoded.
    #[prost(string, tag = "6")]
    pub b64data: String,
    /// Channels to subscribe to.
    #[prost(string, repeated, tag = "7")]
    pub channels: Vec<String>,
    /// The same with options.
    #[prost(btree_map = "string, message", tag = "8")]
    pub subs: BTreeMap<String, SubscribeOptions>,
    /// Data of the connection that clients do not see.
    #[prost(bytes = "bytes", tag = "9")]
    pub meta: Bytes,
    /// Capabilities of the connection.
    #[prost(message, repeated, tag = "10")]
    pub caps: Vec<ChannelsCapability>,
    /// Labels of the connection.
    #[prost(btree_map = "string, string", tag = "11")]
    pub labels: BTreeMap<String, String>,
}

json_message!(ConnectResult {
    "user" => user, "expire_at" => expire_at, "info" => info, "b64info" => b64info, "data" => data, "b64data" => b64data, "channels" => channels, "subs" => subs, "meta" => meta, "caps" => caps, "labels" => labels,
});

/// Answer to `RefreshRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RefreshResult {
    /// It ends now.
    #[prost(bool, tag = "1")]
    pub expired: bool,
    /// Unix time in seconds; 0 for no end.
    #[prost(int64, tag = "2")]
    pub expire_at: i64,
    /// Info about the client or the subscription.
    #[prost(bytes = "bytes", tag = "3")]
    pub info: Bytes,
    /// `info` in base64, which wins; empty once decoded.
    #[prost(string, tag = "4")]
    pub b64info: String,
    /// Data of the connection that clients do not see.
    #[prost(bytes = "bytes", tag = "5")]
    pub meta: Bytes,
    /// Capabilities of the connection.
    #[prost(message, repeated, tag = "6")]
    pub caps: Vec<ChannelsCapability>,
}

json_message!(RefreshResult {
    "expired" => expired, "expire_at" => expire_at, "info" => info, "b64info" => b64info, "meta" => meta, "caps" => caps,
});

/// Answer to `SubscribeRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubscribeResult {
    /// Unix time in seconds; 0 for no end.
    #[prost(int64, tag = "1")]
    pub expire_at: i64,
    /// Info about the client or the subscription.
    #[prost(bytes = "bytes", tag = "2")]
    pub info: Bytes,
    /// `info` in base64, which wins; empty once decoded.
    #[prost(string, tag = "3")]
    pub b64info: String,
    /// Payload.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
    /// `data` in base64, which wins; empty once decoded.
    #[prost(string, tag = "5")]
    pub b64data: String,
    /// Options that differ from the namespace.
    #[prost(message, optional, tag = "6")]
    pub r#override: Option<SubscribeOptionOverride>,
    /// Capabilities of the subscription.
    #[prost(string, repeated, tag = "7")]
    pub allow: Vec<String>,
    /// Only publications with these tags.
    #[prost(message, optional, tag = "8")]
    pub server_tags_filter: Option<FilterNode>,
}

json_message!(SubscribeResult {
    "expire_at" => expire_at, "info" => info, "b64info" => b64info, "data" => data, "b64data" => b64data, "override" => r#override, "allow" => allow, "server_tags_filter" => server_tags_filter,
});

/// Answer to `PublishRequest`. Data, where there is some, is published instead.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PublishResult {
    /// Payload.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// `data` in base64, which counts where `data` is empty; empty once decoded.
    #[prost(string, tag = "2")]
    pub b64data: String,
    /// Do not store it.
    #[prost(bool, tag = "3")]
    pub skip_history: bool,
    /// For filters and applications.
    #[prost(btree_map = "string, string", tag = "4")]
    pub tags: BTreeMap<String, String>,
    /// The same key again publishes nothing.
    #[prost(string, tag = "5")]
    pub idempotency_key: String,
    /// Send deltas where subscribers take them.
    #[prost(bool, tag = "6")]
    pub delta: bool,
    /// Dropped unless above the last version of the channel; 0 without.
    #[prost(uint64, tag = "7")]
    pub version: u64,
    /// Versions of different epochs are not compared.
    #[prost(string, tag = "8")]
    pub version_epoch: String,
}

json_message!(PublishResult {
    "data" => data, "b64data" => b64data, "skip_history" => skip_history, "tags" => tags, "idempotency_key" => idempotency_key, "delta" => delta, "version" => version, "version_epoch" => version_epoch,
});

/// Answer to `RpcRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RpcResult {
    /// Payload.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// `data` in base64, which wins; empty once decoded.
    #[prost(string, tag = "2")]
    pub b64data: String,
}

json_message!(RpcResult {
    "data" => data, "b64data" => b64data,
});

/// Answer to `SubRefreshRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubRefreshResult {
    /// It ends now.
    #[prost(bool, tag = "1")]
    pub expired: bool,
    /// Unix time in seconds; 0 for no end.
    #[prost(int64, tag = "2")]
    pub expire_at: i64,
    /// Info about the client or the subscription.
    #[prost(bytes = "bytes", tag = "3")]
    pub info: Bytes,
    /// `info` in base64, which wins; empty once decoded.
    #[prost(string, tag = "4")]
    pub b64info: String,
}

json_message!(SubRefreshResult {
    "expired" => expired, "expire_at" => expire_at, "info" => info, "b64info" => b64info,
});

/// The answer to one event: a result, or else an error, or else a disconnect.
macro_rules! response {
    ($(#[$doc:meta])* $name:ident, $result:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, prost::Message)]
        pub struct $name {
            /// What the backend decided.
            #[prost(message, optional, tag = "1")]
            pub result: Option<$result>,
            /// For the client, instead of a result.
            #[prost(message, optional, tag = "2")]
            pub error: Option<Error>,
            /// The client is closed, whatever else there is.
            #[prost(message, optional, tag = "3")]
            pub disconnect: Option<Disconnect>,
        }

        json_message!($name { "result" => result, "error" => error, "disconnect" => disconnect });
    };
}

response!(
    /// Envelope of [`ConnectResult`].
    ConnectResponse,
    ConnectResult
);
response!(
    /// Envelope of [`RefreshResult`].
    RefreshResponse,
    RefreshResult
);
response!(
    /// Envelope of [`SubscribeResult`].
    SubscribeResponse,
    SubscribeResult
);
response!(
    /// Envelope of [`PublishResult`].
    PublishResponse,
    PublishResult
);
response!(
    /// Envelope of [`RpcResult`].
    RpcResponse,
    RpcResult
);
response!(
    /// Envelope of [`SubRefreshResult`].
    SubRefreshResponse,
    SubRefreshResult
);

/// From the backend of a subscription stream: the first has the response, the others publications.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StreamSubscribeResponse {
    /// Whether there is a subscription, in the first message.
    #[prost(message, optional, tag = "1")]
    pub subscribe_response: Option<SubscribeResponse>,
    /// For the client.
    #[prost(message, optional, tag = "2")]
    pub publication: Option<Publication>,
}

/// Puts what is given in base64 in the place of the plain payload.
fn unpack(plain: &mut Bytes, base64: &mut String) -> Result<(), DecodeError> {
    if !base64.is_empty() {
        *plain = decode_base64(base64).ok_or(DecodeError::new("a payload is not base64", 0))?;
        base64.clear();
    }
    Ok(())
}

/// A result that may hold payloads in base64.
pub(super) trait Unpack {
    /// Decodes them.
    fn unpack(&mut self) -> Result<(), DecodeError>;
}

macro_rules! unpack {
    ($($result:ident: $($plain:ident $base64:ident),*;)*) => {$(
        impl Unpack for $result {
            fn unpack(&mut self) -> Result<(), DecodeError> {
                $(unpack(&mut self.$plain, &mut self.$base64)?;)*
                Ok(())
            }
        }
    )*};
}

unpack! {
    SubscribeOptions: info b64info, data b64data;
    RefreshResult: info b64info;
    SubscribeResult: info b64info, data b64data;
    RpcResult: data b64data;
    SubRefreshResult: info b64info;
}

impl Unpack for PublishResult {
    /// Here the plain payload wins, as in the reference.
    fn unpack(&mut self) -> Result<(), DecodeError> {
        if !self.data.is_empty() {
            self.b64data.clear();
        }
        unpack(&mut self.data, &mut self.b64data)
    }
}

impl Unpack for ConnectResult {
    fn unpack(&mut self) -> Result<(), DecodeError> {
        unpack(&mut self.info, &mut self.b64info)?;
        unpack(&mut self.data, &mut self.b64data)?;
        self.subs.values_mut().try_for_each(Unpack::unpack)
    }
}
