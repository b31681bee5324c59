//! One connection of a client: its phase, what it may do, what waits for it.

mod backlog;
mod batch;
mod close;
mod command;
mod connect;
mod deliver;
mod emulation;
mod keep_alive;
mod outgoing;
mod prove;
mod proxy;
mod publish;
mod query;
mod refresh;
mod server_side;
mod stream;
mod subscribe;
mod subscription;
mod timer;
mod unsubscribe;
mod write;

pub(crate) use batch::Batches;
pub(crate) use command::Serving;
pub use emulation::EmulationError;
pub(crate) use outgoing::Turn;
pub(crate) use subscribe::{SubscribeReply, Subscribing};
pub(crate) use subscription::Grant;
pub(crate) use timer::PingFrames;
pub(crate) use write::Scratch;

use crate::frame::{Frame, SendQueue};
use crate::metrics::Program;
use crate::proxy::Background;
use crate::transport::{Farewell, Shape};
use crate::{ClientId, ConnectionId, Pings, Time};
use backlog::Backlog;
use bytes::Bytes;
use connect::Connecting;
use keep_alive::KeepAlive;
use outgoing::Outgoing;
use ringcast_proto::client::{ClientInfo, Encoding};
use ringcast_proto::codes::{Disconnect, ReplyError};
use std::rc::Rc;
use std::sync::Arc;
use subscription::Subscriptions;

/// A connection, from open to close.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) connection: ConnectionId,
    pub(crate) id: ClientId,
    pub(crate) encoding: Encoding,
    pub(crate) shape: Shape,
    pub(crate) pings: Pings,
    pub(crate) farewell: Farewell,
    pub(crate) phase: Phase,
    pub(crate) program: Program,
    /// Empty for an anonymous user. Before connect: the user that the transport vouches for.
    pub(crate) user: Arc<str>,
    /// Place in the shard's list of the user's connections; `None` before it is there.
    pub(crate) user_place: Option<u32>,
    /// Connection info that others see.
    pub(crate) info: Bytes,
    /// For backends.
    pub(crate) background: Option<Arc<Background>>,
    pub(crate) queue: SendQueue,
    pub(crate) turn: Turn,
    pub(crate) subscriptions: Subscriptions,
    /// Commands being served.
    pub(crate) in_flight: u32,
    /// Commands behind them.
    pub(crate) backlog: Option<Box<Backlog>>,
    pub(crate) keep_alive: KeepAlive,
    /// When the connection expires, or before connect when it is stale; the delay of grace included.
    pub(crate) close_at: Option<Time>,
    /// When the wheel will ask; at or before the next deadline.
    pub(crate) timer_at: Option<Time>,
}

/// How far a connection has come.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Waits for a connect command.
    Fresh,
    /// Waits for other shards before the connect command is answered.
    Connecting(Box<Connecting>),
    /// Connected.
    Live,
    /// Connect failed with an error reply: nothing more is served.
    Unusable,
    /// Being closed; keeps its queue until the socket is gone.
    Closed,
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The reply carries an error; the connection lives on.
    Error(ReplyError),
    /// The connection is closed.
    Close(Disconnect),
}

impl From<ReplyError> for Refusal {
    fn from(error: ReplyError) -> Self {
        Refusal::Error(error)
    }
}

impl From<Disconnect> for Refusal {
    fn from(disconnect: Disconnect) -> Self {
        Refusal::Close(disconnect)
    }
}

impl Client {
    /// As others see it.
    pub(crate) fn client_info(&self, channel_info: Bytes) -> ClientInfo {
        ClientInfo {
            user: self.user.as_ref().to_owned(),
            client: self.id.to_string(),
            conn_info: self.info.clone(),
            chan_info: channel_info,
        }
    }

    /// A new time to live, and who the client is from now on. Without an end nobody becomes another.
    fn refresh(&mut self, close_at: Option<Time>, renew_at: Time, info: &Bytes) {
        self.close_at = close_at;
        if close_at.is_some() && !info.is_empty() {
            self.info = info.clone();
            self.renew_members(renew_at);
        }
    }

    /// Has the client leave as what it is now; presence shows it from `renew_at` on.
    fn renew_members(&mut self, renew_at: Time) {
        let now = self.client_info(Bytes::new());
        for detail in self.subscriptions.iter_mut().filter_map(|subscription| subscription.detail.as_mut()) {
            let chan_info = detail.info.clone();
            if let Some(member) = &mut detail.member {
                member.info = Arc::new(ClientInfo { chan_info, ..now.clone() });
                detail.renew_at = member.presence.then_some(renew_at);
            }
        }
    }

    /// It only listens.
    pub(crate) fn is_unidirectional(&self) -> bool {
        self.shape.kind.is_unidirectional()
    }

    /// Nothing has come of it yet.
    fn is_untouched(&self) -> bool {
        matches!(self.phase, Phase::Fresh) && self.in_flight == 0
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Queues a frame that others get too. While a connect waits for other shards, what its subscriptions bring is held
    /// back, to follow the connect reply.
    fn push_shared(&mut self, bytes: &Rc<[u8]>, spare: &mut Vec<Vec<Frame>>) {
        match &mut self.phase {
            Phase::Connecting(connecting) => connecting.hold(bytes),
            // Closed over the connect reply, with what was held still to follow it.
            Phase::Closed => {}
            _ => self.queue.push_shared(bytes, spare),
        }
    }

    /// Bytes that wait for this client.
    pub(crate) fn queued_bytes(&self) -> usize {
        match &self.phase {
            Phase::Connecting(connecting) => connecting.held_bytes() + self.queue.bytes(),
            _ => self.queue.bytes(),
        }
    }
}

/// The connections of a shard, by the slots that the runtime gave them.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    slots: Vec<Option<Box<Client>>>,
    open: usize,
    outgoing: Outgoing,
    /// Emptied vectors of earlier flushes.
    spare: Vec<Vec<Frame>>,
}

/// Vectors kept for the next flush; more are given back to the allocator.
const SPARE_MAX: usize = 1024;

impl Clients {
    pub(crate) fn insert(&mut self, client: Client) {
        let slot = client.connection.slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        let before = self.slots[slot].replace(Box::new(client));
        assert!(before.is_none(), "the runtime opened a connection in a slot that is in use");
        self.open += 1;
    }

    pub(crate) fn remove(&mut self, connection: ConnectionId) -> Option<Box<Client>> {
        self.get(connection)?;
        self.open -= 1;
        self.slots[connection.slot as usize].take()
    }

    pub(crate) fn get(&self, connection: ConnectionId) -> Option<&Client> {
        let client = self.slots.get(connection.slot as usize)?.as_deref()?;
        Some(client).filter(|client| client.connection == connection)
    }

    pub(crate) fn get_mut(&mut self, connection: ConnectionId) -> Option<&mut Client> {
        let client = self.slots.get_mut(connection.slot as usize)?.as_deref_mut()?;
        Some(client).filter(|client| client.connection == connection)
    }

    /// Whoever has the slot now.
    pub(crate) fn in_slot(&self, slot: u32) -> Option<&Client> {
        self.slots.get(slot as usize)?.as_deref()
    }

    /// The client that the hub or the user list names.
    pub(crate) fn at(&self, slot: u32) -> &Client {
        self.slots[slot as usize].as_deref().expect("a subscribed client is open")
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> &mut Client {
        self.slots[slot as usize].as_deref_mut().expect("a subscribed client is open")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slots.iter().filter_map(Option::as_deref)
    }

    pub(crate) fn len(&self) -> usize {
        self.open
    }

    /// Queues a shared frame for the client in a slot. False when its queue is over `bytes_max` now.
    #[inline]
    pub(crate) fn push_shared(&mut self, slot: u32, bytes: &Rc<[u8]>, bytes_max: usize) -> bool {
        let client = self.slots[slot as usize].as_deref_mut().expect("a subscribed client is open");
        client.push_shared(bytes, &mut self.spare);
        self.outgoing.mark(client);
        client.queued_bytes() <= bytes_max
    }

    /// Queues bytes of one connection alone. False when its queue is over `bytes_max` now.
    pub(crate) fn push_owned(&mut self, connection: ConnectionId, bytes: [&[u8]; 3], bytes_max: usize) -> bool {
        let Some(client) = self.slots.get_mut(connection.slot as usize).and_then(Option::as_deref_mut) else {
            return true;
        };
        client.queue.push_owned(bytes, &mut self.spare);
        self.outgoing.mark(client);
        client.queued_bytes() <= bytes_max
    }

    pub(crate) fn recycle(&mut self, mut frames: Vec<Frame>) {
        frames.clear();
        if self.spare.len() < SPARE_MAX {
            self.spare.push(frames);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Subscriber;

    /// What every idle client costs on its shard; its subscription stands in both lists.
    #[test]
    fn idle_client_is_small() {
        let sizes = [size_of::<Client>(), size_of::<subscription::Subscription>(), size_of::<Subscriber>()];
        assert!(sizes.iter().zip([240, 32, 16]).all(|(size, budget)| *size <= budget), "{sizes:?}");
    }
}
