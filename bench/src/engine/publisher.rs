//! One keep-alive connection to the HTTP API that publishes: a request whose payloads are stamped in place, one at a time.

use memchr::memmem;
use mio::event::Event as Readiness;

use super::exchange::{Exchange, Response};
use super::socket::Socket;
use crate::endpoint::Endpoint;
use crate::payload::{self, Stamp};

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
    exchange: Exchange,
    batch: Batch,
}

impl Publisher {
    /// A connection whose socket is on its way.
    pub fn new(socket: Socket, batch: Batch) -> Self {
        Self { exchange: Exchange::new(socket), batch }
    }

    /// Whether [`Self::replace`] is due before the next request.
    pub fn is_retired(&self) -> bool {
        self.exchange.is_retired()
    }

    /// Goes on with another connection.
    pub fn replace(&mut self, socket: Socket) {
        self.exchange.replace(socket);
    }

    /// Sends a request; fails when the one before was not answered.
    pub fn publish(&mut self, item: impl Fn(usize) -> Item) -> Result<(), String> {
        if !self.exchange.is_idle() {
            return Err("a publisher sends one request at a time".to_owned());
        }
        self.batch.fill(item);
        self.exchange.send(&self.batch.request);
        Ok(())
    }

    /// The last response, as it came.
    pub fn response(&self) -> &[u8] {
        self.exchange.response()
    }

    /// Writes and reads what the socket is ready for. Whether the request is answered; an error ends the publisher.
    pub fn handle_ready(&mut self, readiness: &Readiness, buffer: &mut [u8]) -> Result<bool, String> {
        let Self { exchange, batch } = self;
        let checked = match exchange.handle_ready(readiness, &batch.request, buffer) {
            Ok(None) => return Ok(false),
            Ok(Some(response)) => batch.check(&response),
            Err(reason) => Err(format!("API: {reason}")),
        };
        checked.map(|()| true).map_err(|reason| exchange.broken(reason))
    }
}

impl Batch {
    fn check(&self, response: &Response<'_>) -> Result<(), String> {
        let Response { status, body } = response;
        let told = |what: &str| {
            let body: String = String::from_utf8_lossy(body).chars().take(200).collect();
            format!("API answered {status} {body}{what}")
        };
        if *status != 200 || memmem::find(body, br#""error""#).is_some() {
            return Err(told(""));
        }
        let count = self.count();
        let replies = memmem::find_iter(body, br#""publish""#).count();
        if count > 1 && replies != count {
            return Err(told(&format!(": {replies} replies to {count} commands")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
