//! Requests without a socket of their own, which the control plane carries. Each has a place like a connection until it is answered
//! or has become a client. A panic in here ends the one request whose bytes they were.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ringcast_state::ConnectionId;

use super::deadline::{PAGE_TIMEOUT, STREAM_WRITE_TIMEOUT};
use super::gate::Peer;
use super::read::end_if_torn;
use super::{Connections, Io, Phase, Protocol};
use crate::carry::request::{self, CarriedRequest, FarStream, State};
use crate::carry::{Ended, RequestHead, Respond};
use crate::http::exchange::{Awaiting, Exchange, Step};
use crate::http::reply::refuse;
use crate::sockjs::Told;
use crate::transport::emulation;
use crate::transport::stream::Opening;

impl Connections {
    /// Serves a request to a listener, by its head. The body follows; how long it may take is up to whoever carries it, for a
    /// deadline of each request would wait here long after it is answered.
    pub fn open_request(
        &mut self,
        io: &mut Io<'_>,
        listener: usize,
        head: &RequestHead,
        outlet: Box<dyn Respond>,
    ) -> ConnectionId {
        let id = self.occupy(io, Protocol::None);
        self.guard(io, id, |this, io| {
            let (mut exchange, mut out) = (Exchange::new(listener, None), Vec::new());
            let peer = Peer::Told(head.peer);
            let step = match head.read() {
                Ok(head) => {
                    this.with_gate(io, peer, |site, gate| exchange.begin_stream(site, &head, false, &mut out, gate))
                }
                Err(error) => refuse(error, &mut out),
            };
            this.take_request_step(io, id, exchange, outlet, step, out);
        });
        id
    }

    /// A part of its body, which may be the last. What nobody reads any more is taken, too.
    pub fn request_body(&mut self, io: &mut Io<'_>, id: ConnectionId, bytes: &[u8], is_last: bool) {
        self.guard(io, id, |this, io| {
            let Some((mut exchange, outlet)) = this.take_waiting(id) else { return };
            outlet.ready();
            if exchange.awaiting() != Awaiting::Body {
                return this.keep_waiting(id, exchange, outlet);
            }
            let mut out = Vec::new();
            match exchange.take_body(bytes, &mut out) {
                Step::Wait if is_last => {
                    // Its key was looked at with its head.
                    let step =
                        this.with_gate(io, Peer::Told(None), |site, gate| exchange.end_stream(site, &mut out, gate));
                    this.take_request_step(io, id, exchange, outlet, step, out);
                }
                Step::Wait => this.keep_waiting(id, exchange, outlet),
                refused => this.take_request_step(io, id, exchange, outlet, refused, out),
            }
        });
    }

    /// Does what the exchange of a request says; what it has written is in `out`.
    fn take_request_step(
        &mut self,
        io: &mut Io<'_>,
        id: ConnectionId,
        mut exchange: Exchange,
        outlet: Box<dyn Respond>,
        step: Step<'_>,
        mut out: Vec<u8>,
    ) {
        match step {
            Step::Wait | Step::Next if exchange.awaiting() == Awaiting::Body => {
                self.keep_waiting(id, exchange, outlet);
            }
            Step::Wait | Step::Next | Step::Close => self.respond_request(io, id, exchange, &*outlet, out),
            Step::Call { method, body, transport_errors } => {
                let Some(call) = self.next_call(id) else { return };
                let path = method.map(|method| method.as_str());
                io.shard.handle_api(io.now, call, path, body, transport_errors);
                self.keep_waiting(id, exchange, outlet);
            }
            Step::Page(wanted) => {
                let Some(call) = self.next_call(id) else { return };
                let Err(answer) = self.want(io.now.at, call, wanted) else {
                    self.set_deadline(id, io.now.at + PAGE_TIMEOUT);
                    return self.keep_waiting(id, exchange, outlet);
                };
                exchange.answer_page(&answer, &mut out);
                self.respond_request(io, id, exchange, &*outlet, out);
            }
            Step::Emulate { request, encoding, cors } => {
                let Some(call) = self.next_call(id) else { return };
                let Some(passed) = emulation::pass_on(io.shard, io.now, call, encoding, &request) else {
                    exchange.await_emulation(cors);
                    return self.keep_waiting(id, exchange, outlet);
                };
                exchange.answer_emulation(passed, &cors, &mut out);
                self.respond_request(io, id, exchange, &*outlet, out);
            }
            Step::Session { session, ask } => {
                let Some(call) = self.next_call(id) else { return };
                exchange.attach(self.ask_session(io, call, session, ask));
                self.keep_waiting(id, exchange, outlet);
            }
            // The head of a request that is carried asks for no other protocol.
            Step::Upgrade(_) => {
                outlet.end(Ended::Lost);
                self.vacate(io, id);
            }
            Step::Stream(opening) => self.open_request_stream(io, id, exchange, outlet, *opening),
        }
    }

    /// The response is a client's stream from now on.
    fn open_request_stream(
        &mut self,
        io: &mut Io<'_>,
        id: ConnectionId,
        mut exchange: Exchange,
        outlet: Box<dyn Respond>,
        opening: Opening,
    ) {
        self.metrics.count_request(exchange.take_counted());
        let Opening { transport, first, stream } = opening;
        let carrier = FarStream::new(outlet, stream, self.site.options.clone());
        self.put_back(id, Protocol::Carried(Box::new(carrier)));
        self.begin_client(io, id, transport);
        self.handle_frame(io, id, &first);
    }

    fn respond_request(
        &mut self,
        io: &mut Io<'_>,
        id: ConnectionId,
        mut exchange: Exchange,
        outlet: &dyn Respond,
        response: Vec<u8>,
    ) {
        self.metrics.count_request(exchange.take_counted());
        request::whole(outlet, response);
        self.vacate(io, id);
    }

    /// Writes the response that a request waits for.
    pub(super) fn answer_request(
        &mut self,
        io: &mut Io<'_>,
        id: ConnectionId,
        write: impl FnOnce(&mut Exchange, &mut Vec<u8>) -> bool,
    ) {
        let Some((mut exchange, outlet)) = self.take_waiting(id) else { return };
        let mut out = Vec::new();
        write(&mut exchange, &mut out);
        self.respond_request(io, id, exchange, &*outlet, out);
    }

    /// What a session of SockJS answers to a request.
    pub(super) fn told_request(&mut self, io: &mut Io<'_>, id: ConnectionId, told: Told) {
        let Some(mut request) = self.take_request(id) else { return };
        match (&mut request.state, told) {
            (State::Waiting(exchange), Told::More(piece)) => {
                let mut out = Vec::new();
                let Some(relay) = exchange.begin_relay(&mut out) else { return self.vacate(io, id) };
                self.metrics.count_request(exchange.take_counted());
                request::begin(&*request.outlet, out);
                request.outlet.send(piece);
                request.state = State::Relay(relay);
            }
            (State::Waiting(_), told) => {
                self.put_back(id, Protocol::Request(request));
                return self.answer_request(io, id, |exchange, out| exchange.answer_session(&told, out));
            }
            (State::Relay(_), Told::More(piece)) => request.outlet.send(piece),
            (State::Relay(relay), Told::Last(piece)) => {
                relay.attachment.finish();
                request.outlet.send(piece);
                request.outlet.finish();
                return self.vacate(io, id);
            }
            // A response that has begun has its status.
            (State::Relay(_), Told::Status(_)) => return self.put_back(id, Protocol::Request(request)),
        }
        self.put_back(id, Protocol::Request(request));
        self.await_written(id, io.now.at + STREAM_WRITE_TIMEOUT);
    }

    /// Breaks it off.
    pub(super) fn end_request(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        if let Some(request) = self.take_request(id) {
            request.outlet.end(Ended::Lost);
            self.vacate(io, id);
        }
    }

    /// Breaks all of them off.
    pub fn end_requests(&mut self, io: &mut Io<'_>) {
        for slot in 0..self.table.len() {
            let found = self.table.get_mut(slot).filter(|found| matches!(found.protocol, Protocol::Request(_)));
            let id = found.map(|found| ConnectionId { slot: slot as u32, generation: found.generation });
            id.into_iter().for_each(|id| self.end_request(io, id));
        }
    }

    fn take_request(&mut self, id: ConnectionId) -> Option<Box<CarriedRequest>> {
        let connection = self.get_mut(id).filter(|connection| connection.phase == Phase::Open)?;
        match std::mem::take(&mut connection.protocol) {
            Protocol::Request(request) => Some(request),
            other => {
                connection.protocol = other;
                None
            }
        }
    }

    fn take_waiting(&mut self, id: ConnectionId) -> Option<(Exchange, Box<dyn Respond>)> {
        let request = *self.take_request(id)?;
        match request.state {
            State::Waiting(exchange) => Some((exchange, request.outlet)),
            state @ State::Relay(_) => {
                self.put_back(id, Protocol::Request(Box::new(CarriedRequest { state, ..request })));
                None
            }
        }
    }

    fn keep_waiting(&mut self, id: ConnectionId, exchange: Exchange, outlet: Box<dyn Respond>) {
        let request = CarriedRequest { state: State::Waiting(exchange), outlet };
        self.put_back(id, Protocol::Request(Box::new(request)));
    }

    fn guard(&mut self, io: &mut Io<'_>, id: ConnectionId, act: impl FnOnce(&mut Self, &mut Io<'_>)) {
        if catch_unwind(AssertUnwindSafe(|| act(self, io))).is_err() {
            end_if_torn(io.shard);
            tracing::error!(connection = ?id, "panic while handling a request, it is broken off");
            // Whoever carries it learns of the end, for its outlet is gone.
            self.vacate(io, id);
        }
    }
}
