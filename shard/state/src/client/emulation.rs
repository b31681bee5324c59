//! Commands that come by requests of their own, for connections whose transport carries only what the server sends. The request
//! may reach any shard and is passed on to the one that owns the connection.

use super::Client;
use crate::message::{Message, NodeAsker};
use crate::session::Sessions;
use crate::shard::Shard;
use crate::{ClientId, ConnectionId, Now};
use bytes::Bytes;
use ringcast_proto::client::EmulationRequest;
use ringcast_proto::codes::Disconnect;
use ringcast_proto::control::survey::{emulated_frame, emulation_codes};

/// Why commands were not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmulationError {
    /// Not this node, or for `Shard::forward_emulation` none at all: 404.
    UnknownNode,
    /// Too much waits for that shard: 503.
    Busy,
}

impl Shard {
    /// Commands for a connection of any shard. A session that is unknown or over is no error, for the sender could not know.
    /// Source: protocol §14.
    pub fn handle_emulation(&mut self, now: Now, request: &EmulationRequest) -> Result<(), EmulationError> {
        if request.node != self.options.node.uid {
            return Err(EmulationError::UnknownNode);
        }
        let Some((shard, slot, session)) = Sessions::place(&request.session) else { return Ok(()) };
        if shard == self.post.own() {
            self.emulate(now, (slot, session), &request.data, None);
        } else if self.post.shards().any(|known| known == shard) {
            if self.post.outbox(shard).is_full() {
                return Err(EmulationError::Busy);
            }
            self.post.send(shard, Message::Emulate { slot, session, data: request.data.clone(), asker: None });
        }
        self.handle_local(now);
        Ok(())
    }

    /// At the owner of the connection.
    pub(crate) fn emulate(
        &mut self,
        now: Now,
        (slot, session): (u32, ClientId),
        data: &Bytes,
        asker: Option<Box<NodeAsker>>,
    ) {
        let own = self.post.own();
        let is_right = |client: &&Client| {
            client.shape.kind.is_emulated() && self.sessions.is_name_of(session, own, client.connection)
        };
        let found = self.clients.in_slot(slot).filter(is_right).map(|client| (client.connection, client.encoding));
        let Some(asker) = asker else {
            return found.into_iter().for_each(|(connection, _)| self.serve_emulated(now, connection, data));
        };
        let code = match found.map(|(connection, encoding)| (connection, emulated_frame(encoding, data))) {
            None => emulation_codes::NO_SESSION,
            Some((_, Err(_))) => emulation_codes::BAD_REQUEST,
            Some((connection, Ok(frame))) => {
                self.serve_emulated(now, connection, &frame);
                0
            }
        };
        self.answer_node(*asker, code, Vec::new());
    }

    fn serve_emulated(&mut self, now: Now, connection: ConnectionId, frame: &Bytes) {
        self.serve_frame(now, connection, frame);
        // There is no socket to stop reading from.
        let has_too_many = |client: &Client| client.backlog.as_ref().is_some_and(|backlog| backlog.is_paused());
        if self.clients.get(connection).is_some_and(has_too_many) {
            self.close(connection, Disconnect::TOO_MANY_REQUESTS);
        }
    }
}
