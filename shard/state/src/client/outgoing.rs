//! Which connections have output, and when it leaves: at the end of the turn, or `client.write_delay` later.

use super::{Client, Clients};
use crate::{ConnectionId, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// Connections with output.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Since the last flush, or in a hurry.
    dirty: Vec<ConnectionId>,
    /// Those whose output waits, each once. All wait equally long, so that the first is due first; after a reload with a
    /// shorter delay the newer ones wait for those before them.
    delayed: VecDeque<(Time, ConnectionId)>,
}

/// Where a connection stands in [`Outgoing`].
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// It has output that was not taken.
    is_dirty: bool,
    /// It is among the delayed. An entry that a hurry overtook stays and serves the next output.
    is_delayed: bool,
    /// Its output must not wait.
    is_urgent: bool,
}

impl Turn {
    /// Output waits that `take_dirty` will name in time.
    pub(crate) fn is_awaited(&self) -> bool {
        self.is_dirty
    }
}

impl Outgoing {
    /// The client got output.
    #[inline]
    pub(super) fn mark(&mut self, client: &mut Client) {
        if !client.turn.is_dirty {
            client.turn.is_dirty = true;
            if !client.turn.is_delayed {
                self.dirty.push(client.connection);
            }
        }
    }

    /// The output that the client has leaves at the end of the turn.
    fn hurry(&mut self, client: &mut Client) {
        let turn = &mut client.turn;
        if turn.is_dirty && turn.is_delayed && !turn.is_urgent {
            self.dirty.push(client.connection);
        }
        turn.is_urgent = turn.is_dirty;
    }
}

impl Clients {
    /// What waits for a connection leaves at the end of the turn.
    pub(super) fn hurry(&mut self, connection: ConnectionId) {
        let client = self.slots.get_mut(connection.slot as usize).and_then(Option::as_deref_mut);
        if let Some(client) = client.filter(|client| client.connection == connection) {
            self.outgoing.hurry(client);
        }
    }

    /// A connection whose output is to be written now.
    pub(crate) fn take_dirty(&mut self, now: Time, delay: Duration) -> Option<ConnectionId> {
        while let Some(connection) = self.outgoing.dirty.pop() {
            let Some(client) = self.get_mut(connection) else { continue };
            let turn = &mut client.turn;
            if !delay.is_zero() && !turn.is_urgent && turn.is_dirty {
                turn.is_delayed = true;
                self.outgoing.delayed.push_back((now + delay, connection));
                continue;
            }
            turn.is_urgent = false;
            if std::mem::take(&mut turn.is_dirty) {
                return Some(connection);
            }
        }
        self.take_delayed(now)
    }

    fn take_delayed(&mut self, now: Time) -> Option<ConnectionId> {
        while let Some((due, connection)) = self.outgoing.delayed.front().copied()
            && due <= now
        {
            self.outgoing.delayed.pop_front();
            let Some(client) = self.get_mut(connection) else { continue };
            client.turn.is_delayed = false;
            if std::mem::take(&mut client.turn.is_dirty) {
                return Some(connection);
            }
        }
        None
    }

    /// When the first delayed output is due.
    pub(crate) fn next_flush(&self) -> Option<Time> {
        self.outgoing.delayed.front().map(|(due, _)| *due)
    }
}
