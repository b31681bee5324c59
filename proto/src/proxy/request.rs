//! What backends are asked. Source: behaviour §9.
//!
//! The numbers are the protobuf fields; JSON uses the same names and leaves zeros out, but for the user.

use crate::json::json_message;
use bytes::Bytes;

/// A connection without a token. Event `connect`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConnectRequest {
    /// Client id.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Name of the transport, as `websocket`.
    #[prost(string, tag = "2")]
    pub transport: String,
    /// `json` or `protobuf`: what the client speaks.
    #[prost(string, tag = "3")]
    pub protocol: String,
    /// `json`, or `binary` with option `binary_encoding`; set by [`ProxyRequest::finish`](super::ProxyRequest::finish).
    #[prost(string, tag = "4")]
    pub encoding: String,
    /// Payload of the client.
    #[prost(bytes = "bytes", tag = "10")]
    pub data: Bytes,
    /// The same in base64, with option `binary_encoding`.
    #[prost(string, tag = "11")]
    pub b64data: String,
    /// Name that the client gave itself.
    #[prost(string, tag = "12")]
    pub name: String,
    /// Version that the client gave itself.
    #[prost(string, tag = "13")]
    pub version: String,
    /// Channels that it asks to be subscribed to.
    #[prost(string, repeated, tag = "14")]
    pub channels: Vec<String>,
}

json_message!(ConnectRequest {
    "client" => client, "transport" => transport, "protocol" => protocol, "encoding" => encoding, "data" => data, "b64data" => b64data, "name" => name, "version" => version, "channels" => channels,
});

/// A connection whose time is over. Event `refresh`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RefreshRequest {
    /// Client id.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Name of the transport, as `websocket`.
    #[prost(string, tag = "2")]
    pub transport: String,
    /// `json` or `protobuf`: what the client speaks.
    #[prost(string, tag = "3")]
    pub protocol: String,
    /// `json`, or `binary` with option `binary_encoding`; set by [`ProxyRequest::finish`](super::ProxyRequest::finish).
    #[prost(string, tag = "4")]
    pub encoding: String,
    /// User id; empty for an anonymous client.
    #[prost(string, tag = "10")]
    pub user: String,
    /// Meta of the connection, with option `include_connection_meta`.
    #[prost(bytes = "bytes", tag = "11")]
    pub meta: Bytes,
}

json_message!(RefreshRequest {
    "client" => client, "transport" => transport, "protocol" => protocol, "encoding" => encoding, "user"(always) => user, "meta" => meta,
});

/// A subscription. Event `subscribe`, and the first word of a subscription stream.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubscribeRequest {
    /// Client id.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Name of the transport, as `websocket`.
    #[prost(string, tag = "2")]
    pub transport: String,
    /// `json` or `protobuf`: what the client speaks.
    #[prost(string, tag = "3")]
    pub protocol: String,
    /// `json`, or `binary` with option `binary_encoding`; set by [`ProxyRequest::finish`](super::ProxyRequest::finish).
    #[prost(string, tag = "4")]
    pub encoding: String,
    /// User id; empty for an anonymous client.
    #[prost(string, tag = "10")]
    pub user: String,
    /// Channel name.
    #[prost(string, tag = "11")]
    pub channel: String,
    /// Subscription token that came along.
    #[prost(string, tag = "12")]
    pub token: String,
    /// Meta of the connection, with option `include_connection_meta`.
    #[prost(bytes = "bytes", tag = "13")]
    pub meta: Bytes,
    /// Payload of the client.
    #[prost(bytes = "bytes", tag = "14")]
    pub data: Bytes,
    /// The same in base64, with option `binary_encoding`.
    #[prost(string, tag = "15")]
    pub b64data: String,
}

json_message!(SubscribeRequest {
    "client" => client, "transport" => transport, "protocol" => protocol, "encoding" => encoding, "user"(always) => user, "channel" => channel, "token" => token, "meta" => meta, "data" => data, "b64data" => b64data,
});

/// A publication of a client. Event `publish`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PublishRequest {
    /// Client id.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Name of the transport, as `websocket`.
    #[prost(string, tag = "2")]
    pub transport: String,
    /// `json` or `protobuf`: what the client speaks.
    #[prost(string, tag = "3")]
    pub protocol: String,
    /// `json`, or `binary` with option `binary_encoding`; set by [`ProxyRequest::finish`](super::ProxyRequest::finish).
    #[prost(string, tag = "4")]
    pub encoding: String,
    /// User id; empty for an anonymous client.
    #[prost(string, tag = "10")]
    pub user: String,
    /// Channel name.
    #[prost(string, tag = "11")]
    pub channel: String,
    /// Payload of the client.
    #[prost(bytes = "bytes", tag = "12")]
    pub data: Bytes,
    /// The same in base64, with option `binary_encoding`.
    #[prost(string, tag = "13")]
    pub b64data: String,
    /// Meta of the connection, with option `include_connection_meta`.
    #[prost(bytes = "bytes", tag = "14")]
    pub meta: Bytes,
}

json_message!(PublishRequest {
    "client" => client, "transport" => transport, "protocol" => protocol, "encoding" => encoding, "user"(always) => user, "channel" => channel, "data" => data, "b64data" => b64data, "meta" => meta,
});

/// A call of a client. Event `rpc`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RpcRequest {
    /// Client id.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Name of the transport, as `websocket`.
    #[prost(string, tag = "2")]
    pub transport: String,
    /// `json` or `protobuf`: what the client speaks.
    #[prost(string, tag = "3")]
    pub protocol: String,
    /// `json`, or `binary` with option `binary_encoding`; set by [`ProxyRequest::finish`](super::ProxyRequest::finish).
    #[prost(string, tag = "4")]
    pub encoding: String,
    /// User id; empty for an anonymous client.
    #[prost(string, tag = "10")]
    pub user: String,
    /// Name of the method.
    #[prost(string, tag = "11")]
    pub method: String,
    /// Payload of the client.
    #[prost(bytes = "bytes", tag = "12")]
    pub data: Bytes,
    /// The same in base64, with option `binary_encoding`.
    #[prost(string, tag = "13")]
    pub b64data: String,
    /// Meta of the connection, with option `include_connection_meta`.
    #[prost(bytes = "bytes", tag = "14")]
    pub meta: Bytes,
}

json_message!(RpcRequest {
    "client" => client, "transport" => transport, "protocol" => protocol, "encoding" => encoding, "user"(always) => user, "method" => method, "data" => data, "b64data" => b64data, "meta" => meta,
});

/// A subscription whose time is over. Event `sub_refresh`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubRefreshRequest {
    /// Client id.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Name of the transport, as `websocket`.
    #[prost(string, tag = "2")]
    pub transport: String,
    /// `json` or `protobuf`: what the client speaks.
    #[prost(string, tag = "3")]
    pub protocol: String,
    /// `json`, or `binary` with option `binary_encoding`; set by [`ProxyRequest::finish`](super::ProxyRequest::finish).
    #[prost(string, tag = "4")]
    pub encoding: String,
    /// User id; empty for an anonymous client.
    #[prost(string, tag = "10")]
    pub user: String,
    /// Channel name.
    #[prost(string, tag = "11")]
    pub channel: String,
    /// Meta of the connection, with option `include_connection_meta`.
    #[prost(bytes = "bytes", tag = "12")]
    pub meta: Bytes,
}

json_message!(SubRefreshRequest {
    "client" => client, "transport" => transport, "protocol" => protocol, "encoding" => encoding, "user"(always) => user, "channel" => channel, "meta" => meta,
});

/// A publication in a subscription stream, in either direction.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Publication {
    /// Payload.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
    /// For applications.
    #[prost(btree_map = "string, string", tag = "7")]
    pub tags: std::collections::BTreeMap<String, String>,
}

/// To the backend of a bidirectional subscription stream: the first has the request, the others publications.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StreamSubscribeRequest {
    /// Who subscribes, in the first message.
    #[prost(message, optional, tag = "1")]
    pub subscribe_request: Option<SubscribeRequest>,
    /// What the client published.
    #[prost(message, optional, tag = "2")]
    pub publication: Option<Publication>,
}
