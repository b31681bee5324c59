//! Counts of values on a scale of 3 significant digits, as HdrHistogram lays them out: exact up to 2047, within 0.1 % beyond.

/// Highest value that is told apart: a minute in microseconds. What is more counts as this.
pub const VALUE_MAX: u64 = 60_000_000;

/// Bits of the part of the scale that is linear, and of each power of two beyond.
const LINEAR_BITS: u32 = 11;
const HALF: usize = 1 << (LINEAR_BITS - 1);

/// Counts that are allocated together.
const CHUNK: usize = 256;

/// Values of one kind: microseconds, or numbers of something.
///
/// Memory: 56 bytes when nothing was recorded, then 2 KiB for each 256 places of the scale in use; latencies of 10 µs to 2 ms
/// take 8 of them, all that there are take 139 KiB. Recording costs about 3 ns, and allocates only in a part of the scale that
/// was never used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    chunks: Vec<Option<Box<[u64; CHUNK]>>>,
    count: u64,
    sum: u64,
    max: u64,
}

/// One place of the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Number of the place, as HdrHistogram counts them.
    pub index: usize,
    /// Least and highest value that belong here.
    pub low: u64,
    /// See `low`.
    pub high: u64,
    /// How often they came.
    pub count: u64,
}

impl Histogram {
    /// One value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// The same value several times, at the price of one.
    #[inline]
    pub fn record_n(&mut self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
        self.count += times;
        self.max = self.max.max(value);
        *self.at_mut(index_of(value)) += times;
    }

    #[inline]
    fn at_mut(&mut self, index: usize) -> &mut u64 {
        let chunk = index / CHUNK;
        if chunk >= self.chunks.len() {
            self.chunks.resize(chunk + 1, None);
        }
        &mut self.chunks[chunk].get_or_insert_with(|| Box::new([0; CHUNK]))[index % CHUNK]
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum; those over the end of the scale count as they were.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The highest as it was; 0 without values.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The places in use, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> {
        let chunks = self.chunks.iter().enumerate().filter_map(|(at, chunk)| Some((at, chunk.as_deref()?)));
        let places =
            chunks.flat_map(|(at, chunk)| chunk.iter().enumerate().map(move |(n, count)| (at * CHUNK + n, *count)));
        places.filter(|(_, count)| *count > 0).map(|(index, count)| {
            let (low, high) = range_of(index);
            Bucket { index, low, high, count }
        })
    }

    /// How many values are at most `bound`; a place of the scale that reaches over it counts in full.
    pub fn count_to(&self, bound: u64) -> u64 {
        let end = index_of(bound);
        self.buckets().take_while(|bucket| bucket.index <= end).map(|bucket| bucket.count).sum()
    }

    /// The value that this share of all values does not exceed, from 0 to 1; `None` without values.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        let found = self.buckets().find(|bucket| {
            seen += bucket.count;
            seen >= rank
        })?;
        Some(found.high.min(self.max))
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Histogram) {
        for bucket in other.buckets() {
            *self.at_mut(bucket.index) += bucket.count;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// What came since an earlier state of the same histogram. The highest value is that of the whole time.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let mut rest = self.clone();
        for bucket in earlier.buckets() {
            let count = rest.at_mut(bucket.index);
            *count = count.saturating_sub(bucket.count);
        }
        rest.count = self.count.saturating_sub(earlier.count);
        rest.sum = self.sum.saturating_sub(earlier.sum);
        rest
    }
}

/// Place of a value.
#[inline]
fn index_of(value: u64) -> usize {
    let value = value.min(VALUE_MAX);
    let power = (u64::BITS - (value | (2 * HALF as u64 - 1)).leading_zeros()) - LINEAR_BITS;
    power as usize * HALF + (value >> power) as usize
}

/// Least and highest value of a place.
fn range_of(index: usize) -> (u64, u64) {
    let power = (index / HALF).saturating_sub(1);
    let low = ((index - power * HALF) as u64) << power;
    (low, low + (1 << power) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    #[test]
    fn every_value_is_in_its_place_and_places_follow_each_other() {
        let mut next = 0;
        for index in 0..=index_of(VALUE_MAX) {
            let (low, high) = range_of(index);
            assert_eq!(low, next, "{index}");
            assert_eq!((index_of(low), index_of(high.min(VALUE_MAX))), (index, index));
            next = high + 1;
        }
    }

    #[test]
    fn values_keep_three_digits() {
        for value in [0, 1, 2047, 2048, 2049, 4095, 4096, 123_456, 5_000_000, VALUE_MAX] {
            let (low, high) = range_of(index_of(value));
            assert!((low..=high).contains(&value) && high - low <= value / 1000, "{value}: {low} to {high}");
        }
        assert_eq!(index_of(u64::MAX), index_of(VALUE_MAX));
    }

    #[test]
    fn count_sum_and_highest_are_exact() {
        let mut histogram = of(&[5, 2049, 70_000_000]);
        histogram.record_n(7, 3);
        histogram.record_n(9, 0);
        assert_eq!((histogram.count(), histogram.sum(), histogram.max()), (6, 70_002_075, 70_000_000));
        assert_eq!(histogram.buckets().map(|bucket| bucket.count).sum::<u64>(), 6);
    }

    #[test]
    fn quantiles_are_the_values_of_their_rank() {
        let histogram = of(&(1..=1000).collect::<Vec<_>>());
        for (share, want) in [(0.0, 1), (0.001, 1), (0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1000)] {
            assert_eq!(histogram.quantile(share), Some(want), "{share}");
        }
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn values_up_to_a_bound_are_counted() {
        let histogram = of(&[1, 100, 101, 250, 5000, 100_000_000]);
        for (bound, want) in [(0, 0), (1, 1), (100, 2), (250, 4), (5000, 5), (10_000_000, 5), (VALUE_MAX, 6)] {
            assert_eq!(histogram.count_to(bound), want, "{bound}");
        }
    }

    #[test]
    fn sums_and_differences_of_histograms_are_those_of_their_values() {
        let (first, second) = (of(&[1, 3000, 3000]), of(&[1, 9_000_000]));
        let mut both = first.clone();
        both.add(&second);
        assert_eq!(both, of(&[1, 3000, 3000, 1, 9_000_000]));
        let rest = both.since(&first);
        assert_eq!(rest.buckets().collect::<Vec<_>>(), second.buckets().collect::<Vec<_>>());
        assert_eq!((rest.count(), rest.sum()), (second.count(), second.sum()));
    }

    #[test]
    fn memory_follows_use_and_has_an_end() {
        assert!(size_of::<Histogram>() <= 56);
        let mut histogram = of(&[10, 100, 1900]);
        assert_eq!(histogram.chunks.iter().flatten().count(), 2);
        (0..=VALUE_MAX).step_by(500).for_each(|value| histogram.record(value));
        assert!(histogram.chunks.iter().flatten().count() * CHUNK * 8 <= 139 << 10);
    }
}
