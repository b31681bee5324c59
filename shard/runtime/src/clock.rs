//! The clocks of a process, read once per turn, and once more after the writes of a turn whose durations are recorded.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringcast_state::{Now, Time};

/// Turns the machine's clocks into inputs of the state machines. All shards of a process share one.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Time begins now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both clocks, and the moment as the operating system names it.
    pub fn read(&self) -> (Now, Instant) {
        let instant = Instant::now();
        let at = Time(micros(instant.saturating_duration_since(self.start)));
        // A wall clock before 1970 is one that nobody has set.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Now { at, unix_ms: micros(unix) / 1000 }, instant)
    }

    /// The monotonic clock alone, for what ends within a turn.
    pub fn time(&self) -> Time {
        Time(micros(self.start.elapsed()))
    }

    /// When `time` is.
    pub fn instant(&self, time: Time) -> Instant {
        self.start + Duration::from_micros(time.0)
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
