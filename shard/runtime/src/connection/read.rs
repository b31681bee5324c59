//! Bytes that came: requests, the upgrade, frames. A panic in here closes the one connection whose bytes
//! they were.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use ringcast_proto::codes::Disconnect;
use ringcast_proto::websocket::{self, Decoder, Event, Opcode, ProtocolError};
use ringcast_state::{ApiCallId, ConnectionId, Shard, Transport};

use super::gate::Peer;
use super::{Connections, Http, Io, Phase, Protocol};
use crate::http::exchange::{PIPELINED_BYTES_MAX, Step};
use crate::http::http2::{self, Preface};
use crate::pool::Counters;
use crate::transport::emulation;
use crate::transport::stream::Opening;
use crate::transport::websocket::Upgrade;

/// Batches of pongs that wait for a write; each is no larger than a receive buffer. A peer that floods us with pings
/// gets no more answers than it reads.
const PONG_BATCHES_MAX: usize = 64;

/// What serving a batch of bytes led to.
enum Served {
    /// Go on with HTTP.
    Http,
    /// Closing, behind what is in the output.
    Leave,
    /// Go on with frames.
    Upgrade(Upgrade),
    /// Go on with a stream.
    Stream(Box<Opening>),
}

impl Connections {
    pub(super) fn received(&mut self, io: &mut Io<'_>, id: ConnectionId, bytes: &mut [u8]) {
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        let mut protocol = std::mem::take(&mut connection.protocol);
        match &mut protocol {
            Protocol::WebSocket(decoder) => {
                self.decode(io, id, decoder, bytes);
                self.put_back(id, protocol);
            }
            Protocol::Http(http) => {
                if let Some(upgraded) = self.http_received(io, id, http, bytes) {
                    protocol = upgraded;
                }
                self.put_back(id, protocol);
            }
            Protocol::Http2(http2) => {
                self.http2_received(io, id, http2, bytes);
                self.put_back(id, protocol);
            }
            // A client that sends more requests waits for the end of this one.
            Protocol::Stream(_) | Protocol::Carried(_) | Protocol::Relay(_) | Protocol::Request(_) => {
                self.put_back(id, protocol);
            }
            Protocol::None => {}
        }
    }

    pub(super) fn put_back(&mut self, id: ConnectionId, protocol: Protocol) {
        if let Some(connection) = self.get_mut(id) {
            connection.protocol = protocol;
        }
    }

    /// Frames of a client.
    pub(super) fn decode(&mut self, io: &mut Io<'_>, id: ConnectionId, decoder: &mut Decoder, bytes: &mut [u8]) {
        let (mut pongs, mut goodbye) = (Vec::new(), None);
        let framed = self.get_mut(id).is_some_and(|connection| connection.framed);
        let inflater = &mut self.inflater;
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            decoder.decode_with(bytes, inflater, &mut |event| {
                match event {
                    Event::Text(message) | Event::Binary(message) if framed => Self::unframe(io, id, message),
                    Event::Text(message) | Event::Binary(message) => io.shard.handle_frame(io.now, id, message),
                    Event::Ping(payload) => websocket::encode_frame(&mut pongs, Opcode::Pong, payload),
                    Event::Pong(_) => io.shard.handle_pong(id),
                    Event::Close { code, .. } => {
                        goodbye = Some(close_echo(code));
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            })
        }));
        match decoded {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let code = u32::from(error.close_code());
                // Too big needs no explanation, and the reference gives none.
                let reason = match error {
                    ProtocolError::TooBig => "".into(),
                    error => error.to_string().into(),
                };
                io.shard.disconnect(io.now, id, Disconnect { code, reason });
            }
            Err(_) => close_over_panic(io, id),
        }
        if !pongs.is_empty() {
            self.answer_pings(io, id, pongs);
        }
        if let Some(goodbye) = goodbye {
            self.forget(io, id);
            self.leave(io, id, Some(goodbye));
        }
    }

    fn answer_pings(&mut self, io: &mut Io<'_>, id: ConnectionId, pongs: Vec<u8>) {
        let Some(connection) = self.get_mut(id) else { return };
        let waiting = connection.output.as_ref().map_or(0, |output| output.len());
        if connection.phase == Phase::Open && waiting < PONG_BATCHES_MAX {
            self.write(io, id, pongs);
        }
    }

    /// Bytes of an HTTP connection. Gives the protocol that follows an upgrade.
    fn http_received(
        &mut self,
        io: &mut Io<'_>,
        id: ConnectionId,
        http: &mut Http,
        bytes: &mut [u8],
    ) -> Option<Protocol> {
        // What has come of a request that is to wait. Over TLS that has begun, it is served here.
        if self.is_holding && !http.exchange.is_busy() && self.tls.session(id.slot).is_none() {
            http.input.extend_from_slice(bytes);
            return None;
        }
        let before = http.exchange.awaiting();
        let mut out = io.sockets.take_buffer();
        // What waited and what came lie side by side, so that a request can be read from one piece.
        let mut waited = std::mem::take(&mut http.input);
        let input = if waited.is_empty() {
            bytes
        } else {
            waited.extend_from_slice(bytes);
            &mut waited[..]
        };
        let listener = &self.site.options.listeners[http.exchange.listener()];
        if listener.h2c || listener.tls.is_some() {
            match http2::preface(input) {
                Preface::Whole => return Some(self.begin_http2(io, id, http.exchange.listener(), input)),
                // As long as it may take for the head of a request.
                Preface::Part => {
                    http.input = input.to_vec();
                    return None;
                }
                // What was agreed on counts: the library refuses the rest.
                Preface::Other if self.tls.session(id.slot).is_some_and(|session| session.speaks_http2()) => {
                    return Some(self.begin_http2(io, id, http.exchange.listener(), input));
                }
                Preface::Other => {}
            }
        }
        let mut used = 0;
        let served = catch_unwind(AssertUnwindSafe(|| self.serve(io, id, http, input, &mut used, &mut out)));
        let rest = &mut input[used..];
        match served {
            Ok(Served::Http) => {
                http.input = rest.to_vec();
                self.throttle(io, id, http);
                self.write(io, id, out);
                self.await_request(io, id, before, http.exchange.awaiting());
                None
            }
            Ok(Served::Leave) => {
                self.leave(io, id, Some(out));
                None
            }
            Ok(Served::Upgrade(upgrade)) => {
                self.write(io, id, out);
                Some(self.open(io, id, upgrade, rest))
            }
            Ok(Served::Stream(opening)) => {
                io.sockets.recycle(out);
                Some(self.open_stream(io, id, *opening))
            }
            Err(_) => {
                end_if_torn(io.shard);
                tracing::error!(connection = ?id, "panic while handling a request, its connection is closed");
                self.abort(io, id);
                None
            }
        }
    }

    fn serve(
        &mut self,
        io: &mut Io<'_>,
        id: ConnectionId,
        http: &mut Http,
        input: &[u8],
        used: &mut usize,
        out: &mut Vec<u8>,
    ) -> Served {
        // A response waits behind a write that the peer does not take: nothing more is served before that.
        if self.get_mut(id).is_none_or(|connection| connection.output.is_some()) {
            return Served::Http;
        }
        loop {
            let (step_used, step) =
                self.with_gate(io, Peer::Socket(id), |site, gate| http.exchange.step(site, &input[*used..], out, gate));
            *used += step_used;
            self.metrics.count_request(http.exchange.take_counted());
            match step {
                Step::Wait => return Served::Http,
                // Responses that nobody reads do not pile up: the rest is served once they have left.
                Step::Next if *used == input.len() || out.len() > PIPELINED_BYTES_MAX => {
                    return Served::Http;
                }
                Step::Next => {}
                Step::Close => return Served::Leave,
                Step::Upgrade(upgrade) => return Served::Upgrade(upgrade),
                Step::Stream(opening) => return Served::Stream(opening),
                Step::Emulate { request, encoding, cors } => {
                    let Some(call) = self.next_call(id) else { return Served::Leave };
                    let Some(passed) = emulation::pass_on(io.shard, io.now, call, encoding, &request) else {
                        http.exchange.await_emulation(cors);
                        return Served::Http;
                    };
                    let step = http.exchange.answer_emulation(passed, &cors, out);
                    self.metrics.count_request(http.exchange.take_counted());
                    if matches!(step, Step::Close) {
                        return Served::Leave;
                    }
                    if *used == input.len() {
                        return Served::Http;
                    }
                }
                Step::Session { session, ask } => {
                    let Some(call) = self.next_call(id) else { return Served::Leave };
                    http.exchange.attach(self.ask_session(io, call, session, ask));
                    return Served::Http;
                }
                Step::Page(wanted) => {
                    let Some(call) = self.next_call(id) else { return Served::Leave };
                    let Err(answer) = self.want(io.now.at, call, wanted) else { return Served::Http };
                    let keep_alive = http.exchange.answer_page(&answer, out);
                    self.metrics.count_request(http.exchange.take_counted());
                    if !keep_alive {
                        return Served::Leave;
                    }
                }
                Step::Call { method, body, transport_errors } => {
                    let Some(call) = self.next_call(id) else { return Served::Leave };
                    let path = method.map(|method| method.as_str());
                    io.shard.handle_api(io.now, call, path, body, transport_errors);
                    return Served::Http;
                }
            }
        }
    }

    /// A name for the answer that the connection waits for.
    pub(super) fn next_call(&mut self, id: ConnectionId) -> Option<ApiCallId> {
        let connection = self.get_mut(id)?;
        connection.calls = connection.calls.wrapping_add(1);
        Some(ApiCallId { connection: id, sequence: connection.calls })
    }

    /// Serves what waited behind a request.
    pub(super) fn serve_waiting(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        self.received(io, id, &mut []);
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        if connection.ended && connection.phase == Phase::Open && !self.is_answering(id) {
            self.leave(io, id, None);
        }
    }

    fn is_answering(&mut self, id: ConnectionId) -> bool {
        match self.get_mut(id).map(|connection| &connection.protocol) {
            Some(Protocol::Http(http)) => http.exchange.is_answering(),
            Some(_) | None => false,
        }
    }

    fn throttle(&mut self, io: &mut Io<'_>, id: ConnectionId, http: &mut Http) {
        let full = http.input.len() > PIPELINED_BYTES_MAX;
        if full != http.paused {
            http.paused = full;
            if full { io.sockets.pause_receive(id.into()) } else { io.sockets.start_receive(id.into()) }
        }
    }

    /// The connection speaks the client protocol from now on; frames may have come with the request.
    fn open(&mut self, io: &mut Io<'_>, id: ConnectionId, upgrade: Upgrade, frames: &mut [u8]) -> Protocol {
        let Upgrade { mut decoder, transport, first } = upgrade;
        let framing = transport.framing;
        self.begin_client(io, id, transport);
        self.begin_frames(io, id, framing);
        if let Some(first) = first {
            self.handle_frame(io, id, &first);
        }
        self.decode(io, id, &mut decoder, frames);
        Protocol::WebSocket(decoder)
    }

    /// The response is a stream from now on.
    fn open_stream(&mut self, io: &mut Io<'_>, id: ConnectionId, opening: Opening) -> Protocol {
        let Opening { transport, first, mut stream } = opening;
        let head = if stream.starts_at_once() { stream.take_head() } else { None };
        self.put_back(id, Protocol::Stream(Box::new(stream)));
        self.begin_client(io, id, transport);
        if let Some(head) = head {
            self.write(io, id, head);
        }
        self.handle_frame(io, id, &first);
        self.get_mut(id).map(|connection| std::mem::take(&mut connection.protocol)).unwrap_or_default()
    }

    pub(super) fn begin_client(&mut self, io: &mut Io<'_>, id: ConnectionId, transport: Transport) {
        self.clear_deadline(id);
        self.counters.clients_of_shard[self.shard].fetch_add(1, Ordering::Relaxed);
        if let Some(connection) = self.get_mut(id) {
            connection.known = true;
            connection.counted = true;
            connection.kind = transport.kind;
        }
        io.shard.handle_open(io.now, id, transport);
        if self.is_stopping() {
            io.shard.disconnect(io.now, id, Disconnect::SHUTDOWN);
        }
    }

    /// A message of a client that did not come as a WebSocket frame.
    pub(super) fn handle_frame(&mut self, io: &mut Io<'_>, id: ConnectionId, frame: &[u8]) {
        if catch_unwind(AssertUnwindSafe(|| io.shard.handle_frame(io.now, id, frame))).is_err() {
            close_over_panic(io, id);
        }
    }

    /// The peer sends no more. A client is gone with that; a request may still get its answer.
    pub(super) fn ended(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        connection.ended = true;
        if connection.phase == Phase::Open && !self.is_answering(id) {
            self.end_streams(io, id);
            self.forget(io, id);
            self.leave(io, id, None);
        }
    }
}

fn close_over_panic(io: &mut Io<'_>, id: ConnectionId) {
    end_if_torn(io.shard);
    tracing::error!(connection = ?id, "panic while handling a client's message, the client is closed");
    io.shard.disconnect(io.now, id, Disconnect::SERVER_ERROR);
}

/// A panic may have left what connections share half changed: half a server is worse than a restart.
pub(super) fn end_if_torn(shard: &Shard) {
    if !shard.is_whole() {
        tracing::error!("panic while changing what connections share, the process ends");
        std::process::abort();
    }
}

/// Counts one more client connection of the node, if the limit allows; 0 is none.
pub(super) fn has_room(counters: &Counters, limit: usize) -> bool {
    let before = counters.clients.fetch_add(1, Ordering::Relaxed);
    let room = (limit == 0 || before < limit) && !counters.is_full.load(Ordering::Relaxed);
    if !room {
        counters.clients.fetch_sub(1, Ordering::Relaxed);
        counters.refused.fetch_add(1, Ordering::Relaxed);
    }
    room
}

/// The peer's code again, as RFC 6455 asks.
fn close_echo(code: Option<u16>) -> Vec<u8> {
    let mut frame = Vec::new();
    match code {
        Some(code) => websocket::encode_close(&mut frame, code, ""),
        None => websocket::encode_frame(&mut frame, Opcode::Close, &[]),
    }
    frame
}
