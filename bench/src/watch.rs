//! Notices when nothing has happened for too long.

use std::time::Duration;

use crate::engine::Engine;

/// Watches a number that changes while there is progress.
pub struct Watch {
    done: u64,
    since_ns: u64,
}

impl Watch {
    /// Starts now.
    pub fn new(engine: &Engine) -> Self {
        Self { done: 0, since_ns: engine.now_ns() }
    }

    /// How long `done` has been the same.
    pub fn silent(&mut self, engine: &Engine, done: u64) -> Duration {
        let now_ns = engine.now_ns();
        if done != self.done {
            *self = Self { done, since_ns: now_ns };
        }
        Duration::from_nanos(now_ns - self.since_ns)
    }

    /// Whether that is longer than the patience of the run.
    pub fn is_over(&mut self, engine: &Engine, done: u64) -> bool {
        self.silent(engine, done) > engine.patience()
    }
}
