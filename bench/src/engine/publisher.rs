//! One keep-alive connection to the HTTP API that publishes: a request whose payloads are stamped in place, one at a time.

use std::borrow::Cow;
use std::io;

use memchr::memmem;
use mio::event::Event as Readiness;
use ringcast_proto::http::{ChunkedDecoder, HttpError, Limits, parse_response};

use super::socket::Socket;
use crate::endpoint::Endpoint;
use crate::payload::{self, Stamp};

/// Largest response that is taken from the server.
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Digits of a numbered channel.
const CHANNEL_DIGITS: usize = 6;

/// Where the publications of a request go.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// All to one channel.
    Channel(&'a str),
    /// Each to the channel of its number, see `numbered`; this is the start of their names.
    Numbered(&'a str),
}

impl Target<'_> {
    /// Name of a channel, given its number.
    pub fn name(&self, number: u32) -> String {
        match self {
            Self::Channel(channel) => (*channel).to_owned(),
            Self::Numbered(prefix) => numbered(prefix, number),
        }
    }
}

/// Name of a channel out of many: all names have the same length.
fn numbered(prefix: &str, number: u32) -> String {
    format!("{prefix}{number:0CHANNEL_DIGITS$}")
}

/// One publication of a request.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    pub stamp: Stamp,
    /// Number of the channel, where they are numbered.
    pub channel: u32,
}

/// A request with one or more publications, to be stamped and sent again and again.
#[derive(Clone)]
pub struct Batch {
    request: Vec<u8>,
    /// Where the payloads stand in the request.
    payloads: Vec<usize>,
    payload_bytes: usize,
    /// Where the numbers of the channels stand; none where the channel is fixed.
    channels: Vec<usize>,
}

impl Batch {
    /// One `publish` request, or a `batch` of `count` publications when `count` is over 1.
    pub fn new(endpoint: &Endpoint, api_key: &str, target: Target<'_>, payload_bytes: usize, count: usize) -> Self {
        let payload = payload::template(payload_bytes);
        let payload = std::str::from_utf8(&payload).expect("a payload is ASCII");
        let channel = serde_json::Value::from(target.name(0)).to_string();
        let publish = format!(r#"{{"channel":{channel},"data":{payload}}}"#);
        let (method, body) = if count == 1 {
            ("publish", publish)
        } else {
            let command = format!(r#"{{"publish":{publish}}}"#);
            let commands = vec![command; count].join(",");
            ("batch", format!(r#"{{"commands":[{commands}]}}"#))
        };
        let request = format!(
            "POST {}/{method} HTTP/1.1\r\nHost: {}\r\nX-API-Key: {api_key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            endpoint.target.trim_end_matches('/'),
            endpoint.authority,
            body.len(),
        );
        let payloads: Vec<usize> = memmem::find_iter(request.as_bytes(), payload).collect();
        let channels = match target {
            Target::Channel(_) => Vec::new(),
            Target::Numbered(_) => payloads.iter().map(|at| at - r#"","data":"#.len() - CHANNEL_DIGITS).collect(),
        };
        Self { request: request.into_bytes(), payloads, payload_bytes, channels }
    }

    /// Publications of a request.
    pub fn count(&self) -> usize {
        self.payloads.len()
    }

    /// Bytes of a request.
    pub fn request_bytes(&self) -> usize {
        self.request.len()
    }

    /// Where the payloads stand in a request.
    pub fn payloads(&self) -> &[usize] {
        &self.payloads
    }

    fn fill(&mut self, item: impl Fn(usize) -> Item) {
        let Self { request, payloads, payload_bytes, channels } = self;
        for (index, at) in payloads.iter().enumerate() {
            let Item { stamp, channel } = item(index);
            payload::stamp(&mut request[*at..*at + *payload_bytes], stamp);
            if let Some(at) = channels.get(index) {
                payload::write_digits(&mut request[*at..*at + CHANNEL_DIGITS], u64::from(channel));
            }
        }
    }
}

/// A publisher's connection.
pub struct Publisher {
    socket: Socket,
    batch: Batch,
    phase: Phase,
    /// A response or the start of one. Bound: [`RESPONSE_BYTES_MAX`].
    response: Vec<u8>,
}

enum Phase {
    /// A request may be made at once; it is sent when the socket has arrived.
    Idle,
    /// The server closed the connection between two requests, as it may: the next one needs another.
    Retired,
    /// So many bytes of the request are sent.
    Waiting {
        sent: usize,
    },
    Broken,
}

impl Publisher {
    /// A connection whose socket is on its way.
    pub fn new(socket: Socket, batch: Batch) -> Self {
        Self { socket, batch, phase: Phase::Idle, response: Vec::new() }
    }

    /// Whether [`Self::replace`] is due before the next request.
    pub fn is_retired(&self) -> bool {
        matches!(self.phase, Phase::Retired)
    }

    /// Goes on with another connection.
    pub fn replace(&mut self, socket: Socket) {
        self.socket = socket;
        self.phase = Phase::Idle;
    }

    /// Sends a request; fails when the one before was not answered.
    pub fn publish(&mut self, item: impl Fn(usize) -> Item) -> Result<(), String> {
        if !matches!(self.phase, Phase::Idle) {
            return Err("a publisher sends one request at a time".to_owned());
        }
        self.batch.fill(item);
        self.response.clear();
        self.phase = Phase::Waiting { sent: 0 };
        self.write();
        Ok(())
    }

    /// The last response, as it came.
    pub fn response(&self) -> &[u8] {
        &self.response
    }

    /// Writes and reads what the socket is ready for. Whether the request is answered; an error ends the publisher.
    pub fn handle_ready(&mut self, readiness: &Readiness, buffer: &mut [u8]) -> Result<bool, String> {
        if matches!(self.phase, Phase::Broken | Phase::Retired) {
            return Ok(false);
        }
        if readiness.is_writable() {
            self.write();
        }
        if !readiness.is_readable() && !readiness.is_read_closed() {
            return Ok(false);
        }
        match self.read(buffer) {
            Err(_) if matches!(self.phase, Phase::Idle) => {
                self.phase = Phase::Retired;
                Ok(false)
            }
            Err(reason) => {
                self.phase = Phase::Broken;
                Err(reason)
            }
            answered => answered,
        }
    }

    /// Writes what is left of the request. An error shows at the next read.
    fn write(&mut self) {
        let flushed = self.socket.flush();
        let Phase::Waiting { sent } = &mut self.phase else {
            return;
        };
        while flushed.is_ok() && *sent < self.batch.request.len() {
            match self.socket.write(&self.batch.request[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Whether the response is whole.
    fn read(&mut self, buffer: &mut [u8]) -> Result<bool, String> {
        loop {
            match self.socket.read(buffer) {
                // The answer may be all there: a server can close right behind it.
                Ok(0) if !self.response.is_empty() && self.is_waiting() => break,
                Ok(0) => return Err("the API closed the connection".to_owned()),
                Ok(count) => self.response.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("API connection: {error}")),
            }
            if self.response.len() > RESPONSE_BYTES_MAX {
                return Err("endless API response".to_owned());
            }
        }
        if self.is_waiting() { self.handle_response() } else { Ok(false) }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. })
    }

    fn handle_response(&mut self) -> Result<bool, String> {
        let Some(Response { status, body }) = Response::split_off(&self.response)? else {
            return Ok(false);
        };
        let told = |what: &str| {
            let body: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            format!("API answered {status} {body}{what}")
        };
        if status != 200 || memmem::find(&body, br#""error""#).is_some() {
            return Err(told(""));
        }
        let count = self.batch.count();
        let replies = memmem::find_iter(&body, br#""publish""#).count();
        if count > 1 && replies != count {
            return Err(told(&format!(": {replies} replies to {count} commands")));
        }
        self.phase = Phase::Idle;
        Ok(true)
    }
}

struct Response<'a> {
    status: u16,
    body: Cow<'a, [u8]>,
}

impl<'a> Response<'a> {
    /// The response in `bytes`, once it is whole.
    fn split_off(bytes: &'a [u8]) -> Result<Option<Self>, String> {
        let told = |error: HttpError| format!("API response: {}", error.reason);
        let Some((head, length)) = parse_response(bytes, &Limits::default()).map_err(told)? else {
            return Ok(None);
        };
        let status = head.status();
        let rest = &bytes[length..];
        if let Some(length) = head.content_length() {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let body = rest.get(..length).map(Cow::Borrowed);
            return Ok(body.map(|body| Self { status, body }));
        }
        let mut decoder = ChunkedDecoder::new(RESPONSE_BYTES_MAX);
        let mut body = Vec::new();
        decoder.decode(rest, &mut body).map_err(told)?;
        let body = decoder.is_done().then_some(Cow::Owned(body));
        Ok(body.map(|body| Self { status, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(response: &str, want: Result<Option<(u16, &str)>, ()>) {
        let got = Response::split_off(response.as_bytes()).map_err(drop);
        let got = got.map(|some| some.map(|got| (got.status, got.body.into_owned())));
        let want = want.map(|some| some.map(|(status, body)| (status, body.as_bytes().to_vec())));
        assert_eq!(got, want, "{response}");
    }

    #[test]
    fn body_ends_where_its_length_or_its_last_chunk_says() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Ok(Some((200, "{}"))));
        check("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", Ok(Some((401, ""))));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
            Ok(Some((200, "{}"))),
        );
    }

    #[test]
    fn unfinished_response_is_awaited() {
        for response in [
            "",
            "HTTP/1.1 200",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        ] {
            check(response, Ok(None));
        }
    }

    #[test]
    fn other_bytes_are_an_error() {
        check("nonsense\r\n\r\n", Err(()));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Err(()));
    }

    #[test]
    fn request_of_a_batch_holds_each_payload() {
        let endpoint = Endpoint::resolve("http://127.0.0.1:8000/api", "http");
        let endpoint = endpoint.expect("the address is well formed");
        for (count, path) in [(1, "/api/publish"), (16, "/api/batch")] {
            let batch = Batch::new(&endpoint, "key", Target::Channel("a\"b"), 128, count);
            assert_eq!(batch.payloads.len(), count);
            let text = String::from_utf8(batch.request).expect("a request is text");
            assert!(text.starts_with(&format!("POST {path} HTTP/1.1\r\n")));
            let (_, body) = text.split_once("\r\n\r\n").expect("a head ends");
            serde_json::from_str::<serde_json::Value>(body).expect("the body is JSON");
        }
    }
    #[test]
    fn each_publication_of_a_batch_goes_to_its_channel() {
        let endpoint = Endpoint::resolve("http://127.0.0.1:8000/api", "http").expect("the address is well formed");
        let mut batch = Batch::new(&endpoint, "key", Target::Numbered("a\"b:"), 128, 3);
        batch.fill(|index| Item { stamp: Stamp { publisher: 0, sequence: 0, sent_ns: 0 }, channel: 41 + index as u32 });
        let text = String::from_utf8(batch.request).expect("a request is text");
        let (_, body) = text.split_once("\r\n\r\n").expect("a head ends");
        let body: serde_json::Value = serde_json::from_str(body).expect("the body is JSON");
        for index in 0..3 {
            let channel = &body["commands"][index]["publish"]["channel"];
            assert_eq!(channel, &numbered("a\"b:", 41 + index as u32));
        }
    }
}
