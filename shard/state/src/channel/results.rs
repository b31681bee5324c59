//! Results of publishes with an idempotency key, so that a repeated one is answered without publishing again.

use super::Position;
use super::stream::micros_left;
use crate::Time;
use crate::sparse::GiveBack;
use ringcast_proto::handover;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Results of one channel; all live equally long (`Limits::idempotency_ttl`).
#[derive(Debug)]
pub(crate) struct Results {
    by_key: HashMap<Arc<str>, Remembered, foldhash::fast::FixedState>,
    oldest_first: VecDeque<(Time, Arc<str>)>,
}

#[derive(Debug)]
struct Remembered {
    position: Position,
    expire_at: Time,
}

impl Results {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let hasher = foldhash::fast::FixedState::with_seed(hash_seed);
        Results { by_key: HashMap::with_hasher(hasher), oldest_first: VecDeque::new() }
    }

    /// What a key brought. What is too old is not remembered, though `expire` may come late.
    pub(crate) fn get(&self, key: &str, now: Time) -> Option<&Position> {
        self.by_key.get(key).filter(|known| known.expire_at > now).map(|known| &known.position)
    }

    /// Remembers the result of a key that is not remembered yet.
    pub(crate) fn insert(&mut self, key: String, position: Position, now: Time, ttl: Duration) {
        let key: Arc<str> = key.into();
        let expire_at = now + ttl;
        self.oldest_first.push_back((expire_at, Arc::clone(&key)));
        self.by_key.insert(key, Remembered { position, expire_at });
    }

    /// All that are remembered, oldest first.
    pub(crate) fn write_down(&self, now: Time) -> Vec<handover::Remembered> {
        let known = self.oldest_first.iter().filter_map(|(expire_at, key)| {
            let known = self.by_key.get(key).filter(|known| known.expire_at == *expire_at && *expire_at > now)?;
            Some((key, known))
        });
        let remembered = known.map(|(key, known)| handover::Remembered {
            key: key.to_string(),
            offset: known.position.offset,
            epoch: known.position.epoch.to_string(),
            expire_in: micros_left(known.expire_at, now),
        });
        remembered.collect()
    }

    /// One of another process, in their order.
    pub(crate) fn read_in(&mut self, result: handover::Remembered, now: Time) {
        let position = Position { offset: result.offset, epoch: result.epoch.as_str().into() };
        self.insert(result.key, position, now, Duration::from_micros(result.expire_in));
    }

    /// Drops what is too old; true when nothing is left.
    pub(crate) fn expire(&mut self, now: Time) -> bool {
        while let Some((expire_at, _)) = self.oldest_first.front()
            && *expire_at <= now
        {
            // A key may have been used again since.
            if let Some((_, key)) = self.oldest_first.pop_front()
                && self.by_key.get(&key).is_some_and(|known| known.expire_at <= now)
            {
                self.by_key.remove(&key);
            }
        }
        self.by_key.give_back();
        self.oldest_first.give_back();
        self.oldest_first.is_empty()
    }

    /// When `expire` has something to do.
    pub(crate) fn next_expiry(&self) -> Time {
        self.oldest_first.front().map_or(Time(u64::MAX), |(expire_at, _)| *expire_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn position(offset: u64) -> Position {
        Position { offset, ..Position::default() }
    }

    /// H10
    #[test]
    fn result_is_remembered_for_its_time_and_not_longer() {
        let mut results = Results::new(7);
        results.insert("key".to_owned(), position(1), Time(0), TTL);
        let end = Time(0) + TTL;
        assert_eq!(results.get("key", Time(end.0 - 1)), Some(&position(1)));
        assert_eq!(results.get("key", end), None);
        assert!(results.expire(end));
    }

    /// H10
    #[test]
    fn key_that_is_used_again_before_its_old_result_was_dropped_is_remembered_anew() {
        let mut results = Results::new(7);
        let end = Time(0) + TTL;
        results.insert("key".to_owned(), position(1), Time(0), TTL);
        results.insert("key".to_owned(), position(2), end, TTL);
        assert!(!results.expire(end));
        assert_eq!(results.get("key", end), Some(&position(2)));
        assert!(results.expire(end + TTL));
    }
}
