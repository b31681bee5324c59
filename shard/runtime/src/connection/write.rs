//! Bytes that go: one write at a time per connection, everything that waits in as few as possible.

use std::collections::VecDeque;

use ringcast_proto::codes::Disconnect;
use ringcast_state::{ConnectionId, Frame, Frames, Shard, TransportKind};

use super::deadline::HEAD_TIMEOUT;
use super::{Connections, Io, Phase, Protocol, batch};
use crate::uring::SendBytes;

/// Puts what the state gave behind what waits.
pub(super) fn append(waiting: &mut VecDeque<Frame>, frames: Frames, shard: &mut Shard) {
    match frames {
        Frames::One(frame) => waiting.push_back(frame),
        Frames::Many(mut frames) => {
            waiting.extend(frames.drain(..));
            shard.recycle(frames);
        }
    }
}

impl Connections {
    /// Bytes of our own, such as a response; sent at once if nothing is on its way.
    pub(super) fn write(&mut self, io: &mut Io<'_>, id: ConnectionId, bytes: Vec<u8>) {
        let Some(connection) = self.get_mut(id).filter(|_| !bytes.is_empty()) else {
            return io.sockets.recycle(bytes);
        };
        if connection.phase == Phase::Open && !connection.sending && connection.output.is_none() {
            return self.start_send(io, id, SendBytes::Owned(bytes));
        }
        connection.output.get_or_insert_default().push_back(Frame::Owned(bytes));
        self.flush(io, id);
    }

    /// Starts the next write, if there is something to write and nothing on its way.
    pub fn flush(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        if connection.sending || connection.phase == Phase::Closing {
            return;
        }
        let leaving = connection.phase == Phase::Leaving;
        match self.next_write(io, id) {
            Some(bytes) => {
                let Some(connection) = self.get_mut(id) else { return };
                if leaving && connection.output.is_none() {
                    connection.sending = true;
                    self.send_to_socket(io, id, bytes, true);
                    self.close_behind_last(io, id);
                } else {
                    self.start_send(io, id, bytes);
                }
            }
            None if leaving => {
                if let Some(records) = self.farewell(io, id) {
                    io.sockets.send_last(id.into(), records);
                }
                self.close_behind_last(io, id);
            }
            None => {}
        }
    }

    #[inline]
    pub(super) fn start_send(&mut self, io: &mut Io<'_>, id: ConnectionId, bytes: SendBytes) {
        let Some(connection) = self.get_mut(id) else { return };
        if let Protocol::Carried(_) = connection.protocol {
            return self.send_carried(io, id, bytes);
        }
        connection.sending = true;
        self.send_to_socket(io, id, bytes, false);
    }

    fn next_write(&mut self, io: &mut Io<'_>, id: ConnectionId) -> Option<SendBytes> {
        let joins_pushes = self.site.options.uni_websocket.join_push_messages;
        let connection = self.get_mut(id)?;
        if let Some(waiting) = &mut connection.output {
            let bytes = batch::next(waiting, || io.sockets.take_buffer());
            if waiting.is_empty() {
                connection.output = None;
            }
            if bytes.is_some() {
                return bytes;
            }
        }
        if !connection.known || connection.phase != Phase::Open {
            return None;
        }
        let frames = io.shard.take_frames(id)?;
        connection.taken = true;
        if let Protocol::Stream(stream) = &mut connection.protocol
            && let Some(head) = stream.take_head()
        {
            let waiting = connection.output.insert(Box::new(VecDeque::from([Frame::Owned(head)])));
            append(waiting, frames, io.shard);
            let bytes = batch::next(waiting, || io.sockets.take_buffer());
            connection.output.take_if(|waiting| waiting.is_empty());
            return bytes;
        }
        let messages_max = match connection.kind {
            TransportKind::UniWebSocket if joins_pushes => usize::MAX,
            TransportKind::WebSocket | TransportKind::UniWebSocket => io.shard.messages_in_frame(),
            _ => 1,
        };
        let mut frames = match frames {
            // What is this connection's own may hold several messages.
            Frames::One(frame @ Frame::Owned(_)) if messages_max > 1 => vec![frame],
            Frames::One(frame) => return Some(frame.into()),
            Frames::Many(frames) => frames,
        };
        let mut bytes = batch::join(&mut frames, messages_max, || io.sockets.take_buffer());
        if bytes.is_none() {
            let waiting = connection.output.insert(Box::new(frames.drain(..).collect()));
            bytes = batch::next(waiting, || io.sockets.take_buffer());
        }
        io.shard.recycle(frames);
        bytes
    }

    /// A write is through.
    pub(super) fn flushed(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        connection.sending = false;
        if self.send_records(io, id) {
            return;
        }
        let is_handshaking = self.is_handshaking(id);
        let Some(connection) = self.get_mut(id) else { return };
        let was_blocked = std::mem::take(&mut connection.blocked);
        let leaving = connection.phase == Phase::Leaving;
        let through = connection.output.is_none() && std::mem::take(&mut connection.taken);
        let http = matches!(connection.protocol, Protocol::Http(_)) && !is_handshaking;
        let framed = connection.framed;
        match &connection.protocol {
            Protocol::Http2(http2) => http2.desk.wake(),
            Protocol::Relay(relay) if connection.output.is_none() => relay.attachment.written(),
            Protocol::Request(request) => request.written(),
            _ => {}
        }
        if was_blocked && !leaving {
            match is_handshaking {
                true => self.set_deadline(id, io.now.at + HEAD_TIMEOUT),
                false if framed => self.await_silence(io, id),
                false => self.clear_deadline(id),
            }
        }
        let more = through && io.shard.handle_flushed(id);
        if more || !through || leaving {
            self.flush(io, id);
        }
        if http && !leaving {
            // Requests that waited until their responses would be read.
            self.serve_waiting(io, id);
        }
    }

    /// The peer's window is full.
    pub(super) fn blocked(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        let unsent = unsent(io, id);
        let timeout = self.write_timeout(id);
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        connection.blocked = true;
        connection.unsent = unsent;
        if connection.phase == Phase::Open {
            self.set_deadline(id, io.now.at + timeout);
        }
    }

    /// A write has been stuck for its time: if nothing of it moved, the peer is given up.
    pub(super) fn write_expired(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        let unsent = unsent(io, id);
        let timeout = self.write_timeout(id);
        let Some(connection) = self.get_mut(id) else {
            return;
        };
        if unsent < std::mem::replace(&mut connection.unsent, unsent) {
            self.set_deadline(id, io.now.at + timeout);
        } else if connection.known {
            io.shard.disconnect(io.now, id, Disconnect::WRITE_ERROR);
        } else {
            self.abort(io, id);
        }
    }
}

/// Bytes of the write on its way that the kernel has not taken.
fn unsent(io: &Io<'_>, id: ConnectionId) -> u32 {
    u32::try_from(io.sockets.unsent_bytes(id.into())).expect("a write is shorter")
}
