//! One connection's requests and responses: takes bytes apart into requests, and says what to do with each.

mod session;

use std::borrow::Cow;
use std::rc::Rc;

use ringcast_proto::api::Method;
use ringcast_proto::client::{EmulationRequest, Encoding};
use ringcast_proto::http::{self, Head, HttpError, Limits, Version};
use ringcast_state::{ApiAnswer, EmulationError};

use super::body::{Incoming, Purpose};
use super::origin::Cors;
use super::reply::{NO_SNIFF, Reply, advertise, refuse, write_head_only};
use super::{Route, Site, endpoint};
use crate::metrics::Request;
use crate::sockjs::{Ask, Name};
use crate::transport::page::{self, PageAnswer, Wanted};
use crate::transport::sockjs::{self, Waiting};
use crate::transport::stream::{self, Opening};
use crate::transport::websocket::{self, Upgrade};
use crate::transport::{asset, emulation, health, http_api, init};

/// Bytes that may wait behind a request which is being answered; beyond, the connection is not read.
pub const PIPELINED_BYTES_MAX: usize = 64 << 10;

/// Line ends that are skipped before a request. Some old clients send one pair behind a body.
const BLANKS_MAX: usize = 8;

/// What is to be done. Bytes for the client are in the output already.
pub enum Step<'a> {
    /// More bytes are needed, or the answer of the last call.
    Wait,
    /// Responded; the next request may follow.
    Next,
    /// Responded; close behind it.
    Close,
    /// Call the server API, then `answer`.
    Call {
        /// None for the bare prefix.
        method: Option<Method>,
        /// Whole body.
        body: Cow<'a, [u8]>,
        /// Errors as HTTP statuses.
        transport_errors: bool,
    },
    /// Ask for a page, then `answer_page`.
    Page(Wanted),
    /// What follows is the client protocol.
    Upgrade(Upgrade),
    /// The response is a stream of the client protocol.
    Stream(Box<Opening>),
    /// Ask a session of SockJS, then `attach`, and `answer_session` or `begin_relay`.
    Session {
        /// Which one.
        session: Name,
        /// What.
        ask: Ask,
    },
    /// Pass commands on to their stream, then `answer_emulation`, or `await_emulation`.
    Emulate {
        /// The commands.
        request: EmulationRequest,
        /// That of the request.
        encoding: Encoding,
        /// For the response.
        cors: Cors,
    },
}

/// What a request leads to before its body has come.
pub enum Begun {
    /// There is none, or nobody reads it.
    Step(Step<'static>),
    /// The body is needed, of so many bytes at most.
    Body(Purpose, usize),
    /// A session of SockJS answers.
    Session(Name, Ask, Box<Waiting>),
}

/// What a connection is waiting for, which decides how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaiting {
    /// A request; none has begun.
    Request,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// Our own answer.
    Answer,
    /// A page of the control plane.
    Page,
}

/// The HTTP side of a connection.
pub struct Exchange {
    listener: usize,
    state: State,
    keep_alive: bool,
    /// The server stops: no request after this one.
    last: bool,
    /// The request being served, if requests are counted; the status is that of its response, 0 before.
    counted: Option<Box<Request>>,
    /// Where HTTP/3 is, for responses to say so.
    alt_svc: Option<Rc<str>>,
}

enum State {
    /// `parsed`: bytes of the head that were looked at and did not complete it.
    Head {
        parsed: usize,
    },
    Body(Box<Incoming>),
    Answering,
    /// The control plane makes a page; to HEAD only its head is sent.
    Paging {
        is_head: bool,
    },
    /// A session of SockJS answers.
    Session(Box<Waiting>),
    /// Another node answers for the commands of a request.
    Emulating(Cors),
}

impl Exchange {
    /// A connection that has just been accepted. `alt_svc`: of its listener, unless it uses HTTP/3 already.
    pub fn new(listener: usize, alt_svc: Option<Rc<str>>) -> Self {
        Self { listener, state: State::Head { parsed: 0 }, keep_alive: true, last: false, counted: None, alt_svc }
    }

    /// The listener that its connection came to.
    pub fn listener(&self) -> usize {
        self.listener
    }

    pub fn awaiting(&self) -> Awaiting {
        match self.state {
            State::Head { parsed: 0 } => Awaiting::Request,
            State::Head { .. } => Awaiting::Head,
            State::Body(_) => Awaiting::Body,
            State::Answering | State::Session(_) | State::Emulating(_) => Awaiting::Answer,
            State::Paging { .. } => Awaiting::Page,
        }
    }

    /// A call of the server API or a page has not been answered yet. One that reads a session is over with its connection.
    pub fn is_answering(&self) -> bool {
        match &self.state {
            State::Answering | State::Paging { .. } | State::Emulating(_) => true,
            State::Session(waiting) => !waiting.is_reading(),
            State::Head { .. } | State::Body(_) => false,
        }
    }

    /// A request has been accepted and not been answered yet.
    pub fn is_busy(&self) -> bool {
        !matches!(self.state, State::Head { .. })
    }

    /// Closes behind the request that is being served.
    pub fn serve_no_more(&mut self) {
        self.last = true;
    }

    /// Takes the next step with the bytes that came; also tells how many of them it used up.
    pub fn step<'a>(&mut self, site: &Site, input: &'a [u8], out: &mut Vec<u8>, gate: Gate<'_>) -> (usize, Step<'a>) {
        self.advertising(out, |this, out| this.take_step(site, input, out, gate))
    }

    fn take_step<'a>(&mut self, site: &Site, input: &'a [u8], out: &mut Vec<u8>, gate: Gate<'_>) -> (usize, Step<'a>) {
        match &mut self.state {
            State::Answering | State::Paging { .. } | State::Session(_) | State::Emulating(_) => (0, Step::Wait),
            State::Body(incoming) => match incoming.take(input) {
                Ok((used, false)) => (used, Step::Wait),
                Ok((used, true)) => {
                    let State::Body(incoming) = std::mem::replace(&mut self.state, State::Answering) else {
                        unreachable!("it was just looked at")
                    };
                    let (purpose, body) = incoming.finish();
                    (used, self.complete(site, purpose, Cow::Owned(body), out, gate))
                }
                Err(error) => {
                    let refused = refuse_body(incoming.purpose(), error, out);
                    self.responded(error.status);
                    (input.len(), refused)
                }
            },
            State::Head { parsed } => {
                // A head comes whole, as a rule. One that comes byte by byte must not be read from its start
                // with each of them.
                let news = input.get(*parsed..).unwrap_or_default();
                if *parsed > 0 && !news.contains(&b'\n') && input.len() < Limits::default().head_bytes_max {
                    return (0, Step::Wait);
                }
                *parsed = input.len();
                if input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count() > BLANKS_MAX {
                    return (input.len(), refuse(HttpError { status: 400, reason: "blank lines" }, out));
                }
                match http::parse_head(input, &Limits::default()) {
                    Ok(None) => (0, Step::Wait),
                    Ok(Some((head, used))) => self.begin(site, &head, &input[used..], used, out, gate),
                    Err(error) => (input.len(), refuse(error, out)),
                }
            }
        }
    }

    /// Takes the head of the one request of a stream; `ended` if nothing follows it.
    pub fn begin_stream<'a>(
        &mut self,
        site: &Site,
        head: &Head<'a>,
        ended: bool,
        out: &mut Vec<u8>,
        gate: Gate<'_>,
    ) -> Step<'a> {
        let (_, step) = self.advertising(out, |this, out| this.begin(site, head, &[], 0, out, gate));
        match self.state {
            State::Body(_) if ended => self.end_stream(site, out, gate),
            _ => step,
        }
    }

    /// Takes a part of the body of a stream.
    pub fn take_body(&mut self, input: &[u8], out: &mut Vec<u8>) -> Step<'static> {
        let State::Body(incoming) = &mut self.state else { return Step::Wait };
        match incoming.take(input) {
            Ok(_) => Step::Wait,
            Err(error) => {
                let from = out.len();
                let refused = refuse_body(incoming.purpose(), error, out);
                self.advertise(from, out);
                self.responded(error.status);
                refused
            }
        }
    }

    /// The body of a stream is whole.
    pub fn end_stream(&mut self, site: &Site, out: &mut Vec<u8>, gate: Gate<'_>) -> Step<'static> {
        match std::mem::replace(&mut self.state, State::Answering) {
            State::Body(incoming) => {
                let (purpose, body) = incoming.finish();
                self.advertising(out, |this, out| this.complete(site, purpose, Cow::Owned(body), out, gate))
            }
            state => {
                self.state = state;
                Step::Wait
            }
        }
    }

    fn begin<'a>(
        &mut self,
        site: &Site,
        head: &Head<'a>,
        rest: &'a [u8],
        used: usize,
        out: &mut Vec<u8>,
        gate: Gate<'_>,
    ) -> (usize, Step<'a>) {
        // A body that nobody reads is left to the close.
        let has_body = head.chunked() || head.content_length().is_some_and(|length| length > 0);
        let mut reply = Reply { head, keep_alive: head.keep_alive() && !has_body && !self.last, out, status: 0 };
        self.state = State::Head { parsed: 0 };
        let Some(path) = http::decode_path(head.path()) else {
            return (used, reply.plain(400, "Bad Request\n"));
        };
        if let Some(clean) = clean(&path) {
            return (used, redirect(&clean, &mut reply));
        }
        let route = site.routes[self.listener].find(&path);
        if let Some(route) = &route
            && site.options.prometheus.instrument_http_handlers
        {
            let endpoint = endpoint(&site.options, route, &path);
            self.counted = Some(Box::new((endpoint, page::method_name(head.method()), 0)));
        }
        let begun = match route {
            None => Begun::Step(reply.plain(404, "404 page not found\n")),
            Some(Route::Health) => Begun::Step(health::serve(&mut reply)),
            Some(Route::Init) => Begun::Step(init::serve(site, &mut reply)),
            Some(Route::Asset(file)) => Begun::Step(asset::serve(&file, &mut reply)),
            Some(Route::Redirect(path)) => Begun::Step(asset::redirect(&path, &mut reply)),
            Some(Route::Page(page)) => {
                self.keep_alive = reply.keep_alive;
                self.state = State::Paging { is_head: head.method() == "HEAD" };
                return (used, Step::Page(Wanted::Page { page, accept: page::accepted(head) }));
            }
            Some(Route::WebSocket) => Begun::Step(websocket::upgrade(site, &mut reply, gate)),
            Some(Route::UniWebSocket) => Begun::Step(websocket::upgrade_uni(site, &mut reply, gate)),
            Some(Route::Stream(kind)) => stream::begin(site, kind, &mut reply, gate),
            Some(Route::SockJs(place)) => sockjs::begin(site, place, &mut reply, gate),
            Some(Route::Emulation) => emulation::begin(site, &mut reply),
            Some(Route::Api(method)) => match http_api::check(&site.options.http_api, head) {
                Err(401) if !(gate.may_guess)() => {
                    // Another guess costs another connection, and time.
                    self.keep_alive = false;
                    self.state = State::Paging { is_head: head.method() == "HEAD" };
                    return (used, Step::Page(Wanted::TooManyGuesses));
                }
                Err(status) => Begun::Step(reply.empty(status)),
                Ok(transport_errors) => {
                    Begun::Body(Purpose::Call { method, transport_errors }, site.options.http_api.body_size_limit)
                }
            },
        };
        match begun {
            Begun::Step(mut step) => {
                if let Step::Stream(opening) = &mut step {
                    opening.stream.advertise(self.alt_svc.as_ref());
                }
                let status = match step {
                    Step::Upgrade(_) if head.version() != Version::Http2 => 101,
                    Step::Upgrade(_) | Step::Stream(_) => 200,
                    _ => reply.status,
                };
                self.responded(status);
                (used, step)
            }
            Begun::Body(purpose, bytes_max) => {
                self.keep_alive = head.keep_alive();
                let (of_body, step) = self.await_body(site, purpose, bytes_max, head, rest, out, gate);
                (used + of_body, step)
            }
            Begun::Session(session, ask, waiting) => {
                self.keep_alive = reply.keep_alive;
                (used, self.await_session(session, ask, waiting))
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the second half of one function")]
    fn await_body<'a>(
        &mut self,
        site: &Site,
        purpose: Purpose,
        bytes_max: usize,
        head: &Head<'a>,
        rest: &'a [u8],
        out: &mut Vec<u8>,
        gate: Gate<'_>,
    ) -> (usize, Step<'a>) {
        let length = usize::try_from(head.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
        if length > bytes_max {
            self.responded(413);
            let error = HttpError { status: 413, reason: "body over the size limit" };
            return (0, refuse_body(&purpose, error, out));
        }
        if head.version() == Version::Http2 {
            self.state = State::Body(Box::new(Incoming::until_end(purpose, bytes_max)));
            return (0, Step::Next);
        }
        if !head.chunked() && length <= rest.len() {
            self.state = State::Answering;
            return (length, self.complete(site, purpose, Cow::Borrowed(&rest[..length]), out, gate));
        }
        if head.expect_continue() && rest.is_empty() {
            http::write_continue(out);
        }
        let incoming = match head.chunked() {
            true => Incoming::chunked(purpose, bytes_max),
            false => Incoming::with_length(purpose, length),
        };
        self.state = State::Body(Box::new(incoming));
        (0, Step::Next)
    }

    /// The body is whole.
    fn complete<'a>(
        &mut self,
        site: &Site,
        purpose: Purpose,
        body: Cow<'a, [u8]>,
        out: &mut Vec<u8>,
        gate: Gate<'_>,
    ) -> Step<'a> {
        match purpose {
            Purpose::Call { method, transport_errors } => Step::Call { method, body, transport_errors },
            Purpose::Stream(request) => match stream::open(site, request, &body, gate) {
                Ok(mut opening) => {
                    self.responded(200);
                    opening.stream.advertise(self.alt_svc.as_ref());
                    Step::Stream(opening)
                }
                Err((status, cors)) => self.end_empty(status, &cors, out),
            },
            Purpose::SockJs(request) => match sockjs::complete(request, &body) {
                Ok((session, ask, waiting)) => self.await_session(session, ask, waiting),
                Err((text, cors)) => self.refuse_messages(text, &cors, out),
            },
            Purpose::Emulation { encoding, cors } => match emulation::decode(encoding, &body) {
                Ok(request) => Step::Emulate { request, encoding, cors },
                Err(status) => self.end_empty(status, &cors, out),
            },
        }
    }

    /// A response without content to a request whose body has come.
    fn end_empty(&mut self, status: u16, cors: &Cors, out: &mut Vec<u8>) -> Step<'static> {
        let keep_alive = self.keep_alive && !self.last;
        self.responded(status);
        http::write_response(out, status, &cors.headers(), b"", keep_alive);
        self.state = State::Head { parsed: 0 };
        if keep_alive { Step::Next } else { Step::Close }
    }

    /// Writes whether commands were passed on.
    pub fn answer_emulation(
        &mut self,
        passed: Result<(), EmulationError>,
        cors: &Cors,
        out: &mut Vec<u8>,
    ) -> Step<'static> {
        let status = match passed {
            Ok(()) => 204,
            Err(EmulationError::UnknownNode) => 404,
            Err(EmulationError::Busy) => 503,
        };
        self.advertising(out, |this, out| this.end_empty(status, cors, out))
    }

    /// Another node answers for the commands: with `answer`.
    pub fn await_emulation(&mut self, cors: Cors) {
        self.state = State::Emulating(cors);
    }

    /// Writes the answer of the last call. Returns whether another request may follow.
    pub fn answer(&mut self, answer: &ApiAnswer, out: &mut Vec<u8>) -> bool {
        if let State::Emulating(cors) = &mut self.state {
            let cors = std::mem::take(cors);
            let step = self.advertising(out, |this, out| this.end_empty(answer.status, &cors, out));
            return matches!(step, Step::Next);
        }
        let keep_alive = self.keep_alive && !self.last;
        self.responded(answer.status);
        // Errors of HTTP itself are told in plain text, as the reference does.
        let content_type = if answer.is_json { "application/json" } else { "text/plain; charset=utf-8" };
        let headers = [("Content-Type", content_type), NO_SNIFF];
        let headers = if answer.is_json { &headers[..1] } else { &headers };
        let from = out.len();
        http::write_response(out, answer.status, headers, &answer.body, keep_alive);
        self.advertise(from, out);
        self.state = State::Head { parsed: 0 };
        keep_alive
    }

    /// Writes the page that was asked for. Returns whether another request may follow.
    pub fn answer_page(&mut self, answer: &PageAnswer, out: &mut Vec<u8>) -> bool {
        let keep_alive = self.keep_alive && !self.last;
        self.responded(answer.status);
        let headers = [("Content-Type", answer.content_type)];
        let from = out.len();
        if matches!(self.state, State::Paging { is_head: true }) {
            write_head_only(out, answer.status, &headers, answer.body.len(), keep_alive);
        } else {
            http::write_response(out, answer.status, &headers, &answer.body, keep_alive);
        }
        self.advertise(from, out);
        self.state = State::Head { parsed: 0 };
        keep_alive
    }

    /// Writes, and says in the response where HTTP/3 is.
    fn advertising<T>(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Self, &mut Vec<u8>) -> T) -> T {
        let from = out.len();
        let written = write(self, out);
        self.advertise(from, out);
        written
    }

    fn advertise(&self, from: usize, out: &mut Vec<u8>) {
        if let Some(alt_svc) = &self.alt_svc {
            advertise(alt_svc, from, out);
        }
    }

    fn responded(&mut self, status: u16) {
        if let Some(counted) = &mut self.counted {
            counted.2 = status;
        }
    }

    /// The request that has just been answered, if requests are counted.
    pub fn take_counted(&mut self) -> Option<Request> {
        self.counted.take_if(|counted| counted.2 > 0).map(|counted| *counted)
    }
}

/// Answers a body that is wrong or too long; to clients without content, as the reference does.
fn refuse_body(purpose: &Purpose, error: HttpError, out: &mut Vec<u8>) -> Step<'static> {
    let cors = match purpose {
        Purpose::Call { .. } => return refuse(error, out),
        Purpose::Stream(request) => request.cors(),
        Purpose::SockJs(request) => request.cors(),
        Purpose::Emulation { cors, .. } => cors,
    };
    http::write_response(out, error.status, &cors.headers(), b"", false);
    Step::Close
}

/// The path without empty, `.` and `..` parts, as the reference reads paths; `None` when it has none.
fn clean(path: &str) -> Option<String> {
    // `*` and nothing are no paths.
    let rest = path.strip_prefix('/')?;
    let is_odd = |part: &str| matches!(part, "" | "." | "..");
    let (inner, last) = rest.rsplit_once('/').map_or((None, rest), |(inner, last)| (Some(inner), last));
    if !matches!(last, "." | "..") && !inner.is_some_and(|inner| inner.split('/').any(is_odd)) {
        return None;
    }
    let mut parts = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", parts.join("/")))
}

/// Sends the client to the clean path.
fn redirect(path: &str, reply: &mut Reply<'_, '_>) -> Step<'static> {
    let path = http::encode_path(path);
    let query = reply.head.query().as_str();
    let location = if query.is_empty() { path } else { format!("{path}?{query}") };
    let headers = [("Location", &*location), ("Content-Type", "text/html; charset=utf-8")];
    if matches!(reply.head.method(), "GET" | "HEAD") {
        let escaped = location.replace('&', "&amp;");
        let page = format!("<a href=\"{escaped}\">Temporary Redirect</a>.\n\n");
        return reply.respond(307, &headers, page.as_bytes());
    }
    reply.respond(307, &headers[..1], b"")
}

/// What is asked before a client connection is let in, or a caller of the server API refused.
#[derive(Clone, Copy)]
pub struct Gate<'a> {
    /// Takes one of the tries of `client.connection_rate_limit`; false when there is none left.
    pub may_try: &'a dyn Fn() -> bool,
    /// Counts one more client, unless `client.connection_limit` is reached.
    pub has_room: &'a dyn Fn() -> bool,
    /// Counts a wrong key of the server API; false where the peer has sent more than `http_api.wrong_key_limit`.
    pub may_guess: &'a dyn Fn() -> bool,
}

#[cfg(test)]
mod tests;
