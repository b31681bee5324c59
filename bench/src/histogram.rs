//! Latencies in an HDR histogram, and the percentiles that are told of them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longer ones count as this long.
const LONGEST: Duration = Duration::from_secs(60);

/// Latencies of a window or a run, recorded in microseconds with three significant digits.
pub struct Latency(Histogram<u64>);

/// What is told of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// How many were recorded.
    pub count: u64,
    /// Median, microseconds; the others likewise.
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

impl Latency {
    /// An empty histogram.
    pub fn new() -> Self {
        let longest = LONGEST.as_micros() as u64;
        let histogram = Histogram::new_with_bounds(1, longest, 3);
        Self(histogram.expect("bounds and digits are within what the histogram takes"))
    }

    /// Takes note of a latency in nanoseconds; below a microsecond counts as 0.
    pub fn record_ns(&mut self, nanos: u64) {
        self.0.saturating_record(nanos / 1000);
    }

    /// Adds what another one holds.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// What is recorded, for those who write it down.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// The percentiles so far, all zero for an empty histogram.
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile);
        Percentiles {
            count: self.0.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max(),
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Percentiles {
    /// For the machine-readable report.
    pub fn to_json(self) -> Value {
        json!({
            "count": self.count,
            "p50_us": self.p50_us,
            "p90_us": self.p90_us,
            "p99_us": self.p99_us,
            "p999_us": self.p999_us,
            "max_us": self.max_us,
        })
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50_us, p90_us, p99_us, p999_us, max_us, .. } = self;
        write!(f, "p50 {p50_us}  p90 {p90_us}  p99 {p99_us}  p99.9 {p999_us}  max {max_us}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(micros: impl Iterator<Item = u64>, want: [u64; 5]) {
        let mut latency = Latency::new();
        micros.for_each(|micros| latency.record_ns(micros * 1000));
        let told = latency.percentiles();
        assert_eq!([told.p50_us, told.p90_us, told.p99_us, told.p999_us, told.max_us], want);
    }

    #[test]
    fn percentiles_of_a_ramp() {
        check(1..=1000, [500, 900, 990, 999, 1000]);
    }

    #[test]
    fn empty_histogram_tells_zeros() {
        check(std::iter::empty(), [0; 5]);
    }

    #[test]
    fn one_slow_delivery_is_the_maximum_alone() {
        check((0..9999).map(|_| 10).chain([1500]), [10, 10, 10, 10, 1500]);
    }

    #[test]
    fn longest_latency_is_kept_at_the_bound() {
        let mut latency = Latency::new();
        latency.record_ns(u64::MAX);
        assert!(latency.percentiles().max_us >= 60_000_000);
    }
}
