//! Commands that come by requests of their own, for connections whose transport carries only what the server sends. The request
//! may reach any shard and is passed on to the one that owns the connection.

use super::Client;
use crate::message::Message;
use crate::session::Sessions;
use crate::shard::Shard;
use crate::{ClientId, Now};
use bytes::Bytes;
use ringcast_proto::client::EmulationRequest;
use ringcast_proto::codes::Disconnect;

/// Why commands were not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmulationError {
    /// No such node: 404.
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
            self.emulate(now, slot, session, &request.data);
        } else if self.post.shards().any(|known| known == shard) {
            if self.post.outbox(shard).is_full() {
                return Err(EmulationError::Busy);
            }
            self.post.send(shard, Message::Emulate { slot, session, data: request.data.clone() });
        }
        self.handle_local(now);
        Ok(())
    }

    /// At the owner of the connection.
    pub(crate) fn emulate(&mut self, now: Now, slot: u32, session: ClientId, data: &Bytes) {
        let own = self.post.own();
        let is_right = |client: &&Client| {
            client.shape.kind.is_emulated() && self.sessions.is_name_of(session, own, client.connection)
        };
        let Some(client) = self.clients.in_slot(slot).filter(is_right) else { return };
        let connection = client.connection;
        self.serve_frame(now, connection, data);
        // There is no socket to stop reading from.
        let has_too_many = |client: &Client| client.backlog.as_ref().is_some_and(|backlog| backlog.is_paused());
        if self.clients.get(connection).is_some_and(has_too_many) {
            self.close(connection, Disconnect::TOO_MANY_REQUESTS);
        }
    }
}
