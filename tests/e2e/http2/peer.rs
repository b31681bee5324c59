//! A client of HTTP/2 that writes its frames by hand, so that it can also do what no library lets it do.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::server::PATIENCE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One connection.
pub struct Peer {
    socket: Box<dyn Duplex>,
    next_stream: u32,
    streams: BTreeMap<u32, Received>,
    stalled: Option<u32>,
    goodbye: Option<u32>,
}

/// A socket, with or without TLS.
trait Duplex: Read + Write {}

impl<T: Read + Write> Duplex for T {}

/// What came on one stream.
#[derive(Default)]
struct Received {
    status: Option<u16>,
    content: Vec<u8>,
    ended: bool,
    reset: bool,
}

/// One frame. Source: RFC 9113 §4.1.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames are short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection whose peer is waited for as long as tests wait.
#[track_caller]
pub fn dial(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the server listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
    socket
}

/// A literal that is not indexed. Source: RFC 7541 §6.2.2.
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("short");
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

impl Peer {
    /// Connects, and begins with HTTP/2.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Peer {
        Peer::begin(dial(address))
    }

    /// Begins with HTTP/2 on a connection that says nothing otherwise.
    pub fn begin(socket: impl Read + Write + 'static) -> Peer {
        let mut peer = Peer::silent(socket);
        peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        peer
    }

    /// Says nothing by itself.
    pub fn silent(socket: impl Read + Write + 'static) -> Peer {
        Peer { socket: Box::new(socket), next_stream: 1, streams: BTreeMap::new(), stalled: None, goodbye: None }
    }

    /// Sends bytes as they are. The server may have closed by then, and says before that why.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// The head of a request on a new stream.
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u32, Vec<u8>) {
        let stream = self.next_stream;
        self.next_stream += 2;
        let fixed = [(":method", method), (":scheme", "http"), (":authority", "h"), (":path", path)];
        let block: Vec<u8> = fixed.iter().chain(headers).flat_map(|(name, value)| field(name, value)).collect();
        (stream, frame(HEADERS, END_HEADERS, stream, &block))
    }

    /// Posts a body on a new stream.
    pub fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &(impl AsRef<[u8]> + ?Sized)) -> u32 {
        let (stream, head) = self.request("POST", path, headers);
        self.send(&[head, frame(DATA, END_STREAM, stream, body.as_ref())].concat());
        stream
    }

    /// Opens a WebSocket on a new stream. Source: RFC 8441 §5.
    pub fn websocket(&mut self, path: &str) -> u32 {
        let (stream, head) =
            self.request("CONNECT", path, &[(":protocol", "websocket"), ("sec-websocket-version", "13")]);
        self.send(&head);
        stream
    }

    /// Sends a short text message of a WebSocket, masked with zeros.
    pub fn send_text(&mut self, stream: u32, text: &str) {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short message");
        let message = [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat();
        self.send(&frame(DATA, 0, stream, &message));
    }

    /// The next text message of a WebSocket.
    #[track_caller]
    pub fn text(&mut self, stream: u32) -> Value {
        let (first, length) = loop {
            match self.content(stream)[..] {
                [0x81, 126, high, low, ..] => break (4, usize::from(u16::from_be_bytes([high, low]))),
                [0x81, length @ 0..126, ..] => break (2, usize::from(length)),
                _ => self.receive(),
            }
        };
        while self.content(stream).len() < first + length {
            self.receive();
        }
        let message: Vec<u8> = self.content(stream).drain(..first + length).skip(first).collect();
        serde_json::from_slice(&message).expect("JSON")
    }

    /// The next message of a stream of lines or events.
    #[track_caller]
    pub fn message(&mut self, stream: u32) -> Value {
        loop {
            let Some(end) = self.content(stream).iter().position(|byte| *byte == b'\n') else {
                self.receive();
                continue;
            };
            let line: Vec<u8> = self.content(stream).drain(..=end).collect();
            let line = String::from_utf8(line).expect("text is UTF-8");
            let text = line.strip_prefix("data: ").unwrap_or(&line).trim();
            if !text.is_empty() {
                return serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            }
        }
    }

    /// The body of a response that ends.
    #[track_caller]
    pub fn body(&mut self, stream: u32) -> Value {
        while !self.stream(stream).ended {
            self.receive();
        }
        serde_json::from_slice(self.content(stream)).expect("JSON")
    }

    /// The status of a response.
    #[track_caller]
    pub fn status(&mut self, stream: u32) -> u16 {
        loop {
            if let Some(status) = self.stream(stream).status {
                return status;
            }
            self.receive();
        }
    }

    /// Waits until a response ends.
    #[track_caller]
    pub fn is_ended(&mut self, stream: u32) -> bool {
        while !self.stream(stream).ended {
            self.receive();
        }
        true
    }

    /// Takes no more from one stream, while the connection goes on.
    pub fn stall(&mut self, stream: u32) {
        self.stalled = Some(stream);
    }

    /// Waits until the server gives a stream up.
    #[track_caller]
    pub fn is_reset(&mut self, stream: u32) -> bool {
        while !self.stream(stream).reset {
            self.receive();
        }
        true
    }

    /// Why the server ends the connection, once it has; nothing if it did not say.
    pub fn goodbye(&mut self) -> Option<u32> {
        while self.try_receive().is_ok() {}
        self.goodbye
    }

    /// Reads up to the end of the connection; fails if it does not come. A reset is an end as well.
    pub fn rest_until_end(&mut self) -> Result<(), io::ErrorKind> {
        match self.socket.read_to_end(&mut Vec::new()) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error.kind()),
        }
    }

    fn stream(&mut self, stream: u32) -> &mut Received {
        self.streams.entry(stream).or_default()
    }

    fn content(&mut self, stream: u32) -> &mut Vec<u8> {
        &mut self.stream(stream).content
    }

    #[track_caller]
    fn receive(&mut self) {
        let received = self.try_receive();
        received.unwrap_or_else(|error| panic!("the connection ended, code {:?}: {error}", self.goodbye));
    }

    /// Takes one frame.
    fn try_receive(&mut self) -> io::Result<()> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head)?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        self.socket.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        match kind {
            DATA => self.take_data(stream, &payload),
            // Others are trailers.
            HEADERS if self.stream(stream).status.is_none() => self.stream(stream).status = Some(status(payload[0])),
            RST_STREAM => self.stream(stream).reset = true,
            SETTINGS if flags & ACK == 0 => self.send(&frame(SETTINGS, ACK, 0, &[])),
            GOAWAY => self.goodbye = Some(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]])),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            self.stream(stream).ended = true;
        }
        Ok(())
    }

    fn take_data(&mut self, stream: u32, data: &[u8]) {
        self.content(stream).extend_from_slice(data);
        let count = u32::try_from(data.len()).expect("frames are short").to_be_bytes();
        if data.is_empty() {
            return;
        }
        self.send(&frame(WINDOW_UPDATE, 0, 0, &count));
        if self.stalled != Some(stream) {
            self.send(&frame(WINDOW_UPDATE, 0, stream, &count));
        }
    }
}

/// Stands for every status that is spelled out in a response, such as 401 and 429.
pub const OTHER: u16 = 0;

/// From the first field of a response. Source: RFC 7541, appendix A.
fn status(index: u8) -> u16 {
    match index {
        0x88 => 200,
        0x89 => 204,
        0x8c => 400,
        0x8d => 404,
        _ => OTHER,
    }
}
