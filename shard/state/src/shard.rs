//! The entry point: everything that happens to one shard passes here.

use crate::frame::Frames;
use crate::message::Message;
use crate::outbox::Outbox;
use crate::{ConnectionId, Now, Options, ShardId, Time};
use ringcast_proto::client::Encoding;
use ringcast_proto::codes::Disconnect;
use std::sync::Arc;

/// Randomness as an input: fixed in simulation, from the system in the server.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// Decides the home of a channel and of a user; equal on all shards of a process.
    pub home: u64,
    /// Client ids, epochs and jitter of this shard; different for each.
    pub shard: [u8; 32],
}

/// What a transport brings with it when a connection opens.
#[derive(Clone, Debug)]
pub struct Transport {
    /// How commands and replies are encoded.
    pub encoding: Encoding,
    /// How a message becomes bytes of the transport.
    pub framing: Framing,
    /// Shown in metrics and to backends.
    pub kind: TransportKind,
}

/// How a message becomes bytes of the transport; frames that leave the shard carry it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One WebSocket message each: text for JSON, binary for Protobuf.
    WebSocket,
}

/// Name of a transport in metrics and proxy requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// `websocket`
    WebSocket,
}

/// One call of the server API over HTTP, named by the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApiCallId {
    /// The HTTP connection that waits for the answer.
    pub connection: ConnectionId,
    /// Counts the requests of that connection.
    pub sequence: u32,
}

/// The answer to an API call.
#[derive(Debug)]
pub struct ApiAnswer {
    /// Whose answer this is.
    pub call: ApiCallId,
    /// HTTP status.
    pub status: u16,
    /// JSON body.
    pub body: Vec<u8>,
}

/// For the runtime to carry out.
#[derive(Debug)]
pub enum Action {
    /// Write what is queued for the connection (unless `flush` is false), say goodbye with the code, then close. The state
    /// has forgotten the connection but for its queue; `handle_close` must still follow once the socket is gone.
    Disconnect {
        /// Which connection.
        connection: ConnectionId,
        /// Code and reason for the close frame.
        disconnect: Disconnect,
        /// False for 3000 and 3008.
        flush: bool,
    },
    /// Too many commands wait for answers: read no more from the socket.
    PauseReceive {
        /// Which connection.
        connection: ConnectionId,
    },
    /// Read again.
    ResumeReceive {
        /// Which connection.
        connection: ConnectionId,
    },
}

/// One shard: its clients, its hub, the channels and users whose home it is.
pub struct Shard {}

#[expect(unused_variables, clippy::todo, missing_docs, reason = "contract; bodies follow")]
impl Shard {
    /// A shard without connections. `shards` is the number of shards in the process, at least 1.
    pub fn new(id: ShardId, shards: u16, options: Arc<Options>, seeds: Seeds, now: Now) -> Shard {
        todo!()
    }

    /// A transport was established (for WebSocket: upgraded). Call `handle_close` exactly once for each.
    pub fn handle_open(&mut self, now: Now, connection: ConnectionId, transport: Transport) {
        todo!()
    }

    /// One whole message of the transport: one or more commands.
    pub fn handle_frame(&mut self, now: Now, connection: ConnectionId, frame: &[u8]) {
        todo!()
    }

    /// The connection's socket is gone (or going without our wish); forgets it.
    pub fn handle_close(&mut self, now: Now, connection: ConnectionId) {
        todo!()
    }

    /// Closes a connection with a code, as when its transport broke a rule or a panic was caught while handling it.
    pub fn disconnect(&mut self, now: Now, connection: ConnectionId, disconnect: Disconnect) {
        todo!()
    }

    /// Closes all connections, as at shutdown.
    pub fn disconnect_all(&mut self, now: Now, disconnect: Disconnect) {
        todo!()
    }

    /// A server API call; the answer comes out of `take_api_answer`, maybe in this turn. `path` is what follows the
    /// prefix, such as `publish`; `None` for the bare prefix.
    /// `transport_errors`: errors as HTTP statuses (`http_api.error_mode` or the header).
    pub fn handle_api(&mut self, now: Now, call: ApiCallId, path: Option<&str>, body: &[u8], transport_errors: bool) {
        todo!()
    }

    /// A message from another shard, in the order in which that shard sent them.
    pub fn handle_message(&mut self, now: Now, from: ShardId, message: Message) {
        todo!()
    }

    /// Fires due timers. Call once `now` reaches `next_timeout`; an early call does nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        todo!()
    }

    /// When `handle_timeout` wants to be called next; `None` if nothing is due ever.
    pub fn next_timeout(&self) -> Option<Time> {
        todo!()
    }

    /// What the runtime must do, oldest first.
    pub fn take_action(&mut self) -> Option<Action> {
        todo!()
    }

    pub fn take_api_answer(&mut self) -> Option<ApiAnswer> {
        todo!()
    }

    /// A connection that got output since its last `take_frames`; each is named once. When the socket is still busy with
    /// an earlier flush, skip it and ask `take_frames` again after `handle_flushed`.
    pub fn take_dirty(&mut self) -> Option<ConnectionId> {
        todo!()
    }

    /// All that waits for a connection; nothing when the connection is unknown.
    pub fn take_frames(&mut self, connection: ConnectionId) -> Option<Frames> {
        todo!()
    }

    /// The socket has accepted everything that `take_frames` gave. Returns whether more waits.
    pub fn handle_flushed(&mut self, connection: ConnectionId) -> bool {
        todo!()
    }

    /// Takes back the emptied vector of `Frames::Many`.
    pub fn recycle(&mut self, frames: Vec<crate::Frame>) {
        todo!()
    }

    /// Messages for another shard.
    pub fn outbox(&mut self, to: ShardId) -> &mut Outbox {
        todo!()
    }

    /// New options, as after a reload; in force from the next command on.
    pub fn set_options(&mut self, options: Arc<Options>) {
        todo!()
    }

    /// Open connections of this shard.
    pub fn connections(&self) -> usize {
        todo!()
    }
}
