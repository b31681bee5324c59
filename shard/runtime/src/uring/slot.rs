//! One socket as the ring sees it: its descriptor, what the kernel is doing with it, the bytes being sent.

use std::os::fd::RawFd;

use super::{SendBytes, SocketId};
use crate::table::Table;

/// What is going on with a socket, one bit each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    pub const NONE: Self = Self(0);
    /// A multishot receive is in the kernel.
    pub const RECEIVING: Self = Self(1);
    /// A send is in the kernel or queued for it.
    pub const SENDING: Self = Self(1 << 1);
    /// A wait for space in the send buffer is in the kernel.
    pub const POLLING: Self = Self(1 << 2);
    pub const CANCELLING_RECEIVE: Self = Self(1 << 3);
    pub const CANCELLING_POLL: Self = Self(1 << 4);
    pub const CLOSING_DESCRIPTOR: Self = Self(1 << 5);
    /// The owner wants bytes: an ended receive is armed again.
    pub const WANTED: Self = Self(1 << 6);
    /// Waits in turn for receive buffers.
    pub const STARVED: Self = Self(1 << 7);
    /// EOF or an error: no more bytes will come.
    pub const ENDED: Self = Self(1 << 8);
    /// The send in flight has met a full socket, and the owner knows.
    pub const BLOCKED: Self = Self(1 << 9);

    /// The send in flight is the last before the end of the connection.
    pub const LAST: Self = Self(1 << 10);

    /// Any of these: the kernel holds the descriptor or the bytes.
    pub const IN_KERNEL: Self = Self(
        Self::RECEIVING.0
            | Self::SENDING.0
            | Self::POLLING.0
            | Self::CANCELLING_RECEIVE.0
            | Self::CANCELLING_POLL.0
            | Self::CLOSING_DESCRIPTOR.0,
    );

    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    pub fn set(&mut self, flags: Self) {
        self.0 |= flags.0;
    }

    pub fn clear(&mut self, flags: Self) {
        self.0 &= !flags.0;
    }
}

/// Where a socket is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The slot waits in the free list.
    Free,
    /// A number for a connection that has no socket.
    Reserved,
    Open,
    /// Closing: the last bytes leave.
    Flushing,
    /// Closing: the peer has seen our FIN; its bytes are dropped until its own.
    Draining,
    /// Closing: operations are cancelled, then the descriptor is closed.
    Ending,
}

/// Budget: 40 bytes, for an idle connection holds nothing else here.
pub(super) struct Slot {
    /// The bytes of the one send in flight. They stay here until the kernel is done with them.
    pub sending: Option<SendBytes>,
    /// How many of them have left.
    pub sent: u32,
    pub fd: RawFd,
    pub generation: u32,
    pub flags: Flags,
    pub phase: Phase,
}

impl Slot {
    const FREE: Self = Self { sending: None, sent: 0, fd: -1, generation: 0, flags: Flags::NONE, phase: Phase::Free };

    /// Open, with more to come maybe, and nothing under way.
    pub fn is_at_rest(&self) -> bool {
        const BUSY: Flags = Flags::IN_KERNEL.with(Flags::ENDED).with(Flags::WANTED);
        self.phase == Phase::Open && !self.flags.any(BUSY) && self.sending.is_none()
    }

    pub fn unsent_bytes(&self) -> usize {
        self.sending.as_ref().map_or(0, |bytes| bytes.len() - self.sent as usize)
    }
}

/// All sockets of a ring. A slot is reused only after `free`, under a new generation.
pub(super) struct Slots {
    slots: Table<Slot>,
    free: Vec<u32>,
    /// Slots that were used once: all below.
    used: u32,
}

impl Default for Slots {
    fn default() -> Self {
        Self { slots: Table::new(|| Slot::FREE), free: Vec::new(), used: 0 }
    }
}

impl Slots {
    /// Slots fit in the user data of an operation; descriptors run out long before.
    const SLOTS_MAX: u32 = 1 << 24;

    pub fn insert(&mut self, fd: RawFd) -> SocketId {
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        let socket = self.slot_mut(slot);
        socket.fd = fd;
        socket.phase = Phase::Open;
        SocketId { slot, generation: socket.generation }
    }

    /// A slot without a descriptor.
    pub fn reserve(&mut self) -> SocketId {
        let id = self.insert(-1);
        self.slot_mut(id.slot).phase = Phase::Reserved;
        id
    }

    fn grow(&mut self) -> u32 {
        assert!(self.used < Self::SLOTS_MAX, "a process has fewer descriptors");
        self.slots.reach(self.used as usize);
        self.used += 1;
        self.used - 1
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Slot {
        self.slots.get_mut(slot as usize).expect("a slot that was handed out")
    }

    pub fn free(&mut self, id: SocketId) {
        let socket = self.slot_mut(id.slot);
        assert!(!socket.flags.any(Flags::IN_KERNEL) && socket.sending.is_none());
        socket.fd = -1;
        socket.generation = socket.generation.wrapping_add(1);
        socket.flags = Flags::NONE;
        socket.phase = Phase::Free;
        self.free.push(id.slot);
    }

    /// None for a socket that is gone.
    pub fn get(&self, id: SocketId) -> Option<&Slot> {
        let found = self.slots.get(id.slot as usize)?;
        (found.generation == id.generation && found.phase != Phase::Free).then_some(found)
    }

    /// None for a socket that is gone.
    pub fn get_mut(&mut self, id: SocketId) -> Option<&mut Slot> {
        let found = self.slots.get_mut(id.slot as usize)?;
        (found.generation == id.generation && found.phase != Phase::Free).then_some(found)
    }

    /// Sockets that are not `Free`.
    pub fn len(&self) -> usize {
        self.used as usize - self.free.len()
    }

    /// Sockets that are open or closing.
    pub fn in_use(&self) -> Vec<SocketId> {
        let has_descriptor = |socket: &Slot| !matches!(socket.phase, Phase::Free | Phase::Reserved);
        let in_use = self.slots.iter().enumerate().filter(|(_, socket)| has_descriptor(socket));
        in_use.map(|(slot, socket)| SocketId { slot: slot as u32, generation: socket.generation }).collect()
    }

    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_socket_costs_at_most_40_bytes() {
        assert!(size_of::<Slot>() <= 40, "{}", size_of::<Slot>());
    }

    #[test]
    fn reserved_slot_has_no_descriptor_to_act_upon() {
        let mut slots = Slots::default();
        let (reserved, open) = (slots.reserve(), slots.insert(3));
        assert_eq!((slots.len(), slots.in_use()), (2, vec![open]));
        slots.free(reserved);
        assert_ne!(slots.reserve(), reserved);
    }

    #[test]
    fn reused_slot_has_a_new_generation() {
        let mut slots = Slots::default();
        let first = slots.insert(3);
        slots.free(first);
        let second = slots.insert(4);
        assert_eq!(first.slot, second.slot);
        assert!(slots.get(first).is_none() && slots.get_mut(first).is_none());
        assert_eq!(slots.get(second).map(|slot| slot.fd), Some(4));
    }
}
