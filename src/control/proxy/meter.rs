//! What is counted of backends: how long they take, what fails, what is on its way. Source: metrics §1.

use ringcast_state::metrics::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Label values: protocol, type, name.
pub type MeterName = (&'static str, &'static str, String);

/// The meters of all threads and lists.
///
/// Bound: one for each protocol, event and name of a proxy that was asked since the start.
#[derive(Debug, Default)]
pub struct Meters(Mutex<BTreeMap<MeterName, Arc<Meter>>>);

impl Meters {
    /// The meter of a name, at zero at first.
    pub fn get(&self, name: MeterName) -> Arc<Meter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().clone()
    }

    /// What they say now, in the order of their names.
    pub fn snapshot(&self) -> Vec<MeterSnapshot> {
        let meters = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        meters.into_iter().map(|(name, meter)| meter.snapshot(name)).collect()
    }
}

/// Counts calls of one kind.
#[derive(Debug, Default)]
pub struct Meter {
    /// Microseconds.
    durations: Mutex<Histogram>,
    errors: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
}

/// See [`Meters::snapshot`].
#[derive(Clone, Debug)]
pub struct MeterSnapshot {
    pub name: MeterName,
    /// Of the calls that ended, microseconds.
    pub durations: Histogram,
    /// Calls without an answer that can be read.
    pub errors: u64,
    /// Calls that have not ended.
    pub inflight: u64,
}

/// A call; what it was worth is counted when it is dropped.
#[derive(Debug)]
pub struct Call {
    meter: Arc<Meter>,
    began_at: Instant,
    has_failed: bool,
}

impl Call {
    pub fn begin(meter: Arc<Meter>) -> Self {
        meter.begun.fetch_add(1, Ordering::Relaxed);
        Self { meter, began_at: Instant::now(), has_failed: false }
    }

    pub fn end(mut self, has_failed: bool) {
        self.has_failed = has_failed;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let micros = u64::try_from(self.began_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.meter.durations.lock().unwrap_or_else(PoisonError::into_inner).record(micros);
        self.meter.errors.fetch_add(u64::from(self.has_failed), Ordering::Relaxed);
        self.meter.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Meter {
    fn snapshot(&self, name: MeterName) -> MeterSnapshot {
        let durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // In this order, so that there are no fewer begun.
        let ended = self.ended.load(Ordering::Acquire);
        let inflight = self.begun.load(Ordering::Acquire).saturating_sub(ended);
        MeterSnapshot { name, durations, errors: self.errors.load(Ordering::Relaxed), inflight }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_once_they_end() {
        let meters = Meters::default();
        let name = ("http", "rpc", "default".to_owned());
        let open = Call::begin(meters.get(name.clone()));
        Call::begin(meters.get(name.clone())).end(true);
        Call::begin(meters.get(name.clone())).end(false);
        let snapshot = meters.snapshot().pop().expect("one meter");
        assert_eq!((snapshot.name, snapshot.durations.count(), snapshot.errors, snapshot.inflight), (name, 2, 1, 1));
        drop(open);
        assert_eq!(meters.snapshot()[0].inflight, 0);
    }
}
