//! Connections by user: on the shard that holds them, and counted at the user's home.

use crate::ShardId;
use crate::sparse::GiveBack;
use std::collections::HashMap;
use std::sync::Arc;

type Map<V> = HashMap<Arc<str>, V, foldhash::fast::FixedState>;

/// Both sides: `local` for connections of this shard, `homes` for users whose home it is.
#[derive(Debug)]
pub(crate) struct Users {
    /// Slots of the connections of each user; the empty user's are the anonymous ones.
    local: Map<Vec<u32>>,
    /// How many connections of a user each shard has.
    homes: Map<Vec<(ShardId, u32)>>,
}

impl Users {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let hasher = foldhash::fast::FixedState::with_seed(hash_seed);
        Users { local: HashMap::with_hasher(hasher.clone()), homes: HashMap::with_hasher(hasher) }
    }

    /// Enters a connection of this shard; returns its place.
    pub(crate) fn insert_local(&mut self, user: &Arc<str>, slot: u32) -> u32 {
        let slots = self.local.entry(Arc::clone(user)).or_insert_with(|| Vec::with_capacity(1));
        slots.push(slot);
        (slots.len() - 1) as u32
    }

    /// Takes a connection out of its place. Returns the slot that moved there, if one did.
    pub(crate) fn remove_local(&mut self, user: &str, place: u32) -> Option<u32> {
        let slots = self.local.get_mut(user).expect("a listed connection's user is known");
        slots.swap_remove(place as usize);
        slots.give_back();
        let moved = slots.get(place as usize).copied();
        if slots.is_empty() {
            self.local.remove(user);
            self.local.give_back();
        }
        moved
    }

    /// Slots of the connections of a user on this shard.
    pub(crate) fn local(&self, user: &str) -> &[u32] {
        self.local.get(user).map_or(&[], Vec::as_slice)
    }

    /// At the home: one more connection. Returns how many the user has now.
    pub(crate) fn connect(&mut self, user: Arc<str>, shard: ShardId) -> u32 {
        let shards = self.homes.entry(user).or_insert_with(|| Vec::with_capacity(1));
        match shards.iter_mut().find(|(id, _)| *id == shard) {
            Some((_, count)) => *count += 1,
            None => shards.push((shard, 1)),
        }
        shards.iter().map(|(_, count)| count).sum()
    }

    /// At the home: one fewer. Each matches an earlier `connect`.
    pub(crate) fn disconnect(&mut self, user: &str, shard: ShardId) {
        let shards = self.homes.get_mut(user).expect("a disconnect matches a connect of the user");
        let at = shards.iter().position(|(id, _)| *id == shard).expect("a disconnect matches a connect of the shard");
        shards[at].1 -= 1;
        if shards[at].1 == 0 {
            shards.swap_remove(at);
        }
        if shards.is_empty() {
            self.homes.remove(user);
            self.homes.give_back();
        }
    }

    /// At the home: shards that have connections of the user.
    pub(crate) fn shards(&self, user: &str) -> impl Iterator<Item = ShardId> {
        self.homes.get(user).into_iter().flatten().map(|(shard, _)| *shard)
    }

    /// Users whose home this is.
    pub(crate) fn count(&self) -> usize {
        self.homes.len()
    }
}
