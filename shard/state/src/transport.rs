//! What a transport tells the client machine about itself: how messages become its bytes, and what it is called.

use ringcast_proto::client::Encoding;
use ringcast_proto::sockjs;
use ringcast_proto::websocket::{Opcode, encode_header};
use std::sync::Arc;

/// What a transport brings with it when a connection opens.
#[derive(Clone, Debug)]
pub struct Transport {
    /// How commands and replies are encoded.
    pub encoding: Encoding,
    /// How a message becomes bytes of the transport.
    pub framing: Framing,
    /// Shown in metrics and to backends; also says whether the client may send commands.
    pub kind: TransportKind,
    /// How silence is noticed.
    pub pings: Pings,
    /// Who its request says that it is.
    pub visitor: Visitor,
    /// How a unidirectional connection learns of its end.
    pub farewell: Farewell,
}

/// What the request that opened a connection tells of the client.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// User id that a reverse proxy vouches for (`client.user_id_http_header`).
    pub user: Option<String>,
    /// Headers that some backend may hear of; none for none.
    pub headers: Option<Arc<Headers>>,
}

/// Header lines: names in lower case, and values.
pub type Headers = Vec<(String, Vec<u8>)>;

impl Visitor {
    /// Nothing is known.
    pub const UNKNOWN: Visitor = Visitor { user: None, headers: None };
}

/// How a unidirectional connection learns of its end; the others have replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Farewell {
    /// By a push. An error of the connect request becomes a disconnect code (`client.connect_code_to_unidirectional_disconnect`).
    #[default]
    Push,
    /// Only by the transport itself (`uni_websocket.disable_disconnect_push`).
    None,
    /// By a push; but an error of the connect request goes to the transport as it is, code and message, which answers it with an
    /// HTTP status (`connect_code_to_http_response`).
    Status,
}

/// How silence of a connection is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pings {
    /// Empty replies, answered by empty commands; of a unidirectional connection by nothing.
    Messages,
    /// Empty pushes every 25 s, whatever `client.ping_interval` says, and answered by nothing (`uni_grpc`, as in the reference).
    Fixed,
    /// Native ping frames of WebSocket (`cf_ws_frame_ping_pong=true`); tell `Shard::handle_pong` of the answers.
    Frames,
    /// Both: empty pushes, and native ping frames, which are answered (`uni_websocket`).
    Both,
}

/// How a message becomes bytes of the transport; frames that leave the shard carry it already. A message for many is
/// encoded once for each framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One WebSocket message each: text for JSON, binary for Protobuf.
    WebSocket,
    /// The same, deflated as [`DeflateOptions`](crate::options::DeflateOptions) of the endpoint say if it becomes shorter by that.
    WebSocketDeflated,
    /// JSON ends with a newline; Protobuf begins with its length.
    Lines,
    /// The same, each in a chunk of an HTTP/1.1 body.
    ChunkedLines,
    /// Events of `text/event-stream`.
    Events,
    /// The same, each in a chunk of an HTTP/1.1 body.
    ChunkedEvents,
    /// One frame of SockJS each, in a text message of WebSocket.
    SockJs,
    /// Messages of GRPC, not compressed: a zero byte and the length in four bytes stand for the length that Protobuf begins with.
    Grpc,
}

/// Name of a transport in metrics and proxy requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the name of a transport")]
pub enum TransportKind {
    WebSocket,
    HttpStream,
    Sse,
    WebTransport,
    SockJs,
    UniWebSocket,
    UniHttpStream,
    UniSse,
    UniGrpc,
}

impl TransportKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [TransportKind; 9] = [
        TransportKind::WebSocket,
        TransportKind::HttpStream,
        TransportKind::Sse,
        TransportKind::WebTransport,
        TransportKind::SockJs,
        TransportKind::UniWebSocket,
        TransportKind::UniHttpStream,
        TransportKind::UniSse,
        TransportKind::UniGrpc,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// As in metrics. Source: metrics, label `transport`.
    pub fn as_str(self) -> &'static str {
        match self {
            TransportKind::WebSocket => "websocket",
            TransportKind::HttpStream => "http_stream",
            TransportKind::Sse => "sse",
            TransportKind::WebTransport => "webtransport",
            TransportKind::SockJs => "sockjs",
            TransportKind::UniWebSocket => "uni_websocket",
            TransportKind::UniHttpStream => "uni_http_stream",
            TransportKind::UniSse => "uni_sse",
            TransportKind::UniGrpc => "uni_grpc",
        }
    }

    /// The client sends a connect request and nothing else, and gets pushes only.
    pub fn is_unidirectional(self) -> bool {
        match self {
            TransportKind::UniWebSocket
            | TransportKind::UniHttpStream
            | TransportKind::UniSse
            | TransportKind::UniGrpc => true,
            TransportKind::WebSocket
            | TransportKind::HttpStream
            | TransportKind::Sse
            | TransportKind::WebTransport
            | TransportKind::SockJs => false,
        }
    }

    /// Commands come by requests to the emulation endpoint.
    pub fn is_emulated(self) -> bool {
        matches!(self, TransportKind::HttpStream | TransportKind::Sse)
    }

    /// The transport has no message of its own that tells why it ends.
    pub(crate) fn needs_disconnect_push(self) -> bool {
        !matches!(self, TransportKind::WebSocket | TransportKind::SockJs)
    }
}

/// What the bytes of a message depend on, beside its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) kind: TransportKind,
    pub(crate) framing: Framing,
}

impl Shape {
    /// What nearly all clients have.
    pub(crate) const WEBSOCKET: Shape = Shape { kind: TransportKind::WebSocket, framing: Framing::WebSocket };
}

impl Framing {
    /// What the transport makes of a message itself, before it surrounds it. `room` is used again and again.
    pub(crate) fn rewrite(self, message: &mut Vec<u8>, room: &mut Vec<u8>) {
        match self {
            Framing::SockJs => {
                room.clear();
                sockjs::escape(message, room);
                std::mem::swap(message, room);
            }
            Framing::Grpc => {
                let length = message.iter().position(|byte| *byte < 0x80).map_or(0, |last| last + 1);
                message.drain(..length);
            }
            Framing::WebSocket
            | Framing::WebSocketDeflated
            | Framing::Lines
            | Framing::ChunkedLines
            | Framing::Events
            | Framing::ChunkedEvents => {}
        }
    }

    /// Writes what goes before a message of `length` bytes, and returns what follows it.
    pub(crate) fn surround(self, encoding: Encoding, length: usize, before: &mut Vec<u8>) -> &'static [u8] {
        let is_json = encoding == Encoding::Json;
        match self {
            Framing::WebSocket | Framing::WebSocketDeflated => {
                encode_header(before, opcode(encoding), length);
                b""
            }
            Framing::Lines if is_json => b"\n",
            Framing::Lines => b"",
            Framing::ChunkedLines if is_json => {
                begin_chunk(length + 1, before);
                b"\n\r\n"
            }
            Framing::ChunkedLines => {
                begin_chunk(length, before);
                b"\r\n"
            }
            Framing::Events => {
                before.extend_from_slice(DATA);
                b"\n\n"
            }
            Framing::ChunkedEvents => {
                begin_chunk(DATA.len() + length + 2, before);
                before.extend_from_slice(DATA);
                b"\n\n\r\n"
            }
            Framing::SockJs => {
                let (front, back) = sockjs::MESSAGE;
                encode_header(before, Opcode::Text, front.len() + length + back.len());
                before.extend_from_slice(front);
                back
            }
            Framing::Grpc => {
                let length = u32::try_from(length).expect("queues are shorter");
                before.push(0);
                before.extend_from_slice(&length.to_be_bytes());
                b""
            }
        }
    }
}

/// How a message of the encoding is sent over WebSocket.
pub(crate) fn opcode(encoding: Encoding) -> Opcode {
    match encoding {
        Encoding::Json => Opcode::Text,
        Encoding::Protobuf => Opcode::Binary,
    }
}

const DATA: &[u8] = b"data: ";

fn begin_chunk(length: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    out.extend((0..digits).rev().map(|digit| DIGITS[length >> (4 * digit) & 0xf]));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(framing: Framing, encoding: Encoding, message: &str, want: &str) {
        let (mut bytes, mut message) = (Vec::new(), message.as_bytes().to_vec());
        framing.rewrite(&mut message, &mut Vec::new());
        let behind = framing.surround(encoding, message.len(), &mut bytes);
        bytes.extend_from_slice(&message);
        bytes.extend_from_slice(behind);
        assert_eq!(String::from_utf8_lossy(&bytes), want, "{framing:?} {encoding:?}");
    }

    #[test]
    fn messages_are_framed_as_their_transport_wants() {
        check(Framing::WebSocket, Encoding::Json, "{}", "\u{fffd}\u{2}{}");
        check(Framing::Lines, Encoding::Json, "{}", "{}\n");
        check(Framing::Lines, Encoding::Protobuf, "\u{1}a", "\u{1}a");
        check(Framing::ChunkedLines, Encoding::Json, "{}", "3\r\n{}\n\r\n");
        check(Framing::ChunkedLines, Encoding::Protobuf, "\u{1}a", "2\r\n\u{1}a\r\n");
        check(Framing::Events, Encoding::Json, "{}", "data: {}\n\n");
        check(Framing::ChunkedEvents, Encoding::Json, "{}", "a\r\ndata: {}\n\n\r\n");
        check(Framing::Grpc, Encoding::Protobuf, "\u{1}a", "\0\0\0\0\u{1}a");
        check(Framing::SockJs, Encoding::Json, "{\"a\":1}", "\u{fffd}\u{e}a[\"{\\\"a\\\":1}\"]");
    }

    #[test]
    fn lengths_of_chunks_are_hexadecimal() {
        for length in [0, 1, 0xf, 0x10, 0xabc, 0x10_0000, usize::MAX] {
            let mut out = Vec::new();
            begin_chunk(length, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{length:x}\r\n"));
        }
    }

    #[test]
    fn kinds_are_numbered_in_their_order() {
        assert!(TransportKind::ALL.iter().enumerate().all(|(number, kind)| *kind as usize == number));
    }
}
