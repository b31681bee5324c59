//! Connections that wait for another process: those over HTTP/1 that are between two requests. Nothing is read from them, so
//! that a request is served whole by one process or the other.

use ringcast_state::ConnectionId;

use super::{Connection, Connections, Http, Io, Phase, Protocol};
use crate::handover::Moved;
use crate::http::exchange::Awaiting;
use crate::tls::Stage;

impl Connections {
    /// From now on requests that have not begun wait; see `hold_resting`.
    pub fn hold(&mut self) {
        self.is_holding = true;
    }

    /// Lets those requests begin.
    pub fn resume(&mut self, io: &mut Io<'_>) {
        self.is_holding = false;
        for id in self.all() {
            if self.is_resting(id) {
                io.sockets.start_receive(id.into());
                self.serve_kept(io, id);
            }
        }
    }

    /// Holds nothing any more; what was held has gone.
    pub fn end_hold(&mut self) {
        self.is_holding = false;
    }

    /// Reads no more from connections that are between two requests. Gives the number of requests that are under way.
    pub fn hold_resting(&mut self, io: &mut Io<'_>) -> usize {
        let mut under_way = 0;
        for id in self.all() {
            if self.is_resting(id) {
                io.sockets.pause_receive(id.into());
            } else if self.get_mut(id).is_some_and(|connection| is_asking(connection)) {
                under_way += 1;
            }
        }
        under_way
    }

    /// Gives up the connections that are held, as far as the ring has let go of them. Returns how many it has not.
    pub fn move_held(&mut self, io: &mut Io<'_>, mut give: impl FnMut(ConnectionId, Moved)) -> usize {
        let mut left = 0;
        for id in self.all() {
            if !self.is_resting(id) {
                continue;
            }
            let Some(socket) = io.sockets.release(id.into()) else {
                left += 1;
                continue;
            };
            let Some(connection) = self.get_mut(id) else { continue };
            let Protocol::Http(http) = std::mem::take(&mut connection.protocol) else { continue };
            *connection = Connection::FREE;
            let Http { exchange, mut input, .. } = *http;
            if let Some(session) = self.tls.session(id.slot) {
                input = session.take_unheard();
            }
            self.tls.close(id.slot);
            give(id, Moved { listener: exchange.listener(), socket, read: input });
        }
        left
    }

    /// Whether nothing has begun that cannot begin in another process: no request, and no handshake.
    pub(super) fn is_resting(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.get_mut(id) else { return false };
        let is_open = connection.phase == Phase::Open && !connection.ended;
        let is_quiet = !connection.sending && connection.output.is_none();
        let is_between = matches!(&connection.protocol, Protocol::Http(http) if !http.exchange.is_busy());
        let is_fresh = |stage| stage == Stage::Fresh;
        is_open && is_quiet && is_between && self.tls.session(id.slot).is_none_or(|session| is_fresh(session.stage()))
    }

    /// Takes up what came while the connection was held.
    fn serve_kept(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        match self.tls.session(id.slot) {
            Some(_) => self.wire_received(io, id, &mut []),
            None => self.serve_waiting(io, id),
        }
    }

    fn all(&mut self) -> Vec<ConnectionId> {
        let slots = 0..self.table.len();
        let used = slots.filter_map(|slot| {
            let connection = self.table.get(slot).filter(|connection| connection.phase != Phase::Free)?;
            Some(ConnectionId { slot: slot as u32, generation: connection.generation })
        });
        used.collect()
    }
}

/// A request is under way whose answer will not be long: none that waits for what somebody will say.
fn is_asking(connection: &Connection) -> bool {
    let is_asking = |http: &Http| http.exchange.is_answering() || http.exchange.awaiting() == Awaiting::Body;
    let is_asking = matches!(&connection.protocol, Protocol::Http(http) if is_asking(http));
    connection.phase == Phase::Open
        && (is_asking || connection.sending && matches!(connection.protocol, Protocol::Http(_)))
}
