//! Connections that threads of the control plane carry, such as the streams of GRPC: the thread opens one on a shard, hands it
//! what its client sends, and writes what the shard gives. Neither waits for the other. Requests are carried likewise.

pub(crate) mod request;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringcast_proto::codes::Disconnect;
use ringcast_state::{ConnectionId, ShardId, Transport};

pub use request::{RequestHead, Respond, ResponseHead};

use crate::connection::{Carrier, Connections, Io};
use crate::pool::{Control, Counters, Line};
use crate::uring::SendBytes;

/// Where the bytes of a carried connection go. Called on the shard's thread: must not wait.
pub trait Outlet: Send {
    /// Takes bytes, framed as the transport wants them. The next ones come after [`Link::written`], and right before the end.
    fn send(&self, bytes: Vec<u8>);

    /// Nothing more comes.
    fn end(&self, why: Ended);

    /// Too many commands of the client wait: hold further ones back until the opposite is said.
    fn pause(&self, paused: bool);

    /// It is let in, or the last [`Link::frame`] or [`Link::body`] is taken. Who waits for this before the next has a bound.
    fn ready(&self) {}
}

/// Why a carried connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was not let in: `client.connection_limit` or `client.connection_rate_limit`.
    Refused,
    /// The server closes it. Told by a push already, where the transport needs one.
    Disconnect(Disconnect),
    /// Its link was dropped, or it did not write in time and knows no code.
    Lost,
}

impl Ended {
    fn new(why: Option<&Disconnect>) -> Self {
        why.map_or(Ended::Lost, |why| Ended::Disconnect(why.clone()))
    }
}

/// Opens connections on the shards, from any thread.
#[derive(Clone)]
pub struct CarryLine {
    line: Line,
    counters: Arc<Counters>,
    next: Arc<AtomicU64>,
}

/// The control plane's end of a connection. Dropping it tells the shard that the client is gone.
pub struct Link {
    line: Line,
    shard: ShardId,
    number: u64,
}

/// What the control plane says of a connection, which it names by a number.
pub(crate) enum Carry {
    Open { transport: Transport, first: Option<Vec<u8>>, outlet: Box<dyn Outlet> },
    Request { listener: usize, head: RequestHead, outlet: Box<dyn Respond> },
    Body { bytes: Vec<u8>, is_last: bool },
    Frame(Vec<u8>),
    Written,
    Gone,
}

impl CarryLine {
    pub(crate) fn new(line: Line, counters: Arc<Counters>) -> Self {
        Self { line, counters, next: Arc::default() }
    }

    /// Opens a connection on the shard with the fewest, with its first message if that is here already.
    pub fn open(&self, transport: Transport, first: Option<Vec<u8>>, outlet: Box<dyn Outlet>) -> Link {
        let link = self.link();
        link.tell(Carry::Open { transport, first, outlet });
        link
    }

    /// Has a shard serve a request to one of `Options::listeners`. Its body follows.
    pub fn request(&self, listener: usize, head: RequestHead, outlet: Box<dyn Respond>) -> Link {
        let link = self.link();
        link.tell(Carry::Request { listener, head, outlet });
        link
    }

    /// To the shard with the fewest clients; where several have as few they take turns.
    fn link(&self) -> Link {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let loads = &self.counters.clients_of_shard;
        let first = number as usize % loads.len();
        let shards = (first..loads.len()).chain(0..first);
        let shard = shards.min_by_key(|shard| loads[*shard].load(Ordering::Relaxed)).expect("there is a shard");
        let shard = ShardId(u16::try_from(shard).expect("fewer shards than 65536"));
        Link { line: self.line.clone(), shard, number }
    }
}

impl Link {
    /// A message of the client. Bound it: a few at a time, and none while the outlet is paused.
    pub fn frame(&self, frame: Vec<u8>) {
        self.tell(Carry::Frame(frame));
    }

    /// A part of a request's body, which may be its last. Bound it: the next one once the outlet is ready.
    pub fn body(&self, bytes: Vec<u8>, is_last: bool) {
        self.tell(Carry::Body { bytes, is_last });
    }

    /// What the outlet got last is written.
    pub fn written(&self) {
        self.tell(Carry::Written);
    }

    fn tell(&self, carry: Carry) {
        self.line.tell(self.shard, Control::Carry(self.number, carry));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tell(Carry::Gone);
    }
}

/// The connections of a shard that the control plane carries.
#[derive(Default)]
pub(crate) struct Carried {
    /// Until their link is dropped.
    connections: BTreeMap<u64, ConnectionId>,
}

impl Carried {
    pub fn handle(&mut self, connections: &mut Connections, io: &mut Io<'_>, number: u64, carry: Carry) {
        match carry {
            Carry::Open { outlet, .. } if !connections.admit(io) => outlet.end(Ended::Refused),
            Carry::Open { transport, first, outlet } => {
                outlet.ready();
                let id = connections.open_carried(io, transport, first.as_deref(), Box::new(Far(outlet)));
                self.connections.insert(number, id);
            }
            Carry::Request { listener, head, outlet } => {
                let id = connections.open_request(io, listener, &head, outlet);
                self.connections.insert(number, id);
            }
            Carry::Body { bytes, is_last } => {
                if let Some(id) = self.connections.get(&number) {
                    connections.request_body(io, *id, &bytes, is_last);
                }
            }
            Carry::Frame(frame) => {
                if let Some(id) = self.connections.get(&number) {
                    connections.carried_frame(io, *id, &frame);
                    connections.carried_ready(*id);
                }
            }
            Carry::Written => {
                if let Some(id) = self.connections.get(&number) {
                    connections.carried_written(io, *id);
                }
            }
            Carry::Gone => {
                if let Some(id) = self.connections.remove(&number) {
                    connections.carried_gone(io, id);
                }
            }
        }
    }
}

/// A carrier on another thread.
struct Far(Box<dyn Outlet>);

impl Carrier for Far {
    fn send(&mut self, bytes: SendBytes) {
        self.0.send(bytes.into_vec());
    }

    fn end(&mut self, why: Option<&Disconnect>) -> bool {
        self.0.end(Ended::new(why));
        false
    }

    fn pause(&mut self, paused: bool) {
        self.0.pause(paused);
    }

    fn ready(&mut self) {
        self.0.ready();
    }
}
