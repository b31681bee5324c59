//! What SockJS needs of a connection: a response that a session fills, or a WebSocket whose messages are its frames.

use ringcast_proto::codes::Disconnect;
use ringcast_proto::sockjs::{self, decode_messages, encode_close};
use ringcast_proto::websocket::{Opcode, encode_frame};
use ringcast_state::{ApiCallId, ConnectionId, Framing};

use super::{Connections, Io, Phase, Protocol};
use crate::sockjs::{Ask, Name, Told};

impl Connections {
    /// Asks a session; `handle_told` brings the answer.
    pub(super) fn ask_session(
        &self,
        io: &Io<'_>,
        call: ApiCallId,
        session: Name,
        ask: Ask,
    ) -> crate::sockjs::Attachment {
        self.sessions.ask(io.shard.home(&session), session, call, ask)
    }

    /// What a session answers. A request that waits no more has told it, or tells it now.
    pub fn handle_told(&mut self, io: &mut Io<'_>, call: ApiCallId, told: Told) {
        let id = call.connection;
        let Some(connection) = self.get_mut(id) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        if let Protocol::Http2(http2) = &mut connection.protocol {
            let counted = http2.told(io.now.at, call.sequence, io.sockets.take_buffer(), told);
            return self.metrics.count_request(counted);
        }
        if connection.calls != call.sequence {
            return;
        }
        match (&mut connection.protocol, told) {
            (Protocol::Request(_), told) => self.told_request(io, id, told),
            (Protocol::Http(http), Told::More(piece)) => {
                let mut out = io.sockets.take_buffer();
                let Some(relay) = http.exchange.begin_relay(&mut out) else { return io.sockets.recycle(out) };
                let counted = http.exchange.take_counted();
                relay.more(&piece, &mut out);
                connection.protocol = Protocol::Relay(Box::new(relay));
                self.metrics.count_request(counted);
                self.write(io, id, out);
            }
            (Protocol::Http(_), told) => self.respond(io, call, |exchange, out| exchange.answer_session(&told, out)),
            (Protocol::Relay(relay), Told::More(piece)) => {
                let mut out = io.sockets.take_buffer();
                relay.more(&piece, &mut out);
                self.write(io, id, out);
            }
            (Protocol::Relay(relay), Told::Last(piece)) => {
                let mut out = io.sockets.take_buffer();
                relay.more(&piece, &mut out);
                relay.end(&mut out);
                self.leave(io, id, Some(out));
            }
            _ => {}
        }
    }

    /// The WebSocket of a client may speak SockJS: its first frame.
    pub(super) fn begin_frames(&mut self, io: &mut Io<'_>, id: ConnectionId, framing: Framing) {
        if framing == Framing::SockJs
            && let Some(connection) = self.get_mut(id)
        {
            connection.framed = true;
            self.write(io, id, in_message(sockjs::OPEN));
            self.await_silence(io, id);
        }
    }

    /// Sets when a heartbeat is due.
    pub(super) fn await_silence(&mut self, io: &Io<'_>, id: ConnectionId) {
        self.set_deadline(id, io.now.at + self.site.options.sockjs.heartbeat_delay);
    }

    /// A heartbeat is due; what is on its way is as good.
    pub(super) fn beat(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        self.await_silence(io, id);
        if self.get_mut(id).is_some_and(|connection| !connection.sending) {
            self.write(io, id, in_message(sockjs::HEARTBEAT));
        }
    }

    /// A message of WebSocket that holds messages of a client.
    pub(super) fn unframe(io: &mut Io<'_>, id: ConnectionId, message: &[u8]) {
        if message.is_empty() {
            return;
        }
        match decode_messages(message) {
            Ok(lines) if lines.is_empty() => {}
            Ok(lines) => io.shard.handle_frame(io.now, id, &lines),
            Err(error) => {
                tracing::debug!(%error, "bad messages");
                io.shard.disconnect(io.now, id, Disconnect::BAD_REQUEST);
            }
        }
    }
}

/// Goes before the close frame of WebSocket.
pub(super) fn close_message(why: &Disconnect) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_close(why.code, &why.reason, &mut frame);
    in_message(&frame)
}

fn in_message(frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(frame.len() + 4);
    encode_frame(&mut out, Opcode::Text, frame);
    out
}
