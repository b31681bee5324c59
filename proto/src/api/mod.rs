//! The server API: requests of a backend and our responses. Source: server API §1 to §3.
//!
//! Messages carry their protobuf numbers for GRPC; HTTP uses JSON. Methods of maps, shared poll and those beyond the open
//! source reference are not here yet: a path of theirs is unknown.

mod json;
mod legacy;
mod message;
mod protobuf;

pub use crate::client::{
    ClientInfo, FilterNode, PresenceRequest, PresenceResult, PresenceStatsRequest, PresenceStatsResult, RpcResult,
    StreamPosition,
};
pub use legacy::{LegacyCommand, decode_legacy_commands, encode_legacy_reply};
pub use message::*;

use crate::DecodeError;
use crate::codes::ApiError;
use crate::json::{Reader, text};
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use bytes::{Buf, BufMut, Bytes};
use std::hint::black_box;

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

    /// Name in GRPC.
    #[must_use]
    pub fn as_rpc(self) -> &'static str {
        match self {
            Self::Publish => "Publish",
            Self::Broadcast => "Broadcast",
            Self::Subscribe => "Subscribe",
            Self::Unsubscribe => "Unsubscribe",
            Self::Disconnect => "Disconnect",
            Self::Presence => "Presence",
            Self::PresenceStats => "PresenceStats",
            Self::History => "History",
            Self::HistoryRemove => "HistoryRemove",
            Self::Info => "Info",
            Self::Rpc => "RPC",
            Self::Refresh => "Refresh",
            Self::Channels => "Channels",
            Self::Batch => "Batch",
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

impl Request {
    /// The channel or user that the request is about, whose home carries it out; none where there is no single one.
    #[must_use]
    pub fn home_name(&self) -> Option<&str> {
        let name = match self {
            Self::Publish(request) => &request.channel,
            Self::Presence(request) => &request.channel,
            Self::PresenceStats(request) => &request.channel,
            Self::History(request) => &request.channel,
            Self::HistoryRemove(request) => &request.channel,
            Self::Subscribe(request) => &request.user,
            Self::Unsubscribe(request) => &request.user,
            Self::Disconnect(request) => &request.user,
            Self::Refresh(request) => &request.user,
            Self::Broadcast(_) | Self::Info | Self::Rpc(_) | Self::Channels(_) | Self::Batch(_) => return None,
        };
        Some(name).filter(|name| !name.is_empty()).map(String::as_str)
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
    json::decode_request(method, Reader::new(text(body)?))
}

/// The same for a body that the request may keep: a large payload is not copied out of it.
pub fn decode_shared_request(method: Method, body: &Bytes) -> Result<Request, DecodeError> {
    json::decode_request(method, Reader::sharing(body)?)
}

/// Appends the JSON body of a response: `{"result":...}` or `{"error":...}`, a batch without the wrapper. A payload that is
/// not JSON cannot be written; the response is then error 100.
pub fn encode_response(method: Method, response: &Result<ApiResult, ApiError>, out: &mut Vec<u8>) {
    debug_assert!(
        response.as_ref().is_ok_and(|result| result.method() == method) || response.is_err(),
        "result of another method"
    );
    json::encode_response(response, out);
}

/// Appends the bare error object of transport error mode.
pub fn encode_transport_error(error: &ApiError, out: &mut Vec<u8>) {
    json::encode_error(error, out);
}

/// Decodes the Protobuf message of a request.
pub fn decode_protobuf_request(method: Method, bytes: impl Buf) -> Result<Request, DecodeError> {
    protobuf::decode_request(method, bytes)
}

/// Appends the Protobuf message of a response: `result` or `error`, or the replies of a batch.
pub fn encode_protobuf_response(response: &Result<ApiResult, ApiError>, out: &mut impl BufMut) {
    protobuf::encode_response(response, out);
}

/// Whether the given key of the server API is the right one. Takes the same time wherever the difference is; only the length shows.
#[must_use]
pub fn is_key(key: &str, given: &[u8]) -> bool {
    let difference = key.bytes().zip(given).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    key.len() == given.len() && difference == 0
}

/// Base64 as the reference takes it: standard alphabet, with padding, line breaks and bits behind the last byte ignored.
#[must_use]
pub fn decode_base64(text: &str) -> Option<Bytes> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    let without_breaks: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    ENGINE.decode(without_breaks).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Dialect, Value, Writer, decode_alone};
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    /// A message comes back from both encodings.
    #[track_caller]
    fn check<M: prost::Message + Value + Default + PartialEq + Debug>(message: M) {
        let mut json = Vec::new();
        Value::encode(&message, &mut Writer::new(&mut json, Dialect::Api)).unwrap();
        assert_eq!(decode_alone::<M>(&json).as_ref(), Ok(&message), "{}", String::from_utf8_lossy(&json));
        assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
        assert_eq!(<M as prost::Message>::decode(&*message.encode_to_vec()).as_ref(), Ok(&message));
        assert_eq!(decode_alone::<M>(b"{}"), Ok(M::default()));
        assert_eq!(decode_alone::<M>(b"null"), Ok(M::default()));
        for text in ["", "[]", "{", "{}x", "1"] {
            assert!(decode_alone::<M>(text.as_bytes()).is_err(), "{text}");
        }
    }

    fn tags() -> BTreeMap<String, String> {
        [("<k>".to_owned(), "\u{1}v\u{2028}".to_owned())].into()
    }

    fn filter() -> Option<FilterNode> {
        Some(FilterNode {
            op: "not".into(),
            nodes: vec![FilterNode { key: "k".into(), cmp: "ex".into(), ..Default::default() }],
            ..Default::default()
        })
    }

    #[test]
    fn requests_come_back_with_every_field_set() {
        check(PublishRequest {
            channel: "c".into(),
            data: "{\"a\":1}".into(),
            b64data: "YQ==".into(),
            skip_history: true,
            tags: tags(),
            idempotency_key: "i".into(),
            delta: true,
            version: u64::MAX,
            version_epoch: "e".into(),
        });
        check(BroadcastRequest {
            channels: vec!["a".into(), String::new()],
            data: "null".into(),
            b64data: "YQ==".into(),
            skip_history: true,
            tags: tags(),
            idempotency_key: "i".into(),
            delta: true,
            version: 1,
            version_epoch: "e".into(),
        });
        check(SubscribeRequest {
            channel: "c".into(),
            user: "u".into(),
            expire_at: i64::MIN,
            info: "[1]".into(),
            b64info: "YQ==".into(),
            client: "cl".into(),
            data: "\"d\"".into(),
            b64data: "YQ==".into(),
            recover_since: Some(StreamPosition { offset: 1, epoch: "e".into() }),
            r#override: Some(SubscribeOptionOverride {
                presence: Some(BoolValue { value: true }),
                join_leave: Some(BoolValue { value: false }),
                force_recovery: Some(BoolValue { value: true }),
                force_positioning: Some(BoolValue { value: true }),
                force_push_join_leave: Some(BoolValue { value: true }),
            }),
            session: "s".into(),
            label_filter: filter(),
            all_users: true,
        });
        check(UnsubscribeRequest {
            channel: "c".into(),
            user: "u".into(),
            client: "cl".into(),
            session: "s".into(),
            label_filter: filter(),
            all_users: true,
        });
        check(DisconnectRequest {
            user: "u".into(),
            disconnect: Some(Disconnect { code: 4000, reason: "r".into() }),
            client: "cl".into(),
            whitelist: vec!["w".into()],
            session: "s".into(),
            label_filter: filter(),
            all_users: true,
        });
        check(RefreshRequest {
            user: "u".into(),
            client: "cl".into(),
            expired: true,
            expire_at: 1,
            info: "1".into(),
            session: "s".into(),
            label_filter: filter(),
            all_users: true,
        });
        check(HistoryRequest { channel: "c".into(), limit: -1, since: Some(StreamPosition::default()), reverse: true });
        check(HistoryRemoveRequest { channel: "c".into() });
        check(RpcRequest { method: "m".into(), params: "{}".into() });
        check(ChannelsRequest { pattern: "*".into() });
    }

    #[test]
    fn results_come_back_with_every_field_set() {
        check(PublishResult { offset: 1, epoch: "e".into() });
        check(BroadcastResult {
            responses: vec![
                Ok(PublishResult { offset: 1, epoch: "e".into() }).into(),
                Err(ApiError::UNKNOWN_CHANNEL).into(),
            ],
        });
        check(HistoryResult {
            publications: vec![Publication {
                data: "{}".into(),
                info: Some(ClientInfo {
                    user: "u".into(),
                    client: "c".into(),
                    conn_info: "1".into(),
                    chan_info: "2".into(),
                }),
                offset: 1,
                tags: tags(),
            }],
            epoch: "e".into(),
            offset: 1,
        });
        check(InfoResult {
            nodes: vec![NodeResult {
                uid: "u".into(),
                name: "n".into(),
                version: "v".into(),
                num_clients: 1,
                num_users: 2,
                num_channels: 3,
                uptime: 4,
                metrics: Some(Metrics { interval: 60.0, items: [("m".to_owned(), 1e-7)].into() }),
                process: Some(Process { cpu: 0.5, rss: 1 << 40 }),
                num_subs: 5,
            }],
        });
        check(ChannelsResult { channels: [("c".to_owned(), ChannelInfo { num_clients: 1 })].into() });
    }

    #[track_caller]
    fn check_response(method: Method, response: Result<ApiResult, ApiError>, want: &str) {
        let mut out = Vec::new();
        encode_response(method, &response, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn responses_are_written_as_the_reference_writes_them() {
        let position = PublishResult { offset: 1, epoch: "DLgJuVfI".into() };
        check_response(
            Method::Publish,
            Ok(ApiResult::Publish(position)),
            r#"{"result":{"offset":1,"epoch":"DLgJuVfI"}}"#,
        );
        check_response(Method::Publish, Ok(ApiResult::Publish(Default::default())), r#"{"result":{}}"#);
        check_response(
            Method::Publish,
            Err(ApiError::UNKNOWN_CHANNEL),
            r#"{"error":{"code":102,"message":"unknown channel"}}"#,
        );
        check_response(Method::Subscribe, Ok(ApiResult::Subscribe), r#"{"result":{}}"#);
        check_response(Method::Presence, Ok(ApiResult::Presence(Default::default())), r#"{"result":{"presence":{}}}"#);
        check_response(
            Method::PresenceStats,
            Ok(ApiResult::PresenceStats(Default::default())),
            r#"{"result":{"num_clients":0,"num_users":0}}"#,
        );
        check_response(
            Method::History,
            Ok(ApiResult::History(Default::default())),
            r#"{"result":{"publications":[],"epoch":"","offset":0}}"#,
        );
        check_response(Method::Channels, Ok(ApiResult::Channels(Default::default())), r#"{"result":{"channels":{}}}"#);
        let nodes = vec![NodeResult { uid: "u".into(), ..Default::default() }];
        check_response(
            Method::Info,
            Ok(ApiResult::Info(InfoResult { nodes })),
            r#"{"result":{"nodes":[{"uid":"u","name":"","version":"","num_clients":0,"num_users":0,"num_channels":0,"num_subs":0}]}}"#,
        );
        let responses = vec![Ok(PublishResult::default()).into(), Err(ApiError::UNKNOWN_CHANNEL).into()];
        check_response(
            Method::Broadcast,
            Ok(ApiResult::Broadcast(BroadcastResult { responses })),
            r#"{"result":{"responses":[{"result":{}},{"error":{"code":102,"message":"unknown channel"}}]}}"#,
        );
        check_response(
            Method::Rpc,
            Ok(ApiResult::Rpc(RpcResult { data: "{\"a\" : \"<b>\" }".into() })),
            r#"{"result":{"data":{"a":"\u003cb\u003e"}}}"#,
        );
    }

    #[test]
    fn a_payload_that_is_not_json_fails_its_response_only() {
        let bad = || Ok(ApiResult::Rpc(RpcResult { data: "{".into() }));
        check_response(Method::Rpc, bad(), r#"{"error":{"code":100,"message":"internal server error"}}"#);
        let replies = vec![bad(), Ok(ApiResult::Refresh)];
        check_response(
            Method::Batch,
            Ok(ApiResult::Batch(BatchResult { replies })),
            r#"{"replies":[{"error":{"code":100,"message":"internal server error"}},{"refresh":{}}]}"#,
        );
    }

    /// A04
    #[test]
    fn batches_have_no_wrapper() {
        let body =
            br#"{"commands":[{"publish":{"channel":"a","data":1}},{},null,{"channels":{}},{"nosuch":{},"batch":{}},
            {"publish":null,"RPC":{}},{"info":{},"history":{}}],"parallel":true}"#;
        let Ok(Request::Batch(batch)) = decode_request(Method::Batch, body) else { panic!("not a batch") };
        let methods: Vec<_> = batch
            .commands
            .iter()
            .map(|command| command.as_ref().map(|request| request.method()).map_err(|error| error.code))
            .collect();
        let want = [
            Ok(Method::Publish),
            Err(104),
            Err(107),
            Ok(Method::Channels),
            Err(104),
            Ok(Method::Rpc),
            Ok(Method::History),
        ];
        assert_eq!(methods, want);
        assert!(batch.parallel);
        let replies = vec![
            Ok(ApiResult::Publish(Default::default())),
            Err(ApiError::NOT_FOUND),
            Ok(ApiResult::Channels(Default::default())),
        ];
        check_response(
            Method::Batch,
            Ok(ApiResult::Batch(BatchResult { replies })),
            r#"{"replies":[{"publish":{}},{"error":{"code":104,"message":"not found"}},{"channels":{"channels":{}}}]}"#,
        );
        check_response(Method::Batch, Ok(ApiResult::Batch(Default::default())), "{}");
    }

    #[test]
    fn a_payload_keeps_the_body_only_where_it_is_most_of_a_large_one() {
        let shares = |length: usize, rest: usize| {
            let (data, rest) = ("x".repeat(length), "y".repeat(rest));
            let body = Bytes::from(format!(r#"{{"channel":"{rest}","data": "{data}"}}"#));
            let request = decode_shared_request(Method::Publish, &body);
            assert_eq!(request, decode_request(Method::Publish, &body));
            let Ok(Request::Publish(request)) = request else { panic!("not a publish") };
            body.as_ptr_range().contains(&request.data.as_ptr())
        };
        assert!(shares(100_000, 10));
        assert!(!shares(100_000, 50_000), "one and a half times the payload");
        assert!(!shares(10_000, 10), "small");
    }

    #[test]
    fn broken_bodies_are_refused_and_batches_bounded() {
        for method in Method::ALL {
            assert!(decode_request(method, b" {\"unknown\":[{}]} ").is_ok());
            assert!(decode_request(method, b"null").is_ok());
            for body in [&b""[..], b" ", b"[]", b"{", b"{}{}", b"\xff", b"{\"a\":\"\xff\"}", b"\xef\xbb\xbf{}"] {
                assert!(decode_request(method, body).is_err(), "{method:?} {body:?}");
            }
        }
        let batch = |length: usize| format!(r#"{{"commands":[{}]}}"#, vec!["{}"; length].join(","));
        assert!(decode_request(Method::Batch, batch(BATCH_COMMANDS_MAX).as_bytes()).is_ok());
        assert!(decode_request(Method::Batch, batch(BATCH_COMMANDS_MAX + 1).as_bytes()).is_err());
    }

    /// A16
    #[test]
    fn base64_wins_over_plain_data_and_must_be_right() {
        let payload = |b64data: &str| {
            PublishRequest { data: "1".into(), b64data: b64data.into(), ..Default::default() }.payload()
        };
        assert_eq!(payload(""), Ok("1".into()));
        assert_eq!(payload("aGVsbG8="), Ok("hello".into()));
        assert_eq!(payload("aGVs\nbG8="), Ok("hello".into()));
        for bad in ["aGVsbG8", "aGVsbG8=!", "_-==", "aGVs bG8=", "="] {
            assert_eq!(payload(bad), Err(ApiError::BAD_REQUEST), "{bad}");
        }
    }

    #[test]
    fn methods_are_found_by_path_and_legacy_number() {
        for method in Method::ALL {
            assert_eq!(Method::from_path(method.as_str()), Some(method));
        }
        for path in ["", "Publish", "/publish", "nosuch", "map_publish"] {
            assert_eq!(Method::from_path(path), None);
        }
        assert_eq!(Method::from_legacy_number(12), Some(Method::Refresh));
        assert_eq!(Method::from_legacy_number(13), None);
    }
}
