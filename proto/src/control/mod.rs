//! What nodes of a cluster tell each other, equal to Centrifugo's, so that nodes of both take part. Source: behaviour §10.3.

pub mod survey;

use crate::DecodeError;
use crate::client::{FilterNode, StreamPosition};
use bytes::Bytes;
use prost::Message as _;
use std::collections::BTreeMap;

/// A message, from one node to all or to one.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    /// The node that sends it; it ignores its own.
    #[prost(string, tag = "1")]
    pub uid: String,
    /// What it says; nothing for what a newer version says.
    #[prost(oneof = "Body", tags = "4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub body: Option<Body>,
}

/// What a message says.
#[derive(Clone, PartialEq, prost::Oneof)]
#[expect(missing_docs, reason = "each variant is the message it holds")]
pub enum Body {
    #[prost(message, tag = "4")]
    Node(Node),
    #[prost(message, tag = "5")]
    Unsubscribe(Unsubscribe),
    #[prost(message, tag = "6")]
    Disconnect(Disconnect),
    #[prost(message, tag = "7")]
    Shutdown(Shutdown),
    #[prost(message, tag = "8")]
    SurveyRequest(SurveyRequest),
    #[prost(message, tag = "9")]
    SurveyResponse(SurveyResponse),
    #[prost(message, tag = "10")]
    Subscribe(Subscribe),
    #[prost(message, tag = "11")]
    Notification(Notification),
    #[prost(message, tag = "12")]
    Refresh(Refresh),
}

impl Body {
    /// Whose connections it is about; nothing where it is about nodes.
    pub fn user(&self) -> Option<&str> {
        match self {
            Body::Unsubscribe(message) => Some(&message.user),
            Body::Disconnect(message) => Some(&message.user),
            Body::Subscribe(message) => Some(&message.user),
            Body::Refresh(message) => Some(&message.user),
            Body::Node(_)
            | Body::Shutdown(_)
            | Body::SurveyRequest(_)
            | Body::SurveyResponse(_)
            | Body::Notification(_) => None,
        }
    }
}

/// The sender leaves the cluster.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Shutdown {}

/// The sender is there; said again every few seconds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// Its id.
    #[prost(string, tag = "1")]
    pub uid: String,
    /// Config key `node.name`.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Version of the program.
    #[prost(string, tag = "3")]
    pub version: String,
    /// Connections.
    #[prost(uint32, tag = "4")]
    pub num_clients: u32,
    /// Users.
    #[prost(uint32, tag = "5")]
    pub num_users: u32,
    /// Channels with subscribers.
    #[prost(uint32, tag = "6")]
    pub num_channels: u32,
    /// Seconds since its start.
    #[prost(uint32, tag = "7")]
    pub uptime: u32,
    /// Only when there are fresh ones.
    #[prost(message, optional, tag = "8")]
    pub metrics: Option<Metrics>,
    /// Of the application that embeds the reference.
    #[prost(bytes = "bytes", tag = "9")]
    pub data: Bytes,
    /// Subscriptions.
    #[prost(uint32, tag = "10")]
    pub num_subs: u32,
}

/// Metrics of a node, summed up over a time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metrics {
    /// Seconds.
    #[prost(double, tag = "1")]
    pub interval: f64,
    /// By name.
    #[prost(btree_map = "string, double", tag = "2")]
    pub items: BTreeMap<String, f64>,
}

/// End subscriptions of a user's connections.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Unsubscribe {
    /// Channel; all if empty.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// Of this user; of the anonymous ones if empty.
    #[prost(string, tag = "2")]
    pub user: String,
    /// Only this client, if not empty.
    #[prost(string, tag = "3")]
    pub client: String,
    /// Only this session, if not empty.
    #[prost(string, tag = "4")]
    pub session: String,
    /// Code of the push.
    #[prost(uint32, tag = "5")]
    pub code: u32,
    /// Its reason.
    #[prost(string, tag = "6")]
    pub reason: String,
    /// Only connections with such labels.
    #[prost(message, optional, tag = "7")]
    pub label_filter: Option<FilterNode>,
    /// With an empty user: of everybody.
    #[prost(bool, tag = "8")]
    pub all_users: bool,
}

/// Close a user's connections.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Disconnect {
    /// As in [`Unsubscribe`].
    #[prost(string, tag = "1")]
    pub user: String,
    /// Clients that stay.
    #[prost(string, repeated, tag = "2")]
    pub whitelist: Vec<String>,
    /// Code of the close.
    #[prost(uint32, tag = "3")]
    pub code: u32,
    /// Its reason.
    #[prost(string, tag = "4")]
    pub reason: String,
    /// Of older versions.
    #[prost(bool, tag = "5")]
    pub reconnect: bool,
    /// As in [`Unsubscribe`].
    #[prost(string, tag = "6")]
    pub client: String,
    /// As in [`Unsubscribe`].
    #[prost(string, tag = "7")]
    pub session: String,
    /// As in [`Unsubscribe`].
    #[prost(message, optional, tag = "8")]
    pub label_filter: Option<FilterNode>,
    /// As in [`Unsubscribe`].
    #[prost(bool, tag = "9")]
    pub all_users: bool,
}

/// A question to each node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SurveyRequest {
    /// Comes back with the answers.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Name of the question, such as `channels`.
    #[prost(string, tag = "2")]
    pub op: String,
    /// Depends on `op`.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
}

/// The answer of a node, to the asking one alone.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SurveyResponse {
    /// Of the question.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// 0 if it worked; see [`survey_codes`].
    #[prost(uint32, tag = "2")]
    pub code: u32,
    /// Depends on the question.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
}

/// Codes of a [`SurveyResponse`].
pub mod survey_codes {
    /// It failed.
    pub const INTERNAL_ERROR: u32 = 1;
    /// The question cannot be understood.
    pub const INVALID_REQUEST: u32 = 2;
    /// The question is not known.
    pub const METHOD_NOT_FOUND: u32 = 3;
}

/// Subscribe a user's connections.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Subscribe {
    /// As in [`Unsubscribe`].
    #[prost(string, tag = "1")]
    pub user: String,
    /// Channel.
    #[prost(string, tag = "2")]
    pub channel: String,
    /// Be present.
    #[prost(bool, tag = "3")]
    pub emit_presence: bool,
    /// Tell others.
    #[prost(bool, tag = "4")]
    pub emit_join_leave: bool,
    /// Unix time in seconds; 0 for never.
    #[prost(int64, tag = "5")]
    pub expire_at: i64,
    /// Watch the position.
    #[prost(bool, tag = "6")]
    pub position: bool,
    /// Recover.
    #[prost(bool, tag = "7")]
    pub recover: bool,
    /// Information for presence.
    #[prost(bytes = "bytes", tag = "8")]
    pub channel_info: Bytes,
    /// As in [`Unsubscribe`].
    #[prost(string, tag = "9")]
    pub client: String,
    /// For the client.
    #[prost(bytes = "bytes", tag = "10")]
    pub data: Bytes,
    /// Recover from here.
    #[prost(message, optional, tag = "11")]
    pub recover_since: Option<StreamPosition>,
    /// As in [`Unsubscribe`].
    #[prost(string, tag = "12")]
    pub session: String,
    /// Be told of others.
    #[prost(bool, tag = "13")]
    pub push_join_leave: bool,
    /// Who wants it; 10 for the server API.
    #[prost(uint32, tag = "14")]
    pub source: u32,
    /// As in [`Unsubscribe`].
    #[prost(message, optional, tag = "15")]
    pub label_filter: Option<FilterNode>,
    /// As in [`Unsubscribe`].
    #[prost(bool, tag = "16")]
    pub all_users: bool,
}

/// A message of the application that embeds the reference.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Notification {
    /// Its name.
    #[prost(string, tag = "1")]
    pub op: String,
    /// Its content.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
}

/// Change when a user's connections expire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Refresh {
    /// As in [`Unsubscribe`].
    #[prost(string, tag = "1")]
    pub user: String,
    /// As in [`Unsubscribe`].
    #[prost(string, tag = "2")]
    pub client: String,
    /// Close them as expired.
    #[prost(bool, tag = "3")]
    pub expired: bool,
    /// Unix time in seconds; 0 for never.
    #[prost(int64, tag = "4")]
    pub expire_at: i64,
    /// New information of the connection.
    #[prost(bytes = "bytes", tag = "5")]
    pub info: Bytes,
    /// As in [`Unsubscribe`].
    #[prost(string, tag = "6")]
    pub session: String,
    /// As in [`Unsubscribe`].
    #[prost(message, optional, tag = "7")]
    pub label_filter: Option<FilterNode>,
    /// As in [`Unsubscribe`].
    #[prost(bool, tag = "8")]
    pub all_users: bool,
}

/// The bytes of a message of this node.
pub fn encode(uid: &str, body: Body) -> Vec<u8> {
    Command { uid: uid.to_owned(), body: Some(body) }.encode_to_vec()
}

/// A message of some node.
pub fn decode(message: &Bytes) -> Result<Command, DecodeError> {
    Ok(Command::decode(message.clone())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "50749f88-84cd-4618-852a-9309ac3ae3f0";

    /// Recorded from Centrifugo 6.9 on `centrifugo.control`, without the sender.
    #[track_caller]
    fn check(recorded: &'static [u8], body: Body) {
        let bytes = [b"\n$", UID.as_bytes(), recorded].concat();
        assert_eq!(encode(UID, body.clone()), bytes);
        assert_eq!(decode(&bytes.into()), Ok(Command { uid: UID.into(), body: Some(body) }));
    }

    /// E13, E14
    #[test]
    fn messages_equal_those_of_the_reference() {
        let user = || "nobody".to_owned();
        check(
            b"2\x1d\n\x06nobody\x18\xaf\x1b\"\x10force disconnect",
            Body::Disconnect(Disconnect {
                user: user(),
                code: 3503,
                reason: "force disconnect".into(),
                ..Disconnect::default()
            }),
        );
        check(
            b"*#\n\x02ch\x12\x06nobody(\xd0\x0f2\x12server unsubscribe",
            Body::Unsubscribe(Unsubscribe {
                channel: "ch".into(),
                user: user(),
                code: 2000,
                reason: "server unsubscribe".into(),
                ..Unsubscribe::default()
            }),
        );
        check(
            b"R\x14\n\x06nobody\x12\x02ch\x18\x01 \x01h\x01p\n",
            Body::Subscribe(Subscribe {
                user: user(),
                channel: "ch".into(),
                emit_presence: true,
                emit_join_leave: true,
                push_join_leave: true,
                source: 10,
                ..Subscribe::default()
            }),
        );
        check(
            b"b\x0f\n\x06nobody \xff\xcf\xdb\xc3\xf4\x02",
            Body::Refresh(Refresh { user: user(), expire_at: 99_999_999_999, ..Refresh::default() }),
        );
        check(
            b"\"=\n$50749f88-84cd-4618-852a-9309ac3ae3f0\x12\x08vm_27412\x1a\t0.0.0 OSS8\x06",
            Body::Node(Node {
                uid: UID.into(),
                name: "vm_27412".into(),
                version: "0.0.0 OSS".into(),
                uptime: 6,
                ..Node::default()
            }),
        );
        check(b":\x00", Body::Shutdown(Shutdown {}));
    }
}
