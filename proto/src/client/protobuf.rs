//! Envelopes of the client protocol in Protobuf.

use super::{
    Command, Connect, ConnectResult, Empty, Error, HistoryResult, Push, PushBody, Reply, ReplyResult, Request,
    SubscribeResult, match_body, match_request, match_result, merge_request,
};
use crate::DecodeError;
use bytes::Bytes;
use prost::Message;
use prost::encoding::{
    DecodeContext, WireType, check_wire_type, decode_key, encode_key, encode_varint, encoded_len_varint, int64,
    key_len, message, skip_field, string, uint32,
};
use std::collections::BTreeMap;

/// Field of `Command` and `Reply`.
const ID: u32 = 1;
/// Fields of `Reply`.
const ERROR: u32 = 2;
const PUSH: u32 = 4;
const CONNECT_RESULT: u32 = 5;
const SUBSCRIBE_RESULT: u32 = 6;
const HISTORY_RESULT: u32 = 11;
/// Fields of `Push`.
const PUSH_ID: u32 = 1;
const PUSH_CHANNEL: u32 = 2;
const PUSH_PUB: u32 = 4;
const PUSH_CONNECT: u32 = 10;
/// `publications` of `SubscribeResult` and of `HistoryResult`.
const SUBSCRIBE_PUBLICATIONS: u32 = 7;
const HISTORY_PUBLICATIONS: u32 = 1;
/// `subs` of `ConnectResult`, and of the push `Connect`.
const CONNECT_SUBS: u32 = 6;
const PUSH_CONNECT_SUBS: u32 = 4;

impl Request {
    fn from_tag(tag: u32) -> Option<Self> {
        Some(match tag {
            4 => Self::Connect(Box::default()),
            5 => Self::Subscribe(Box::default()),
            6 => Self::Unsubscribe(Default::default()),
            7 => Self::Publish(Default::default()),
            8 => Self::Presence(Default::default()),
            9 => Self::PresenceStats(Default::default()),
            10 => Self::History(Default::default()),
            11 => Self::Ping,
            12 => Self::Send(Default::default()),
            13 => Self::Rpc(Default::default()),
            14 => Self::Refresh(Default::default()),
            15 => Self::SubRefresh(Default::default()),
            _ => return None,
        })
    }

    fn tag(&self) -> u32 {
        match self {
            Self::Connect(_) => 4,
            Self::Subscribe(_) => 5,
            Self::Unsubscribe(_) => 6,
            Self::Publish(_) => 7,
            Self::Presence(_) => 8,
            Self::PresenceStats(_) => 9,
            Self::History(_) => 10,
            Self::Ping => 11,
            Self::Send(_) => 12,
            Self::Rpc(_) => 13,
            Self::Refresh(_) => 14,
            Self::SubRefresh(_) => 15,
        }
    }
}

impl ReplyResult {
    fn from_tag(tag: u32) -> Option<Self> {
        Some(match tag {
            5 => Self::Connect(Box::default()),
            6 => Self::Subscribe(Box::default()),
            7 => Self::Unsubscribe,
            8 => Self::Publish,
            9 => Self::Presence(Default::default()),
            10 => Self::PresenceStats(Default::default()),
            11 => Self::History(Default::default()),
            12 => Self::Ping,
            13 => Self::Rpc(Default::default()),
            14 => Self::Refresh(Default::default()),
            15 => Self::SubRefresh(Default::default()),
            _ => return None,
        })
    }

    fn tag(&self) -> u32 {
        match self {
            Self::Connect(_) => 5,
            Self::Subscribe(_) => SUBSCRIBE_RESULT,
            Self::Unsubscribe => 7,
            Self::Publish => 8,
            Self::Presence(_) => 9,
            Self::PresenceStats(_) => 10,
            Self::History(_) => HISTORY_RESULT,
            Self::Ping => 12,
            Self::Rpc(_) => 13,
            Self::Refresh(_) => 14,
            Self::SubRefresh(_) => 15,
        }
    }
}

impl PushBody {
    fn from_tag(tag: u32) -> Option<Self> {
        Some(match tag {
            4 => Self::Pub(Default::default()),
            5 => Self::Join(Default::default()),
            6 => Self::Leave(Default::default()),
            7 => Self::Unsubscribe(Default::default()),
            8 => Self::Message(Default::default()),
            9 => Self::Subscribe(Default::default()),
            10 => Self::Connect(Box::default()),
            11 => Self::Disconnect(Default::default()),
            12 => Self::Refresh(Default::default()),
            _ => return None,
        })
    }

    fn tag(&self) -> u32 {
        match self {
            Self::Pub(_) => PUSH_PUB,
            Self::Join(_) => 5,
            Self::Leave(_) => 6,
            Self::Unsubscribe(_) => 7,
            Self::Message(_) => 8,
            Self::Subscribe(_) => 9,
            Self::Connect(_) => PUSH_CONNECT,
            Self::Disconnect(_) => 11,
            Self::Refresh(_) => 12,
        }
    }
}

/// Calls `on` at each field of a message; `on` takes it from the buffer.
fn for_each_field(
    mut bytes: &[u8],
    mut on: impl FnMut(u32, WireType, &mut &[u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes)?;
        on(tag, wire_type, &mut bytes)?;
    }
    Ok(())
}

fn skip(tag: u32, wire_type: WireType, bytes: &mut &[u8]) -> Result<(), DecodeError> {
    Ok(skip_field(wire_type, tag, bytes, DecodeContext::default())?)
}

fn merge_message(message: &mut impl Message, wire_type: WireType, bytes: &mut &[u8]) -> Result<(), DecodeError> {
    Ok(message::merge(wire_type, message, bytes, DecodeContext::default())?)
}

pub(super) fn decode_command(bytes: &[u8]) -> Result<Command, DecodeError> {
    let mut command = Command::default();
    for_each_field(bytes, |tag, wire_type, bytes| match Request::from_tag(tag) {
        _ if tag == ID => Ok(uint32::merge(wire_type, &mut command.id, bytes, DecodeContext::default())?),
        Some(request) => merge_request(
            &mut command.request,
            request,
            |request| match_request!(request, message => merge_message(message, wire_type, bytes)),
        ),
        None => skip(tag, wire_type, bytes),
    })?;
    Ok(command)
}

/// The first result that comes counts; we never send two.
pub(super) fn decode_reply(bytes: &[u8]) -> Result<Reply, DecodeError> {
    let (mut id, mut error, mut push, mut result) = (0_u32, None::<Error>, None, None);
    for_each_field(bytes, |tag, wire_type, bytes| match tag {
        ID => Ok(uint32::merge(wire_type, &mut id, bytes, DecodeContext::default())?),
        ERROR => merge_message(error.get_or_insert_default(), wire_type, bytes),
        PUSH => decode_push(take_message(wire_type, bytes)?).map(|decoded| push = Some(decoded)),
        _ => match ReplyResult::from_tag(tag) {
            Some(mut decoded) if result.is_none() => {
                match_result!(&mut decoded, message => merge_message(message, wire_type, bytes))?;
                result = Some(decoded);
                Ok(())
            }
            _ => skip(tag, wire_type, bytes),
        },
    })?;
    Ok(match (error, result, push) {
        (Some(error), ..) => Reply::Error { id, error: error.into() },
        (None, Some(result), _) => Reply::Result { id, result },
        (None, None, Some(push)) => Reply::Push(push),
        (None, None, None) => Reply::Ping,
    })
}

fn take_message<'a>(wire_type: WireType, bytes: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    check_wire_type(WireType::LengthDelimited, wire_type)?;
    let length = prost::decode_length_delimiter(&mut *bytes)?;
    let (message, rest) = bytes.split_at_checked(length).ok_or(DecodeError::new("message cut short", 0))?;
    *bytes = rest;
    Ok(message)
}

fn decode_push(bytes: &[u8]) -> Result<Push, DecodeError> {
    let (mut id, mut channel, mut body) = (0_i64, String::new(), None);
    for_each_field(bytes, |tag, wire_type, bytes| match tag {
        PUSH_ID => Ok(int64::merge(wire_type, &mut id, bytes, DecodeContext::default())?),
        PUSH_CHANNEL => Ok(string::merge(wire_type, &mut channel, bytes, DecodeContext::default())?),
        _ => match PushBody::from_tag(tag) {
            Some(mut decoded) if body.is_none() => {
                match_body!(&mut decoded, message => merge_message(message, wire_type, bytes))?;
                body = Some(decoded);
                Ok(())
            }
            _ => skip(tag, wire_type, bytes),
        },
    })?;
    let body = body.ok_or(DecodeError::new("push of an unknown kind", 0))?;
    Ok(Push { channel, body, id })
}

/// Length of a field that holds `length` bytes.
fn delimited_len(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

/// Appends the key and length of a field whose content the caller appends.
fn write_delimited_head(tag: u32, length: usize, out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

fn id_len(id: u32) -> usize {
    if id == 0 { 0 } else { uint32::encoded_len(ID, &id) }
}

fn write_id(id: u32, out: &mut Vec<u8>) {
    if id != 0 {
        uint32::encode(ID, &id, out);
    }
}

/// Appends an envelope of an id and one message, preceded by its length.
fn write_envelope(id: u32, tag: u32, content: &impl Message, out: &mut Vec<u8>) {
    let length = content.encoded_len();
    write_envelope_head(id, tag, length, out);
    content.encode_raw(out);
}

/// Appends all of an envelope but the content of its one message.
fn write_envelope_head(id: u32, tag: u32, content_len: usize, out: &mut Vec<u8>) {
    let length = id_len(id) + delimited_len(tag, content_len);
    out.reserve(length + encoded_len_varint(length as u64));
    encode_varint(length as u64, out);
    write_id(id, out);
    write_delimited_head(tag, content_len, out);
}

pub(super) fn encode_command(command: &Command, out: &mut Vec<u8>) {
    match &command.request {
        Some(request) => {
            match_request!(request, message => write_envelope(command.id, request.tag(), message, out))
        }
        None => {
            encode_varint(id_len(command.id) as u64, out);
            write_id(command.id, out);
        }
    }
}

pub(super) fn encode_reply(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Ping => out.push(0),
        Reply::Error { id, error } => write_envelope(*id, ERROR, &Error::from(error), out),
        Reply::Result { id, result } => {
            match_result!(result, message => write_envelope(*id, result.tag(), message, out))
        }
        Reply::Push(push) => encode_push(push, out),
    }
}

pub(super) fn encode_push(push: &Push, out: &mut Vec<u8>) {
    write_envelope_head(0, PUSH, push_len(push), out);
    write_push(push, out);
}

pub(super) fn encode_uni_push(push: Option<&Push>, out: &mut Vec<u8>) {
    match push {
        Some(push) => {
            encode_varint(push_len(push) as u64, out);
            write_push(push, out);
        }
        None => out.push(0),
    }
}

fn push_len(push: &Push) -> usize {
    let id = if push.id == 0 { 0 } else { int64::encoded_len(PUSH_ID, &push.id) };
    let body = match_body!(&push.body, message => message.encoded_len());
    id + channel_len(&push.channel) + delimited_len(push.body.tag(), body)
}

fn write_push(push: &Push, out: &mut Vec<u8>) {
    if push.id != 0 {
        int64::encode(PUSH_ID, &push.id, out);
    }
    write_channel(&push.channel, out);
    match_body!(&push.body, message => message::encode(push.body.tag(), message, out));
}

fn channel_len(channel: &str) -> usize {
    if channel.is_empty() { 0 } else { delimited_len(PUSH_CHANNEL, channel.len()) }
}

fn write_channel(channel: &str, out: &mut Vec<u8>) {
    if !channel.is_empty() {
        write_delimited_head(PUSH_CHANNEL, channel.len(), out);
        out.extend_from_slice(channel.as_bytes());
    }
}

pub(super) fn encode_publication_push(channel: &str, publication: &[u8], out: &mut Vec<u8>) {
    write_envelope_head(0, PUSH, publication_push_len(channel, publication), out);
    write_publication_push(channel, publication, out);
}

pub(super) fn encode_uni_publication_push(channel: &str, publication: &[u8], out: &mut Vec<u8>) {
    encode_varint(publication_push_len(channel, publication) as u64, out);
    write_publication_push(channel, publication, out);
}

fn publication_push_len(channel: &str, publication: &[u8]) -> usize {
    channel_len(channel) + delimited_len(PUSH_PUB, publication.len())
}

fn write_publication_push(channel: &str, publication: &[u8], out: &mut Vec<u8>) {
    write_channel(channel, out);
    write_delimited_head(PUSH_PUB, publication.len(), out);
    out.extend_from_slice(publication);
}

fn publications_len(tag: u32, publications: &[&[u8]]) -> usize {
    publications.iter().map(|publication| delimited_len(tag, publication.len())).sum()
}

fn write_publications(tag: u32, publications: &[&[u8]], out: &mut Vec<u8>) {
    for publication in publications {
        write_delimited_head(tag, publication.len(), out);
        out.extend_from_slice(publication);
    }
}

/// A result with publications in its middle, so that it is written in two halves.
struct Subscription<'a> {
    before: SubscribeResult,
    publications: &'a [&'a [u8]],
    behind: SubscribeResult,
}

impl<'a> Subscription<'a> {
    fn new(result: &SubscribeResult, publications: &'a [&'a [u8]]) -> Self {
        let before = SubscribeResult {
            expires: result.expires,
            ttl: result.ttl,
            recoverable: result.recoverable,
            epoch: result.epoch.clone(),
            ..Default::default()
        };
        let behind = SubscribeResult {
            expires: false,
            ttl: 0,
            recoverable: false,
            epoch: String::new(),
            publications: Vec::new(),
            ..result.clone()
        };
        Self { before, publications, behind }
    }

    fn encoded_len(&self) -> usize {
        let publications = publications_len(SUBSCRIBE_PUBLICATIONS, self.publications);
        self.before.encoded_len() + publications + self.behind.encoded_len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.before.encode_raw(out);
        write_publications(SUBSCRIBE_PUBLICATIONS, self.publications, out);
        self.behind.encode_raw(out);
    }
}

pub(super) fn encode_subscribe_result(id: u32, result: &SubscribeResult, publications: &[&[u8]], out: &mut Vec<u8>) {
    let subscription = Subscription::new(result, publications);
    write_envelope_head(id, SUBSCRIBE_RESULT, subscription.encoded_len(), out);
    subscription.write(out);
}

pub(super) fn encode_subscription(result: &SubscribeResult, publications: &[&[u8]], out: &mut Vec<u8>) {
    Subscription::new(result, publications).write(out);
}

/// The subscriptions stand in the middle of the result, so it is written in two halves.
pub(super) fn encode_connect_result(
    id: u32,
    result: &ConnectResult,
    subs: &BTreeMap<String, Vec<u8>>,
    out: &mut Vec<u8>,
) {
    let before = ConnectResult {
        client: result.client.clone(),
        version: result.version.clone(),
        expires: result.expires,
        ttl: result.ttl,
        data: result.data.clone(),
        ..Default::default()
    };
    let behind = ConnectResult {
        client: String::new(),
        version: String::new(),
        expires: false,
        ttl: 0,
        data: Bytes::new(),
        subs: BTreeMap::new(),
        ..result.clone()
    };
    let length = before.encoded_len() + entries_len(CONNECT_SUBS, subs) + behind.encoded_len();
    write_envelope_head(id, CONNECT_RESULT, length, out);
    before.encode_raw(out);
    write_entries(CONNECT_SUBS, subs, out);
    behind.encode_raw(out);
}

/// Likewise.
pub(super) fn encode_uni_connect_push(result: &ConnectResult, subs: &BTreeMap<String, Vec<u8>>, out: &mut Vec<u8>) {
    let before = Connect {
        client: result.client.clone(),
        version: result.version.clone(),
        data: result.data.clone(),
        ..Default::default()
    };
    let behind = Connect {
        expires: result.expires,
        ttl: result.ttl,
        ping: result.ping,
        pong: result.pong,
        session: result.session.clone(),
        node: result.node.clone(),
        time: result.time,
        ..Default::default()
    };
    let length = before.encoded_len() + entries_len(PUSH_CONNECT_SUBS, subs) + behind.encoded_len();
    encode_varint(delimited_len(PUSH_CONNECT, length) as u64, out);
    write_delimited_head(PUSH_CONNECT, length, out);
    before.encode_raw(out);
    write_entries(PUSH_CONNECT_SUBS, subs, out);
    behind.encode_raw(out);
}

fn entries_len(tag: u32, entries: &BTreeMap<String, Vec<u8>>) -> usize {
    entries.iter().map(|entry| delimited_len(tag, entry_len(entry))).sum()
}

fn write_entries(tag: u32, entries: &BTreeMap<String, Vec<u8>>, out: &mut Vec<u8>) {
    for entry in entries {
        write_delimited_head(tag, entry_len(entry), out);
        for (tag, bytes) in entry_fields(entry) {
            write_delimited_head(tag, bytes.len(), out);
            out.extend_from_slice(bytes);
        }
    }
}

/// Key and value of an entry of a map; empty ones are left out.
fn entry_fields<'a>((key, value): (&'a String, &'a Vec<u8>)) -> impl Iterator<Item = (u32, &'a [u8])> {
    [(1, key.as_bytes()), (2, &value[..])].into_iter().filter(|(_, bytes)| !bytes.is_empty())
}

fn entry_len(entry: (&String, &Vec<u8>)) -> usize {
    entry_fields(entry).map(|(tag, bytes)| delimited_len(tag, bytes.len())).sum()
}

pub(super) fn encode_history_result(id: u32, result: &HistoryResult, publications: &[&[u8]], out: &mut Vec<u8>) {
    let behind = HistoryResult { publications: Vec::new(), epoch: result.epoch.clone(), offset: result.offset };
    let length = publications_len(HISTORY_PUBLICATIONS, publications) + behind.encoded_len();
    write_envelope_head(id, HISTORY_RESULT, length, out);
    write_publications(HISTORY_PUBLICATIONS, publications, out);
    behind.encode_raw(out);
}
