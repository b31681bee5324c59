//! Giving memory back: collections grow with a storm and would keep its size for ever.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

/// Below this many places nothing is worth giving back.
const CAPACITY_MIN: usize = 256;

/// Whether a collection that just lost something uses a quarter of its places or fewer. Shrunk to twice its length then,
/// it moves each entry once for every two that went, and does not grow at the next insert.
pub(crate) fn is_sparse(len: usize, capacity: usize) -> bool {
    capacity >= CAPACITY_MIN && len <= capacity / 4
}

/// A collection that can be asked to give back what it does not need.
pub(crate) trait GiveBack {
    /// Call after something was taken out.
    fn give_back(&mut self);
}

impl<T> GiveBack for Vec<T> {
    fn give_back(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            self.shrink_to(2 * self.len());
        }
    }
}

impl<T> GiveBack for VecDeque<T> {
    fn give_back(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            self.shrink_to(2 * self.len());
        }
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> GiveBack for HashMap<K, V, S> {
    fn give_back(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            self.shrink_to(2 * self.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_well_used_collections_keep_their_places() {
        for (len, capacity, want) in [
            (0, 255, false),
            (0, 256, true),
            (64, 256, true),
            (65, 256, false),
            (1000, 4000, true),
            (1001, 4000, false),
        ] {
            assert_eq!(is_sparse(len, capacity), want, "{len} of {capacity}");
        }
    }

    #[test]
    fn what_is_left_of_a_storm_is_kept_and_little_more() {
        let mut list: Vec<u32> = (0..100_000).collect();
        let mut map: HashMap<u32, u32> = list.iter().map(|i| (*i, *i)).collect();
        while list.len() > 100 {
            map.remove(&(list.len() as u32 - 1));
            list.pop();
            list.give_back();
            map.give_back();
        }
        assert!((0..100).all(|i| list[i as usize] == i && map[&i] == i));
        assert!(list.capacity() <= 512 && map.capacity() <= 512, "{} {}", list.capacity(), map.capacity());
    }
}
