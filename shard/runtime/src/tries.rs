//! How often clients may try to connect.

use std::sync::atomic::{AtomicU64, Ordering};

use ringcast_state::Time;

/// One try comes back in this time, microseconds.
const REFILL: u64 = 1_000_000;

/// A bucket of tries that all shards take from, each once per connect.
///
/// Bound: key `client.connection_rate_limit`, tries; one comes back per second, as in the reference. Empty: 503.
#[derive(Default)]
pub(crate) struct Tries {
    /// When the bucket will be full again, microseconds; past when it is.
    full_at: AtomicU64,
}

impl Tries {
    /// Takes a try out of a bucket of this size; false when there is none. Size 0 is no limit.
    pub fn take(&self, now: Time, size: usize) -> bool {
        let Some(others) = (size as u64).checked_sub(1) else { return true };
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let full_at = full_at.max(now.0);
            (full_at - now.0 <= others.saturating_mul(REFILL)).then_some(full_at + REFILL)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries at these milliseconds with a bucket of two.
    #[track_caller]
    fn check(tries: &[(u64, bool)]) {
        let bucket = Tries::default();
        let got: Vec<_> = tries.iter().map(|(at, _)| (*at, bucket.take(Time(at * 1000), 2))).collect();
        assert_eq!(got, tries);
    }

    /// Z11
    #[test]
    fn bucket_begins_full_and_fills_by_one_per_second() {
        check(&[(0, true), (0, true), (0, false), (999, false), (1000, true), (1000, false)]);
        check(&[(5000, true), (5000, true), (5500, false), (6000, true), (7000, true), (7000, false)]);
    }

    #[test]
    fn bucket_does_not_fill_over_its_size() {
        check(&[(0, true), (60_000, true), (60_000, true), (60_000, false)]);
    }

    #[test]
    fn size_zero_is_no_limit_and_any_size_is_taken() {
        let bucket = Tries::default();
        assert!((0..100).all(|_| bucket.take(Time(0), 0)));
        assert!((0..100).all(|_| bucket.take(Time(1), usize::MAX)));
    }
}
