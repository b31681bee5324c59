//! The end of a connection, whoever wants it.

use super::Phase;
use super::write::encode_push;
use crate::message::Message;
use crate::metrics::FrameType;
use crate::shard::{Action, Shard};
use crate::{ConnectionId, Farewell};
use ringcast_proto::client::{self as wire, Push, PushBody};
use ringcast_proto::codes::Disconnect;

impl Shard {
    /// Takes a connection out of everything and has the runtime say goodbye with the code.
    pub(crate) fn close(&mut self, connection: ConnectionId, disconnect: Disconnect) {
        let Some(client) = self.clients.get(connection) else { return };
        if client.is_closed() {
            return;
        }
        self.release(connection);
        if disconnect.code != Disconnect::CONNECTION_CLOSED.code {
            self.metrics.disconnects.count(disconnect.code);
        }
        // A slow client would not take what is queued, and 3000 means that there is nobody to take it.
        let code = disconnect.code;
        let flush = code != Disconnect::SLOW.code && code != Disconnect::CONNECTION_CLOSED.code;
        if let Some(client) = self.clients.get_mut(connection).filter(|_| !flush) {
            client.queue.clear();
        }
        self.push_disconnect(connection, &disconnect);
        self.actions.push_back(Action::Disconnect { connection, disconnect, flush });
    }

    /// Tells the client why it is closed, where the transport cannot.
    fn push_disconnect(&mut self, connection: ConnectionId, why: &Disconnect) {
        let Some(client) = self.clients.get(connection) else { return };
        let kind = client.shape.kind;
        let is_told = kind.needs_disconnect_push() && client.farewell != Farewell::None;
        if !is_told || why.code == Disconnect::CONNECTION_CLOSED.code {
            return;
        }
        let body = PushBody::Disconnect(wire::Disconnect {
            code: why.code,
            reason: why.reason.to_string(),
            ..Default::default()
        });
        let push = Push { channel: String::new(), body, id: 0 };
        // Where there is no room for it, it is not told.
        let _ =
            self.append(connection, FrameType::PushDisconnect, |encoding, out| encode_push(kind, encoding, &push, out));
    }

    /// The socket is gone.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.release(connection);
        self.clients.remove(connection);
    }

    /// Ends subscriptions and gives back everything that others hold for the connection. A second call does nothing.
    fn release(&mut self, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(connection) else { return };
        if client.is_live() {
            self.metrics.disconnected(client.shape.kind, client.program);
        }
        client.phase = Phase::Closed;
        client.backlog = None;
        while let Some(client) = self.clients.get_mut(connection)
            && let Some(subscription) = client.subscriptions.pop()
        {
            self.give_up(&subscription);
        }
        self.leave_user(connection);
    }

    /// Takes the connection off its user's list.
    fn leave_user(&mut self, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(connection) else { return };
        let Some(place) = client.user_place.take() else { return };
        let user = client.user.clone();
        if let Some(moved) = self.users.remove_local(&user, place) {
            self.clients.at_mut(moved).user_place = Some(place);
        }
        if !user.is_empty() {
            let home = self.home(&user);
            self.post.send(home, Message::UserDisconnect { user });
        }
    }
}
