//! Decides when to ping a connection and when to give it up. Source: protocol §12.

use crate::Time;
use std::time::Duration;

/// Config keys `client.ping_interval` and `client.pong_timeout`, or what holds for native WebSocket pings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepAliveOptions {
    /// From one ping to the next; zero for none.
    pub(crate) ping_interval: Duration,
    /// Wait for the pong; zero to expect none.
    pub(crate) pong_timeout: Duration,
}

/// Ping and pong of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    /// Not connected yet, or pings are off.
    #[default]
    Off,
    /// The last ping, if there was one, was answered.
    Quiet {
        /// When the next one is due.
        ping_at: Time,
    },
    /// A ping is out.
    AwaitingPong {
        /// When it was sent.
        pinged_at: Time,
    },
}

/// Pings of one turn, when there are enough connections for so many.
const PINGS_TOGETHER: u32 = 32;

/// Longest distance between two moments of pings.
const PING_SLOT_MAX: Duration = Duration::from_millis(128);

/// When the first ping of a connection is due that came in a crowd of `connections` and asks for one at `wanted`: a little
/// earlier, so that pings leave together. Later pings keep company, because each follows an interval after the one before.
///
/// A shard of 10,000 idle connections slept and woke for each single pong before this; measured, that was two thirds of the
/// 29 µs that a ping and its pong cost. More connections have more moments, not more pings at once.
pub(crate) fn first_ping(wanted: Time, ping_interval: Duration, connections: usize) -> Time {
    let share = ping_interval.saturating_mul(PINGS_TOGETHER) / u32::try_from(connections.max(1)).unwrap_or(u32::MAX);
    let slot = share.min(PING_SLOT_MAX).min(ping_interval / 64).as_micros() as u64;
    Time(wanted.0 - wanted.0 % slot.max(1))
}

/// For the connection to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    SendPing,
    GiveUp,
}

impl KeepAlive {
    /// Call once `now` reaches `next_timeout`; an early call does nothing.
    pub(crate) fn handle_timeout(&mut self, now: Time, options: &KeepAliveOptions) -> Option<Due> {
        if self.next_timeout(options).is_none_or(|due| due > now) {
            return None;
        }
        match *self {
            KeepAlive::Off => None,
            KeepAlive::Quiet { .. } => {
                *self = KeepAlive::AwaitingPong { pinged_at: now };
                Some(Due::SendPing)
            }
            // Without a pong timeout this moment is that of the next ping.
            KeepAlive::AwaitingPong { .. } if options.pong_timeout.is_zero() => {
                *self = KeepAlive::AwaitingPong { pinged_at: now };
                Some(Due::SendPing)
            }
            KeepAlive::AwaitingPong { .. } => Some(Due::GiveUp),
        }
    }

    /// A pong came. Returns when the ping was sent, and nothing when none is outstanding, which the protocol forbids.
    pub(crate) fn handle_pong(&mut self, options: &KeepAliveOptions) -> Option<Time> {
        let KeepAlive::AwaitingPong { pinged_at } = *self else { return None };
        *self = KeepAlive::Quiet { ping_at: pinged_at + options.ping_interval };
        Some(pinged_at)
    }

    pub(crate) fn next_timeout(&self, options: &KeepAliveOptions) -> Option<Time> {
        match *self {
            KeepAlive::Off => None,
            KeepAlive::Quiet { ping_at } => Some(ping_at),
            KeepAlive::AwaitingPong { pinged_at } if options.pong_timeout.is_zero() => {
                Some(pinged_at + options.ping_interval)
            }
            KeepAlive::AwaitingPong { pinged_at } => Some(pinged_at + options.pong_timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(25);
    const TIMEOUT: Duration = Duration::from_secs(8);

    fn quiet() -> (KeepAlive, KeepAliveOptions) {
        let options = KeepAliveOptions { ping_interval: INTERVAL, pong_timeout: TIMEOUT };
        (KeepAlive::Quiet { ping_at: Time(0) + INTERVAL }, options)
    }

    #[test]
    fn first_pings_of_a_crowd_share_moments_and_come_little_earlier_than_asked() {
        for (connections, moments) in [(1, 196), (10_000, 313), (100_000, 3125), (1 << 24, 25_000)] {
            let wanted = (0..25_000).map(|millis| Time(0) + Duration::from_millis(millis));
            let first = wanted.map(|wanted| (wanted, first_ping(wanted, INTERVAL, connections)));
            let mut seen = std::collections::BTreeSet::new();
            for (wanted, first) in first {
                assert!(first <= wanted && wanted - first < PING_SLOT_MAX, "{connections}: {wanted:?} {first:?}");
                seen.insert(first);
            }
            assert_eq!(seen.len(), moments, "{connections}");
        }
    }

    #[test]
    fn early_call_does_nothing() {
        let (mut keep_alive, options) = quiet();
        assert_eq!(keep_alive.handle_timeout(Time(1), &options), None);
        assert_eq!(keep_alive, quiet().0);
    }

    #[test]
    fn answered_ping_is_followed_by_the_next_one_an_interval_later() {
        let (mut keep_alive, options) = quiet();
        let pinged_at = Time(0) + INTERVAL;
        assert_eq!(keep_alive.handle_timeout(pinged_at, &options), Some(Due::SendPing));
        assert_eq!(keep_alive.handle_pong(&options), Some(pinged_at));
        assert_eq!(keep_alive.next_timeout(&options), Some(pinged_at + INTERVAL));
    }

    #[test]
    fn unanswered_ping_gives_the_connection_up() {
        let (mut keep_alive, options) = quiet();
        let pinged_at = Time(0) + INTERVAL;
        keep_alive.handle_timeout(pinged_at, &options);
        assert_eq!(keep_alive.next_timeout(&options), Some(pinged_at + TIMEOUT));
        assert_eq!(keep_alive.handle_timeout(pinged_at + TIMEOUT, &options), Some(Due::GiveUp));
    }

    #[test]
    fn pong_is_legal_once_per_ping() {
        let (mut keep_alive, options) = quiet();
        assert_eq!(keep_alive.handle_pong(&options), None);
        keep_alive.handle_timeout(Time(0) + INTERVAL, &options);
        assert!(keep_alive.handle_pong(&options).is_some());
        assert_eq!(keep_alive.handle_pong(&options), None);
    }
}
