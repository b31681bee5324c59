//! Bodies of fuzz targets that compare our decoders with other people's: serde_json, prost, tungstenite.

use bytes::Bytes;
use prost::Message as _;
use ringcast_proto::client::{self, Command, Encoding, Request, decode_commands};
use ringcast_proto::websocket::{Decoder, Event, Role};
use serde_json::Value;
use serde_json::value::RawValue;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use tungstenite::protocol::{Role as TheirRole, WebSocketConfig};
use tungstenite::{Message, WebSocket};

/// A body. Panics when the two do not agree.
pub type Target = fn(&[u8]);

/// All bodies by name.
pub const TARGETS: [(&str, Target); 3] = [
    ("json_as_serde", json_as_serde),
    ("protobuf_as_prost", protobuf_as_prost),
    ("websocket_as_tungstenite", websocket),
];

/// Deepest nesting of a payload that we take; serde_json has no such limit for what it does not look into.
const DEPTH_MAX: usize = 512;

/// The same is JSON, and a command has the same in it.
pub fn json_as_serde(data: &[u8]) {
    let theirs = serde_json::from_slice::<&RawValue>(data).is_ok();
    let opened = data.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    assert!(ringcast_proto::is_json(data) == theirs || theirs && opened > DEPTH_MAX, "JSON for one of us");
    // Written anew, no key stands twice, of which each of us makes something else.
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    if !has_plain_keys(&value) || !value.as_object().into_iter().flatten().all(|(_, value)| has_plain_keys(value)) {
        return;
    }
    let line = value.to_string();
    let Some(Ok(command)) = decode_commands(Encoding::Json, line.as_bytes()).next() else { return };
    assert_eq!(u64::from(command.id), value["id"].as_u64().unwrap_or(0));
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let payload = |value: &Value| if value.is_null() { Value::Null } else { value.clone() };
    let read = |data: &[u8]| serde_json::from_slice::<Value>(data).unwrap_or_default();
    match command.request {
        Some(Request::Publish(request)) => {
            let publish = &value["publish"];
            assert_eq!(request.channel, text(&publish["channel"]));
            assert_eq!(read(&request.data), payload(&publish["data"]));
        }
        Some(Request::Rpc(request)) => {
            assert_eq!(request.method, text(&value["rpc"]["method"]));
            assert_eq!(read(&request.data), payload(&value["rpc"]["data"]));
        }
        Some(Request::Subscribe(request)) => {
            let subscribe = &value["subscribe"];
            assert_eq!((request.channel, request.token), (text(&subscribe["channel"]), text(&subscribe["token"])));
            assert_eq!(request.recover, subscribe["recover"].as_bool().unwrap_or(false));
            assert_eq!(request.offset, subscribe["offset"].as_u64().unwrap_or(0));
        }
        _ => {}
    }
}

/// Whether no key is one of the protocol's in capitals, which we take as the reference does.
fn has_plain_keys(value: &Value) -> bool {
    value.as_object().into_iter().flatten().all(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

/// A command as prost reads it, field by field.
#[derive(Clone, PartialEq, prost::Message)]
struct TheirCommand {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(message, optional, tag = "4")]
    connect: Option<client::ConnectRequest>,
    #[prost(message, optional, tag = "5")]
    subscribe: Option<client::SubscribeRequest>,
    #[prost(message, optional, tag = "6")]
    unsubscribe: Option<client::UnsubscribeRequest>,
    #[prost(message, optional, tag = "7")]
    publish: Option<client::PublishRequest>,
    #[prost(message, optional, tag = "8")]
    presence: Option<client::PresenceRequest>,
    #[prost(message, optional, tag = "9")]
    presence_stats: Option<client::PresenceStatsRequest>,
    #[prost(message, optional, tag = "10")]
    history: Option<client::HistoryRequest>,
    #[prost(message, optional, tag = "11")]
    ping: Option<Nothing>,
    #[prost(message, optional, tag = "12")]
    send: Option<client::SendRequest>,
    #[prost(message, optional, tag = "13")]
    rpc: Option<client::RpcRequest>,
    #[prost(message, optional, tag = "14")]
    refresh: Option<client::RefreshRequest>,
    #[prost(message, optional, tag = "15")]
    sub_refresh: Option<client::SubRefreshRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

impl TheirCommand {
    /// Of several requests the first counts, in the order of the protocol (§4); a ping alone is refused, so it comes last.
    fn request(self) -> Option<Request> {
        (self.connect.map(|request| Request::Connect(Box::new(request))))
            .or(self.subscribe.map(|request| Request::Subscribe(Box::new(request))))
            .or(self.unsubscribe.map(Request::Unsubscribe))
            .or(self.publish.map(Request::Publish))
            .or(self.presence.map(Request::Presence))
            .or(self.presence_stats.map(Request::PresenceStats))
            .or(self.history.map(Request::History))
            .or(self.rpc.map(Request::Rpc))
            .or(self.send.map(Request::Send))
            .or(self.refresh.map(Request::Refresh))
            .or(self.sub_refresh.map(Request::SubRefresh))
            .or(self.ping.map(|_| Request::Ping))
    }
}

/// The bytes are a command for both of us, and the same one, or for neither.
pub fn protobuf_as_prost(data: &[u8]) {
    let mut frame = Vec::new();
    prost::encoding::encode_varint(data.len() as u64, &mut frame);
    frame.extend_from_slice(data);
    let ours = decode_commands(Encoding::Protobuf, &frame).next().expect("a frame of one command");
    let theirs = TheirCommand::decode(Bytes::copy_from_slice(data));
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours, Command { id: theirs.id, request: theirs.request() });
        }
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("a command for one of us: {ours:?}, {theirs:?}"),
    }
}

/// Largest message.
const MESSAGE_BYTES_MAX: usize = 4096;

/// A close code.
const BAD_GATEWAY: u16 = 1014;

/// What a client sends is the same to both of us. We may refuse earlier, never take what tungstenite refuses.
pub fn websocket(data: &[u8]) {
    let mut ours = Vec::new();
    let mut decoder = Decoder::new(Role::Server, MESSAGE_BYTES_MAX);
    let end = decoder.decode(&mut data.to_vec(), &mut |event| {
        ours.push(match event {
            Event::Text(bytes) => (1, bytes.to_vec()),
            Event::Binary(bytes) => (2, bytes.to_vec()),
            Event::Close { code, reason } => {
                (8, [code.map_or(0, |code| code).to_be_bytes().as_slice(), reason].concat())
            }
            Event::Ping(bytes) => (9, bytes.to_vec()),
            Event::Pong(bytes) => (10, bytes.to_vec()),
        });
        ControlFlow::Continue(())
    });
    // Registered after tungstenite's list was made, which refuses it.
    if ours.last().is_some_and(|(opcode, bytes)| *opcode == 8 && bytes.starts_with(&BAD_GATEWAY.to_be_bytes())) {
        return;
    }
    let (theirs, is_refused) = their_messages(data);
    assert!(theirs.starts_with(&ours), "{ours:?} is not the beginning of {theirs:?}");
    assert!(end.is_err() || ours.len() == theirs.len(), "{theirs:?} is more than {ours:?}");
    assert!(end.is_err() || !is_refused, "tungstenite refuses what we take");
}

/// Bytes to read; what is written is dropped.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(buffer) }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Messages as tungstenite reads them, and whether it refused what follows.
fn their_messages(data: &[u8]) -> (Vec<(u8, Vec<u8>)>, bool) {
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut socket = WebSocket::from_raw_socket(Wire(data), TheirRole::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        messages.push(match socket.read() {
            Ok(Message::Text(text)) => (1, text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => (2, bytes.to_vec()),
            Ok(Message::Close(None)) => (8, vec![0, 0]),
            Ok(Message::Close(Some(close))) => {
                (8, [u16::from(close.code).to_be_bytes().as_slice(), close.reason.as_bytes()].concat())
            }
            Ok(Message::Ping(bytes)) => (9, bytes.to_vec()),
            Ok(Message::Pong(bytes)) => (10, bytes.to_vec()),
            Ok(Message::Frame(_)) => unreachable!("not read by itself"),
            Err(tungstenite::Error::Io(_) | tungstenite::Error::ConnectionClosed) => return (messages, false),
            Err(_) => return (messages, true),
        });
    }
}
