//! Responses without end that carry the client protocol: HTTP streaming and server-sent events, with commands by the emulation
//! endpoint or, of the unidirectional ones, without any. Source: protocol §14 and §15.

use std::rc::Rc;

use ringcast_proto::client::{Encoding, decode_connect_request};
use ringcast_proto::codes::Disconnect;
use ringcast_proto::http::{self, Head, Version};
use ringcast_state::{Farewell, Framing, Pings, Transport, TransportKind, Visitor};

use super::websocket::visitor;
use crate::http::Site;
use crate::http::body::Purpose;
use crate::http::exchange::{Begun, Gate, Step};
use crate::http::origin::Cors;
use crate::http::reply::{Reply, advertise};
use crate::options::{Options, StreamOptions};

/// Content type of requests in Protobuf.
pub const PROTOBUF_TYPE: &[u8] = b"application/octet-stream";

/// A request for a stream, without its body.
pub struct StreamRequest {
    kind: TransportKind,
    encoding: Encoding,
    /// The response is sent in chunks, as HTTP/1.1 wants; that of HTTP/1.0 ends with the connection.
    is_chunked: bool,
    visitor: Visitor,
    cors: Cors,
}

impl StreamRequest {
    /// For the response.
    pub fn cors(&self) -> &Cors {
        &self.cors
    }
}

/// An accepted stream.
pub struct Opening {
    /// For the client machine.
    pub transport: Transport,
    /// Its first frame.
    pub first: Vec<u8>,
    /// What is needed to write and end the response.
    pub stream: Stream,
}

/// The response of a stream.
pub struct Stream {
    kind: TransportKind,
    is_chunked: bool,
    /// What goes before the first message, while that has not come; of unidirectional streams, whose first message decides
    /// about the status.
    unsent: Option<Box<Unsent>>,
}

struct Unsent {
    head: Vec<u8>,
    cors: Cors,
    /// For the response that may come instead.
    alt_svc: Option<Rc<str>>,
}

impl Options {
    /// Options of a stream.
    pub(crate) fn stream(&self, kind: TransportKind) -> &StreamOptions {
        match kind {
            TransportKind::HttpStream => &self.http_stream,
            TransportKind::Sse => &self.sse,
            TransportKind::UniHttpStream => &self.uni_http_stream,
            _ => &self.uni_sse,
        }
    }
}

/// What a request leads to.
pub fn begin(site: &Site, kind: TransportKind, reply: &mut Reply<'_, '_>, gate: Gate<'_>) -> Begun {
    let head = reply.head;
    let is_sse = matches!(kind, TransportKind::Sse | TransportKind::UniSse);
    if head.method() == "OPTIONS" && !is_sse {
        return Begun::Step(preflight(site, reply));
    }
    let is_served = head.method() == "POST" || is_sse && head.method() == "GET";
    let Some(cors) = site.admit(head) else {
        if is_served {
            let origin = String::from_utf8_lossy(head.header("Origin").unwrap_or_default());
            tracing::info!(%origin, "request Origin is not authorized");
        }
        return Begun::Step(reply.empty(if is_served { 403 } else { 405 }));
    };
    if !is_served {
        return Begun::Step(reply.respond(405, &cors.headers(), b""));
    }
    if !(gate.may_try)() {
        return Begun::Step(reply.respond(503, &cors.headers(), b""));
    }
    let is_protobuf = kind == TransportKind::HttpStream && head.header("Content-Type") == Some(PROTOBUF_TYPE);
    let request = StreamRequest {
        kind,
        encoding: if is_protobuf { Encoding::Protobuf } else { Encoding::Json },
        is_chunked: head.version() == Version::Http11,
        visitor: visitor(site, head),
        cors,
    };
    if head.method() == "POST" {
        return Begun::Body(Purpose::Stream(request), site.options.stream(kind).max_request_body_size);
    }
    let opening = match first_of_query(kind, head) {
        Some(first) => open(site, request, &first, gate),
        None => Err((400, request.cors)),
    };
    Begun::Step(match opening {
        Ok(opening) => {
            reply.keep_alive = false;
            Step::Stream(opening)
        }
        Err((status, cors)) => reply.respond(status, &cors.headers(), b""),
    })
}

/// What a browser asks before a request to another origin.
pub fn preflight(site: &Site, reply: &mut Reply<'_, '_>) -> Step<'static> {
    let cors = match site.origins.allow(reply.head.header("Origin")) {
        true => Cors::new(reply.head),
        false => Cors::default(),
    };
    let mut headers = cors.headers();
    headers.extend([("Access-Control-Max-Age", "300"), ("Access-Control-Allow-Methods", "POST, OPTIONS")]);
    reply.respond(204, &headers, b"")
}

/// Query parameter `cf_connect`; a unidirectional client that says nothing says `{}`.
fn first_of_query(kind: TransportKind, head: &Head<'_>) -> Option<Vec<u8>> {
    let given = head.query().get("cf_connect").filter(|given| !given.is_empty());
    match given {
        Some(given) => Some(given.into_owned().into_bytes()),
        None => kind.is_unidirectional().then(|| b"{}".to_vec()),
    }
}

/// Lets a client in whose request is whole, or tells the status that refuses it.
pub fn open(site: &Site, request: StreamRequest, first: &[u8], gate: Gate<'_>) -> Result<Box<Opening>, (u16, Cors)> {
    let StreamRequest { kind, encoding, is_chunked, visitor, cors } = request;
    if kind.is_unidirectional()
        && let Err(error) = decode_connect_request(encoding, first)
    {
        tracing::debug!(%error, transport = kind.as_str(), "malformed connect request");
        return Err((400, cors));
    }
    if !(gate.has_room)() {
        return Err((503, cors));
    }
    let maps_codes = site.options.stream(kind).connect_code_to_http_response.is_some();
    let transport = Transport {
        encoding,
        framing: framing(kind, is_chunked),
        kind,
        pings: Pings::Messages,
        visitor,
        farewell: if maps_codes { Farewell::Status } else { Farewell::Push },
    };
    let head = response_head(kind, encoding, is_chunked, &cors);
    let stream = Stream { kind, is_chunked, unsent: Some(Box::new(Unsent { head, cors, alt_svc: None })) };
    Ok(Box::new(Opening { transport, first: first.to_vec(), stream }))
}

fn framing(kind: TransportKind, is_chunked: bool) -> Framing {
    match (kind, is_chunked) {
        (TransportKind::Sse | TransportKind::UniSse, true) => Framing::ChunkedEvents,
        (TransportKind::Sse | TransportKind::UniSse, false) => Framing::Events,
        (_, true) => Framing::ChunkedLines,
        (_, false) => Framing::Lines,
    }
}

/// Head of the response, and of events the empty line that makes proxies pass it on. Source: the reference.
fn response_head(kind: TransportKind, encoding: Encoding, is_chunked: bool, cors: &Cors) -> Vec<u8> {
    let is_events = matches!(kind, TransportKind::Sse | TransportKind::UniSse);
    let content_type = match encoding {
        _ if is_events => "text/event-stream; charset=utf-8",
        Encoding::Json => "text/plain; charset=utf-8",
        Encoding::Protobuf => "application/octet-stream",
    };
    let mut headers = cors.headers();
    headers.extend([
        ("Cache-Control", "private, no-cache, no-store, must-revalidate, max-age=0"),
        ("Connection", if is_chunked { "keep-alive" } else { "close" }),
        ("Content-Type", content_type),
        ("Expire", "0"),
        ("Pragma", "no-cache"),
        ("X-Accel-Buffering", "no"),
    ]);
    if is_chunked {
        headers.push(("Transfer-Encoding", "chunked"));
    }
    let mut out = Vec::new();
    http::write_response_head(&mut out, 200, &headers);
    match (is_events, is_chunked) {
        (true, true) => out.extend_from_slice(b"2\r\n\r\n\r\n"),
        (true, false) => out.extend_from_slice(b"\r\n"),
        (false, _) => {}
    }
    out
}

impl Stream {
    /// Says where HTTP/3 is, if it is anywhere.
    pub fn advertise(&mut self, alt_svc: Option<&Rc<str>>) {
        if let (Some(unsent), Some(alt_svc)) = (&mut self.unsent, alt_svc) {
            advertise(alt_svc, 0, &mut unsent.head);
            unsent.alt_svc = Some(alt_svc.clone());
        }
    }

    /// What goes before the first message, once.
    pub fn take_head(&mut self) -> Option<Vec<u8>> {
        self.unsent.take().map(|unsent| unsent.head)
    }

    /// Its head goes at once, for nothing can change the status.
    pub fn starts_at_once(&self) -> bool {
        !self.kind.is_unidirectional()
    }

    /// The whole response instead of a stream, where a client is refused and its status says so.
    pub fn refuse(&mut self, options: &Options, why: &Disconnect) -> Option<Vec<u8>> {
        let responses = options.stream(self.kind).connect_code_to_http_response.as_ref()?;
        let unsent = self.unsent.take()?;
        let response = responses.iter().find(|response| response.code == why.code);
        let (status, body) = match response {
            Some(response) if response.body.is_empty() => (response.status_code, &*why.reason),
            Some(response) => (response.status_code, &*response.body),
            None => (500, "Internal Server Error"),
        };
        let mut headers = unsent.cors.headers();
        headers.push(("Content-Type", "text/plain; charset=utf-8"));
        let mut out = Vec::new();
        headers.extend(unsent.alt_svc.as_deref().map(|alt_svc| ("Alt-Svc", alt_svc)));
        http::write_response(&mut out, status, &headers, body.as_bytes(), false);
        Some(out)
    }

    /// The end of the response.
    pub fn end(&self) -> Vec<u8> {
        if self.is_chunked { b"0\r\n\r\n".to_vec() } else { Vec::new() }
    }
}
