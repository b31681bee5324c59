//! JSON as the client protocol and the server API use it: known keys, raw payloads, no tree in between.
//!
//! `scan` finds and validates a value without recursion, `reader` walks over known messages, `writer` writes them. A message
//! lists its keys once, with [`json_message!`], in ascending order of the protobuf fields.

mod reader;
mod scan;
mod value;
mod writer;

pub(crate) use reader::Reader;
pub(crate) use value::{Encoded, Value, json_message};
pub use writer::InvalidJson;
pub(crate) use writer::{Dialect, Writer};

use crate::DecodeError;

/// Deepest nesting of arrays and objects in a payload.
pub(crate) const DEPTH_MAX: usize = 512;

/// Deepest nesting of our own messages; as in prost.
pub(crate) const MESSAGE_DEPTH_MAX: usize = 100;

/// Most entries in one list of messages. An empty message takes three bytes to send and hundreds to hold, so the size of
/// the text alone bounds nothing.
pub(crate) const LIST_LEN_MAX: usize = 65_536;

/// Whether the bytes are one JSON value in valid UTF-8, white space around it allowed.
#[must_use]
pub fn is_json(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok() && scan::value_alone(bytes).is_ok()
}

/// Whether the bytes are one JSON object. Config value `json_object` of `publication_data_format`.
#[must_use]
pub fn is_json_object(bytes: &[u8]) -> bool {
    bytes[scan::space_end(bytes, 0)..].first() == Some(&b'{') && is_json(bytes)
}

/// Appends `text` as a JSON string, escaped as the reference does in payloads of delta subscriptions. Source: protocol §9.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    writer::write_string(text, Dialect::Api, out);
}

/// The text of a frame. JSON is UTF-8 on every transport, whatever the transport itself checks.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| DecodeError::new("invalid UTF-8", 0))
}

/// Decodes one message that is the whole text.
pub(crate) fn decode_alone<M: Value + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    let mut reader = Reader::new(text(bytes)?);
    let mut message = M::default();
    message.decode(&mut reader)?;
    reader.end()?;
    Ok(message)
}
