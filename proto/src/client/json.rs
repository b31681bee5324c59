//! Envelopes of the client protocol in JSON.

use super::{
    Command, ConnectResult, Empty, EmulationRequest, Error, HistoryResult, Publication, Push, PushBody, Reply,
    ReplyResult, Request, SubscribeResult, match_body, match_request, match_result, merge_request,
};
use crate::DecodeError;
use crate::json::{Dialect, Encoded, InvalidJson, Reader, Value, Writer, decode_alone};
use bytes::Bytes;
use std::collections::BTreeMap;

impl Request {
    /// The empty request under a key of the command.
    fn from_key(key: &str) -> Option<Self> {
        Some(match key {
            "connect" => Self::Connect(Box::default()),
            "subscribe" => Self::Subscribe(Box::default()),
            "unsubscribe" => Self::Unsubscribe(Default::default()),
            "publish" => Self::Publish(Default::default()),
            "presence" => Self::Presence(Default::default()),
            "presence_stats" => Self::PresenceStats(Default::default()),
            "history" => Self::History(Default::default()),
            "ping" => Self::Ping,
            "send" => Self::Send(Default::default()),
            "rpc" => Self::Rpc(Default::default()),
            "refresh" => Self::Refresh(Default::default()),
            "sub_refresh" => Self::SubRefresh(Default::default()),
            _ => return None,
        })
    }

    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        match_request!(self, message => message.decode(reader))
    }

    /// The key as it is written.
    fn key(&self) -> &'static str {
        match self {
            Self::Connect(_) => "\"connect\":",
            Self::Subscribe(_) => "\"subscribe\":",
            Self::Unsubscribe(_) => "\"unsubscribe\":",
            Self::Publish(_) => "\"publish\":",
            Self::Presence(_) => "\"presence\":",
            Self::PresenceStats(_) => "\"presence_stats\":",
            Self::History(_) => "\"history\":",
            Self::Ping => "\"ping\":",
            Self::Send(_) => "\"send\":",
            Self::Rpc(_) => "\"rpc\":",
            Self::Refresh(_) => "\"refresh\":",
            Self::SubRefresh(_) => "\"sub_refresh\":",
        }
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        writer.key(self.key());
        match_request!(self, message => message.encode(writer))
    }
}

/// One line of a frame. `null` is an empty command.
pub(super) fn decode_command(line: &str) -> Result<Command, DecodeError> {
    let mut command = Command::default();
    let mut reader = Reader::new(line);
    if !reader.null() {
        reader.object(|reader, key| decode_command_field(&mut command, reader, &key))?;
    }
    reader.end()?;
    Ok(command)
}

#[inline]
fn decode_command_field(command: &mut Command, reader: &mut Reader<'_>, key: &str) -> Result<(), DecodeError> {
    if key == "id" {
        return command.id.decode(reader);
    }
    let Some(request) = Request::from_key(key) else {
        return decode_odd_command_field(command, reader, key);
    };
    if reader.null() {
        command.request.take_if(|present| present.rank() == request.rank());
        return Ok(());
    }
    merge_request(&mut command.request, request, |request| request.decode(reader))
}

/// A key that is unknown, or known in another case.
#[cold]
fn decode_odd_command_field(command: &mut Command, reader: &mut Reader<'_>, key: &str) -> Result<(), DecodeError> {
    let lower = key.to_ascii_lowercase();
    if lower == key { reader.raw().map(drop) } else { decode_command_field(command, reader, &lower) }
}

pub(super) fn encode_command(command: &Command, out: &mut Vec<u8>) {
    let start = out.len();
    let mut writer = Writer::new(out, Dialect::Client);
    writer.text(b"{");
    let written = match &command.request {
        _ if write_id(command.id, &mut writer).is_err() => Err(InvalidJson),
        Some(request) => request.write(&mut writer),
        None => Ok(()),
    };
    writer.text(b"}");
    if written.is_err() {
        out.truncate(start);
    }
}

fn write_id(id: u32, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
    if id == 0 { Ok(()) } else { write_entry("\"id\":", &id, writer) }
}

fn write_entry(key: &str, value: &impl Value, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
    writer.key(key);
    value.encode(writer)
}

/// Runs `write` on `out` and takes back what it wrote when it fails.
fn write_or_truncate(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), InvalidJson>,
) -> Result<(), InvalidJson> {
    let start = out.len();
    let written = write(&mut Writer::new(out, Dialect::Client));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

impl ReplyResult {
    fn from_key(key: &str) -> Option<Self> {
        Some(match key {
            "connect" => Self::Connect(Box::default()),
            "subscribe" => Self::Subscribe(Box::default()),
            "unsubscribe" => Self::Unsubscribe,
            "publish" => Self::Publish,
            "presence" => Self::Presence(Default::default()),
            "presence_stats" => Self::PresenceStats(Default::default()),
            "history" => Self::History(Default::default()),
            "ping" => Self::Ping,
            "rpc" => Self::Rpc(Default::default()),
            "refresh" => Self::Refresh(Default::default()),
            "sub_refresh" => Self::SubRefresh(Default::default()),
            _ => return None,
        })
    }

    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        match_result!(self, message => message.decode(reader))
    }

    /// The key as it is written.
    fn key(&self) -> &'static str {
        match self {
            Self::Connect(_) => "\"connect\":",
            Self::Subscribe(_) => "\"subscribe\":",
            Self::Unsubscribe => "\"unsubscribe\":",
            Self::Publish => "\"publish\":",
            Self::Presence(_) => "\"presence\":",
            Self::PresenceStats(_) => "\"presence_stats\":",
            Self::History(_) => "\"history\":",
            Self::Ping => "\"ping\":",
            Self::Rpc(_) => "\"rpc\":",
            Self::Refresh(_) => "\"refresh\":",
            Self::SubRefresh(_) => "\"sub_refresh\":",
        }
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        writer.key(self.key());
        match_result!(self, message => message.encode(writer))
    }
}

impl PushBody {
    fn from_key(key: &str) -> Option<Self> {
        Some(match key {
            "pub" => Self::Pub(Default::default()),
            "join" => Self::Join(Default::default()),
            "leave" => Self::Leave(Default::default()),
            "unsubscribe" => Self::Unsubscribe(Default::default()),
            "message" => Self::Message(Default::default()),
            "subscribe" => Self::Subscribe(Default::default()),
            "connect" => Self::Connect(Box::default()),
            "disconnect" => Self::Disconnect(Default::default()),
            "refresh" => Self::Refresh(Default::default()),
            _ => return None,
        })
    }

    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        match_body!(self, message => message.decode(reader))
    }

    /// The key as it is written.
    fn key(&self) -> &'static str {
        match self {
            Self::Pub(_) => "\"pub\":",
            Self::Join(_) => "\"join\":",
            Self::Leave(_) => "\"leave\":",
            Self::Unsubscribe(_) => "\"unsubscribe\":",
            Self::Message(_) => "\"message\":",
            Self::Subscribe(_) => "\"subscribe\":",
            Self::Connect(_) => "\"connect\":",
            Self::Disconnect(_) => "\"disconnect\":",
            Self::Refresh(_) => "\"refresh\":",
        }
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        writer.key(self.key());
        match_body!(self, message => message.encode(writer))
    }
}

/// One line of a frame. The first result that comes counts; we never send two.
pub(super) fn decode_reply(line: &str) -> Result<Reply, DecodeError> {
    let (mut id, mut error, mut push, mut result) = (0_u32, None::<Error>, None, None);
    let mut reader = Reader::new(line);
    reader.object(|reader, key| match &*key {
        "id" => id.decode(reader),
        "error" => error.decode(reader),
        "push" if !reader.null() => decode_push(reader).map(|decoded| push = Some(decoded)),
        key => match ReplyResult::from_key(key) {
            Some(mut decoded) if result.is_none() && !reader.null() => {
                decoded.decode(reader)?;
                result = Some(decoded);
                Ok(())
            }
            _ => reader.raw().map(drop),
        },
    })?;
    reader.end()?;
    Ok(match (error, result, push) {
        (Some(error), ..) => Reply::Error { id, error: error.into() },
        (None, Some(result), _) => Reply::Result { id, result },
        (None, None, Some(push)) => Reply::Push(push),
        (None, None, None) => Reply::Ping,
    })
}

fn decode_push(reader: &mut Reader<'_>) -> Result<Push, DecodeError> {
    let (mut id, mut channel, mut body) = (0_i64, String::new(), None);
    reader.object(|reader, key| match &*key {
        "id" => id.decode(reader),
        "channel" => channel.decode(reader),
        key => match PushBody::from_key(key) {
            Some(mut decoded) if body.is_none() && !reader.null() => {
                decoded.decode(reader)?;
                body = Some(decoded);
                Ok(())
            }
            _ => reader.raw().map(drop),
        },
    })?;
    let body = body.ok_or(reader.error("push of an unknown kind"))?;
    Ok(Push { channel, body, id })
}

pub(super) fn encode_reply(reply: &Reply, out: &mut Vec<u8>) -> Result<(), InvalidJson> {
    write_or_truncate(out, |writer| {
        writer.text(b"{");
        match reply {
            Reply::Ping => {}
            Reply::Error { id, error } => {
                write_id(*id, writer)?;
                write_entry("\"error\":", &Error::from(error), writer)?;
            }
            Reply::Result { id, result } => {
                write_id(*id, writer)?;
                result.write(writer)?;
            }
            Reply::Push(push) => write_push_entry(push, writer)?,
        }
        writer.text(b"}");
        Ok(())
    })
}

pub(super) fn encode_push(push: &Push, out: &mut Vec<u8>) -> Result<(), InvalidJson> {
    write_or_truncate(out, |writer| {
        writer.text(b"{");
        write_push_entry(push, writer)?;
        writer.text(b"}");
        Ok(())
    })
}

pub(super) fn encode_uni_push(push: Option<&Push>, out: &mut Vec<u8>) -> Result<(), InvalidJson> {
    write_or_truncate(out, |writer| match push {
        Some(push) => write_push(push, writer),
        None => Empty {}.encode(writer),
    })
}

fn write_push_entry(push: &Push, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
    writer.key("\"push\":");
    write_push(push, writer)
}

fn write_push(push: &Push, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
    writer.text(b"{");
    if push.id != 0 {
        write_entry("\"id\":", &push.id, writer)?;
    }
    if !push.channel.is_empty() {
        write_entry("\"channel\":", &push.channel, writer)?;
    }
    push.body.write(writer)?;
    writer.text(b"}");
    Ok(())
}

pub(super) fn encode_publication(publication: &Publication) -> Result<Bytes, InvalidJson> {
    let mut out = Vec::with_capacity(publication.data.len() + 64);
    publication.encode(&mut Writer::new(&mut out, Dialect::Client))?;
    Ok(out.into())
}

pub(super) fn encode_publication_push(channel: &str, publication: &[u8], out: &mut Vec<u8>) {
    out.reserve(channel.len() + publication.len() + 32);
    out.extend_from_slice(b"{\"push\":");
    encode_uni_publication_push(channel, publication, out);
    out.push(b'}');
}

pub(super) fn encode_uni_publication_push(channel: &str, publication: &[u8], out: &mut Vec<u8>) {
    let mut writer = Writer::new(out, Dialect::Client);
    writer.text(b"{");
    if !channel.is_empty() {
        writer.text(b"\"channel\":");
        writer.string(channel);
    }
    writer.key("\"pub\":");
    writer.text(publication);
    writer.text(b"}");
}

pub(super) fn encode_subscribe_result(
    id: u32,
    result: &SubscribeResult,
    publications: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), InvalidJson> {
    write_or_truncate(out, |writer| {
        writer.text(b"{");
        write_id(id, writer)?;
        writer.key("\"subscribe\":");
        result.encode_with(("publications", Encoded::List(publications)), writer)?;
        writer.text(b"}");
        Ok(())
    })
}

pub(super) fn encode_subscription(
    result: &SubscribeResult,
    publications: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), InvalidJson> {
    write_or_truncate(out, |writer| result.encode_with(("publications", Encoded::List(publications)), writer))
}

pub(super) fn encode_connect_result(
    id: u32,
    result: &ConnectResult,
    subs: &BTreeMap<String, Vec<u8>>,
    out: &mut Vec<u8>,
) -> Result<(), InvalidJson> {
    write_or_truncate(out, |writer| {
        writer.text(b"{");
        write_id(id, writer)?;
        writer.key("\"connect\":");
        result.encode_with(("subs", Encoded::Map(subs)), writer)?;
        writer.text(b"}");
        Ok(())
    })
}

pub(super) fn encode_history_result(id: u32, result: &HistoryResult, publications: &[&[u8]], out: &mut Vec<u8>) {
    write_or_truncate(out, |writer| {
        writer.text(b"{");
        write_id(id, writer)?;
        writer.key("\"history\":");
        result.encode_with(("publications", Encoded::List(publications)), writer)?;
        writer.text(b"}");
        Ok(())
    })
    .expect("a history result holds no payload but the encoded publications");
}

/// All three are strings.
pub(super) fn encode_emulation_request(request: &EmulationRequest, out: &mut Vec<u8>) {
    let EmulationRequest { node, session, data } = request;
    let data = String::from_utf8_lossy(data);
    for (name, value) in [("{\"node\":", node.as_str()), (",\"session\":", session), (",\"data\":", &data)] {
        out.extend_from_slice(name.as_bytes());
        crate::json::write_json_string(value, out);
    }
    out.push(b'}');
}

/// In JSON the frame of commands is the content of a string.
pub(super) fn decode_emulation_request(body: &[u8]) -> Result<EmulationRequest, DecodeError> {
    let mut request: EmulationRequest = decode_alone(body)?;
    let commands: String = decode_alone(&request.data)?;
    request.data = commands.into();
    Ok(request)
}
