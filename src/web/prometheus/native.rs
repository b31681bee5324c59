//! Native histograms: sparse, with buckets that grow by a factor. As client_golang makes them with a bucket factor of 1.1 and
//! at most 200 buckets.

use super::model::Unit;
use ringcast_state::metrics::Histogram;
use std::collections::BTreeMap;

/// Eight buckets for each power of two: a factor of 1.09.
const SCHEMA: i32 = 3;

/// Above, buckets are joined by twos.
const BUCKETS_MAX: usize = 200;

/// Empty buckets between others that are cheaper written than skipped.
const GAP_MAX: i32 = 2;

/// The buckets of a native histogram, as the exposition format has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Native {
    /// Buckets per power of two are two to the power of this.
    pub schema: i32,
    /// Values up to the zero threshold, 2^-128.
    pub zero_count: u64,
    /// Runs of buckets: distance from the end of the run before, and length.
    pub spans: Vec<(i32, u32)>,
    /// Count of each bucket of the runs, less that of the one before.
    pub deltas: Vec<i64>,
}

impl Native {
    /// Two to the power of -128: what client_golang takes for zero.
    pub const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

    pub fn new(histogram: &Histogram, unit: Unit) -> Self {
        let mut schema = SCHEMA;
        let (zero_count, mut counts) = counts(histogram, unit, schema);
        while counts.len() > BUCKETS_MAX {
            schema -= 1;
            counts = joined(&counts);
        }
        let (spans, deltas) = spans(&counts);
        Native { schema, zero_count, spans, deltas }
    }
}

/// Zeros, and how many values are in each bucket: number `n` holds those above 2^((n-1)/8) and up to 2^(n/8).
fn counts(histogram: &Histogram, unit: Unit, schema: i32) -> (u64, BTreeMap<i32, u64>) {
    let (mut zeros, mut counts) = (0, BTreeMap::new());
    for place in histogram.buckets() {
        if place.high == 0 {
            zeros += place.count;
            continue;
        }
        // The least value of the place, so that what is at a bound stays there; the place is 0.1 % wide.
        let value = place.low as f64 / unit.scale();
        let number = (value.log2() * f64::from(1 << schema)).ceil() as i32;
        *counts.entry(number).or_default() += place.count;
    }
    (zeros, counts)
}

fn joined(counts: &BTreeMap<i32, u64>) -> BTreeMap<i32, u64> {
    let mut joined = BTreeMap::new();
    for (number, count) in counts {
        *joined.entry((number + 1).div_euclid(2)).or_default() += count;
    }
    joined
}

fn spans(counts: &BTreeMap<i32, u64>) -> (Vec<(i32, u32)>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<(i32, u32)>::new(), Vec::new());
    let (mut next, mut before) = (0, 0);
    let mut put = |count: i64| {
        deltas.push(count - before);
        before = count;
    };
    for (number, count) in counts {
        let gap = number - next;
        match spans.last_mut() {
            Some((_, length)) if gap <= GAP_MAX => {
                (0..gap).for_each(|_| put(0));
                *length += gap as u32 + 1;
            }
            _ => spans.push((gap, 1)),
        }
        put(*count as i64);
        next = number + 1;
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    /// Numbers and counts of the buckets, as a reader of the format finds them.
    fn read(native: &Native) -> Vec<(i32, i64)> {
        let (mut number, mut count, mut deltas, mut found) = (0, 0, native.deltas.iter(), Vec::new());
        for (offset, length) in &native.spans {
            number += offset;
            for _ in 0..*length {
                count += deltas.next().expect("a delta for each bucket");
                if count > 0 {
                    found.push((number, count));
                }
                number += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        found
    }

    #[track_caller]
    fn check(values: &[u64], want: &[(i32, i64)], spans: usize) {
        let native = Native::new(&of(values), Unit::Number);
        assert_eq!((read(&native), native.spans.len()), (want.to_vec(), spans), "{values:?}");
    }

    #[test]
    fn values_are_in_the_bucket_that_ends_at_or_above_them() {
        check(&[], &[], 0);
        check(&[1], &[(0, 1)], 1);
        check(&[2, 2], &[(8, 2)], 1);
        check(&[3], &[(13, 1)], 1);
        check(&[1024], &[(80, 1)], 1);
    }

    #[test]
    fn small_gaps_are_filled_and_large_ones_skipped() {
        check(&[8, 9, 9], &[(24, 1), (26, 2)], 1);
        check(&[8, 11], &[(24, 1), (28, 1)], 2);
        check(&[1, 8], &[(0, 1), (24, 1)], 2);
    }

    #[test]
    fn zeros_are_apart_and_seconds_are_below_one() {
        let native = Native::new(&of(&[0, 0, 1_000_000, 500_000]), Unit::Time);
        assert_eq!((native.zero_count, native.schema, read(&native)), (2, 3, vec![(-8, 1), (0, 1)]));
    }

    #[test]
    fn too_many_buckets_are_joined() {
        let values: Vec<u64> = (0..208).map(|n| 2f64.powf(f64::from(n) / 8.0) as u64).collect();
        let native = Native::new(&of(&values), Unit::Number);
        assert!(read(&native).len() <= BUCKETS_MAX);
        assert_eq!(read(&native).iter().map(|(_, count)| *count).sum::<i64>(), 208);
        let wide = joined(&BTreeMap::from([(-1, 1), (0, 2), (1, 4), (2, 8), (3, 16)]));
        assert_eq!(wide, BTreeMap::from([(0, 3), (1, 12), (2, 16)]));
    }
}
