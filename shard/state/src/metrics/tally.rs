//! Counters for label values that are not known beforehand, of which there are few: codes of errors and disconnects.

/// Values told apart; further ones are not counted. Backends choose disconnect codes, so that there is no other end.
const KEYS_MAX: usize = 256;

/// A counter for each value that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally<K>(Vec<(K, u64)>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Tally(Vec::new())
    }
}

impl<K: Clone + PartialEq> Tally<K> {
    /// One more.
    pub fn count(&mut self, key: K) {
        self.count_n(&key, 1);
    }

    fn count_n(&mut self, key: &K, times: u64) {
        match self.0.iter().position(|(known, _)| known == key) {
            Some(at) => self.0[at].1 += times,
            None if self.0.len() < KEYS_MAX => self.0.push((key.clone(), times)),
            None => {}
        }
    }

    /// How often a value came.
    pub fn get(&self, key: &K) -> u64 {
        self.0.iter().find(|(known, _)| known == key).map_or(0, |(_, count)| *count)
    }

    /// All values that came.
    pub fn iter(&self) -> impl Iterator<Item = (&K, u64)> {
        self.0.iter().map(|(key, count)| (key, *count))
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Tally<K>) {
        other.0.iter().for_each(|(key, count)| self.count_n(key, *count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_apart_and_there_is_an_end_to_them() {
        let mut tally = Tally::default();
        (0..1000).for_each(|key| tally.count(key));
        tally.count(7);
        assert_eq!((tally.get(&7), tally.get(&8), tally.get(&999)), (2, 1, 0));
        assert_eq!(tally.iter().count(), KEYS_MAX);
        let mut sum = tally.clone();
        sum.add(&tally);
        assert_eq!((sum.get(&7), sum.get(&8)), (4, 2));
    }
}
