//! Envelopes of the server API in Protobuf, as GRPC carries them.

use super::{ApiResult, BATCH_COMMANDS_MAX, BatchRequest, BatchResult, Error, Method, Request};
use crate::DecodeError;
use crate::client::Empty;
use crate::codes::ApiError;
use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost::encoding::{
    DecodeContext, WireType, bool, check_wire_type, decode_key, encode_key, encode_varint, message, skip_field,
};

/// Fields of a response.
const ERROR: u32 = 1;
const RESULT: u32 = 2;
/// Field of `BatchRequest` and of `BatchResponse`.
const ITEMS: u32 = 1;
const PARALLEL: u32 = 2;
/// Field of `Reply`.
const REPLY_ERROR: u32 = 2;
/// Number of the first method in a command and a reply; the others follow in the order of `Method::ALL`.
const FIRST_METHOD: u32 = 4;

/// Runs an expression on the message of a result.
macro_rules! match_api_result {
    ($result:expr, $message:ident => $body:expr) => {
        match $result {
            ApiResult::Publish($message) => $body,
            ApiResult::Broadcast($message) => $body,
            ApiResult::Presence($message) => $body,
            ApiResult::PresenceStats($message) => $body,
            ApiResult::History($message) => $body,
            ApiResult::Info($message) => $body,
            ApiResult::Rpc($message) => $body,
            ApiResult::Channels($message) => $body,
            ApiResult::Subscribe
            | ApiResult::Unsubscribe
            | ApiResult::Disconnect
            | ApiResult::HistoryRemove
            | ApiResult::Refresh => {
                let $message = &Empty {};
                $body
            }
            ApiResult::Batch(_) => unreachable!("a batch is in no envelope"),
        }
    };
}

impl Request {
    /// Adds the fields of an encoded message.
    fn merge(&mut self, bytes: impl Buf) -> Result<(), DecodeError> {
        match self {
            Self::Publish(request) => request.merge(bytes)?,
            Self::Broadcast(request) => request.merge(bytes)?,
            Self::Subscribe(request) => request.merge(bytes)?,
            Self::Unsubscribe(request) => request.merge(bytes)?,
            Self::Disconnect(request) => request.merge(bytes)?,
            Self::Presence(request) => request.merge(bytes)?,
            Self::PresenceStats(request) => request.merge(bytes)?,
            Self::History(request) => request.merge(bytes)?,
            Self::HistoryRemove(request) => request.merge(bytes)?,
            Self::Info => Empty {}.merge(bytes)?,
            Self::Rpc(request) => request.merge(bytes)?,
            Self::Refresh(request) => request.merge(bytes)?,
            Self::Channels(request) => request.merge(bytes)?,
            Self::Batch(request) => return request.merge_protobuf(bytes),
        }
        Ok(())
    }
}

impl Method {
    fn from_command_tag(tag: u32) -> Option<Self> {
        let place = usize::try_from(tag.checked_sub(FIRST_METHOD)?).ok()?;
        Self::ALL.get(place).copied().filter(|method| *method != Self::Batch)
    }

    fn command_tag(self) -> u32 {
        FIRST_METHOD + self as u32
    }
}

impl BatchRequest {
    fn merge_protobuf(&mut self, mut bytes: impl Buf) -> Result<(), DecodeError> {
        while bytes.has_remaining() {
            let (tag, wire_type) = decode_key(&mut bytes)?;
            match tag {
                ITEMS if self.commands.len() == BATCH_COMMANDS_MAX => {
                    return Err(DecodeError::new("too many commands in a batch", 0));
                }
                ITEMS => {
                    let command = decode_command(take_message(wire_type, &mut bytes)?)?;
                    self.commands.push(command.map(Box::new).ok_or(ApiError::NOT_FOUND));
                }
                PARALLEL => bool::merge(wire_type, &mut self.parallel, &mut bytes, DecodeContext::default())?,
                _ => skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?,
            }
        }
        Ok(())
    }
}

/// One command of a batch. Where it sets several methods, the first in the order of [`Method`] is served.
fn decode_command(mut bytes: Bytes) -> Result<Option<Request>, DecodeError> {
    let mut slot: Option<Request> = None;
    while bytes.has_remaining() {
        let (tag, wire_type) = decode_key(&mut bytes)?;
        let Some(method) = Method::from_command_tag(tag) else {
            skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?;
            continue;
        };
        let content = take_message(wire_type, &mut bytes)?;
        match &mut slot {
            Some(request) if request.method() == method => request.merge(content)?,
            _ => {
                let mut request = Request::empty(method);
                request.merge(content)?;
                if slot.as_ref().is_none_or(|present| method < present.method()) {
                    slot = Some(request);
                }
            }
        }
    }
    Ok(slot)
}

/// Takes an embedded message; shares the memory of the whole where that is one piece.
fn take_message(wire_type: WireType, bytes: &mut impl Buf) -> Result<Bytes, DecodeError> {
    check_wire_type(WireType::LengthDelimited, wire_type)?;
    let length = prost::decode_length_delimiter(&mut *bytes)?;
    if length > bytes.remaining() {
        return Err(DecodeError::new("message cut short", 0));
    }
    Ok(bytes.copy_to_bytes(length))
}

pub(super) fn decode_request(method: Method, bytes: impl Buf) -> Result<Request, DecodeError> {
    let mut request = Request::empty(method);
    request.merge(bytes)?;
    Ok(request)
}

pub(super) fn encode_response(response: &Result<ApiResult, ApiError>, out: &mut impl BufMut) {
    match response {
        Ok(ApiResult::Batch(result)) => encode_batch(result, out),
        Ok(result) => match_api_result!(result, content => message::encode(RESULT, content, out)),
        Err(error) => message::encode(ERROR, &Error::from(error), out),
    }
}

fn encode_batch(batch: &BatchResult, out: &mut impl BufMut) {
    for reply in &batch.replies {
        match reply {
            Ok(result) => {
                match_api_result!(result, content => encode_reply(result.method().command_tag(), content, out));
            }
            Err(error) => encode_reply(REPLY_ERROR, &Error::from(error), out),
        }
    }
}

/// A reply of one field.
fn encode_reply(tag: u32, content: &impl Message, out: &mut impl BufMut) {
    encode_key(ITEMS, WireType::LengthDelimited, out);
    encode_varint(message::encoded_len(tag, content) as u64, out);
    message::encode(tag, content, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{PublishRequest, PublishResponse, PublishResult};
    use prost::encoding::bytes as field;

    /// A field that holds bytes.
    fn put(tag: u32, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        field::encode(tag, &content.to_vec(), &mut out);
        out
    }

    fn response_of(response: Result<ApiResult, ApiError>) -> Vec<u8> {
        let mut out = Vec::new();
        encode_response(&response, &mut out);
        out
    }

    #[test]
    fn requests_are_read_as_the_message_of_their_method() {
        let publish = PublishRequest { channel: "c".into(), data: "1".into(), ..Default::default() };
        let bytes = publish.encode_to_vec();
        assert_eq!(decode_request(Method::Publish, &*bytes), Ok(Request::Publish(publish)));
        for method in Method::ALL {
            assert_eq!(decode_request(method, &b""[..]).map(|request| request.method()), Ok(method));
            assert!(decode_request(method, &b"\x0a\x05a"[..]).is_err(), "{method:?}");
        }
        assert!(decode_request(Method::Publish, &*put(1, b"\xff")).is_err(), "a channel is UTF-8");
    }

    #[test]
    fn responses_hold_a_result_or_an_error() {
        let result = PublishResult { offset: 1, epoch: "e".into() };
        let got = PublishResponse::decode(&*response_of(Ok(ApiResult::Publish(result.clone())))).unwrap();
        assert_eq!(got, PublishResponse { error: None, result: Some(result) });
        let got = PublishResponse::decode(&*response_of(Err(ApiError::UNKNOWN_CHANNEL))).unwrap();
        assert_eq!(got.error.map(|error| error.code), Some(102));
        assert_eq!(response_of(Ok(ApiResult::Subscribe)), put(2, b""));
    }

    /// A04
    #[test]
    fn commands_of_a_batch_are_told_apart_by_their_number() {
        let publish = PublishRequest { channel: "c".into(), ..Default::default() }.encode_to_vec();
        let merged = [put(4, &publish), put(4, &put(2, b"1"))].concat();
        let batch = [
            put(1, &merged),
            put(1, b""),
            put(1, &put(16, b"")),
            put(1, &put(42, b"")),
            put(1, &[put(11, b""), put(5, b""), put(13, b"")].concat()),
            b"\x10\x01".to_vec(),
        ]
        .concat();
        let Ok(Request::Batch(batch)) = decode_request(Method::Batch, &*batch) else { panic!("not a batch") };
        let methods: Vec<_> = batch
            .commands
            .iter()
            .map(|command| command.as_ref().map(|request| request.method()).map_err(|error| error.code))
            .collect();
        assert_eq!(methods, [Ok(Method::Publish), Err(104), Ok(Method::Channels), Err(104), Ok(Method::Broadcast)]);
        let whole = PublishRequest { channel: "c".into(), data: "1".into(), ..Default::default() };
        assert_eq!(batch.commands[0], Ok(Box::new(Request::Publish(whole))));
        assert!(batch.parallel);
    }

    #[test]
    fn replies_of_a_batch_have_the_number_of_their_command() {
        let replies =
            vec![Ok(ApiResult::Refresh), Err(ApiError::NOT_FOUND), Ok(ApiResult::Channels(Default::default()))];
        let error = Error::from(&ApiError::NOT_FOUND).encode_to_vec();
        let want = [put(1, &put(15, b"")), put(1, &put(2, &error)), put(1, &put(16, b""))].concat();
        assert_eq!(response_of(Ok(ApiResult::Batch(BatchResult { replies }))), want);
    }

    #[test]
    fn batches_are_bounded_before_they_are_unpacked() {
        let batch = |length: usize| put(1, b"").repeat(length);
        assert!(decode_request(Method::Batch, &*batch(BATCH_COMMANDS_MAX)).is_ok());
        assert!(decode_request(Method::Batch, &*batch(BATCH_COMMANDS_MAX + 1)).is_err());
        assert!(decode_request(Method::Batch, &b"\x0a\x05\x22"[..]).is_err());
    }
}
