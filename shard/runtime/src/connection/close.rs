//! Goodbye: what still waits, the close frame, then the end of the socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::codes::Disconnect;
use ringcast_proto::websocket;
use ringcast_state::{ConnectionId, Frame};

use super::deadline::SLOW_GOODBYE_TIMEOUT;
use super::sockjs::close_message;
use super::write::append;
use super::{Connections, Io, Phase, Protocol};
use crate::uring::Closing;

/// Wait for the peer's end of the connection, behind our last byte. Source: the reference waits as long for the
/// close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Connections {
    /// The state machine is done with a client.
    pub(super) fn disconnect(&mut self, io: &mut Io<'_>, id: ConnectionId, why: &Disconnect, flush: bool) {
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        if !flush {
            // What has begun is finished, for a frame cannot be broken off.
            connection.output = None;
        }
        if let Protocol::Carried(_) = connection.protocol {
            return self.end_carried(io, id, Some(why));
        }
        let goodbye = self.goodbye(io, id, why);
        self.leave(io, id, goodbye);
        if !flush {
            self.set_deadline(id, io.now.at + SLOW_GOODBYE_TIMEOUT);
        }
    }

    /// Queues what the state still has to say, and makes what the transport says at the end.
    fn goodbye(&mut self, io: &mut Io<'_>, id: ConnectionId, why: &Disconnect) -> Option<Vec<u8>> {
        let options = Arc::clone(&self.site.options);
        let connection = self.get_mut(id)?;
        let mut waiting = connection.output.take().unwrap_or_default();
        if let Protocol::Stream(stream) = &mut connection.protocol {
            if let Some(response) = stream.refuse(&options, why) {
                return Some(response);
            }
            waiting.extend(stream.take_head().map(Frame::Owned));
        }
        if let Some(frames) = io.shard.take_frames(id) {
            append(&mut waiting, frames, io.shard);
        }
        connection.output = Some(waiting).filter(|waiting| !waiting.is_empty());
        let kind = connection.kind;
        let framed = connection.framed;
        if let Protocol::Stream(stream) = &connection.protocol {
            return Some(stream.end());
        }
        if !self.says_why(kind) {
            return None;
        }
        let close = last_frames(why, framed)?;
        self.metrics.closes.count((kind, why.code));
        Some(close)
    }

    /// Reads no more, sends what waits and `last`, then closes.
    pub(super) fn leave(&mut self, io: &mut Io<'_>, id: ConnectionId, last: Option<Vec<u8>>) {
        let timeout = self.write_timeout(id).min(CLOSE_TIMEOUT);
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        if let Protocol::Carried(_) = connection.protocol {
            let last = last.filter(|last| !last.is_empty()).map(Frame::Owned);
            connection.output = last.map(|last| Box::new(VecDeque::from([last])));
            return self.end_carried(io, id, None);
        }
        connection.phase = Phase::Leaving;
        self.uncount(id);
        let Some(connection) = self.get_mut(id) else { return };
        if let Some(last) = last.filter(|last| !last.is_empty()) {
            connection.output.get_or_insert_default().push_back(Frame::Owned(last));
        }
        self.set_deadline(id, io.now.at + timeout);
        self.flush(io, id);
    }

    /// Closes once everything is in the hands of the ring, which sends it first.
    pub(super) fn close_behind_last(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        let (clock, stop_at) = (self.clock, self.stop_at);
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        if connection.output.is_some() {
            return;
        }
        connection.phase = Phase::Closing;
        connection.protocol = Protocol::None;
        let patient_until = clock.instant(io.now.at + CLOSE_TIMEOUT);
        let give_up_at = stop_at.map_or(patient_until, |stop_at| stop_at.min(patient_until));
        io.sockets.close(id.into(), Closing::Graceful { give_up_at });
        self.clear_deadline(id);
    }
}

/// The close frame of a WebSocket, and before it that of SockJS if its messages are such. None for 3000, which is not told.
pub(crate) fn last_frames(why: &Disconnect, framed: bool) -> Option<Vec<u8>> {
    let code = u16::try_from(why.code).ok().filter(|_| why.code != Disconnect::CONNECTION_CLOSED.code)?;
    let mut frames = if framed { close_message(why) } else { Vec::new() };
    websocket::encode_close(&mut frames, code, &why.reason);
    Some(frames)
}
