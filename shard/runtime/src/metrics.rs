//! Counters of how a shard runs, and the line on which the control plane asks for them. The shard copies its counters between
//! two turns and goes on; whoever asked does the rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use ringcast_state::metrics::{Histogram, Snapshot, Tally};
use ringcast_state::{ShardId, Time, TransportKind};

use crate::pool::{Control, Counters, Line};

/// A request that was answered, with `prometheus.instrument_http_handlers`: path of its endpoint, method, status.
pub type Request = (Arc<str>, &'static str, u16);

/// What the ring of a shard did.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingCounters {
    /// System calls: submissions, collections and sleeps.
    pub enters: u64,
    /// Writes begun, of whatever length.
    pub sends: u64,
    /// Bytes that the kernel has taken.
    pub sent_bytes: u64,
    /// Writes that met a full socket.
    pub blocked: u64,
    /// Wakes by another thread.
    pub wakes: u64,
}

/// Counters of one shard's loop since it began. Durations are microseconds.
#[derive(Clone, Debug, Default)]
pub struct LoopMetrics {
    /// Length of turns, from the first message to the last write; their number is that of the turns.
    pub turns: Histogram,
    /// Sleeps.
    pub sleeps: u64,
    /// How late the first due timer of a turn was.
    pub timer_lag: Histogram,
    /// Messages that other shards sent.
    pub messages: u64,
    /// Close frames of WebSocket by transport and code, but for those that echo the peer's.
    pub closes: Tally<(TransportKind, u32)>,
    /// Requests answered.
    pub requests: Tally<Request>,
    /// See [`RingCounters`].
    pub ring: RingCounters,
}

impl LoopMetrics {
    pub(crate) fn count_request(&mut self, request: Option<Request>) {
        if let Some(request) = request {
            self.requests.count(request);
        }
    }
}

/// A shard at one moment.
#[derive(Clone, Debug)]
pub struct ShardSnapshot {
    /// Which shard.
    pub shard: ShardId,
    /// The moment.
    pub at: Time,
    /// Its clients and channels.
    pub state: Snapshot,
    /// Its loop.
    pub runtime: LoopMetrics,
    /// Sockets that are open or closing.
    pub sockets: usize,
    /// Messages that wait in the rings from other shards.
    pub queued: usize,
}

/// Where snapshots are asked for, from any thread.
#[derive(Clone)]
pub struct MetricsLine {
    line: Line,
    counters: Arc<Counters>,
}

impl MetricsLine {
    pub(crate) fn new(line: Line, counters: Arc<Counters>) -> Self {
        Self { line, counters }
    }

    /// All shards, in order; `None` for one that did not answer within `patience`.
    pub fn snapshots(&self, patience: Duration) -> Vec<Option<Box<ShardSnapshot>>> {
        let shards = self.line.shards();
        let give_up_at = Instant::now() + patience;
        // Room for all: a shard never waits here.
        let (answer, answers) = bounded(shards);
        for shard in 0..shards {
            self.line.tell(ShardId(shard as u16), Control::Snapshot(answer.clone()));
        }
        drop(answer);
        let mut found: Vec<_> = (0..shards).map(|_| None).collect();
        while let Ok(snapshot) = answers.recv_deadline(give_up_at) {
            let place = snapshot.shard.index();
            found[place] = Some(snapshot);
        }
        found
    }

    /// Client connections refused by `client.connection_limit`.
    pub fn refused(&self) -> u64 {
        self.counters.refused.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Where a snapshot goes.
pub(crate) type SnapshotSender = Sender<Box<ShardSnapshot>>;

/// Measures turns without a clock of its own: a turn ends when the next one begins, or the sleep after it.
#[derive(Default)]
pub(crate) struct TurnMeter {
    began_at: Option<Instant>,
}

impl TurnMeter {
    /// A turn begins, and ends the one before.
    pub fn begin(&mut self, metrics: &mut LoopMetrics, now: Instant) {
        self.end(metrics, now);
        self.began_at = Some(now);
    }

    /// The turn is over, if one was begun.
    pub fn end(&mut self, metrics: &mut LoopMetrics, now: Instant) {
        if let Some(began_at) = self.began_at.take() {
            metrics.turns.record(now.saturating_duration_since(began_at).as_micros() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_lasts_until_the_next_one_or_the_sleep_after_it() {
        let (mut metrics, mut meter, start) = (LoopMetrics::default(), TurnMeter::default(), Instant::now());
        let at = |micros| start + Duration::from_micros(micros);
        meter.end(&mut metrics, at(0));
        meter.begin(&mut metrics, at(10));
        meter.begin(&mut metrics, at(30));
        meter.end(&mut metrics, at(35));
        meter.begin(&mut metrics, at(1000));
        assert_eq!((metrics.turns.count(), metrics.turns.sum(), metrics.turns.max()), (2, 25, 20));
    }
}
