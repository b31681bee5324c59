//! CPU time of the server and of this tool over a window of a run.

use std::time::{Duration, Instant};

use crate::options::Common;
use crate::process::{Process, ProcessError};

/// The processes that take part.
pub struct Meter {
    /// `None` when the command line names no process.
    pub server: Option<Process>,
    own: Process,
}

/// Readings at one moment.
#[derive(Clone, Copy)]
pub struct Reading {
    server: Duration,
    own: Duration,
    at: Instant,
}

impl Reading {
    /// Time since the reading.
    pub fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }
}

/// Between two readings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// CPU time of the server; zero without one.
    pub server: Duration,
    /// CPU time of this tool.
    pub own: Duration,
    /// Time that passed.
    pub wall: Duration,
}

impl Meter {
    /// For the server of the command line.
    pub fn new(common: &Common) -> Result<Self, ProcessError> {
        Ok(Self { server: common.pid.map(Process::open).transpose()?, own: Process::own()? })
    }

    /// For another process than the server.
    pub fn of(server: Process) -> Result<Self, ProcessError> {
        Ok(Self { server: Some(server), own: Process::own()? })
    }

    /// Reads all clocks.
    pub fn read(&self) -> Result<Reading, ProcessError> {
        Ok(Reading {
            server: self.server.as_ref().map_or(Ok(Duration::ZERO), Process::cpu)?,
            own: self.own.cpu()?,
            at: Instant::now(),
        })
    }

    /// What was used since a reading.
    pub fn used_since(&self, before: Reading) -> Result<Used, ProcessError> {
        let now = self.read()?;
        Ok(Used {
            server: now.server.saturating_sub(before.server),
            own: now.own.saturating_sub(before.own),
            wall: now.at - before.at,
        })
    }
}

/// Microseconds of `total` for each of `count`; zero for none.
pub fn micros_each(total: Duration, count: u64) -> f64 {
    if count == 0 { 0.0 } else { total.as_secs_f64() * 1e6 / count as f64 }
}
