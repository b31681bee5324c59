//! Envelopes of the server API in JSON.

use super::{ApiResult, BATCH_COMMANDS_MAX, BatchRequest, BatchResult, Error, Method, Request};
use crate::DecodeError;
use crate::client::Empty;
use crate::codes::ApiError;
use crate::json::{Dialect, InvalidJson, Reader, Value, Writer};

impl Request {
    /// The empty request of a method.
    pub(super) fn empty(method: Method) -> Self {
        match method {
            Method::Publish => Self::Publish(Default::default()),
            Method::Broadcast => Self::Broadcast(Default::default()),
            Method::Subscribe => Self::Subscribe(Default::default()),
            Method::Unsubscribe => Self::Unsubscribe(Default::default()),
            Method::Disconnect => Self::Disconnect(Default::default()),
            Method::Presence => Self::Presence(Default::default()),
            Method::PresenceStats => Self::PresenceStats(Default::default()),
            Method::History => Self::History(Default::default()),
            Method::HistoryRemove => Self::HistoryRemove(Default::default()),
            Method::Info => Self::Info,
            Method::Rpc => Self::Rpc(Default::default()),
            Method::Refresh => Self::Refresh(Default::default()),
            Method::Channels => Self::Channels(Default::default()),
            Method::Batch => Self::Batch(Default::default()),
        }
    }

    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        match self {
            Self::Publish(request) => request.decode(reader),
            Self::Broadcast(request) => request.decode(reader),
            Self::Subscribe(request) => request.decode(reader),
            Self::Unsubscribe(request) => request.decode(reader),
            Self::Disconnect(request) => request.decode(reader),
            Self::Presence(request) => request.decode(reader),
            Self::PresenceStats(request) => request.decode(reader),
            Self::History(request) => request.decode(reader),
            Self::HistoryRemove(request) => request.decode(reader),
            Self::Info => Empty {}.decode(reader),
            Self::Rpc(request) => request.decode(reader),
            Self::Refresh(request) => request.decode(reader),
            Self::Channels(request) => request.decode(reader),
            Self::Batch(request) => request.decode(reader),
        }
    }
}

impl BatchRequest {
    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if reader.null() {
            return Ok(());
        }
        reader.object(|reader, key| {
            if key.eq_ignore_ascii_case("commands") {
                self.commands.clear();
                if reader.null() { Ok(()) } else { reader.array(|reader| self.decode_command(reader)) }
            } else if key.eq_ignore_ascii_case("parallel") {
                self.parallel.decode(reader)
            } else {
                reader.raw().map(drop)
            }
        })
    }

    fn decode_command(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if self.commands.len() == BATCH_COMMANDS_MAX {
            return Err(reader.error("too many commands in a batch"));
        }
        let command =
            if reader.null() { Err(ApiError::BAD_REQUEST) } else { decode_command(reader)?.ok_or(ApiError::NOT_FOUND) };
        self.commands.push(command.map(Box::new));
        Ok(())
    }
}

/// One command of a batch. Where it sets several methods, the first in the order of [`Method`] is served.
fn decode_command(reader: &mut Reader<'_>) -> Result<Option<Request>, DecodeError> {
    let mut slot: Option<Request> = None;
    reader.object(|reader, key| {
        let method = Method::from_path(&key).or_else(|| Method::from_path(&key.to_ascii_lowercase()));
        let Some(method) = method.filter(|method| *method != Method::Batch) else {
            return reader.raw().map(drop);
        };
        if reader.null() {
            slot.take_if(|present| present.method() == method);
            return Ok(());
        }
        match &mut slot {
            Some(request) if request.method() == method => request.decode(reader),
            _ => {
                let mut request = Request::empty(method);
                request.decode(reader)?;
                if slot.as_ref().is_none_or(|present| method < present.method()) {
                    slot = Some(request);
                }
                Ok(())
            }
        }
    })?;
    Ok(slot)
}

pub(super) fn decode_request(method: Method, mut reader: Reader<'_>) -> Result<Request, DecodeError> {
    let mut request = Request::empty(method);
    request.decode(&mut reader)?;
    reader.end()?;
    Ok(request)
}

impl ApiResult {
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        match self {
            Self::Publish(result) => result.encode(writer),
            Self::Broadcast(result) => result.encode(writer),
            Self::Subscribe | Self::Unsubscribe | Self::Disconnect | Self::HistoryRemove | Self::Refresh => {
                Empty {}.encode(writer)
            }
            Self::Presence(result) => result.encode(writer),
            Self::PresenceStats(result) => result.encode(writer),
            Self::History(result) => result.encode(writer),
            Self::Info(result) => result.encode(writer),
            Self::Rpc(result) => result.encode(writer),
            Self::Channels(result) => result.encode(writer),
            Self::Batch(result) => {
                result.write(writer);
                Ok(())
            }
        }
    }
}

impl BatchResult {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.text(b"{");
        if !self.replies.is_empty() {
            writer.key("\"replies\":");
            writer.text(b"[");
            for reply in &self.replies {
                writer.separate();
                write_reply(None, reply, |result| result.method().as_str(), writer);
            }
            writer.text(b"]");
        }
        writer.text(b"}");
    }
}

/// Writes `{"<name>":<result>}`, or an error, behind the id if there is one. A result that cannot be written becomes error
/// 100.
pub(super) fn write_reply(
    id: Option<u32>,
    reply: &Result<ApiResult, ApiError>,
    name: impl FnOnce(&ApiResult) -> &'static str,
    writer: &mut Writer<'_>,
) {
    writer.text(b"{");
    if let Some(id) = id {
        writer.text(b"\"id\":");
        writer.integer(id);
    }
    let start = writer.len();
    let written = match reply {
        Ok(result) => {
            writer.separate();
            writer.text(b"\"");
            writer.text(name(result).as_bytes());
            writer.text(b"\":");
            result.write(writer)
        }
        Err(error) => {
            write_error(error, writer);
            Ok(())
        }
    };
    if written.is_err() {
        writer.truncate(start);
        write_error(&ApiError::INTERNAL, writer);
    }
    writer.text(b"}");
}

/// Writes the key and object of an error.
fn write_error(error: &ApiError, writer: &mut Writer<'_>) {
    writer.key("\"error\":");
    write_error_object(error, writer);
}

fn write_error_object(error: &ApiError, writer: &mut Writer<'_>) {
    Error::from(error).encode(writer).expect("an error holds no payload");
}

pub(super) fn encode_response(response: &Result<ApiResult, ApiError>, out: &mut Vec<u8>) {
    let mut writer = Writer::new(out, Dialect::Api);
    match response {
        Ok(ApiResult::Batch(result)) => result.write(&mut writer),
        _ => write_reply(None, response, |_| "result", &mut writer),
    }
}

pub(super) fn encode_error(error: &ApiError, out: &mut Vec<u8>) {
    write_error_object(error, &mut Writer::new(out, Dialect::Api));
}
