//! Which shard is the home of a channel or of a user.

use crate::ShardId;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;

/// Points from a name to its home; equal on all shards of a process, and on whoever sends them requests.
#[derive(Clone, Debug)]
pub struct Compass {
    hasher: FixedState,
    shards: u16,
}

impl Compass {
    /// `seed` is [`Seeds::home`](crate::Seeds); `shards` the number of shards in the process, at least 1.
    pub fn new(seed: u64, shards: u16) -> Self {
        Self { hasher: FixedState::with_seed(seed), shards }
    }

    /// The shard that orders a channel, or keeps the list of a user.
    pub fn home(&self, name: &str) -> ShardId {
        let hash = self.hasher.hash_one(name);
        let shard = (u128::from(hash) * u128::from(self.shards)) >> 64;
        ShardId(shard as u16)
    }

    /// Whether there is such a shard.
    pub(crate) fn has(&self, shard: ShardId) -> bool {
        shard.0 < self.shards
    }
}
