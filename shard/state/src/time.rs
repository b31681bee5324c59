//! Time as the state machines see it: an input of every call, never read from a clock here.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on the machine's monotonic clock, in microseconds; equal on all shards of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, span: Duration) -> Time {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(micros))
    }
}

impl Sub for Time {
    type Output = Duration;

    /// Zero when `earlier` is in fact later.
    fn sub(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// The clocks of one turn, read once by the runtime and handed to every call of that turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and intervals.
    pub at: Time,
    /// Wall clock in milliseconds since 1970, for token claims and times shown to clients.
    pub unix_ms: u64,
}

impl Now {
    /// Wall clock in whole seconds, the unit of token claims.
    pub fn unix(&self) -> i64 {
        (self.unix_ms / 1000) as i64
    }
}
