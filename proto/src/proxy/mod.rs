//! Questions to backends about events of clients, and their answers: JSON over HTTP, Protobuf over GRPC. Source: behaviour §9.

mod request;
mod result;

pub use request::{
    ConnectRequest, Publication, PublishRequest, RefreshRequest, RpcRequest, StreamSubscribeRequest, SubRefreshRequest,
    SubscribeRequest,
};
pub use result::{
    ChannelsCapability, ConnectResponse, ConnectResult, Disconnect, Error, PublishResponse, PublishResult,
    RefreshResponse, RefreshResult, RpcResponse, RpcResult, StreamSubscribeResponse, SubRefreshResponse,
    SubRefreshResult, SubscribeOptions, SubscribeResponse, SubscribeResult,
};

use crate::DecodeError;
use crate::json::{Dialect, InvalidJson, Value, Writer, decode_alone};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use result::Unpack;

/// Most fields at the first level of a result in Protobuf: an empty message takes two bytes to send and hundreds to hold.
const RESULT_FIELDS_MAX: usize = 65_536;

/// What a backend can be asked about. The order is that of the variants of [`ProxyRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyEvent {
    /// A connection without a token.
    Connect,
    /// A connection whose time is over.
    Refresh,
    /// A subscription.
    Subscribe,
    /// A publication of a client.
    Publish,
    /// A call of a client.
    Rpc,
    /// A subscription whose time is over.
    SubRefresh,
}

impl ProxyEvent {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Connect, Self::Refresh, Self::Subscribe, Self::Publish, Self::Rpc, Self::SubRefresh];

    /// Value of the metrics label `type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refresh => "refresh",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Rpc => "rpc",
            Self::SubRefresh => "sub_refresh",
        }
    }

    /// Path of the method in GRPC.
    #[must_use]
    pub fn grpc_path(self) -> &'static str {
        match self {
            Self::Connect => "/centrifugal.centrifugo.proxy.CentrifugoProxy/Connect",
            Self::Refresh => "/centrifugal.centrifugo.proxy.CentrifugoProxy/Refresh",
            Self::Subscribe => "/centrifugal.centrifugo.proxy.CentrifugoProxy/Subscribe",
            Self::Publish => "/centrifugal.centrifugo.proxy.CentrifugoProxy/Publish",
            Self::Rpc => "/centrifugal.centrifugo.proxy.CentrifugoProxy/RPC",
            Self::SubRefresh => "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubRefresh",
        }
    }
}

/// A question to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyRequest {
    /// See [`ProxyEvent::Connect`].
    Connect(ConnectRequest),
    /// See [`ProxyEvent::Refresh`].
    Refresh(RefreshRequest),
    /// See [`ProxyEvent::Subscribe`].
    Subscribe(SubscribeRequest),
    /// See [`ProxyEvent::Publish`].
    Publish(PublishRequest),
    /// See [`ProxyEvent::Rpc`].
    Rpc(RpcRequest),
    /// See [`ProxyEvent::SubRefresh`].
    SubRefresh(SubRefreshRequest),
}

/// A decision of a backend; none where it gave neither result nor error nor disconnect. Payloads in base64 are decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyResult {
    /// See [`ProxyEvent::Connect`].
    Connect(Option<Box<ConnectResult>>),
    /// See [`ProxyEvent::Refresh`].
    Refresh(Option<RefreshResult>),
    /// See [`ProxyEvent::Subscribe`].
    Subscribe(Option<Box<SubscribeResult>>),
    /// See [`ProxyEvent::Publish`].
    Publish(Option<Box<PublishResult>>),
    /// See [`ProxyEvent::Rpc`].
    Rpc(Option<RpcResult>),
    /// See [`ProxyEvent::SubRefresh`].
    SubRefresh(Option<SubRefreshResult>),
}

/// What a backend answered. A disconnect beats an error, an error beats a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyReply {
    /// A decision.
    Result(ProxyResult),
    /// An error for the client.
    Error(Error),
    /// The end of the connection.
    Disconnect(Disconnect),
    /// A result with a payload that is not base64. Other than an answer that is none at all, it does not let anything go on.
    NotBase64,
}

/// Runs an expression on the message of a request.
macro_rules! match_request {
    ($request:expr, $message:ident => $body:expr) => {
        match $request {
            ProxyRequest::Connect($message) => $body,
            ProxyRequest::Refresh($message) => $body,
            ProxyRequest::Subscribe($message) => $body,
            ProxyRequest::Publish($message) => $body,
            ProxyRequest::Rpc($message) => $body,
            ProxyRequest::SubRefresh($message) => $body,
        }
    };
}

impl ProxyRequest {
    /// What it is about.
    #[must_use]
    pub fn event(&self) -> ProxyEvent {
        match self {
            Self::Connect(_) => ProxyEvent::Connect,
            Self::Refresh(_) => ProxyEvent::Refresh,
            Self::Subscribe(_) => ProxyEvent::Subscribe,
            Self::Publish(_) => ProxyEvent::Publish,
            Self::Rpc(_) => ProxyEvent::Rpc,
            Self::SubRefresh(_) => ProxyEvent::SubRefresh,
        }
    }

    /// Puts payloads into the form that the options of the proxy ask for: `binary_encoding`.
    pub fn finish(&mut self, binary_encoding: bool) {
        let encoding = if binary_encoding { "binary" } else { "json" };
        match_request!(self, request => request.encoding = encoding.to_owned());
        if binary_encoding && let Some((data, b64data)) = self.payload() {
            *b64data = STANDARD.encode(&*data);
            *data = Bytes::new();
        }
    }

    /// The payload of the client, and its place in base64.
    fn payload(&mut self) -> Option<(&mut Bytes, &mut String)> {
        match self {
            Self::Connect(request) => Some((&mut request.data, &mut request.b64data)),
            Self::Subscribe(request) => Some((&mut request.data, &mut request.b64data)),
            Self::Publish(request) => Some((&mut request.data, &mut request.b64data)),
            Self::Rpc(request) => Some((&mut request.data, &mut request.b64data)),
            Self::Refresh(_) | Self::SubRefresh(_) => None,
        }
    }

    /// Appends the request in JSON. Fails, and appends nothing, when a payload is not JSON: then the proxy needs option
    /// `binary_encoding`.
    pub fn encode_json(&self, out: &mut Vec<u8>) -> Result<(), InvalidJson> {
        let len = out.len();
        let mut writer = Writer::new(out, Dialect::Api);
        match_request!(self, request => Value::encode(request, &mut writer)).inspect_err(|_| out.truncate(len))
    }

    /// Appends the request in Protobuf.
    pub fn encode_protobuf(&self, out: &mut Vec<u8>) {
        match_request!(self, request => request.encode_raw(out));
    }
}

/// An answer of a backend before anything is made of it.
trait Response: Message + Value + Default {
    type Result: Unpack;

    fn into_parts(self) -> (Option<Self::Result>, Option<Error>, Option<Disconnect>);
}

macro_rules! response_parts {
    ($($response:ident $result:ident),*) => {$(
        impl Response for $response {
            type Result = $result;

            fn into_parts(self) -> (Option<$result>, Option<Error>, Option<Disconnect>) {
                (self.result, self.error, self.disconnect)
            }
        }
    )*};
}

response_parts!(
    ConnectResponse ConnectResult, RefreshResponse RefreshResult, SubscribeResponse SubscribeResult,
    PublishResponse PublishResult, RpcResponse RpcResult, SubRefreshResponse SubRefreshResult
);

/// What the first of disconnect, error and result makes of an answer.
fn judge<R: Response>(
    response: R,
    result: impl FnOnce(Option<R::Result>) -> ProxyResult,
) -> Result<ProxyReply, DecodeError> {
    match response.into_parts() {
        (_, _, Some(disconnect)) => Ok(ProxyReply::Disconnect(disconnect)),
        (_, Some(error), None) => Ok(ProxyReply::Error(error)),
        (mut given, None, None) => {
            let unpacked = given.as_mut().map_or(Ok(()), Unpack::unpack);
            Ok(unpacked.map_or(ProxyReply::NotBase64, |()| ProxyReply::Result(result(given))))
        }
    }
}

/// Decodes with a function that is generic over the answer.
macro_rules! decode_event {
    ($event:expr, $bytes:expr, $decode:ident) => {
        match $event {
            ProxyEvent::Connect => {
                judge::<ConnectResponse>($decode($bytes)?, |result| ProxyResult::Connect(result.map(Box::new)))
            }
            ProxyEvent::Refresh => judge::<RefreshResponse>($decode($bytes)?, ProxyResult::Refresh),
            ProxyEvent::Subscribe => {
                judge::<SubscribeResponse>($decode($bytes)?, |result| ProxyResult::Subscribe(result.map(Box::new)))
            }
            ProxyEvent::Publish => {
                judge::<PublishResponse>($decode($bytes)?, |result| ProxyResult::Publish(result.map(Box::new)))
            }
            ProxyEvent::Rpc => judge::<RpcResponse>($decode($bytes)?, ProxyResult::Rpc),
            ProxyEvent::SubRefresh => judge::<SubRefreshResponse>($decode($bytes)?, ProxyResult::SubRefresh),
        }
    };
}

/// Reads the body of an HTTP answer. Fails when it is no answer to that event.
pub fn decode_json_reply(event: ProxyEvent, body: &[u8]) -> Result<ProxyReply, DecodeError> {
    decode_event!(event, body, decode_alone)
}

/// Reads the message of a GRPC answer. Fails as [`decode_json_reply`].
pub fn decode_protobuf_reply(event: ProxyEvent, message: &[u8]) -> Result<ProxyReply, DecodeError> {
    check_fields(message, [1, 1])?;
    decode_event!(event, message, decode_message)
}

fn decode_message<M: Message + Default>(message: &[u8]) -> Result<M, DecodeError> {
    Ok(M::decode(message)?)
}

/// Refuses answers with results, which these fields hold, that would unpack to very many entries.
fn check_fields(mut message: &[u8], results: [u32; 2]) -> Result<(), DecodeError> {
    let mut left = RESULT_FIELDS_MAX;
    while message.has_remaining() {
        match decode_key(&mut message)? {
            (tag, WireType::LengthDelimited) if results.contains(&tag) => {
                let len = prost::decode_length_delimiter(&mut message)?;
                let result = message.split_off(..len).ok_or(DecodeError::new("message cut short", 0))?;
                count_fields(result, &mut left)?;
            }
            (tag, wire_type) => skip_field(wire_type, tag, &mut message, DecodeContext::default())?,
        }
    }
    Ok(())
}

fn count_fields(mut message: &[u8], left: &mut usize) -> Result<(), DecodeError> {
    while message.has_remaining() {
        *left = left.checked_sub(1).ok_or(DecodeError::new("too many entries in a result", 0))?;
        let (tag, wire_type) = decode_key(&mut message)?;
        skip_field(wire_type, tag, &mut message, DecodeContext::default())?;
    }
    Ok(())
}

/// Path of the method in GRPC that opens a subscription stream of the backend's: one request there, words back.
pub const SUBSCRIBE_UNIDIRECTIONAL_PATH: &str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubscribeUnidirectional";

/// Path of the method in GRPC that opens a subscription stream in both directions.
pub const SUBSCRIBE_BIDIRECTIONAL_PATH: &str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubscribeBidirectional";

/// Reads the first word of a subscription stream; none where it has no reply in it. Fails as [`decode_json_reply`].
pub fn decode_first_word(message: &[u8]) -> Result<Option<ProxyReply>, DecodeError> {
    let response = decode_word(message)?.subscribe_response;
    response.map(|response| judge(response, |result| ProxyResult::Subscribe(result.map(Box::new)))).transpose()
}

/// Reads a further word of a subscription stream; none where it has no publication in it.
pub fn decode_publication(message: &[u8]) -> Result<Option<Publication>, DecodeError> {
    Ok(decode_word(message)?.publication)
}

fn decode_word(message: &[u8]) -> Result<StreamSubscribeResponse, DecodeError> {
    check_fields(message, [1, 2])?;
    decode_message(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_json(mut request: ProxyRequest, binary_encoding: bool, want: &str) {
        request.finish(binary_encoding);
        let mut out = Vec::new();
        request.encode_json(&mut out).expect("JSON payloads");
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    /// X15
    #[test]
    fn requests_leave_zeros_out_but_for_the_user_and_hold_the_payload_in_one_form() {
        let rpc = RpcRequest { client: "c".into(), method: "m".into(), data: "{\"a\":1}".into(), ..Default::default() };
        let rpc = ProxyRequest::Rpc(rpc);
        check_json(rpc.clone(), false, r#"{"client":"c","encoding":"json","user":"","method":"m","data":{"a":1}}"#);
        check_json(rpc, true, r#"{"client":"c","encoding":"binary","user":"","method":"m","b64data":"eyJhIjoxfQ=="}"#);
        let refresh = RefreshRequest { user: "u".into(), meta: "[]".into(), ..Default::default() };
        check_json(ProxyRequest::Refresh(refresh), true, r#"{"encoding":"binary","user":"u","meta":[]}"#);
    }

    #[test]
    fn a_payload_that_is_not_json_needs_the_binary_encoding() {
        let publish = PublishRequest { data: "\u{1}".into(), ..Default::default() };
        let mut out = b"before".to_vec();
        assert!(ProxyRequest::Publish(publish).encode_json(&mut out).is_err());
        assert_eq!(out, b"before");
    }

    fn both(event: ProxyEvent, json: &str, protobuf: &impl Message) -> ProxyReply {
        let reply = decode_json_reply(event, json.as_bytes()).expect("an answer");
        assert_eq!(decode_protobuf_reply(event, &protobuf.encode_to_vec()).as_ref(), Ok(&reply));
        reply
    }

    /// X01, X03
    #[test]
    fn a_disconnect_beats_an_error_and_an_error_beats_a_result() {
        let error = Error { code: 400, message: "no".into(), temporary: true };
        let disconnect = Disconnect { code: 4500, reason: "out".into() };
        let mut response = RpcResponse { result: Some(RpcResult::default()), error: None, disconnect: None };
        let result = both(ProxyEvent::Rpc, r#"{"result":{}}"#, &response);
        assert_eq!(result, ProxyReply::Result(ProxyResult::Rpc(Some(RpcResult::default()))));
        response.error = Some(error.clone());
        let json = r#"{"result":{},"error":{"code":400,"message":"no","temporary":true}}"#;
        assert_eq!(both(ProxyEvent::Rpc, json, &response), ProxyReply::Error(error));
        response.disconnect = Some(disconnect.clone());
        let json = r#"{"error":{"code":1},"disconnect":{"code":4500,"reason":"out"}}"#;
        assert_eq!(both(ProxyEvent::Rpc, json, &response), ProxyReply::Disconnect(disconnect));
        let none = ProxyReply::Result(ProxyResult::Connect(None));
        assert_eq!(both(ProxyEvent::Connect, r#"{"result":null}"#, &ConnectResponse::default()), none);
    }

    /// X15
    #[test]
    fn payloads_in_base64_win_and_come_out_decoded() {
        let options = SubscribeOptions { b64info: "WzFd".into(), ..Default::default() };
        let result = ConnectResult {
            user: "u".into(),
            data: "0".into(),
            b64data: "WzFd".into(),
            subs: [("a".to_owned(), options)].into(),
            ..Default::default()
        };
        let json = r#"{"result":{"user":"u","data":0,"b64data":"WzFd","subs":{"a":{"b64info":"WzFd"}}}}"#;
        let response = ConnectResponse { result: Some(result), ..Default::default() };
        let ProxyReply::Result(ProxyResult::Connect(Some(result))) = both(ProxyEvent::Connect, json, &response) else {
            panic!("no result")
        };
        assert_eq!((&*result.data, &*result.b64data, &*result.subs["a"].info), (&b"[1]"[..], "", &b"[1]"[..]));
        let bad = br#"{"result":{"b64data":"?"}}"#;
        assert_eq!(decode_json_reply(ProxyEvent::Rpc, bad), Ok(ProxyReply::NotBase64));
    }

    /// X05
    #[test]
    fn in_a_publish_result_the_plain_payload_wins() {
        let result =
            |data: &'static str| PublishResult { data: data.into(), b64data: "WzFd".into(), ..Default::default() };
        for data in ["0", "\"\""] {
            let json = format!(r#"{{"result":{{"data":{data},"b64data":"WzFd"}}}}"#);
            let response = PublishResponse { result: Some(result(data)), ..Default::default() };
            let reply = both(ProxyEvent::Publish, &json, &response);
            let want = PublishResult { data: data.into(), ..Default::default() };
            assert_eq!(reply, ProxyReply::Result(ProxyResult::Publish(Some(Box::new(want)))));
        }
        let response = PublishResponse { result: Some(result("")), ..Default::default() };
        let reply = both(ProxyEvent::Publish, r#"{"result":{"b64data":"WzFd"}}"#, &response);
        let want = PublishResult { data: "[1]".into(), ..Default::default() };
        assert_eq!(reply, ProxyReply::Result(ProxyResult::Publish(Some(Box::new(want)))));
    }

    #[test]
    fn results_are_bounded_before_they_are_unpacked() {
        let many = |length: usize| {
            let mut message = Vec::new();
            prost::encoding::bytes::encode(1, &b"\x52\x00".repeat(length), &mut message);
            decode_protobuf_reply(ProxyEvent::Connect, &message)
        };
        assert!(many(RESULT_FIELDS_MAX).is_ok());
        assert!(many(RESULT_FIELDS_MAX + 1).is_err());
        assert!(decode_protobuf_reply(ProxyEvent::Connect, b"\x0a\x05").is_err());
    }

    /// S06, S07
    #[test]
    fn streams_hold_a_reply_or_a_publication() {
        let publication = Publication { data: "1".into(), ..Default::default() };
        let both = StreamSubscribeResponse {
            publication: Some(publication.clone()),
            subscribe_response: Some(SubscribeResponse::default()),
        };
        let reply = ProxyReply::Result(ProxyResult::Subscribe(None));
        assert_eq!(decode_first_word(&both.encode_to_vec()), Ok(Some(reply)));
        assert_eq!(decode_publication(&both.encode_to_vec()), Ok(Some(publication)));
        assert_eq!((decode_first_word(b""), decode_publication(b"")), (Ok(None), Ok(None)));
        let many = |length| {
            let mut message = Vec::new();
            prost::encoding::bytes::encode(2, &b"\x3a\x00".repeat(length), &mut message);
            decode_publication(&message)
        };
        assert!(many(RESULT_FIELDS_MAX).is_ok());
        assert!(many(RESULT_FIELDS_MAX + 1).is_err());
    }
}
