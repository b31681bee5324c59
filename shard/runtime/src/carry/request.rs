//! Requests that a thread of the control plane carries, such as the streams of HTTP/3: it hands over head and body, and writes the
//! response that the shard gives. They are served like those of HTTP/1.1 and HTTP/2, each by an exchange of its own.

use std::net::IpAddr;
use std::sync::Arc;

use ringcast_proto::codes::Disconnect;
use ringcast_proto::http::{Head, HttpError, Limits, StreamRequest, parse_response};

use super::{Ended, Outlet};
use crate::connection::Carrier;
use crate::http::exchange::Exchange;
use crate::http::http2::is_of_connection;
use crate::options::Options;
use crate::transport::sockjs::Relay;
use crate::transport::stream::Stream;
use crate::uring::SendBytes;

/// The head of a request, as HTTP/2 and HTTP/3 have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// `:method`.
    pub method: String,
    /// `:path`, with the query.
    pub target: String,
    /// `:authority`; empty without one.
    pub authority: String,
    /// The other fields in their order: lower-case names, and values without line ends.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Who asks, as far as that is known.
    pub peer: Option<IpAddr>,
}

/// The head of a response, as HTTP/2 and HTTP/3 have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// `:status`.
    pub status: u16,
    /// The other fields, with lower-case names.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Where the response to a request goes. Called on the shard's thread: must not wait.
///
/// Of content that goes on one piece is sent at a time, as of any [`Outlet`]; [`Outlet::end`] breaks the response off.
pub trait Respond: Outlet {
    /// The response begins, with the first of its content, which is not confirmed.
    fn begin(&self, head: ResponseHead, content: Vec<u8>);

    /// It is whole.
    fn finish(&self);
}

impl RequestHead {
    /// As the rest of the server reads it, held to the limits of the others.
    pub(crate) fn read(&self) -> Result<Head<'_>, HttpError> {
        let Self { method, target, authority, headers, peer: _ } = self;
        let lines = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let request = StreamRequest { method, target, authority, connect_protocol: None };
        Head::of_stream(request, lines, &Limits::default())
    }
}

/// One request, and what came of it so far.
pub(crate) struct CarriedRequest {
    pub state: State,
    pub outlet: Box<dyn Respond>,
}

pub(crate) enum State {
    /// Its response has not begun.
    Waiting(Exchange),
    /// A session of SockJS fills the response.
    Relay(Relay),
}

impl CarriedRequest {
    /// What was sent last is written.
    pub fn written(&self) {
        if let State::Relay(relay) = &self.state {
            relay.attachment.written();
        }
    }
}

/// Begins a response, written as HTTP/1 has it.
pub(crate) fn begin(outlet: &dyn Respond, mut response: Vec<u8>) {
    let Some((head, length)) = read_response(&response) else {
        tracing::error!("a response of our own that cannot be read");
        return outlet.end(Ended::Lost);
    };
    response.drain(..length);
    outlet.begin(head, response);
}

/// Sends a whole response.
pub(crate) fn whole(outlet: &dyn Respond, response: Vec<u8>) {
    begin(outlet, response);
    outlet.finish();
}

/// Also tells where its content begins. `None` only for bytes that are no response.
fn read_response(bytes: &[u8]) -> Option<(ResponseHead, usize)> {
    let (parsed, length) = parse_response(bytes, &Limits::default()).ok()??;
    let lines = parsed.header_lines().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()));
    let headers = lines.filter(|(name, _)| !is_of_connection(name)).collect();
    Some((ResponseHead { status: parsed.status(), headers }, length))
}

/// A client whose stream the response is.
pub(crate) struct FarStream {
    outlet: Box<dyn Respond>,
    /// The first message decides about the status.
    unbegun: Option<Box<(Stream, Arc<Options>)>>,
}

impl FarStream {
    /// Begins the response, or waits for the first message with that.
    pub fn new(outlet: Box<dyn Respond>, mut stream: Stream, options: Arc<Options>) -> Self {
        let begins = stream.starts_at_once();
        let head = if begins { stream.take_head() } else { None };
        if let Some(head) = head {
            begin(&*outlet, head);
        }
        Self { outlet, unbegun: (!begins).then(|| Box::new((stream, options))) }
    }

    fn begin(&mut self) {
        if let Some(head) = self.unbegun.take().and_then(|mut unbegun| unbegun.0.take_head()) {
            begin(&*self.outlet, head);
        }
    }
}

impl Carrier for FarStream {
    fn send(&mut self, bytes: SendBytes) {
        self.begin();
        self.outlet.send(bytes.into_vec());
    }

    fn refuse(&mut self, why: &Disconnect) -> bool {
        let Some(unbegun) = &mut self.unbegun else { return false };
        let (stream, options) = &mut **unbegun;
        let Some(response) = stream.refuse(options, why) else { return false };
        whole(&*self.outlet, response);
        true
    }

    fn end(&mut self, why: Option<&Disconnect>) -> bool {
        self.begin();
        self.outlet.end(Ended::new(why));
        false
    }

    fn pause(&mut self, paused: bool) {
        self.outlet.pause(paused);
    }
}

#[cfg(test)]
mod tests {
    use ringcast_proto::http::write_response;

    use super::*;

    #[test]
    fn response_keeps_what_is_not_of_the_connection() {
        let mut out = Vec::new();
        let headers = [("A", "b"), ("a", "c"), ("Transfer-Encoding", "x"), ("Keep-Alive", "1"), ("Upgrade", "y")];
        write_response(&mut out, 404, &headers, b"body", false);
        let (head, length) = read_response(&out).unwrap();
        let line = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        assert_eq!((head.status, &out[length..]), (404, &b"body"[..]));
        assert_eq!(head.headers, [line("a", "b"), line("a", "c"), line("content-length", "4")]);
    }

    #[test]
    fn request_is_read_like_one_of_http1() {
        let headers = vec![("x".to_owned(), b"y".to_vec())];
        let (method, target, authority) = ("POST".to_owned(), "/a?b=c".to_owned(), "h:1".to_owned());
        let request = RequestHead { method, target, authority, headers, peer: None };
        let head = request.read().unwrap();
        assert_eq!((head.method(), head.path(), head.query().as_str()), ("POST", "/a", "b=c"));
        assert_eq!((head.header("Host"), head.header("X")), (Some(&b"h:1"[..]), Some(&b"y"[..])));
        assert!(RequestHead { authority: String::new(), ..request }.read().is_err());
    }
}
