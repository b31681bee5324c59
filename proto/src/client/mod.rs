//! The client protocol: commands of a client, replies and pushes of the server. Source: protocol §1 to §6.
//!
//! A frame holds one or more messages, separated by newlines in JSON and preceded by their lengths in Protobuf. Envelopes
//! are enums here, where the schema has a struct with one field for each kind of content.
//!
//! Where we differ from the reference on purpose: text behind a JSON command is an error, not passed over; JSON frames and
//! Protobuf strings must be UTF-8; payloads nest at most 512 deep and messages 100, and a list holds at most 65,536 messages.
//! As in the reference, keys match without regard to case, a payload of `null` is a payload, and raw newlines are left out
//! of payloads written in JSON, for they separate messages.

mod json;
mod message;
mod protobuf;

pub use message::*;

use crate::codes::ReplyError;
pub use crate::json::InvalidJson;
use crate::{DecodeError, json as json_text};
use bytes::Bytes;
use std::collections::BTreeMap;

/// How a connection writes its messages; both sides use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Text, one message per line.
    Json,
    /// Binary, each message preceded by its length.
    Protobuf,
}

/// From a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Echoed in the reply. 0 in pongs and where no reply is wanted.
    pub id: u32,
    /// `None` in a pong, or when the client asks for something unknown.
    pub request: Option<Request>,
}

/// What a client asks for.
///
/// Where a command sets several, the first in the order of these variants is served. Source: protocol §4.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the message it holds")]
pub enum Request {
    Connect(Box<ConnectRequest>),
    Subscribe(Box<SubscribeRequest>),
    Unsubscribe(UnsubscribeRequest),
    Publish(PublishRequest),
    Presence(PresenceRequest),
    PresenceStats(PresenceStatsRequest),
    History(HistoryRequest),
    Rpc(RpcRequest),
    Send(SendRequest),
    Refresh(RefreshRequest),
    SubRefresh(SubRefreshRequest),
    /// In the schema, served by nobody.
    Ping,
}

/// To a client.
#[expect(
    clippy::large_enum_variant,
    reason = "made, encoded and dropped; publications in bulk are encoded on their own"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Asks for a pong.
    Ping,
    /// The command failed.
    Error {
        /// Id of the command.
        id: u32,
        /// Why.
        error: ReplyError,
    },
    /// The command succeeded.
    Result {
        /// Id of the command.
        id: u32,
        /// What came of it.
        result: ReplyResult,
    },
    /// Not an answer to a command.
    Push(Push),
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the message it holds")]
pub enum ReplyResult {
    Connect(Box<ConnectResult>),
    Subscribe(Box<SubscribeResult>),
    Unsubscribe,
    Publish,
    Presence(PresenceResult),
    PresenceStats(PresenceStatsResult),
    History(HistoryResult),
    Ping,
    Rpc(RpcResult),
    Refresh(RefreshResult),
    SubRefresh(SubRefreshResult),
}

/// Something the server tells a client unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Empty when the push concerns the connection, or when `id` stands for it.
    pub channel: String,
    /// What is told.
    pub body: PushBody,
    /// Numeric channel id; 0 without channel compaction.
    pub id: i64,
}

/// What a push tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the message it holds")]
pub enum PushBody {
    Pub(Publication),
    Join(Join),
    Leave(Leave),
    Unsubscribe(Unsubscribe),
    Message(Message),
    Subscribe(Subscribe),
    Connect(Box<Connect>),
    Disconnect(Disconnect),
    Refresh(Refresh),
}

/// The commands of a frame. What follows a command that cannot be decoded is not looked at.
pub fn decode_commands(encoding: Encoding, frame: &[u8]) -> Commands<'_> {
    Commands { frame: Frame::new(encoding, frame) }
}

/// The replies of a frame: the client's side of [`decode_commands`].
pub fn decode_replies(encoding: Encoding, frame: &[u8]) -> Replies<'_> {
    Replies { frame: Frame::new(encoding, frame) }
}

/// Iterator of [`decode_commands`].
pub struct Commands<'a> {
    frame: Frame<'a>,
}

impl<'a> Commands<'a> {
    /// What was not decoded yet, a frame for [`decode_commands`] again; `None` at the end of the frame.
    pub fn rest(&self) -> Option<&'a [u8]> {
        self.frame.rest
    }

    /// Bytes of the last message, in JSON with its newline; 0 before the first, and when it was broken.
    pub fn size(&self) -> usize {
        self.frame.size
    }
}

impl Iterator for Commands<'_> {
    type Item = Result<Command, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.frame.decode_next(json::decode_command, protobuf::decode_command)
    }
}

/// Iterator of [`decode_replies`].
pub struct Replies<'a> {
    frame: Frame<'a>,
}

impl Iterator for Replies<'_> {
    type Item = Result<Reply, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.frame.decode_next(json::decode_reply, protobuf::decode_reply)
    }
}

/// A frame that is cut into messages.
struct Frame<'a> {
    encoding: Encoding,
    /// `None` once the frame is used up or broken. An empty frame is broken, so it starts as `Some`.
    rest: Option<&'a [u8]>,
    /// Bytes of the last message.
    size: usize,
}

impl<'a> Frame<'a> {
    fn new(encoding: Encoding, frame: &'a [u8]) -> Self {
        Self { encoding, rest: Some(frame), size: 0 }
    }

    fn decode_next<M>(
        &mut self,
        decode_json: impl FnOnce(&str) -> Result<M, DecodeError>,
        decode_protobuf: impl FnOnce(&[u8]) -> Result<M, DecodeError>,
    ) -> Option<Result<M, DecodeError>> {
        let rest = self.rest.take()?;
        let message = match self.encoding {
            Encoding::Json => json_text::text(self.take_line(rest)).and_then(decode_json),
            Encoding::Protobuf => self.take_prefixed(rest).and_then(decode_protobuf),
        };
        if message.is_err() {
            (self.rest, self.size) = (None, 0);
        }
        Some(message)
    }

    /// One newline may end the last line; a further one makes an empty line, which is no message.
    fn take_line(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let Some(end) = memchr::memchr(b'\n', rest) else {
            self.size = rest.len();
            return rest;
        };
        self.size = end + 1;
        self.rest = Some(&rest[end + 1..]).filter(|rest| !rest.is_empty());
        &rest[..end]
    }

    fn take_prefixed(&mut self, mut rest: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let length = prost::decode_length_delimiter(&mut rest)?;
        let (message, rest) =
            rest.split_at_checked(length).ok_or(DecodeError::new("message longer than its frame", 0))?;
        self.rest = Some(rest).filter(|rest| !rest.is_empty());
        self.size = message.len();
        Ok(message)
    }
}

/// The request of a unidirectional connection, which comes without an envelope. `null` is an empty one.
pub fn decode_connect_request(encoding: Encoding, body: &[u8]) -> Result<ConnectRequest, DecodeError> {
    match encoding {
        Encoding::Json => json_text::decode_alone(body),
        Encoding::Protobuf => Ok(prost::Message::decode(body)?),
    }
}

/// The body of a request to the emulation endpoint. `data` of the result is a frame of commands.
pub fn decode_emulation_request(encoding: Encoding, body: &[u8]) -> Result<EmulationRequest, DecodeError> {
    match encoding {
        Encoding::Json => json::decode_emulation_request(body),
        Encoding::Protobuf => Ok(prost::Message::decode(body)?),
    }
}

/// Appends the body of a request to the emulation endpoint: the client's side. In JSON the commands in `data` are text; bytes that
/// are not UTF-8 are replaced.
pub fn encode_emulation_request(encoding: Encoding, request: &EmulationRequest, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Json => json::encode_emulation_request(request, out),
        Encoding::Protobuf => out.extend_from_slice(&prost::Message::encode_to_vec(request)),
    }
}

/// Appends one command: the client's side. Protobuf includes the length, JSON no newline. A command whose payload is not
/// JSON cannot be written in JSON: nothing is appended.
pub fn encode_command(encoding: Encoding, command: &Command, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Json => json::encode_command(command, out),
        Encoding::Protobuf => protobuf::encode_command(command, out),
    }
}

/// Appends one reply. Protobuf includes the length, JSON no newline. On an error `out` is as before.
pub fn encode_reply(encoding: Encoding, reply: &Reply, out: &mut Vec<u8>) -> Result<(), InvalidJson> {
    match encoding {
        Encoding::Json => json::encode_reply(reply, out),
        Encoding::Protobuf => {
            protobuf::encode_reply(reply, out);
            Ok(())
        }
    }
}

/// Appends one push. Equal to [`encode_reply`] of it.
pub fn encode_push(encoding: Encoding, push: &Push, out: &mut Vec<u8>) -> Result<(), InvalidJson> {
    match encoding {
        Encoding::Json => json::encode_push(push, out),
        Encoding::Protobuf => {
            protobuf::encode_push(push, out);
            Ok(())
        }
    }
}

/// Appends one push without the reply around it, as unidirectional transports send them; `None` is a ping. Framed as by
/// [`encode_reply`]. On an error `out` is as before.
pub fn encode_uni_push(encoding: Encoding, push: Option<&Push>, out: &mut Vec<u8>) -> Result<(), InvalidJson> {
    match encoding {
        Encoding::Json => json::encode_uni_push(push, out),
        Encoding::Protobuf => {
            protobuf::encode_uni_push(push, out);
            Ok(())
        }
    }
}

/// The publication alone: a JSON object, or a Protobuf message without its length. Encoded once, it serves all subscribers.
pub fn encode_publication(encoding: Encoding, publication: &Publication) -> Result<Bytes, InvalidJson> {
    match encoding {
        Encoding::Json => json::encode_publication(publication),
        Encoding::Protobuf => Ok(prost::Message::encode_to_vec(publication).into()),
    }
}

/// Appends the push of a publication encoded by [`encode_publication`]. Equal to [`encode_reply`] of the same push.
#[inline]
pub fn encode_publication_push(encoding: Encoding, channel: &str, publication: &[u8], out: &mut Vec<u8>) {
    match encoding {
        Encoding::Json => json::encode_publication_push(channel, publication, out),
        Encoding::Protobuf => protobuf::encode_publication_push(channel, publication, out),
    }
}

/// Appends the push of an encoded publication without the reply around it. Equal to [`encode_uni_push`] of the same push.
pub fn encode_uni_publication_push(encoding: Encoding, channel: &str, publication: &[u8], out: &mut Vec<u8>) {
    match encoding {
        Encoding::Json => json::encode_uni_publication_push(channel, publication, out),
        Encoding::Protobuf => protobuf::encode_uni_publication_push(channel, publication, out),
    }
}

/// Appends the reply to a subscribe command with publications encoded by [`encode_publication`], which stand in for
/// `result.publications`. On an error `out` is as before.
pub fn encode_subscribe_result(
    encoding: Encoding,
    id: u32,
    result: &SubscribeResult,
    publications: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), InvalidJson> {
    match encoding {
        Encoding::Json => json::encode_subscribe_result(id, result, publications, out),
        Encoding::Protobuf => {
            protobuf::encode_subscribe_result(id, result, publications, out);
            Ok(())
        }
    }
}

/// Appends a subscription as [`encode_connect_result`] takes it, with publications encoded by [`encode_publication`], which stand in
/// for `result.publications`. On an error `out` is as before.
pub fn encode_subscription(
    encoding: Encoding,
    result: &SubscribeResult,
    publications: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), InvalidJson> {
    match encoding {
        Encoding::Json => json::encode_subscription(result, publications, out),
        Encoding::Protobuf => {
            protobuf::encode_subscription(result, publications, out);
            Ok(())
        }
    }
}

/// Appends the reply to a connect command with subscriptions encoded by [`encode_subscription`], which stand in for `result.subs`.
/// On an error `out` is as before.
pub fn encode_connect_result(
    encoding: Encoding,
    id: u32,
    result: &ConnectResult,
    subs: &BTreeMap<String, Vec<u8>>,
    out: &mut Vec<u8>,
) -> Result<(), InvalidJson> {
    match encoding {
        Encoding::Json => json::encode_connect_result(id, result, subs, out),
        Encoding::Protobuf => {
            protobuf::encode_connect_result(id, result, subs, out);
            Ok(())
        }
    }
}

/// Appends the push that tells a unidirectional client that it is connected, with subscriptions encoded by [`encode_subscription`],
/// which stand in for `result.subs`. On an error `out` is as before.
pub fn encode_uni_connect_push(
    encoding: Encoding,
    result: &ConnectResult,
    subs: &BTreeMap<String, Vec<u8>>,
    out: &mut Vec<u8>,
) -> Result<(), InvalidJson> {
    match encoding {
        // Both schemas have the same keys.
        Encoding::Json => json::encode_connect_result(0, result, subs, out),
        Encoding::Protobuf => {
            protobuf::encode_uni_connect_push(result, subs, out);
            Ok(())
        }
    }
}

/// Appends the reply to a history command with publications encoded by [`encode_publication`], which stand in for
/// `result.publications`.
pub fn encode_history_result(
    encoding: Encoding,
    id: u32,
    result: &HistoryResult,
    publications: &[&[u8]],
    out: &mut Vec<u8>,
) {
    match encoding {
        Encoding::Json => json::encode_history_result(id, result, publications, out),
        Encoding::Protobuf => protobuf::encode_history_result(id, result, publications, out),
    }
}

/// Reads one request field of a command into `slot`. A field that comes twice is merged, and of different ones the first in
/// the order of [`Request`] stays.
fn merge_request(
    slot: &mut Option<Request>,
    mut empty: Request,
    merge: impl FnOnce(&mut Request) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    match slot {
        Some(request) if request.rank() == empty.rank() => merge(request),
        _ => {
            merge(&mut empty)?;
            if slot.as_ref().is_none_or(|request| empty.rank() < request.rank()) {
                *slot = Some(empty);
            }
            Ok(())
        }
    }
}

impl Request {
    /// Place in the order of protocol §4.
    fn rank(&self) -> u8 {
        match self {
            Self::Connect(_) => 0,
            Self::Subscribe(_) => 1,
            Self::Unsubscribe(_) => 2,
            Self::Publish(_) => 3,
            Self::Presence(_) => 4,
            Self::PresenceStats(_) => 5,
            Self::History(_) => 6,
            Self::Rpc(_) => 7,
            Self::Send(_) => 8,
            Self::Refresh(_) => 9,
            Self::SubRefresh(_) => 10,
            Self::Ping => 11,
        }
    }
}

/// Matches a request and binds its message.
macro_rules! match_request {
    ($request:expr, $message:ident => $body:expr) => {
        match $request {
            Request::Connect($message) => $body,
            Request::Subscribe($message) => $body,
            Request::Unsubscribe($message) => $body,
            Request::Publish($message) => $body,
            Request::Presence($message) => $body,
            Request::PresenceStats($message) => $body,
            Request::History($message) => $body,
            Request::Rpc($message) => $body,
            Request::Send($message) => $body,
            Request::Refresh($message) => $body,
            Request::SubRefresh($message) => $body,
            Request::Ping => {
                let $message = &mut Empty {};
                $body
            }
        }
    };
}

/// Matches a result and binds its message.
macro_rules! match_result {
    ($result:expr, $message:ident => $body:expr) => {
        match $result {
            ReplyResult::Connect($message) => $body,
            ReplyResult::Subscribe($message) => $body,
            ReplyResult::Presence($message) => $body,
            ReplyResult::PresenceStats($message) => $body,
            ReplyResult::History($message) => $body,
            ReplyResult::Rpc($message) => $body,
            ReplyResult::Refresh($message) => $body,
            ReplyResult::SubRefresh($message) => $body,
            ReplyResult::Unsubscribe | ReplyResult::Publish | ReplyResult::Ping => {
                let $message = &mut Empty {};
                $body
            }
        }
    };
}

/// Matches the body of a push and binds its message.
macro_rules! match_body {
    ($push:expr, $message:ident => $body:expr) => {
        match $push {
            PushBody::Pub($message) => $body,
            PushBody::Join($message) => $body,
            PushBody::Leave($message) => $body,
            PushBody::Unsubscribe($message) => $body,
            PushBody::Message($message) => $body,
            PushBody::Subscribe($message) => $body,
            PushBody::Connect($message) => $body,
            PushBody::Disconnect($message) => $body,
            PushBody::Refresh($message) => $body,
        }
    };
}

use {match_body, match_request, match_result};

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a frame and compares what can be told of its commands: `id kind`, or an error at the end.
    #[track_caller]
    fn check(encoding: Encoding, frame: &[u8], want: &[&str]) {
        let got: Vec<_> = decode_commands(encoding, frame)
            .map(|command| match command {
                Ok(Command { id, request }) => {
                    let kind = request.map_or("none".to_owned(), |request| format!("{request:?}"));
                    format!("{id} {}", kind.split(['(', ' ']).next().unwrap_or_default())
                }
                Err(_) => "error".to_owned(),
            })
            .collect();
        assert_eq!(got, want, "{}", String::from_utf8_lossy(frame));
    }

    fn check_json(frame: &str, want: &[&str]) {
        check(Encoding::Json, frame.as_bytes(), want);
    }

    #[test]
    fn lines_of_a_frame_are_commands() {
        check_json("{}", &["0 none"]);
        check_json("null", &["0 none"]);
        check_json(" {\"id\" : 1 } \r", &["1 none"]);
        check_json("{\"id\":1,\"connect\":{}}\n", &["1 Connect"]);
        check_json("{\"id\":1,\"rpc\":{}}\n{\"id\":2,\"send\":{}}", &["1 Rpc", "2 Send"]);
        check_json("{\"id\":1,\"rpc\":{}}\n{\"id\":2,\"send\":{}}\n", &["1 Rpc", "2 Send"]);
    }

    #[test]
    fn blank_lines_and_what_is_no_command_end_a_frame() {
        for frame in [
            "",
            "\n",
            " ",
            "garbage",
            "[]",
            "5",
            "\"x\"",
            "true",
            "{\"id\":1",
            "{\"id\":1,}",
            "{\"id\":1}{\"id\":2}",
            "{\"id\":1} x",
            "{\n\"id\":1}",
            "\u{feff}{}",
            "{\"id\":\"2\",\"rpc\":{}}",
            "{\"id\":-1,\"rpc\":{}}",
            "{\"id\":-0}",
            "{\"id\":1.0}",
            "{\"id\":1e1}",
            "{\"id\":01}",
            "{\"id\":4294967296}",
            "{\"id\":true}",
            "{\"id\":2,\"subscribe\":\"x\"}",
            "{\"id\":2,\"rpc\":[]}",
            "{\"id\":2,\"rpc\":{\"method\":1}}",
            "{\"id\":2,\"rpc\":{\"data\":}}",
            "{\"id\":2,\"rpc\":{\"data\":01}}",
            "{\"id\":2,\"x\":{\"a\":}}",
            "{\"id\":2,\"rpc\":{\"method\":\"\u{1}\"}}",
            "{\"id\":1,\"connect\":{\"headers\":{\"a\":1}}}",
            "{\"id\":1,\"subscribe\":{\"tf\":[]}}",
        ] {
            check_json(frame, &["error"]);
        }
        check_json("{\"id\":5,\"send\":{}}\n\n\n{\"id\":6,\"send\":{}}\n", &["5 Send", "error"]);
        check_json("{\"id\":5,\"send\":{}}\n\n", &["5 Send", "error"]);
        check(Encoding::Json, b"{\"id\":5,\"rpc\":{\"data\":\"\xff\"}}", &["error"]);
        check(Encoding::Json, &[4, 8, 2, 18, 0], &["error"]);
    }

    #[test]
    fn of_several_requests_the_first_in_the_order_of_the_protocol_is_served() {
        check_json(r#"{"id":5,"presence":{},"subscribe":{}}"#, &["5 Subscribe"]);
        check_json(r#"{"ping":{},"id":5,"sub_refresh":{}}"#, &["5 SubRefresh"]);
        check_json(r#"{"id":5,"send":{},"rpc":{}}"#, &["5 Rpc"]);
        check_json(r#"{"id":5,"ping":{}}"#, &["5 Ping"]);
        check_json(r#"{"id":5,"publish":null,"send":{}}"#, &["5 Send"]);
        check_json(r#"{"id":5,"publish":{"channel":"a"},"publish":null}"#, &["5 none"]);
        check(Encoding::Protobuf, &[6, 8, 5, 0x62, 0, 0x6a, 0], &["5 Rpc"]);
    }

    #[test]
    fn unknown_and_oddly_written_keys_are_taken_as_the_reference_takes_them() {
        check_json(r#"{"id":5,"nosuch":{"a":[{}]},"extra":1}"#, &["5 none"]);
        check_json(r#"{"ID":5,"Presence_Stats":{"CHANNEL":"a"}}"#, &["5 PresenceStats"]);
        let publish = |frame: &str| decode_commands(Encoding::Json, frame.as_bytes()).next().unwrap().unwrap().request;
        let want = |channel: &str, data: &'static str| {
            Some(Request::Publish(PublishRequest { channel: channel.into(), data: data.into(), ..Default::default() }))
        };
        assert_eq!(publish(r#"{"publish":{"channel":"a"},"publish":{"data":1}}"#), want("a", "1"));
        assert_eq!(publish(r#"{"publish":{"Channel":null,"data":null}}"#), want("", "null"));
        assert_eq!(
            publish(r#"{"publish":{"channel":"\ud800","data": {"a" : "\ud800" } }}"#),
            want("\u{fffd}", r#"{"a" : "\ud800" }"#)
        );
    }

    #[test]
    fn protobuf_commands_follow_their_lengths() {
        let check = |frame: &[u8], want: &[&str]| check(Encoding::Protobuf, frame, want);
        check(&[0], &["0 none"]);
        check(&[0, 0], &["0 none", "0 none"]);
        check(&[4, 8, 2, 0x3a, 0], &["2 Publish"]);
        check(&[4, 8, 2, 0x3a, 0, 2, 8, 3], &["2 Publish", "3 none"]);
        check(&[5, 8, 2, 0xa0, 1, 7], &["2 none"]);
        for frame in [
            &[][..],
            &[1],
            &[0xff, 0xff, 0xff],
            &[0x7f, 8, 1],
            b"{}",
            &[2, 8],
            &[0xff; 11],
            &[4, 8, 2, 0x3a, 1],
            &[2, 0x3a, 5],
            &[1, 7],
            &[4, 0x3a, 2, 0x0a, 0xff],
        ] {
            check(frame, &["error"]);
        }
        check(&[0, 0x80], &["0 none", "error"]);
        check(&[5, 0x3a, 3, 0x0a, 1, 0xff], &["error"]);
    }

    /// Encodes a reply in JSON.
    #[track_caller]
    fn check_reply(reply: &Reply, want: &str) {
        let mut out = Vec::new();
        encode_reply(Encoding::Json, reply, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn replies_are_written_as_the_reference_writes_them() {
        let result = |result| Reply::Result { id: 1, result };
        check_reply(&Reply::Ping, "{}");
        check_reply(
            &Reply::Error { id: 1, error: ReplyError::TOO_MANY_REQUESTS },
            r#"{"id":1,"error":{"code":111,"message":"too many requests","temporary":true}}"#,
        );
        check_reply(&result(ReplyResult::Publish), r#"{"id":1,"publish":{}}"#);
        check_reply(&result(ReplyResult::Presence(Default::default())), r#"{"id":1,"presence":{"presence":{}}}"#);
        check_reply(
            &result(ReplyResult::PresenceStats(Default::default())),
            r#"{"id":1,"presence_stats":{"num_clients":0,"num_users":0}}"#,
        );
        check_reply(
            &result(ReplyResult::History(Default::default())),
            r#"{"id":1,"history":{"publications":[],"epoch":"","offset":0}}"#,
        );
        check_reply(&result(ReplyResult::Rpc(Default::default())), r#"{"id":1,"rpc":{}}"#);
        let publication = Publication {
            data: "{\"a\":\n 1}".into(),
            info: Some(ClientInfo::default()),
            tags: [("b".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())].into(),
            time: 1,
            score: -5,
            ..Default::default()
        };
        check_reply(
            &Reply::Push(Push { channel: "<\u{1}\u{7f}\u{8}\u{c}".into(), body: PushBody::Pub(publication), id: 0 }),
            "{\"push\":{\"channel\":\"\\u003c\\u0001\u{7f}\\u0008\\u000c\",\"pub\":{\"data\":{\"a\": 1},\"info\":{\"user\":\"\",\"client\":\"\"},\"tags\":{\"a\":\"2\",\"b\":\"1\"},\"time\":1,\"score\":-5}}}",
        );
    }

    #[test]
    fn payloads_that_are_not_json_leave_the_buffer_as_it_was() {
        let publication = Publication { data: "{".into(), ..Default::default() };
        assert_eq!(encode_publication(Encoding::Json, &publication), Err(InvalidJson));
        let mut out = b"before".to_vec();
        let reply = Reply::Push(Push { channel: "a".into(), body: PushBody::Pub(publication), id: 0 });
        assert_eq!(encode_reply(Encoding::Json, &reply, &mut out), Err(InvalidJson));
        encode_command(
            Encoding::Json,
            &Command { id: 1, request: Some(Request::Send(SendRequest { data: "{".into() })) },
            &mut out,
        );
        assert_eq!(out, b"before");
        assert!(encode_reply(Encoding::Protobuf, &reply, &mut out).is_ok());
    }

    #[test]
    fn nesting_and_lists_of_messages_are_bounded() {
        let filter = |depth| r#"{"nodes":["#.repeat(depth) + &"]}".repeat(depth);
        let frame = |filter: String| format!(r#"{{"subscribe":{{"tf":{filter}}}}}"#);
        check_json(&frame(filter(90)), &["0 Subscribe"]);
        check_json(&frame(filter(110)), &["error"]);
        check_json(&frame(filter(10_000)), &["error"]);
        let list = |length: usize| frame(format!(r#"{{"nodes":[{}]}}"#, vec!["{}"; length].join(",")));
        check_json(&list(65_536), &["0 Subscribe"]);
        check_json(&list(65_537), &["error"]);
    }

    #[test]
    fn emulation_requests_hold_a_frame_in_a_string() {
        let check = |body: &str, want: Option<&str>| {
            let got = decode_emulation_request(Encoding::Json, body.as_bytes()).ok().map(|request| request.data);
            assert_eq!(got.as_deref(), want.map(str::as_bytes), "{body}");
        };
        check(r#"{"session":"s","node":"n","data":"{\"id\":1}\n{}"}"#, Some("{\"id\":1}\n{}"));
        for body in ["", "garbage", "null", "{}", r#"{"data":{}}"#, r#"{"data":"x"} x"#, r#"{"data":null}"#] {
            check(body, if body.contains("null}") { Some("") } else { None });
        }
    }

    #[test]
    fn connect_requests_of_unidirectional_transports_may_be_null() {
        for (body, want) in [("{}", true), ("null", true), ("", false), ("[]", false), (r#"{"subs":{"a":null}}"#, true)]
        {
            assert_eq!(decode_connect_request(Encoding::Json, body.as_bytes()).is_ok(), want, "{body}");
        }
    }
}
