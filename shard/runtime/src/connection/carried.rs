//! Connections without a socket of their own: a stream of HTTP/2, a SockJS session, a stream of the control plane. Whatever
//! carries their bytes stands in for the socket.

use std::time::Duration;

use ringcast_proto::codes::Disconnect;
use ringcast_state::{ConnectionId, Frame, Time, Transport, TransportKind};

use super::write::append;
use super::{Connection, Connections, Io, Phase, Protocol};
use crate::uring::SendBytes;

/// Carries the bytes of one connection.
///
/// One send is on its way at a time, until [`Connections::carried_written`] says that it is written; more come only right before
/// the end. So `client.queue_max_size` bounds what waits for a slow carrier, and the write timeout ends it.
pub(crate) trait Carrier {
    /// Takes bytes, framed as the transport wants them.
    fn send(&mut self, bytes: SendBytes);

    /// Whether its response, which has not begun, tells the client why it is not let in. Nothing more is sent then.
    fn refuse(&mut self, why: &Disconnect) -> bool {
        let _ = why;
        false
    }

    /// Nothing more is sent. The client was told by a push, where it gets one; a carrier that has codes of its own tells this one.
    /// `None`: whoever carries it is to blame, and knows. Returns whether it told by a close frame of WebSocket.
    fn end(&mut self, why: Option<&Disconnect>) -> bool;

    /// Too many commands wait: none are wanted until the opposite is said.
    fn pause(&mut self, paused: bool);

    /// What its client sent last is taken.
    fn ready(&mut self) {}

    /// How long it may take to write something, if that is not what its transport says.
    fn patience(&self) -> Option<Duration> {
        None
    }
}

impl Connections {
    /// Opens a connection that `admit` let in, and hands over its first message.
    pub fn open_carried(
        &mut self,
        io: &mut Io<'_>,
        transport: Transport,
        first: Option<&[u8]>,
        carrier: Box<dyn Carrier>,
    ) -> ConnectionId {
        let id = self.occupy(io, Protocol::Carried(carrier));
        self.begin_client(io, id, transport);
        if let Some(first) = first {
            self.handle_frame(io, id, first);
        }
        id
    }

    /// A place without a socket, until `vacate`.
    pub(super) fn occupy(&mut self, io: &mut Io<'_>, protocol: Protocol) -> ConnectionId {
        let id: ConnectionId = io.sockets.reserve().into();
        self.table.reach(id.slot as usize);
        *self.table.get_mut(id.slot as usize).expect("just made sure of") =
            Connection { generation: id.generation, phase: Phase::Open, protocol, ..Connection::FREE };
        id
    }

    /// Nothing more happens there.
    pub(super) fn vacate(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        self.closed(io, id);
        io.sockets.unreserve(id.into());
    }

    /// A message of its client came.
    pub fn carried_frame(&mut self, io: &mut Io<'_>, id: ConnectionId, frame: &[u8]) {
        if self.get_mut(id).is_some_and(|connection| connection.phase == Phase::Open) {
            self.handle_frame(io, id, frame);
        }
    }

    /// Its last message is taken: who sends it may bring the next one.
    pub fn carried_ready(&mut self, id: ConnectionId) {
        if let Some(Protocol::Carried(carrier)) = self.get_mut(id).map(|connection| &mut connection.protocol) {
            carrier.ready();
        }
    }

    /// What was sent last is written: more may follow.
    pub fn carried_written(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        if self.get_mut(id).is_some_and(|connection| connection.sending) {
            self.flushed(io, id);
        }
    }

    /// Its client, or whoever carries it, is gone.
    pub fn carried_gone(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        self.abort(io, id);
    }

    /// Hands bytes to the carrier; it has `write_timeout` to write them.
    pub(super) fn send_carried(&mut self, io: &mut Io<'_>, id: ConnectionId, bytes: SendBytes) {
        let give_up_at = io.now.at + self.write_timeout(id);
        let Some(connection) = self.get_mut(id) else { return };
        if let Protocol::Carried(carrier) = &mut connection.protocol {
            carrier.send(bytes);
            self.await_written(id, give_up_at);
        }
    }

    /// Bytes were handed to whoever writes them.
    pub(super) fn await_written(&mut self, id: ConnectionId, give_up_at: Time) {
        if let Some(connection) = self.get_mut(id) {
            (connection.sending, connection.blocked) = (true, true);
            self.set_deadline(id, give_up_at);
        }
    }

    /// Sends what waits and ends it.
    pub(super) fn end_carried(&mut self, io: &mut Io<'_>, id: ConnectionId, why: Option<&Disconnect>) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.phase = Phase::Closing;
        let mut waiting = connection.output.take().unwrap_or_default();
        let kind = connection.kind;
        let Protocol::Carried(mut carrier) = std::mem::take(&mut connection.protocol) else { return };
        if why.is_some_and(|why| carrier.refuse(why)) {
            return self.vacate(io, id);
        }
        if why.is_some()
            && let Some(frames) = io.shard.take_frames(id)
        {
            append(&mut waiting, frames, io.shard);
        }
        waiting.drain(..).map(Frame::into).for_each(|bytes| carrier.send(bytes));
        if carrier.end(why)
            && let Some(why) = why
        {
            self.metrics.closes.count((kind, why.code));
        }
        self.vacate(io, id);
    }

    /// Clients of this kind are told by a close frame why they are closed.
    pub(super) fn says_why(&self, kind: TransportKind) -> bool {
        match kind {
            TransportKind::WebSocket | TransportKind::SockJs => true,
            TransportKind::UniWebSocket => !self.site.options.uni_websocket.disable_closing_handshake,
            _ => false,
        }
    }

    /// Has the carrier hold back what its client sends, or not.
    pub(super) fn pause(&mut self, io: &mut Io<'_>, id: ConnectionId, paused: bool) {
        match self.get_mut(id).map(|connection| &mut connection.protocol) {
            Some(Protocol::Carried(carrier)) => carrier.pause(paused),
            _ if paused => io.sockets.pause_receive(id.into()),
            _ => io.sockets.start_receive(id.into()),
        }
    }

    /// Lets one more client in, which then counts; false when the limits of `client` allow none.
    pub fn admit(&self, io: &Io<'_>) -> bool {
        let options = &self.site.options;
        self.counters.tries.take(io.now.at, options.connection_rate_limit)
            && super::read::has_room(&self.counters, options.connection_limit)
    }
}
