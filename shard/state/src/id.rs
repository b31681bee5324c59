//! Names of things that cross a border: shards, connections, requests.

use std::fmt;

/// A thread with its data; from 0 to the number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// Position in an array that has one element per shard.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A connection of one shard. The runtime gives it out: `slot` is reused, `generation` tells the uses apart,
/// so that whatever comes late for an earlier connection of the slot is recognised and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Index into the slab of the shard's connections.
    pub slot: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// A question that a shard asked another one; names the place where the answer is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl RequestId {
    /// A name for whoever asks a driver without a shard, such as its tests.
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }
}

/// The id that a client gets at connect: a version 4 UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u128);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            hex >> 96,
            hex >> 80 & 0xffff,
            hex >> 64 & 0xffff,
            hex >> 48 & 0xffff,
            hex & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
