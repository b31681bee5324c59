//! The legacy endpoint: several commands with ids in one request. Source: server API §1.2.

use super::json::write_reply;
use super::{ApiResult, Method, Request, decode_request};
use crate::DecodeError;
use crate::codes::ApiError;
use crate::json::{Dialect, Reader, Value, Writer, text};
use bytes::Bytes;

/// One command of a legacy request.
#[derive(Clone, Debug, PartialEq)]
pub struct LegacyCommand {
    /// Echoed in the reply; 0 is left out.
    pub id: u32,
    /// The request, or what is to be answered in its place: 104 for an unknown number, 107 for undecodable parameters.
    pub request: Result<Request, ApiError>,
}

/// Decodes the commands of a body, with any white space between them. Bound: the reference decodes one command after the
/// other and answers 400 for the whole when one fails; so do we, before the first is served.
pub fn decode_legacy_commands(body: &[u8]) -> Result<Vec<LegacyCommand>, DecodeError> {
    let mut reader = Reader::new(text(body)?);
    let mut commands = Vec::new();
    if body.is_empty() {
        return Err(reader.error("empty body"));
    }
    while reader.peek().is_some() {
        if commands.len() == super::BATCH_COMMANDS_MAX {
            return Err(reader.error("too many commands"));
        }
        commands.push(decode_command(&mut reader)?);
    }
    Ok(commands)
}

fn decode_command(reader: &mut Reader<'_>) -> Result<LegacyCommand, DecodeError> {
    let (mut id, mut method, mut params) = (0_u32, Some(Method::Publish), Bytes::new());
    if !reader.null() {
        reader.object(|reader, key| match &*key.to_ascii_lowercase() {
            "id" => id.decode(reader),
            "method" => decode_method(reader).map(|decoded| method = decoded),
            "params" => params.decode(reader),
            _ => reader.raw().map(drop),
        })?;
    }
    let request = match method {
        Some(Method::Info) => Ok(Request::Info),
        Some(method) => decode_request(method, &params).map_err(|_| ApiError::BAD_REQUEST),
        None => Err(ApiError::NOT_FOUND),
    };
    Ok(LegacyCommand { id, request })
}

/// A number, or a name in any case. Names must be known, numbers need not.
fn decode_method(reader: &mut Reader<'_>) -> Result<Option<Method>, DecodeError> {
    if reader.peek() != Some(b'"') {
        let mut number = 0_i64;
        number.decode(reader)?;
        return Ok(Method::from_legacy_number(number));
    }
    let name = reader.string()?.to_ascii_lowercase();
    let method = Method::from_path(&name).filter(|method| *method != Method::Batch);
    method.map(Some).ok_or(reader.error("unknown method"))
}

/// Appends one reply; the caller joins replies with newlines.
pub fn encode_legacy_reply(id: u32, reply: &Result<ApiResult, ApiError>, out: &mut Vec<u8>) {
    let mut writer = Writer::new(out, Dialect::Api);
    write_reply(
        Some(id).filter(|id| *id != 0),
        reply,
        |_| "result",
        &mut writer,
    );
}
