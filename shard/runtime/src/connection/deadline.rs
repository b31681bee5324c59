//! When a connection has had enough time: one deadline each, looked up in one heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use ringcast_state::{ConnectionId, Time, TransportKind};

use super::{Connections, Io, NEVER, Phase, Protocol};
use crate::http::exchange::Awaiting;

/// From the first byte of a request, or the accept, to the end of its head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// For the body of a request of the server API.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two requests.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// For the control plane to make a page.
pub(super) const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an HTTP client may take no byte of a response.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the client of a stream may take no byte. Source: protocol §14.
pub(crate) const STREAM_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// For the close frame of a client that does not keep up: one try.
pub(super) const SLOW_GOODBYE_TIMEOUT: Duration = Duration::from_millis(100);

/// Deadlines are multiples of this, rounded up: what came in a crowd is looked at together. Measured, 10,000 connections of
/// half a second woke the shard for each of their forgotten head timeouts, 23 µs a piece.
const GRID: Duration = Duration::from_millis(32);

/// Connections ended per turn: to throw away the full buffers of a slow client takes the kernel a millisecond, and
/// the others' messages wait meanwhile.
const EXPIRED_PER_TURN: usize = 8;

/// Entries may be early, for a deadline that moves back leaves its entry where it is: so a connection has one
/// entry as a rule, however many requests it serves.
#[derive(Default)]
pub struct Deadlines {
    heap: BinaryHeap<Reverse<(Time, ConnectionId)>>,
}

fn on_grid(at: Time) -> Time {
    Time(at.0.checked_next_multiple_of(GRID.as_micros() as u64).unwrap_or(u64::MAX))
}

impl Connections {
    /// When `handle_timeout` wants to be called; may be early.
    pub fn next_timeout(&self) -> Option<Time> {
        let deadline = self.deadlines.heap.peek().map(|Reverse((at, _))| *at);
        let guesser = self.guessers.front().map(|(at, _)| *at);
        deadline.into_iter().chain(guesser).min()
    }

    pub(super) fn set_deadline(&mut self, id: ConnectionId, at: Time) {
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        let at = on_grid(at);
        connection.deadline = at;
        if at < connection.entry_at {
            connection.entry_at = at;
            self.deadlines.heap.push(Reverse((at, id)));
        }
    }

    pub(super) fn clear_deadline(&mut self, id: ConnectionId) {
        self.set_deadline(id, NEVER);
    }

    /// Ends what has taken too long, a few at a time: the rest is due at once.
    pub fn handle_timeout(&mut self, io: &mut Io<'_>) {
        self.tell_guessers(io);
        let mut expired = 0;
        while let Some(&Reverse((at, id))) = self.deadlines.heap.peek() {
            if at > io.now.at || expired == EXPIRED_PER_TURN {
                return;
            }
            self.deadlines.heap.pop();
            let Some(connection) = self.get_mut(id) else {
                continue;
            };
            if connection.entry_at == at {
                connection.entry_at = NEVER;
            }
            let deadline = connection.deadline;
            if deadline > io.now.at {
                self.set_deadline(id, deadline);
            } else {
                connection.deadline = NEVER;
                expired += 1;
                self.expired(io, id);
            }
        }
    }

    fn expired(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        match connection.phase {
            Phase::Free | Phase::Closing => {}
            Phase::Leaving => self.abort(io, id),
            Phase::Open if connection.blocked => self.write_expired(io, id),
            Phase::Open => match connection.protocol {
                Protocol::Http(_) => self.leave(io, id, None),
                Protocol::WebSocket(_) | Protocol::Carried(_) if connection.framed => self.beat(io, id),
                Protocol::Http2(_) => self.expire_streams(io, id),
                Protocol::Request(_) => self.end_request(io, id),
                Protocol::WebSocket(_)
                | Protocol::Stream(_)
                | Protocol::Carried(_)
                | Protocol::Relay(_)
                | Protocol::None => {}
            },
        }
    }

    /// How long a write may be stuck.
    pub(super) fn write_timeout(&mut self, id: ConnectionId) -> Duration {
        let of_websocket = self.site.options.websocket.write_timeout;
        let of_uni_websocket = self.site.options.uni_websocket.websocket.write_timeout;
        let Some(connection) = self.get_mut(id) else { return of_websocket };
        if let Protocol::Carried(carrier) = &connection.protocol
            && let Some(patience) = carrier.patience()
        {
            return patience;
        }
        match (&connection.protocol, connection.kind) {
            (Protocol::Http(_) | Protocol::Http2(_), _) => RESPONSE_TIMEOUT,
            (_, TransportKind::UniWebSocket) => of_uni_websocket,
            (Protocol::Relay(_), _) => STREAM_WRITE_TIMEOUT,
            (_, TransportKind::WebSocket | TransportKind::SockJs) => of_websocket,
            _ => STREAM_WRITE_TIMEOUT,
        }
    }

    /// Sets the deadline of what an HTTP connection waits for now, if that is new.
    pub(super) fn await_request(&mut self, io: &Io<'_>, id: ConnectionId, before: Awaiting, now: Awaiting) {
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        if connection.blocked {
            return;
        }
        match now {
            Awaiting::Request => self.set_deadline(id, io.now.at + IDLE_TIMEOUT),
            Awaiting::Answer => self.clear_deadline(id),
            Awaiting::Head | Awaiting::Body | Awaiting::Page if now == before => {}
            Awaiting::Head => self.set_deadline(id, io.now.at + HEAD_TIMEOUT),
            Awaiting::Page => self.set_deadline(id, io.now.at + PAGE_TIMEOUT),
            Awaiting::Body => self.set_deadline(id, io.now.at + BODY_TIMEOUT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_of_a_crowd_share_moments_and_never_come_early() {
        let at = |micros| on_grid(Time(micros)).0;
        assert_eq!([at(0), at(1), at(31_999), at(32_000), at(32_001)], [0, 32_000, 32_000, 32_000, 64_000]);
        assert_eq!(on_grid(NEVER), NEVER);
    }
}
