//! What the shards give up when memory runs short.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::pool::{Control, Counters, Line};

/// How short memory is; each step does what those before it do, and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is enough.
    None,
    /// Clients that do not read are closed with 3008, the longest queues first.
    Queues,
    /// New clients are refused with 503.
    Clients,
    /// The older half of every history is forgotten.
    Histories,
}

/// Tells the shards how short memory is.
#[derive(Clone)]
pub struct ReliefLine {
    pub(crate) line: Line,
    pub(crate) counters: Arc<Counters>,
}

impl ReliefLine {
    /// Has every shard give up what `pressure` names, once. New clients are refused until a lower pressure is told.
    pub fn relieve(&self, pressure: Pressure) {
        self.counters.is_full.store(pressure >= Pressure::Clients, Ordering::Relaxed);
        if pressure >= Pressure::Queues {
            self.line.tell_all(|| Control::Shed { histories: pressure >= Pressure::Histories });
        }
    }
}
