//! The client protocol: commands of a client, replies and pushes of the server. Source: protocol §1 to §6.
//!
//! A frame holds one or more messages, separated by newlines in JSON and preceded by their lengths in Protobuf. Envelopes
//! are enums here, where the schema has a struct with one field for each kind of content.

mod json;
mod message;
mod protobuf;

pub use message::*;

use crate::codes::ReplyError;
pub use crate::json::InvalidJson;
use crate::{DecodeError, json as json_text};
use bytes::Bytes;

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
    Commands {
        frame: Frame::new(encoding, frame),
    }
}

/// The replies of a frame: the client's side of [`decode_commands`].
pub fn decode_replies(encoding: Encoding, frame: &[u8]) -> Replies<'_> {
    Replies {
        frame: Frame::new(encoding, frame),
    }
}

/// Iterator of [`decode_commands`].
pub struct Commands<'a> {
    frame: Frame<'a>,
}

impl Iterator for Commands<'_> {
    type Item = Result<Command, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.frame
            .decode_next(json::decode_command, protobuf::decode_command)
    }
}

/// Iterator of [`decode_replies`].
pub struct Replies<'a> {
    frame: Frame<'a>,
}

impl Iterator for Replies<'_> {
    type Item = Result<Reply, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.frame
            .decode_next(json::decode_reply, protobuf::decode_reply)
    }
}

/// A frame that is cut into messages.
struct Frame<'a> {
    encoding: Encoding,
    /// `None` once the frame is used up or broken. An empty frame is broken, so it starts as `Some`.
    rest: Option<&'a [u8]>,
}

impl<'a> Frame<'a> {
    fn new(encoding: Encoding, frame: &'a [u8]) -> Self {
        Self {
            encoding,
            rest: Some(frame),
        }
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
            self.rest = None;
        }
        Some(message)
    }

    /// One newline may end the last line; a further one makes an empty line, which is no message.
    fn take_line(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return rest;
        };
        self.rest = Some(&rest[end + 1..]).filter(|rest| !rest.is_empty());
        &rest[..end]
    }

    fn take_prefixed(&mut self, mut rest: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let length = prost::decode_length_delimiter(&mut rest)?;
        let (message, rest) = rest
            .split_at_checked(length)
            .ok_or(DecodeError::new("message longer than its frame", 0))?;
        self.rest = Some(rest).filter(|rest| !rest.is_empty());
        Ok(message)
    }
}

/// The request of a unidirectional connection, which comes without an envelope. `null` is an empty one.
pub fn decode_connect_request(
    encoding: Encoding,
    body: &[u8],
) -> Result<ConnectRequest, DecodeError> {
    match encoding {
        Encoding::Json => json_text::decode_alone(body),
        Encoding::Protobuf => Ok(prost::Message::decode(body)?),
    }
}

/// The body of a request to the emulation endpoint. `data` of the result is a frame of commands.
pub fn decode_emulation_request(
    encoding: Encoding,
    body: &[u8],
) -> Result<EmulationRequest, DecodeError> {
    match encoding {
        Encoding::Json => json::decode_emulation_request(body),
        Encoding::Protobuf => Ok(prost::Message::decode(body)?),
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
pub fn encode_reply(
    encoding: Encoding,
    reply: &Reply,
    out: &mut Vec<u8>,
) -> Result<(), InvalidJson> {
    match encoding {
        Encoding::Json => json::encode_reply(reply, out),
        Encoding::Protobuf => {
            protobuf::encode_reply(reply, out);
            Ok(())
        }
    }
}

/// Appends one push without the reply around it, as unidirectional transports send them; `None` is a ping. Framed as by
/// [`encode_reply`]. On an error `out` is as before.
pub fn encode_uni_push(
    encoding: Encoding,
    push: Option<&Push>,
    out: &mut Vec<u8>,
) -> Result<(), InvalidJson> {
    match encoding {
        Encoding::Json => json::encode_uni_push(push, out),
        Encoding::Protobuf => {
            protobuf::encode_uni_push(push, out);
            Ok(())
        }
    }
}

/// The publication alone: a JSON object, or a Protobuf message without its length. Encoded once, it serves all subscribers.
pub fn encode_publication(
    encoding: Encoding,
    publication: &Publication,
) -> Result<Bytes, InvalidJson> {
    match encoding {
        Encoding::Json => json::encode_publication(publication),
        Encoding::Protobuf => Ok(prost::Message::encode_to_vec(publication).into()),
    }
}

/// Appends the push of a publication encoded by [`encode_publication`]. Equal to [`encode_reply`] of the same push.
#[inline]
pub fn encode_publication_push(
    encoding: Encoding,
    channel: &str,
    publication: &[u8],
    out: &mut Vec<u8>,
) {
    match encoding {
        Encoding::Json => json::encode_publication_push(channel, publication, out),
        Encoding::Protobuf => protobuf::encode_publication_push(channel, publication, out),
    }
}

/// Appends the push of an encoded publication without the reply around it. Equal to [`encode_uni_push`] of the same push.
pub fn encode_uni_publication_push(
    encoding: Encoding,
    channel: &str,
    publication: &[u8],
    out: &mut Vec<u8>,
) {
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
    publications: &[Bytes],
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

/// Appends the reply to a history command with publications encoded by [`encode_publication`], which stand in for
/// `result.publications`.
pub fn encode_history_result(
    encoding: Encoding,
    id: u32,
    result: &HistoryResult,
    publications: &[Bytes],
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
            if slot
                .as_ref()
                .is_none_or(|request| empty.rank() < request.rank())
            {
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
