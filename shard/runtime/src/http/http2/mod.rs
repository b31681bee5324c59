//! HTTP/2 of one connection: the library that speaks it, and the streams. Each stream is served like a request of HTTP/1, by an
//! exchange of its own; a client of the real-time protocol on a stream is a carried connection. No task and no timer.
//!
//! The library reads from and writes to two buffers (`wire`), and is polled when there is something new in them or on a stream.

mod carrier;
mod message;
mod meter;
mod outgoing;
mod relay;
mod respond;
mod wire;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use ringcast_proto::websocket::Decoder;
use ringcast_state::{ConnectionId, Time};

pub(crate) use carrier::StreamCarrier;
pub(crate) use message::{head, is_of_connection};
pub(crate) use meter::Meter;
pub(crate) use outgoing::{Chunk, Desk, End, Outgoing, Progress, Woken};
pub(crate) use respond::{begin, whole};
pub(crate) use wire::Wire;

use super::exchange::Exchange;
use crate::metrics::Request as Counted;
use crate::transport::sockjs::Relay;

/// What a client sends first. Source: RFC 9113 §3.4.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams of a connection at a time; a browser opens 100 at most.
const STREAMS_MAX: u32 = 250;

/// Bytes that may come on one stream before we take them.
const STREAM_WINDOW: u32 = 64 << 10;

/// The same of all streams of a connection.
const CONNECTION_WINDOW: u32 = 256 << 10;

/// Names and values of a request's headers.
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;

/// Streams that were reset before they were served; a page that is left cancels its requests at once.
const PENDING_RESETS_MAX: usize = STREAMS_MAX as usize;

/// Requests served per turn, so that others get theirs.
const REQUESTS_PER_TURN: usize = 64;

/// Bytes of responses that wait for the peer to read them; beyond, requests wait until they are.
const UNREAD_BYTES_MAX: usize = 1 << 20;

/// Whether the first bytes of a connection are those of HTTP/2.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Preface {
    /// They are.
    Whole,
    /// They may become so.
    Part,
    /// Something else, or nothing.
    Other,
}

/// Looks at the first bytes of a connection.
pub(crate) fn preface(bytes: &[u8]) -> Preface {
    match bytes {
        [] => Preface::Other,
        bytes if bytes.starts_with(PREFACE) => Preface::Whole,
        bytes if PREFACE.starts_with(bytes) => Preface::Part,
        _ => Preface::Other,
    }
}

/// One connection.
pub(crate) struct Http2 {
    pub listener: usize,
    pub wire: Wire,
    pub meter: Meter,
    pub desk: Rc<Desk>,
    pub streams: BTreeMap<u32, Stream>,
    library: Library,
    /// Bytes of bodies that are not whole.
    pub body_bytes: usize,
    /// The turn that requests were served in last, and how many.
    served: (Time, usize),
    /// Why it is to end, once that is decided.
    pub ending: Option<Reason>,
    /// The server stops: ends with its last stream.
    pub is_last: bool,
    /// The socket is not read.
    pub paused: bool,
    /// When a connection without streams is closed; none while it has some.
    pub idle_until: Option<Time>,
    /// The earliest deadline of a stream, or earlier.
    pub stream_timeout: Time,
}

enum Library {
    Handshake(Handshake<Wire, Chunk>),
    Open(Connection<Wire, Chunk>),
    Over,
}

/// One request, and what came of it.
pub(crate) struct Stream {
    pub out: Rc<Outgoing>,
    pub waker: Waker,
    /// When something must have happened.
    pub deadline: Option<Time>,
    pub state: State,
}

pub(crate) enum State {
    /// The body is coming.
    Body { exchange: Box<Exchange>, respond: SendResponse<Chunk>, body: RecvStream, bytes: usize },
    /// The answer is.
    Answering { exchange: Box<Exchange>, respond: SendResponse<Chunk> },
    /// A client; of a WebSocket with what it sends.
    Client { id: ConnectionId, inbound: Option<Box<Inbound>> },
    /// What a session of SockJS says goes on; `written` at the last look.
    Relay { relay: Relay, written: usize },
    /// The last bytes leave; `written` at the last look.
    Leaving { written: usize, end: Option<End> },
}

/// Frames of a WebSocket.
pub(crate) struct Inbound {
    pub body: RecvStream,
    pub decoder: Decoder,
}

/// What the library has.
pub(crate) enum Polled {
    /// A request, and how to answer it.
    Request(Box<Request<RecvStream>>, SendResponse<Chunk>),
    /// Requests, but enough were served in this turn.
    Enough,
    /// Nothing.
    Idle,
    /// The connection has ended.
    Over,
}

impl Http2 {
    /// A connection whose next bytes are the preface; it may take until `idle_until` for it.
    pub fn new(listener: usize, connection: ConnectionId, woken: Woken, idle_until: Time) -> Self {
        let wire = Wire::default();
        let handshake = Builder::new()
            .max_concurrent_streams(STREAMS_MAX)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .enable_connect_protocol()
            .handshake(wire.clone());
        Self {
            listener,
            wire,
            meter: Meter::new(),
            desk: Rc::new(Desk::new(connection, woken)),
            streams: BTreeMap::new(),
            library: Library::Handshake(handshake),
            body_bytes: 0,
            served: (Time(0), 0),
            ending: None,
            is_last: false,
            paused: false,
            idle_until: Some(idle_until),
            stream_timeout: Time(u64::MAX),
        }
    }

    /// Goes on with the handshake; false while the preface is not whole.
    fn open(&mut self, context: &mut Context<'_>) -> bool {
        let Library::Handshake(handshake) = &mut self.library else { return true };
        match Pin::new(handshake).poll(context) {
            Poll::Ready(Ok(connection)) => (self.library, self.idle_until) = (Library::Open(connection), None),
            Poll::Ready(Err(_)) => self.library = Library::Over,
            Poll::Pending => return false,
        }
        true
    }

    /// Lets the library work.
    pub fn poll(&mut self, now: Time) -> Polled {
        let mut context = Context::from_waker(Waker::noop());
        if !self.open(&mut context) {
            return Polled::Idle;
        }
        let Library::Open(connection) = &mut self.library else { return Polled::Over };
        if self.served.0 != now {
            self.served = (now, 0);
        }
        if self.desk.unread() > UNREAD_BYTES_MAX || self.served.1 >= REQUESTS_PER_TURN {
            return match connection.poll_closed(&mut context) {
                Poll::Ready(_) => Polled::Over,
                Poll::Pending if self.served.1 >= REQUESTS_PER_TURN => Polled::Enough,
                Poll::Pending => Polled::Idle,
            };
        }
        match connection.poll_accept(&mut context) {
            Poll::Ready(Some(Ok((request, respond)))) => {
                self.served.1 += 1;
                Polled::Request(Box::new(request), respond)
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "HTTP/2 connection failed");
                Polled::Over
            }
            Poll::Ready(None) => Polled::Over,
            Poll::Pending => Polled::Idle,
        }
    }

    /// Says that the connection ends, and why.
    pub fn go_away(&mut self, reason: Reason) {
        let mut context = Context::from_waker(Waker::noop());
        // The first bytes may have been too many already.
        self.open(&mut context);
        if let Library::Open(connection) = &mut self.library {
            connection.abrupt_shutdown(reason);
            // Whatever comes of it, nothing follows.
            let _ = connection.poll_closed(&mut context);
        }
        self.library = Library::Over;
    }

    /// Keeps a stream whose response has not begun, and has it looked at.
    pub fn keep(&mut self, number: u32, deadline: Option<Time>, state: State) {
        let out = Outgoing::new(Progress::new(number, &self.desk));
        self.insert(number, out, deadline, state);
    }

    /// Keeps a stream, and has it looked at.
    pub fn insert(&mut self, number: u32, out: Rc<Outgoing>, deadline: Option<Time>, state: State) {
        self.stream_timeout = deadline.map_or(self.stream_timeout, |deadline| deadline.min(self.stream_timeout));
        self.idle_until = None;
        let waker = self.desk.waker(number);
        self.streams.insert(number, Stream { out, waker, deadline, state });
        self.desk.look_at(number);
    }

    /// Writes the response that a stream waits for; one that waits no more gets none. Gives the request to count.
    pub fn answer(
        &mut self,
        number: u32,
        deadline: Time,
        mut response: Vec<u8>,
        write: impl FnOnce(&mut Exchange, &mut Vec<u8>) -> bool,
    ) -> Option<Counted> {
        let stream = self.streams.get_mut(&number)?;
        let State::Answering { exchange, respond } = &mut stream.state else { return None };
        write(exchange, &mut response);
        let counted = exchange.take_counted();
        whole(&stream.out, respond, response);
        stream.state = State::Leaving { written: 0, end: None };
        stream.deadline = Some(deadline);
        self.stream_timeout = self.stream_timeout.min(deadline);
        self.desk.look_at(number);
        counted
    }

    /// The next deadline, or earlier.
    pub fn next_timeout(&self) -> Time {
        self.idle_until.map_or(self.stream_timeout, |idle_until| idle_until.min(self.stream_timeout))
    }
}

impl Stream {
    /// The peer has no use for it any more; else its waker is told when that changes.
    pub fn is_reset(&mut self) -> bool {
        let mut context = Context::from_waker(&self.waker);
        let reset = match &mut self.state {
            State::Body { respond, .. } | State::Answering { respond, .. } => respond.poll_reset(&mut context),
            State::Client { .. } | State::Relay { .. } | State::Leaving { .. } => {
                let poll = |send: &mut SendStream<Chunk>| send.poll_reset(&mut context);
                self.out.with(poll).unwrap_or(Poll::Pending)
            }
        };
        self.out.lost.get() || reset.is_ready()
    }

    /// Whether bytes have left since the last look; then how patient to be with the rest.
    pub fn has_moved(&mut self) -> Option<Option<End>> {
        let (written, end) = match &mut self.state {
            State::Leaving { written, end } => (written, *end),
            State::Relay { written, .. } => (written, Some(End::Patient)),
            State::Body { .. } | State::Answering { .. } | State::Client { .. } => return None,
        };
        let now = self.out.progress().written();
        (std::mem::replace(written, now) != now).then_some(end)
    }

    /// Resets it; gives the bytes of its body, which is not whole.
    pub fn give_up(&mut self) -> usize {
        match &mut self.state {
            State::Body { respond, bytes, .. } => {
                respond.send_reset(Reason::CANCEL);
                return *bytes;
            }
            State::Answering { respond, .. } => respond.send_reset(Reason::CANCEL),
            State::Client { .. } | State::Relay { .. } | State::Leaving { .. } => {
                self.out.with(|send| send.send_reset(Reason::CANCEL));
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preface_is_known_from_its_first_byte_on() {
        assert_eq!(preface(b""), Preface::Other);
        assert_eq!(preface(b"POST / HTTP/1.1\r\n"), Preface::Other);
        assert_eq!(preface(b"PRI * HTTP/2.0\r\n\r\nSN"), Preface::Other);
        for length in 1..PREFACE.len() {
            assert_eq!(preface(&PREFACE[..length]), Preface::Part);
        }
        assert_eq!(preface(&[PREFACE, b"\0"].concat()), Preface::Whole);
    }
}
