//! How many wrong keys an address may try. Only wrong ones are counted: the right key passes whatever came before it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ringcast_state::Time;

/// Time before one who has spent the wrong keys of a minute is told so, so that guessing takes connections as well as tries.
pub const GUESS_PAUSE: Duration = Duration::from_millis(250);

/// The limit is per minute, microseconds.
const WINDOW: u64 = 60_000_000;

/// Addresses counted at a time, 32 bytes each.
const ADDRESSES_MAX: usize = 4096;

/// Wrong keys of each address in the minute that begins with its first. Shared by all threads that check keys of one kind, so that
/// connections to several of them gain nothing; touched by wrong keys only.
///
/// Bound: 4096 addresses, where the first 64 bits of an IPv6 address count as one. Full: those whose minute is over are forgotten,
/// and without any a wrong key of a further address is one too many.
#[derive(Debug, Default)]
pub struct Guesses {
    seen: Mutex<HashMap<IpAddr, Seen>>,
}

/// Of one address.
#[derive(Debug)]
struct Seen {
    since: Time,
    count: usize,
}

/// What to tell the sender of a wrong key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// That it is wrong.
    Wrong,
    /// That there were too many. `is_first`: of its minute, for a line in the log.
    TooMany {
        /// Nothing was logged in this minute.
        is_first: bool,
    },
}

impl Guesses {
    /// Counts a wrong key. `limit`: how many a minute are told so; 0 is no limit. A peer without an address shares its count with
    /// all of its kind.
    pub fn count(&self, now: Time, limit: usize, peer: Option<IpAddr>) -> Verdict {
        if limit == 0 {
            return Verdict::Wrong;
        }
        // A count is whole at any moment: a thread that panicked leaves nothing half done.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), network);
        if seen.len() >= ADDRESSES_MAX && !seen.contains_key(&peer) {
            seen.retain(|_, seen| !seen.is_over(now));
            if seen.len() >= ADDRESSES_MAX {
                return Verdict::TooMany { is_first: false };
            }
        }
        let seen = seen.entry(peer).or_insert(Seen { since: now, count: 0 });
        if seen.is_over(now) {
            *seen = Seen { since: now, count: 0 };
        }
        seen.count = seen.count.saturating_add(1);
        match seen.count > limit {
            true => Verdict::TooMany { is_first: seen.count == limit.saturating_add(1) },
            false => Verdict::Wrong,
        }
    }
}

impl Seen {
    fn is_over(&self, now: Time) -> bool {
        now.0.saturating_sub(self.since.0) >= WINDOW
    }
}

/// What one guesser has at its disposal: an IPv4 address, also one written as IPv6, or the 64 bits of an IPv6 network.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRONG: Verdict = Verdict::Wrong;
    const FIRST: Verdict = Verdict::TooMany { is_first: true };
    const TOO_MANY: Verdict = Verdict::TooMany { is_first: false };

    /// Wrong keys of addresses at these seconds, with a limit of two.
    #[track_caller]
    fn check(guesses: &[(u64, &str, Verdict)]) {
        let counted = Guesses::default();
        for (number, (second, peer, want)) in guesses.iter().enumerate() {
            let got = counted.count(Time(second * 1_000_000), 2, peer.parse().ok());
            assert_eq!(got, *want, "guess {number}, of {peer} at {second} s");
        }
    }

    #[test]
    fn more_than_the_limit_of_a_minute_is_too_many() {
        check(&[(5, "10.0.0.1", WRONG), (6, "10.0.0.1", WRONG), (7, "10.0.0.1", FIRST), (64, "10.0.0.1", TOO_MANY)]);
        check(&[(5, "10.0.0.1", WRONG), (6, "10.0.0.1", WRONG), (65, "10.0.0.1", WRONG), (66, "10.0.0.1", WRONG)]);
    }

    #[test]
    fn each_address_has_its_own_count() {
        check(&[(0, "10.0.0.1", WRONG), (0, "10.0.0.1", WRONG), (0, "10.0.0.2", WRONG), (0, "10.0.0.1", FIRST)]);
        check(&[(0, "::ffff:10.0.0.1", WRONG), (0, "10.0.0.1", WRONG), (0, "::ffff:10.0.0.1", FIRST)]);
        check(&[(0, "2001:db8::1", WRONG), (0, "2001:db8::2", WRONG), (0, "2001:db8::3", FIRST)]);
        check(&[(0, "2001:db8::1", WRONG), (0, "2001:db8:0:1::1", WRONG), (0, "2001:db8::1", WRONG)]);
        check(&[(0, "unknown", WRONG), (0, "unknown", WRONG), (0, "unknown", FIRST), (0, "10.0.0.1", WRONG)]);
    }

    #[test]
    fn limit_zero_counts_nothing_and_any_limit_is_taken() {
        let counted = Guesses::default();
        assert!((0..100).all(|_| counted.count(Time(0), 0, None) == WRONG));
        assert!((0..100).all(|_| counted.count(Time(0), usize::MAX, None) == WRONG));
    }

    #[test]
    fn addresses_are_forgotten_and_never_too_many() {
        let counted = Guesses::default();
        let address = |number: u32| Some(IpAddr::from(number.to_be_bytes()));
        let full = ADDRESSES_MAX as u32;
        assert!((0..full).all(|number| counted.count(Time(0), 1, address(number)) == WRONG));
        assert_eq!(counted.count(Time(WINDOW - 1), 1, address(full)), TOO_MANY);
        assert_eq!(counted.count(Time(WINDOW - 1), 1, address(0)), FIRST);
        assert_eq!(counted.count(Time(WINDOW), 1, address(full)), WRONG);
        assert_eq!(counted.seen.lock().unwrap().len(), 1);
    }
}
