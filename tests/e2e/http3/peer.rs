//! A client of HTTP/3 that writes its frames by hand, so that it can also do what no library lets it do.

use std::borrow::Cow;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream, TransportConfig};
use rustls::version::TLS13;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};
use wtransport::proto::frame::Frame;
use wtransport::proto::headers::Headers;

use crate::server::{API_KEY, PATIENCE};
use crate::tls::authority::Authority;

const DATA: u64 = 0;
const HEADERS: u64 = 1;

/// Bytes that a stream which is not read may send.
const WINDOW: u32 = 64 << 10;

/// How long to look for what may not come.
const MOMENT: Duration = Duration::from_millis(200);

/// One connection.
pub struct Peer {
    runtime: Runtime,
    connection: Connection,
    endpoint: Endpoint,
}

/// One request and its response.
pub struct Call {
    output: SendStream,
    input: RecvStream,
    /// Bytes that are no whole frame yet.
    unread: Vec<u8>,
    head: Option<Headers>,
    content: Vec<u8>,
    end: Option<End>,
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    Reset(u64),
    /// With its connection.
    Lost,
}

/// A frame with a short header. Source: RFC 9114 §7.1.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).ok().filter(|length| *length < 1 << 30).expect("short");
    [&[kind], &(length | 1 << 31).to_be_bytes()[..], payload].concat()
}

/// The frame that begins a request.
pub fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let fixed = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    let fields: Headers = fixed.iter().chain(headers).copied().collect();
    let mut bytes = Vec::new();
    fields.generate_frame().write(&mut bytes).expect("memory has room");
    bytes
}

impl Peer {
    #[track_caller]
    pub fn connect(address: SocketAddr, authority: &Authority) -> Peer {
        Peer::try_connect(address, authority).expect("a handshake")
    }

    pub fn try_connect(address: SocketAddr, authority: &Authority) -> Result<Peer, ConnectionError> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut tls = (*authority.client(&[&TLS13], None)).clone();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let crypto = QuicClientConfig::try_from(tls).expect("TLS 1.3");
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(WINDOW.into());
        config.transport_config(Arc::new(transport));
        let connected = runtime.block_on(async {
            let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
            let connecting = endpoint.connect_with(config, address, "localhost").expect("a right name");
            let connection = in_time(connecting).await?;
            let mut control = connection.open_uni().await.expect("room for a stream");
            control.write_all(b"\x00\x04\x00").await.expect("sent");
            // It has to stay.
            std::mem::forget(control);
            Ok((endpoint, connection))
        });
        connected.map(|(endpoint, connection)| Peer { runtime, connection, endpoint })
    }

    /// Opens a stream with these bytes, and leaves it open.
    #[track_caller]
    pub fn begin(&mut self, bytes: &[u8]) -> Call {
        let (output, input) = self.runtime.block_on(async {
            let (mut output, input) = in_time(self.connection.open_bi()).await.expect("room for a stream");
            // Whoever has read enough says so.
            let _ = in_time(output.write_all(bytes)).await;
            (output, input)
        });
        Call { output, input, unread: Vec::new(), head: None, content: Vec::new(), end: None }
    }

    /// Sends a whole request.
    #[track_caller]
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Call {
        let mut bytes = head(method, path, headers);
        if !body.is_empty() {
            bytes.extend(frame(DATA as u8, body));
        }
        let mut call = self.begin(&bytes);
        self.finish(&mut call);
        call
    }

    /// Posts a body.
    #[track_caller]
    pub fn post(&mut self, path: &str, body: &str) -> Call {
        self.request("POST", path, &[], body.as_bytes())
    }

    /// Calls the server API.
    #[track_caller]
    pub fn api(&mut self, method: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut call = self.request("POST", &format!("/api/{method}"), &[("x-api-key", API_KEY)], body.as_bytes());
        assert_eq!(self.status(&mut call), 200, "{method} {body}");
        serde_json::from_slice(&self.body(&mut call)).expect("JSON")
    }

    /// Publishes by the server API.
    #[track_caller]
    pub fn publish(&mut self, channel: &str, data: Value) {
        let reply = self.api("publish", &json!({"channel": channel, "data": data}));
        assert!(reply.get("error").is_none(), "{reply}");
    }

    /// Sends more of a request; false if nobody reads it.
    pub fn send(&mut self, call: &mut Call, bytes: &[u8]) -> bool {
        self.runtime.block_on(in_time(call.output.write_all(bytes))).is_ok()
    }

    /// Wants no answer any more.
    pub fn give_up(&mut self, call: &mut Call) {
        self.runtime.block_on(async {
            let _ = (call.output.reset(0x10c_u32.into()), call.input.stop(0x10c_u32.into()));
            // Packets leave only while the runtime runs.
            sleep(MOMENT).await;
        });
    }

    /// Sends no more of a request.
    pub fn finish(&mut self, call: &mut Call) {
        let _ = self.runtime.block_on(async { call.output.finish() });
    }

    /// Begins one request after the other and gives it up, until the server ends the connection; tells its code.
    #[track_caller]
    pub fn flood(&mut self, request: &[u8]) -> u64 {
        self.runtime.block_on(async {
            while let Ok((mut output, mut input)) = in_time(self.connection.open_bi()).await {
                let _ = output.write_all(request).await;
                let _ = (output.reset(0x10c_u32.into()), input.stop(0x10c_u32.into()));
            }
        });
        self.closed()
    }

    /// Content that has come, as text; waits for some.
    #[track_caller]
    pub fn some(&mut self, call: &mut Call) -> String {
        while call.content.is_empty() {
            assert!(self.read(call), "content before the end: {:?}", call.end);
        }
        String::from_utf8(std::mem::take(&mut call.content)).expect("text")
    }

    #[track_caller]
    pub fn status(&mut self, call: &mut Call) -> u16 {
        self.header(call, ":status").expect("a status").parse().expect("a number")
    }

    #[track_caller]
    pub fn header(&mut self, call: &mut Call, name: &str) -> Option<String> {
        while call.head.is_none() {
            assert!(self.read(call), "no response: {:?}", call.end);
        }
        call.head.as_ref().and_then(|head| head.get(name)).map(str::to_owned)
    }

    /// The next line, of a stream of lines or events, that is no ping.
    #[track_caller]
    pub fn message(&mut self, call: &mut Call) -> Value {
        self.next(call).unwrap_or_else(|| panic!("a message before the end: {:?}", call.end))
    }

    /// The same; none at the end.
    pub fn next(&mut self, call: &mut Call) -> Option<Value> {
        loop {
            if let Some(end) = call.content.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = call.content.drain(..=end).collect();
                let line = line.strip_prefix(b"data: ").unwrap_or(&line);
                if !line.trim_ascii().is_empty() && line.trim_ascii() != b"{}" {
                    return Some(serde_json::from_slice(line).expect("a line is JSON"));
                }
            } else if !self.read(call) {
                return None;
            }
        }
    }

    /// All content until the end.
    pub fn body(&mut self, call: &mut Call) -> Vec<u8> {
        while self.read(call) {}
        std::mem::take(&mut call.content)
    }

    /// Reads until the end, and tells what that was.
    pub fn end(&mut self, call: &mut Call) -> End {
        while self.read(call) {}
        call.end.expect("it was read to its end")
    }

    /// The code with which the response was broken off; none if it was not within a moment.
    pub fn is_reset(&mut self, call: &mut Call) -> Option<u64> {
        let read = async { timeout(MOMENT, call.input.read_chunk(usize::MAX, true)).await };
        match self.runtime.block_on(read) {
            Ok(Err(ReadError::Reset(code))) => Some(code.into_inner()),
            _ => None,
        }
    }

    /// Ends the connection.
    pub fn close(self) {
        let Peer { runtime, connection, endpoint } = self;
        connection.close(0x100_u32.into(), b"");
        runtime.block_on(in_time(endpoint.wait_idle()));
    }

    /// The code with which the server has ended the connection.
    #[track_caller]
    pub fn closed(&mut self) -> u64 {
        match self.runtime.block_on(in_time(self.connection.closed())) {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("not closed by the server: {other:?}"),
        }
    }

    /// Reads some; false at the end.
    fn read(&mut self, call: &mut Call) -> bool {
        if call.end.is_some() {
            return false;
        }
        match self.runtime.block_on(in_time(call.input.read_chunk(usize::MAX, true))) {
            Ok(Some(chunk)) => {
                call.unread.extend_from_slice(&chunk.bytes);
                call.take_frames();
            }
            Ok(None) => call.end = Some(End::Whole),
            Err(ReadError::Reset(code)) => call.end = Some(End::Reset(code.into_inner())),
            Err(_) => call.end = Some(End::Lost),
        }
        call.end.is_none()
    }
}

impl Call {
    fn take_frames(&mut self) {
        let mut rest = &self.unread[..];
        while let Some((kind, payload, behind)) = next_frame(rest) {
            match kind {
                DATA => self.content.extend_from_slice(payload),
                HEADERS => {
                    let fields = Headers::with_frame(&Frame::new_headers(Cow::Borrowed(payload)));
                    self.head = Some(fields.expect("readable fields"));
                }
                _ => {}
            }
            rest = behind;
        }
        self.unread = rest.to_vec();
    }
}

/// Type and payload of a whole frame, and what is behind it.
fn next_frame(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (kind, rest) = number(bytes)?;
    let (length, rest) = number(rest)?;
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).expect("a length"))?;
    Some((kind, payload, rest))
}

/// Source: RFC 9000 §16.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = 1 << (bytes.first()? >> 6);
    let (digits, rest) = bytes.split_at_checked(length)?;
    let value = digits.iter().fold(0, |value, digit| value << 8 | u64::from(*digit));
    Some((value & (u64::MAX >> (66 - 8 * length)), rest))
}

/// What comes of it, unless that takes too long.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("done in time")
}
