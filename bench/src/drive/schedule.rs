//! When the requests of a window are due, and when the window is over.

use std::time::Duration;

use crate::rounds::Length;

/// Of one window.
pub struct Schedule {
    started_ns: u64,
    /// Publications of a request.
    batch: u64,
    pace: Pace,
    /// Requests made.
    made: u64,
}

enum Pace {
    /// As fast as the lanes are free.
    Closed(Length),
    /// Publications per second on a fixed schedule, so many requests.
    Open { rate: u64, requests: u64 },
}

impl Schedule {
    /// Starts at `started_ns`; with a rate in publications per second it is an open loop.
    pub fn new(started_ns: u64, length: Length, batch: u32, rate: Option<u64>) -> Self {
        let batch = u64::from(batch);
        let pace = match (rate, length) {
            (None, length) => Pace::Closed(length),
            (Some(rate), Length::Publications(count)) => Pace::Open { rate, requests: count.div_ceil(batch) },
            (Some(rate), Length::Time(time)) => {
                Pace::Open { rate, requests: ((time.as_secs_f64() * rate as f64) as u64 / batch).max(1) }
            }
        };
        Self { started_ns, batch, pace, made: 0 }
    }

    /// Publications so far.
    pub fn published(&self) -> u64 {
        self.made * self.batch
    }

    /// Requests so far.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Whether no more requests are to be made.
    pub fn is_over(&self, now_ns: u64) -> bool {
        match self.pace {
            Pace::Closed(Length::Publications(count)) => self.published() >= count,
            Pace::Closed(Length::Time(time)) => now_ns - self.started_ns >= time.as_nanos() as u64,
            Pace::Open { requests, .. } => self.made >= requests,
        }
    }

    /// When the next request was due, if it is.
    pub fn due(&self, now_ns: u64) -> Option<u64> {
        if self.is_over(now_ns) {
            return None;
        }
        match self.pace {
            Pace::Closed(_) => Some(now_ns),
            Pace::Open { rate, .. } => Some(self.due_ns(rate)).filter(|due_ns| *due_ns <= now_ns),
        }
    }

    /// Takes note of a request.
    pub fn advance(&mut self) {
        self.made += 1;
    }

    /// Time until the next request of an open loop is due. Nothing when it is late already: then the lanes are busy, and their
    /// answers wake the loop.
    pub fn until_due(&self, now_ns: u64) -> Option<Duration> {
        match self.pace {
            Pace::Open { rate, .. } => self.due_ns(rate).checked_sub(now_ns).map(Duration::from_nanos),
            Pace::Closed(_) => None,
        }
    }

    fn due_ns(&self, rate: u64) -> u64 {
        self.started_ns + (u128::from(self.made * self.batch) * 1_000_000_000 / u128::from(rate)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Due times of the requests that are due at `now_ns`, and whether the window is over then.
    #[track_caller]
    fn check(length: Length, batch: u32, rate: Option<u64>, now_ns: u64, want: &[u64], over: bool) {
        let mut schedule = Schedule::new(1000, length, batch, rate);
        let mut due = Vec::new();
        while due.len() < 9
            && let Some(due_ns) = schedule.due(now_ns)
        {
            due.push(due_ns - 1000);
            schedule.advance();
        }
        assert_eq!((due.as_slice(), schedule.is_over(now_ns)), (want, over));
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn closed_loop_is_due_until_its_length_is_reached() {
        check(Length::Publications(3), 1, None, 1005, &[5, 5, 5], true);
        check(Length::Publications(3), 2, None, 1005, &[5, 5], true);
        check(Length::Time(Duration::from_nanos(5)), 1, None, 1004, &[4; 9], false);
        check(Length::Time(Duration::from_nanos(5)), 1, None, 1005, &[], true);
    }

    #[test]
    fn open_loop_keeps_its_schedule() {
        let half = 1000 + SECOND / 2;
        check(Length::Publications(3), 1, Some(4), half, &[0, SECOND / 4, SECOND / 2], true);
        check(Length::Publications(9), 1, Some(4), half, &[0, SECOND / 4, SECOND / 2], false);
        check(Length::Publications(9), 2, Some(4), half, &[0, SECOND / 2], false);
        check(Length::Time(Duration::from_millis(500)), 1, Some(4), half, &[0, SECOND / 4], true);
        check(Length::Time(Duration::from_millis(1)), 1, Some(4), half, &[0], true);
    }

    #[test]
    fn open_loop_waits_for_what_is_due_next() {
        let mut schedule = Schedule::new(0, Length::Publications(9), 1, Some(4));
        schedule.advance();
        assert_eq!(schedule.until_due(SECOND / 8), Some(Duration::from_millis(125)));
        assert_eq!(schedule.until_due(SECOND), None);
    }
}
