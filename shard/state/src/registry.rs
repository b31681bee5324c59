//! Things with names, kept in places: a name is hashed once to find the place, and from then on the place is enough.

use crate::sparse::is_sparse;
use hashbrown::HashTable;
use slab::Slab;
use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};

/// Something that is found by its name, which never changes.
pub(crate) trait Named {
    fn name(&self) -> &str;
}

/// Named things, each in a place of its own. The table of names holds places alone, so a thing's name is kept once.
///
/// Things are boxed: a place that was used once costs a word and not a thing, in a list that grows by doubling, too.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    places: Slab<Box<T>>,
    by_name: HashTable<u32>,
    hasher: foldhash::fast::FixedState,
}

impl<T: Named> Registry<T> {
    /// Names come from outside, so the seed must not be known there.
    pub(crate) fn new(hash_seed: u64) -> Self {
        let hasher = foldhash::fast::FixedState::with_seed(hash_seed);
        Registry { places: Slab::new(), by_name: HashTable::new(), hasher }
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.by_name.find(hash, |&place| self[place].name() == name).copied()
    }

    /// Adds a thing whose name is not there yet; returns its place.
    pub(crate) fn insert(&mut self, thing: T) -> u32 {
        let hash = self.hasher.hash_one(thing.name());
        let place = self.places.insert(Box::new(thing)) as u32;
        let (places, hasher) = (&self.places, &self.hasher);
        let rehash = |&place: &u32| hasher.hash_one(places[place as usize].name());
        self.by_name.insert_unique(hash, place, rehash);
        place
    }

    pub(crate) fn remove(&mut self, place: u32) {
        let hash = self.hasher.hash_one(self[place].name());
        if let Ok(entry) = self.by_name.find_entry(hash, |&other| other == place) {
            entry.remove();
        }
        self.places.remove(place as usize);
        if is_sparse(self.places.len(), self.places.capacity()) {
            self.shrink();
        }
    }

    /// Gives back what is free behind the last thing, and the table's share of what is gone.
    fn shrink(&mut self) {
        self.places.shrink_to_fit();
        let (places, hasher) = (&self.places, &self.hasher);
        let rehash = |&place: &u32| hasher.hash_one(places[place as usize].name());
        self.by_name.shrink_to(2 * places.len(), rehash);
    }

    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place as usize).map(Box::as_mut)
    }

    /// Places in use now.
    pub(crate) fn places(&self) -> Vec<u32> {
        self.places.iter().map(|(place, _)| place as u32).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().map(|(_, thing)| thing.as_ref())
    }
}

impl<T> Index<u32> for Registry<T> {
    type Output = T;

    fn index(&self, place: u32) -> &T {
        &self.places[place as usize]
    }
}

impl<T> IndexMut<u32> for Registry<T> {
    fn index_mut(&mut self, place: u32) -> &mut T {
        &mut self.places[place as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Named for String {
        fn name(&self) -> &str {
            self
        }
    }

    #[test]
    fn thing_is_found_by_name_until_it_is_removed() {
        let mut registry = Registry::new(7);
        let places: Vec<u32> = (0..100).map(|i| registry.insert(format!("channel {i}"))).collect();
        assert_eq!(registry.find("channel 42"), Some(places[42]));
        registry.remove(places[42]);
        assert_eq!(registry.find("channel 42"), None);
        assert!((0..100).filter(|i| *i != 42).all(|i| registry.find(&format!("channel {i}")) == Some(places[i])));
    }

    #[test]
    fn place_is_used_again() {
        let mut registry = Registry::new(7);
        let place = registry.insert("a".to_owned());
        registry.remove(place);
        assert_eq!(registry.insert("b".to_owned()), place);
        assert_eq!((registry.find("a"), registry.find("b")), (None, Some(place)));
    }

    #[test]
    fn places_and_table_shrink_with_what_is_left() {
        let mut registry = Registry::new(7);
        let places: Vec<u32> = (0..100_000).map(|i| registry.insert(format!("channel {i}"))).collect();
        places[100..].iter().for_each(|place| registry.remove(*place));
        assert!(registry.places.capacity() <= 256, "{}", registry.places.capacity());
        assert!(registry.by_name.capacity() <= 512, "{}", registry.by_name.capacity());
        assert!((0..100).all(|i| registry.find(&format!("channel {i}")) == Some(places[i])));
    }
}
