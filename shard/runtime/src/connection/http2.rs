//! Connections of HTTP/2: requests on streams, and clients that streams carry. Driven once there is something new: bytes came, a
//! stream was written to, the socket took what waited. A panic in here closes the one connection whose bytes they were.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use ringcast_state::{ApiCallId, ConnectionId, Framing};

use super::deadline::{BODY_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT, PAGE_TIMEOUT, RESPONSE_TIMEOUT};
use super::deadline::{SLOW_GOODBYE_TIMEOUT, STREAM_WRITE_TIMEOUT};
use super::gate::Peer;
use super::read::end_if_torn;
use super::{Connections, Io, NEVER, Phase, Protocol};
use crate::http::Site;
use crate::http::exchange::{Awaiting, Exchange, Gate, Step};
use crate::http::http2::{self, Chunk, End, Http2, Inbound, Outgoing, Polled, Progress, State, Stream, StreamCarrier};
use crate::http::reply::refuse;
use crate::transport::emulation;
use crate::transport::stream::Opening;
use crate::transport::websocket::Upgrade;
use crate::uring::SendBytes;

/// Bytes of bodies that are not whole, of all streams of a connection, beside the largest that the server API takes.
const BODY_BYTES_SPARE: usize = 1 << 20;

/// A request that is being looked at.
struct Serving {
    number: u32,
    exchange: Box<Exchange>,
    respond: SendResponse<Chunk>,
    body: RecvStream,
    /// Bytes of the body that have come.
    bytes: usize,
}

/// What came of reading a body.
enum Body {
    /// There is more to come.
    Coming,
    /// It is whole, or refused.
    Step(Step<'static>),
    /// The stream is reset.
    Gone,
}

impl Connections {
    /// The connection speaks HTTP/2: by its first bytes, or because that was agreed upon before them.
    pub(super) fn begin_http2(&mut self, io: &mut Io<'_>, id: ConnectionId, listener: usize, input: &[u8]) -> Protocol {
        let give_up_at = io.now.at + HEAD_TIMEOUT;
        let mut http2 = Box::new(Http2::new(listener, id, Rc::clone(&self.woken), give_up_at));
        http2.is_last = self.is_stopping();
        self.http2_received(io, id, &mut http2, input);
        Protocol::Http2(http2)
    }

    pub(super) fn http2_received(&mut self, io: &mut Io<'_>, id: ConnectionId, http2: &mut Http2, bytes: &[u8]) {
        http2.wire.push(bytes);
        if !http2.meter.take(bytes, io.now.at) {
            http2.ending.get_or_insert(Reason::ENHANCE_YOUR_CALM);
        }
        if http2.wire.is_full() && !http2.paused {
            http2.paused = true;
            io.sockets.pause_receive(id.into());
        }
        http2.desk.wake();
    }

    /// Drives the connections that have news.
    pub fn drive_streams(&mut self, io: &mut Io<'_>) {
        let woken = self.woken.take();
        for id in woken {
            self.drive(io, id);
        }
    }

    /// Whether a connection has news.
    pub fn has_woken(&self) -> bool {
        !self.woken.borrow().is_empty()
    }

    /// Goes on with those that had enough in the last turn; gives how many.
    pub fn resume_streams(&mut self) -> usize {
        let unfinished = mem::take(&mut self.unfinished);
        for id in &unfinished {
            if let Some(Protocol::Http2(http2)) = self.get_mut(*id).map(|connection| &connection.protocol) {
                http2.desk.wake();
            }
        }
        unfinished.len()
    }

    fn take_http2(&mut self, id: ConnectionId) -> Option<Box<Http2>> {
        let connection = self.get_mut(id)?;
        match mem::take(&mut connection.protocol) {
            Protocol::Http2(http2) => Some(http2),
            other => {
                connection.protocol = other;
                None
            }
        }
    }

    fn drive(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        if self.get_mut(id).is_none_or(|connection| connection.phase != Phase::Open) {
            return;
        }
        let Some(mut http2) = self.take_http2(id) else { return };
        http2.desk.set_driven(true);
        let driven = catch_unwind(AssertUnwindSafe(|| self.work(io, id, &mut http2)));
        http2.desk.set_driven(false);
        match driven {
            Ok(true) => self.rest(io, id, http2),
            Ok(false) => {
                self.leave_clients(io, &http2);
                let last = http2.wire.take_output(Vec::new());
                self.leave(io, id, Some(last));
            }
            Err(_) => {
                end_if_torn(io.shard);
                tracing::error!(connection = ?id, "panic while handling HTTP/2, its connection is closed");
                self.put_back(id, Protocol::Http2(http2));
                self.abort(io, id);
            }
        }
    }

    /// Everything that can be done now; false when the connection is over.
    fn work(&mut self, io: &mut Io<'_>, id: ConnectionId, http2: &mut Http2) -> bool {
        loop {
            if let Some(reason) = http2.ending {
                http2.go_away(reason);
                return false;
            }
            let mut has_moved = false;
            match http2.poll(io.now.at) {
                Polled::Request(request, respond) => {
                    has_moved = true;
                    self.begin_request(io, id, http2, *request, respond);
                }
                Polled::Enough if !self.unfinished.contains(&id) => self.unfinished.push(id),
                Polled::Enough | Polled::Idle => {}
                Polled::Over => return false,
            }
            while let Some(number) = http2.desk.next() {
                has_moved = true;
                self.look(io, id, http2, number);
            }
            if has_moved {
                continue;
            }
            if http2.is_last && http2.streams.is_empty() {
                http2.ending = Some(Reason::NO_ERROR);
            } else if !self.send_wire(io, id, http2) {
                return true;
            }
        }
    }

    /// Hands what waits to the socket, if it takes it; there is room for more then.
    fn send_wire(&mut self, io: &mut Io<'_>, id: ConnectionId, http2: &Http2) -> bool {
        let Some(connection) = self.get_mut(id) else { return false };
        if connection.sending || connection.output.is_some() || !http2.wire.has_output() {
            return false;
        }
        let bytes = http2.wire.take_output(io.sockets.take_buffer());
        self.start_send(io, id, SendBytes::Owned(bytes));
        true
    }

    /// Waits for the next news.
    fn rest(&mut self, io: &mut Io<'_>, id: ConnectionId, mut http2: Box<Http2>) {
        http2.desk.take_spent().into_iter().for_each(|buffer| io.sockets.recycle(buffer));
        http2.meter.expect_updates(http2.desk.take_updates());
        if http2.paused && !http2.wire.is_full() {
            http2.paused = false;
            io.sockets.start_receive(id.into());
        }
        if http2.streams.is_empty() {
            http2.idle_until.get_or_insert(io.now.at + IDLE_TIMEOUT);
        }
        let timeout = http2.next_timeout();
        let Some(connection) = self.get_mut(id) else { return };
        connection.protocol = Protocol::Http2(http2);
        if !connection.blocked {
            self.set_deadline(id, timeout);
        }
    }

    fn begin_request(
        &mut self,
        io: &mut Io<'_>,
        id: ConnectionId,
        http2: &mut Http2,
        request: Request<RecvStream>,
        respond: SendResponse<Chunk>,
    ) {
        let (parts, body) = request.into_parts();
        let number = respond.stream_id().as_u32();
        let exchange = Box::new(Exchange::new(http2.listener, self.site.alt_svc(http2.listener)));
        let mut serving = Serving { number, exchange, respond, body, bytes: 0 };
        let mut out = io.sockets.take_buffer();
        let step = match http2::head(&parts) {
            Ok(head) => {
                let is_whole = serving.body.is_end_stream();
                let begin =
                    |site: &Site, gate: Gate<'_>| serving.exchange.begin_stream(site, &head, is_whole, &mut out, gate);
                self.with_gate(io, Peer::Socket(id), begin)
            }
            Err(error) => refuse(error, &mut out),
        };
        self.take_step(io, id, http2, serving, step, out);
    }

    /// Does what the exchange of a stream says; what it has written is in `out`.
    fn take_step(
        &mut self,
        io: &mut Io<'_>,
        id: ConnectionId,
        http2: &mut Http2,
        mut serving: Serving,
        step: Step<'_>,
        mut out: Vec<u8>,
    ) {
        let number = serving.number;
        let answering = |serving: Serving| State::Answering { exchange: serving.exchange, respond: serving.respond };
        match step {
            Step::Wait | Step::Next if serving.exchange.awaiting() == Awaiting::Body => {
                let Serving { exchange, respond, body, bytes, .. } = serving;
                let state = State::Body { exchange, respond, body, bytes };
                http2.keep(number, Some(io.now.at + BODY_TIMEOUT), state);
                io.sockets.recycle(out);
            }
            Step::Wait | Step::Next | Step::Close => self.respond_whole(io, http2, serving, out),
            Step::Call { method, body, transport_errors } => {
                let call = ApiCallId { connection: id, sequence: number };
                let path = method.map(|method| method.as_str());
                io.shard.handle_api(io.now, call, path, body, transport_errors);
                http2.keep(number, None, answering(serving));
            }
            Step::Page(wanted) => {
                let call = ApiCallId { connection: id, sequence: number };
                let Err(answer) = self.want(io.now.at, call, wanted) else {
                    return http2.keep(number, Some(io.now.at + PAGE_TIMEOUT), answering(serving));
                };
                serving.exchange.answer_page(&answer, &mut out);
                self.respond_whole(io, http2, serving, out);
            }
            Step::Emulate { request, encoding, cors } => {
                let call = ApiCallId { connection: id, sequence: number };
                let Some(passed) = emulation::pass_on(io.shard, io.now, call, encoding, &request) else {
                    serving.exchange.await_emulation(cors);
                    return http2.keep(number, None, answering(serving));
                };
                serving.exchange.answer_emulation(passed, &cors, &mut out);
                self.respond_whole(io, http2, serving, out);
            }
            Step::Session { session, ask } => {
                let call = ApiCallId { connection: id, sequence: number };
                serving.exchange.attach(self.ask_session(io, call, session, ask));
                http2.keep(number, None, answering(serving));
            }
            Step::Upgrade(upgrade) => self.open_websocket(io, http2, serving, upgrade, out),
            Step::Stream(opening) => {
                io.sockets.recycle(out);
                self.carry_stream(io, http2, serving, *opening);
            }
        }
    }

    fn respond_whole(&mut self, io: &mut Io<'_>, http2: &mut Http2, mut serving: Serving, response: Vec<u8>) {
        self.metrics.count_request(serving.exchange.take_counted());
        let out = Outgoing::new(Progress::new(serving.number, &http2.desk));
        http2::whole(&out, &mut serving.respond, response);
        let state = State::Leaving { written: 0, end: None };
        http2.insert(serving.number, out, Some(io.now.at + RESPONSE_TIMEOUT), state);
    }

    /// A client whose stream the request became.
    fn carry_stream(&mut self, io: &mut Io<'_>, http2: &mut Http2, mut serving: Serving, opening: Opening) {
        self.metrics.count_request(serving.exchange.take_counted());
        let Opening { transport, first, mut stream } = opening;
        let out = Outgoing::new(Progress::new(serving.number, &http2.desk));
        let carrier = if stream.starts_at_once() {
            http2::begin(&out, &mut serving.respond, stream.take_head().unwrap_or_default());
            StreamCarrier::stream(Rc::clone(&out))
        } else {
            let options = self.site.options.clone();
            StreamCarrier::unbegun(Rc::clone(&out), serving.respond, stream, options)
        };
        let client = self.open_carried(io, transport, Some(&first), Box::new(carrier));
        http2.insert(serving.number, out, None, State::Client { id: client, inbound: None });
    }

    /// A client whose frames are on the stream. Source: RFC 8441.
    fn open_websocket(
        &mut self,
        io: &mut Io<'_>,
        http2: &mut Http2,
        mut serving: Serving,
        upgrade: Upgrade,
        head: Vec<u8>,
    ) {
        self.metrics.count_request(serving.exchange.take_counted());
        let Upgrade { decoder, transport, first } = upgrade;
        let out = Outgoing::new(Progress::new(serving.number, &http2.desk));
        http2::begin(&out, &mut serving.respond, head);
        let framing = transport.framing;
        let says_why = self.says_why(transport.kind);
        let carrier = StreamCarrier::websocket(Rc::clone(&out), says_why, framing == Framing::SockJs);
        let client = self.open_carried(io, transport, first.as_deref(), Box::new(carrier));
        self.begin_frames(io, client, framing);
        let inbound = Some(Box::new(Inbound { body: serving.body, decoder }));
        http2.insert(serving.number, out, None, State::Client { id: client, inbound });
    }

    /// Looks at a stream that has news.
    fn look(&mut self, io: &mut Io<'_>, id: ConnectionId, http2: &mut Http2, number: u32) {
        let Some(mut stream) = http2.streams.remove(&number) else { return };
        let is_reset = stream.is_reset();
        match stream.state {
            State::Client { id: client, .. } if is_reset => self.carried_gone(io, client),
            State::Body { bytes, .. } if is_reset => http2.body_bytes -= bytes,
            State::Answering { .. } | State::Relay { .. } | State::Leaving { .. } if is_reset => {}
            State::Body { exchange, respond, body, bytes } => {
                let Stream { out, waker, deadline, .. } = stream;
                let mut serving = Serving { number, exchange, respond, body, bytes };
                let mut response = io.sockets.take_buffer();
                match self.read_body(io, http2, &mut serving, &mut response, &mut Context::from_waker(&waker)) {
                    Body::Gone => io.sockets.recycle(response),
                    Body::Step(step) => self.take_step(io, id, http2, serving, step, response),
                    Body::Coming => {
                        io.sockets.recycle(response);
                        let Serving { exchange, respond, body, bytes, .. } = serving;
                        let state = State::Body { exchange, respond, body, bytes };
                        http2.streams.insert(number, Stream { out, waker, deadline, state });
                    }
                }
            }
            State::Leaving { .. } if stream.out.progress().is_through() => {}
            State::Relay { ref relay, .. } => {
                if stream.out.progress().is_through() && stream.out.unconfirmed.take() {
                    stream.deadline = None;
                    relay.attachment.written();
                }
                http2.streams.insert(number, stream);
            }
            State::Answering { .. } | State::Leaving { .. } => drop(http2.streams.insert(number, stream)),
            State::Client { id: client, ref mut inbound } => {
                if stream.out.progress().is_through() && stream.out.unconfirmed.take() {
                    self.carried_written(io, client);
                }
                if let Some(inbound) = inbound {
                    self.read_frames(io, client, &stream.out, inbound, &mut Context::from_waker(&stream.waker));
                }
                self.look_for_end(io, http2, number, stream);
            }
        }
    }

    /// A client that has ended leaves its last bytes, which have a moment.
    fn look_for_end(&mut self, io: &Io<'_>, http2: &mut Http2, number: u32, mut stream: Stream) {
        let Some(end) = stream.out.ended.get() else {
            http2.streams.insert(number, stream);
            return;
        };
        if stream.out.progress().is_through() {
            return;
        }
        stream.state = State::Leaving { written: stream.out.progress().written(), end: Some(end) };
        stream.deadline = Some(io.now.at + patience(Some(end)));
        http2.stream_timeout = http2.stream_timeout.min(io.now.at + patience(Some(end)));
        http2.streams.insert(number, stream);
    }

    fn read_body(
        &mut self,
        io: &mut Io<'_>,
        http2: &mut Http2,
        serving: &mut Serving,
        response: &mut Vec<u8>,
        context: &mut Context<'_>,
    ) -> Body {
        let bytes_max = self.site.options.http_api.body_size_limit + BODY_BYTES_SPARE;
        let body = loop {
            match serving.body.poll_data(context) {
                Poll::Pending => return Body::Coming,
                Poll::Ready(None) => {
                    let end = |site: &Site, gate: Gate<'_>| serving.exchange.end_stream(site, response, gate);
                    // Its key was looked at with its head.
                    break Body::Step(self.with_gate(io, Peer::Told(None), end));
                }
                Poll::Ready(Some(Err(_))) => break Body::Gone,
                Poll::Ready(Some(Ok(data))) => {
                    // It fails only on more than came.
                    let _ = serving.body.flow_control().release_capacity(data.len());
                    serving.bytes += data.len();
                    http2.body_bytes += data.len();
                    if http2.body_bytes > bytes_max {
                        // Not looked at yet, so it may be sent again.
                        serving.respond.send_reset(Reason::REFUSED_STREAM);
                        break Body::Gone;
                    }
                    match serving.exchange.take_body(&data, response) {
                        Step::Wait => {}
                        refused => break Body::Step(refused),
                    }
                }
            }
        };
        http2.body_bytes -= serving.bytes;
        body
    }

    /// Frames that a client has sent, unless it is told to wait: what it sends then stays within its window.
    fn read_frames(
        &mut self,
        io: &mut Io<'_>,
        client: ConnectionId,
        out: &Outgoing,
        inbound: &mut Inbound,
        context: &mut Context<'_>,
    ) {
        while !out.paused.get() && out.ended.get().is_none() {
            match inbound.body.poll_data(context) {
                Poll::Pending => return,
                Poll::Ready(None | Some(Err(_))) => return self.carried_gone(io, client),
                Poll::Ready(Some(Ok(data))) => {
                    // It fails only on more than came.
                    let _ = inbound.body.flow_control().release_capacity(data.len());
                    let mut frames = io.sockets.take_buffer();
                    frames.extend_from_slice(&data);
                    self.decode(io, client, &mut inbound.decoder, &mut frames);
                    io.sockets.recycle(frames);
                }
            }
        }
    }

    /// Ends the streams that have taken too long, and a connection that has none.
    pub(super) fn expire_streams(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        let Some(mut http2) = self.take_http2(id) else { return };
        let now = io.now.at;
        if http2.idle_until.is_some_and(|idle_until| idle_until <= now) {
            http2.ending = Some(Reason::NO_ERROR);
        }
        http2.stream_timeout = NEVER;
        let (mut body_bytes, mut next) = (http2.body_bytes, NEVER);
        http2.streams.retain(|_, stream| {
            if stream.deadline.is_some_and(|deadline| deadline <= now) {
                stream.deadline = stream.has_moved().map(|end| now + patience(end));
                if stream.deadline.is_none() {
                    body_bytes -= stream.give_up();
                    return false;
                }
            }
            next = stream.deadline.map_or(next, |deadline| next.min(deadline));
            true
        });
        (http2.body_bytes, http2.stream_timeout) = (body_bytes, next);
        http2.desk.wake();
        self.put_back(id, Protocol::Http2(http2));
    }

    /// The connection is gone, and its clients with it.
    pub(super) fn end_streams(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        if let Some(http2) = self.take_http2(id) {
            self.leave_clients(io, &http2);
        }
    }

    fn leave_clients(&mut self, io: &mut Io<'_>, http2: &Http2) {
        for stream in http2.streams.values() {
            if let State::Client { id, .. } = stream.state {
                self.carried_gone(io, id);
            }
        }
    }
}

/// For bytes of a stream to make progress.
fn patience(end: Option<End>) -> Duration {
    match end {
        None => RESPONSE_TIMEOUT,
        Some(End::Patient) => STREAM_WRITE_TIMEOUT,
        Some(End::Slow) => SLOW_GOODBYE_TIMEOUT,
    }
}
