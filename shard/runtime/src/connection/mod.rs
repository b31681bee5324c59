//! The connections of a shard: a table parallel to the sockets, no task and no timer each. An idle client holds
//! this entry and nothing else here.

mod batch;
mod carried;
mod close;
mod deadline;
mod gate;
mod held;
mod http2;
mod read;
mod request;
mod secure;
mod sockjs;
mod write;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ringcast_proto::websocket::{Decoder, Inflater};
use ringcast_state::{Action, ApiAnswer, ApiCallId, ConnectionId, Frame, Now, Shard, Time, TransportKind};

use crate::carry::request::CarriedRequest;
use crate::clock::Clock;
use crate::guesses::GUESS_PAUSE;
use crate::http::Site;
use crate::http::exchange::Exchange;
use crate::http::http2::{Http2, Woken};
use crate::metrics::LoopMetrics;
use crate::options::Options;
use crate::pool::Counters;
use crate::sockjs::Desk;
use crate::table::Table;
use crate::tls::Tls;
use crate::transport::page::{Delivery, GUESSERS_MAX, PageAnswer, PageDesk, Wanted};
use crate::transport::sockjs::Relay;
use crate::transport::stream::Stream;
use crate::uring::{Closing, Event, SocketId, Sockets};

pub(crate) use carried::Carrier;
pub(crate) use close::last_frames;
use deadline::Deadlines;
pub(crate) use deadline::{RESPONSE_TIMEOUT, STREAM_WRITE_TIMEOUT};

/// What a connection acts upon, for the time of one call.
pub(crate) struct Io<'a> {
    pub sockets: &'a mut Sockets,
    pub shard: &'a mut Shard,
    pub now: Now,
}

/// All connections of a shard.
pub(crate) struct Connections {
    table: Table<Connection>,
    deadlines: Deadlines,
    site: Site,
    tls: Tls,
    counters: Arc<Counters>,
    pages: PageDesk,
    /// Calls that are told of too many wrong keys, and when. Bound: [`GUESSERS_MAX`].
    guessers: VecDeque<(Time, ApiCallId)>,
    /// For all clients: nothing of one message is needed for the next.
    inflater: Inflater,
    sessions: Desk,
    /// What the loop counts, too.
    pub metrics: LoopMetrics,
    shard: usize,
    clock: Clock,
    /// Connections of HTTP/2 to drive before the turn ends.
    woken: Woken,
    /// Those that have more to do, and wait for the next turn with it.
    unfinished: Vec<ConnectionId>,
    /// Requests that have not begun wait, for another process or for `resume`.
    is_holding: bool,
    /// Set once the server stops: patience with everyone ends then.
    stop_at: Option<Instant>,
}

/// Budget: 72 bytes, for this is what an idle client costs.
struct Connection {
    generation: u32,
    phase: Phase,
    /// A write is on its way; the next one waits for it.
    sending: bool,
    /// The write on its way met a full socket.
    blocked: bool,
    /// The state machine has been told of it, and not yet of its end.
    known: bool,
    /// A client that counts for `client.connection_limit`.
    counted: bool,
    /// `handle_flushed` is due once all frames taken have been written.
    taken: bool,
    /// The peer has sent its last byte.
    ended: bool,
    /// The messages of its WebSocket are frames of SockJS.
    framed: bool,
    /// Which transport a client has; of others it means nothing.
    kind: TransportKind,
    /// Counts the calls of the server API, so that a late answer is recognised.
    calls: u32,
    /// Bytes unsent at the last look at a blocked write.
    unsent: u32,
    /// When something must have happened; `NEVER` if nothing must.
    deadline: Time,
    /// Earliest entry in `Deadlines`.
    entry_at: Time,
    protocol: Protocol,
    /// Frames that wait for the write before them: of our own, or taken from the state.
    #[expect(clippy::box_collection, reason = "24 bytes of every idle client, for what few of them ever need")]
    output: Option<Box<VecDeque<Frame>>>,
}

const NEVER: Time = Time(u64::MAX);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Free,
    Open,
    /// Nothing is read any more; the last bytes leave.
    Leaving,
    /// The socket is closing; only `Event::Closed` will come.
    Closing,
}

#[derive(Default)]
enum Protocol {
    #[default]
    None,
    Http(Box<Http>),
    /// Streams with requests and clients.
    Http2(Box<Http2>),
    WebSocket(Decoder),
    /// A response without end.
    Stream(Box<Stream>),
    /// What stands in for a socket.
    Carried(Box<dyn Carrier>),
    /// A response that goes on with what a session of SockJS says.
    Relay(Box<Relay>),
    /// A request that the control plane carries.
    Request(Box<CarriedRequest>),
}

/// Requests and what came of the next one.
struct Http {
    exchange: Exchange,
    /// Bytes not used yet. Bound: a head, or `PIPELINED_BYTES_MAX` and a receive buffer.
    input: Vec<u8>,
    paused: bool,
}

impl Connection {
    const FREE: Self = Self {
        generation: 0,
        phase: Phase::Free,
        sending: false,
        blocked: false,
        known: false,
        counted: false,
        taken: false,
        ended: false,
        framed: false,
        kind: TransportKind::WebSocket,
        calls: 0,
        unsent: 0,
        deadline: NEVER,
        entry_at: NEVER,
        protocol: Protocol::None,
        output: None,
    };
}

impl Connections {
    pub fn new(
        options: Arc<Options>,
        counters: Arc<Counters>,
        pages: PageDesk,
        sessions: Desk,
        shard: usize,
        clock: Clock,
    ) -> Self {
        Self {
            table: Table::new(|| Connection::FREE),
            deadlines: Deadlines::default(),
            tls: Tls::new(&options.listeners),
            site: Site::new(options),
            counters,
            pages,
            guessers: VecDeque::new(),
            inflater: Inflater::default(),
            sessions,
            metrics: LoopMetrics::default(),
            shard,
            clock,
            woken: Woken::default(),
            unfinished: Vec::new(),
            is_holding: false,
            stop_at: None,
        }
    }

    fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let found = self.table.get_mut(id.slot as usize)?;
        (found.generation == id.generation && found.phase != Phase::Free).then_some(found)
    }

    /// An event of the ring, other than a failed accept.
    pub fn handle_event(&mut self, io: &mut Io<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { listener, socket } => self.accepted(io, listener, socket),
            Event::AcceptFailed { .. } => {}
            Event::Received { socket, bytes } => self.wire_received(io, socket.into(), bytes),
            Event::Ended { socket, .. } => self.ended(io, socket.into()),
            Event::Flushed { socket } => self.flushed(io, socket.into()),
            Event::Blocked { socket } => self.blocked(io, socket.into()),
            Event::SendFailed { socket, .. } => self.abort(io, socket.into()),
            Event::Closed { socket } => self.closed(io, socket.into()),
        }
    }

    fn accepted(&mut self, io: &mut Io<'_>, listener: usize, socket: SocketId) {
        let slot = socket.slot as usize;
        self.table.reach(slot);
        let exchange = Exchange::new(listener, self.site.alt_svc(listener));
        let http = Http { exchange, input: Vec::new(), paused: false };
        *self.table.get_mut(slot).expect("just made sure of") = Connection {
            generation: socket.generation,
            phase: Phase::Open,
            protocol: Protocol::Http(Box::new(http)),
            ..Connection::FREE
        };
        if let Some(Err(error)) = self.tls.open(listener, socket.slot) {
            tracing::error!(%error, "TLS cannot begin");
            return self.abort(io, socket.into());
        }
        self.set_deadline(socket.into(), io.now.at + deadline::HEAD_TIMEOUT);
        if !self.is_holding {
            io.sockets.start_receive(socket);
        }
    }

    /// What the state machines want done.
    pub fn handle_action(&mut self, io: &mut Io<'_>, action: Action) {
        match action {
            Action::Disconnect { connection, disconnect, flush } => {
                self.disconnect(io, connection, &disconnect, flush);
            }
            Action::PauseReceive { connection } => self.pause(io, connection, true),
            Action::ResumeReceive { connection } => self.pause(io, connection, false),
        }
    }

    /// An answer of the server API.
    pub fn handle_answer(&mut self, io: &mut Io<'_>, answer: ApiAnswer) {
        self.respond(io, answer.call, |exchange, out| exchange.answer(&answer, out));
    }

    /// Has a page made, or gives what is answered without one.
    fn want(&mut self, now: Time, call: ApiCallId, wanted: Wanted) -> Result<(), PageAnswer> {
        match wanted {
            Wanted::Page { page, accept } => match self.pages.ask(call, page, accept) {
                true => Ok(()),
                false => Err(PageAnswer::unavailable()),
            },
            Wanted::TooManyGuesses if self.guessers.len() < GUESSERS_MAX => {
                self.guessers.push_back((now + GUESS_PAUSE, call));
                Ok(())
            }
            Wanted::TooManyGuesses => Err(PageAnswer::too_many_guesses()),
        }
    }

    /// Tells those whose pause is over.
    fn tell_guessers(&mut self, io: &mut Io<'_>) {
        while let Some((_, call)) = self.guessers.pop_front_if(|(at, _)| *at <= io.now.at) {
            let answer = PageAnswer::too_many_guesses();
            self.respond(io, call, |exchange, out| exchange.answer_page(&answer, out));
        }
    }

    /// A page of the control plane.
    pub fn handle_page(&mut self, io: &mut Io<'_>, page: &Delivery) {
        let answer: &PageAnswer = &page.answer;
        self.respond(io, page.call, |exchange, out| exchange.answer_page(answer, out));
    }

    /// Writes the response that a connection waits for; one that waits no more gets none.
    fn respond(&mut self, io: &mut Io<'_>, call: ApiCallId, write: impl FnOnce(&mut Exchange, &mut Vec<u8>) -> bool) {
        let id = call.connection;
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        if let Protocol::Http2(http2) = &mut connection.protocol {
            let deadline = io.now.at + deadline::RESPONSE_TIMEOUT;
            let counted = http2.answer(call.sequence, deadline, io.sockets.take_buffer(), write);
            return self.metrics.count_request(counted);
        }
        if connection.calls != call.sequence {
            return;
        }
        if let Protocol::Request(_) = connection.protocol {
            return self.answer_request(io, id, write);
        }
        let Protocol::Http(http) = &mut connection.protocol else {
            return;
        };
        let mut out = io.sockets.take_buffer();
        let keep_alive = write(&mut http.exchange, &mut out);
        let counted = http.exchange.take_counted();
        self.metrics.count_request(counted);
        if keep_alive {
            self.write(io, id, out);
            self.serve_waiting(io, id);
        } else {
            self.leave(io, id, Some(out));
        }
    }

    /// Stops: every client gets its goodbye from the state machine; HTTP connections end behind their request.
    pub fn stop(&mut self, io: &mut Io<'_>, stop_at: Instant) {
        self.stop_at = Some(stop_at);
        for slot in 0..self.table.len() {
            let Some(connection) = self.table.get_mut(slot) else { return };
            if let Protocol::Http2(http2) = &mut connection.protocol {
                http2.is_last = true;
                http2.desk.wake();
            }
            let Protocol::Http(http) = &mut connection.protocol else {
                continue;
            };
            http.exchange.serve_no_more();
            let idle = !http.exchange.is_busy();
            let id = ConnectionId { slot: slot as u32, generation: connection.generation };
            if idle && connection.phase == Phase::Open {
                self.leave(io, id, None);
            }
        }
    }

    /// The server does not wait any longer.
    pub fn is_out_of_patience(&self, now: Instant) -> bool {
        self.stop_at.is_some_and(|stop_at| stop_at <= now)
    }

    /// Stopping has begun.
    pub fn is_stopping(&self) -> bool {
        self.stop_at.is_some()
    }

    /// When patience ends.
    pub fn stop_at(&self) -> Option<Instant> {
        self.stop_at
    }

    /// Tells the state machine that a connection is gone, once.
    fn forget(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        self.uncount(id);
        let Some(connection) = self.get_mut(id) else { return };
        if std::mem::take(&mut connection.known) {
            io.shard.handle_close(io.now, id);
        }
    }

    /// Makes room for another client, once: one that is on its way out does not count.
    fn uncount(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if std::mem::take(&mut connection.counted) {
            self.counters.clients.fetch_sub(1, Ordering::Relaxed);
            self.counters.clients_of_shard[self.shard].fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn abort(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        match connection.protocol {
            Protocol::Carried(_) => return self.end_carried(io, id, None),
            Protocol::Request(_) => return self.end_request(io, id),
            _ => {}
        }
        connection.phase = Phase::Closing;
        connection.output = None;
        self.end_streams(io, id);
        self.forget(io, id);
        io.sockets.close(id.into(), Closing::Abort);
    }

    fn closed(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        self.end_streams(io, id);
        self.forget(io, id);
        if let Some(connection) = self.get_mut(id) {
            *connection = Connection::FREE;
            self.tls.close(id.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_client_costs_at_most_72_bytes() {
        assert!(size_of::<Connection>() <= 72, "{}", size_of::<Connection>());
    }
}
