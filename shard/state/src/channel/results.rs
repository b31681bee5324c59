//! Results of publishes with an idempotency key, so that a repeated one is answered without publishing again.

use super::Position;
use crate::Time;
use crate::sparse::GiveBack;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Results of one channel; all live equally long (`Limits::idempotency_ttl`).
#[derive(Debug)]
pub(crate) struct Results {
    by_key: HashMap<Arc<str>, Position, foldhash::fast::FixedState>,
    oldest_first: VecDeque<(Time, Arc<str>)>,
}

impl Results {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let hasher = foldhash::fast::FixedState::with_seed(hash_seed);
        Results { by_key: HashMap::with_hasher(hasher), oldest_first: VecDeque::new() }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Position> {
        self.by_key.get(key)
    }

    /// Remembers the result of a key that is not remembered yet.
    pub(crate) fn insert(&mut self, key: String, position: Position, now: Time, ttl: Duration) {
        let key: Arc<str> = key.into();
        self.oldest_first.push_back((now + ttl, Arc::clone(&key)));
        self.by_key.insert(key, position);
    }

    /// Drops what is too old; true when nothing is left.
    pub(crate) fn expire(&mut self, now: Time) -> bool {
        while let Some((expire_at, _)) = self.oldest_first.front()
            && *expire_at <= now
        {
            if let Some((_, key)) = self.oldest_first.pop_front() {
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
