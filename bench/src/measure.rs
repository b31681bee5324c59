//! CPU time of the server and of this tool over a window of a run, and how long they were kept from their cores.

use std::time::{Duration, Instant};

use crate::options::Common;
use crate::process::{Process, ProcessError, own_sleeps};
use crate::report::Report;
use crate::spread::Spread;

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
    server_waited: Duration,
    own_waited: Duration,
    own_sleeps: u64,
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
    /// Time for which the server could have run and had no core; its threads also wait for each other.
    pub server_waited: Duration,
    /// The same of this tool, which has one thread: its core was taken by something else.
    pub own_waited: Duration,
    /// How often this tool slept; who writes next pays for waking it.
    pub own_sleeps: u64,
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
        let of_server = |read: fn(&Process) -> Result<Duration, ProcessError>| {
            self.server.as_ref().map_or(Ok(Duration::ZERO), read)
        };
        Ok(Reading {
            server: of_server(Process::cpu)?,
            own: self.own.cpu()?,
            server_waited: of_server(Process::waited)?,
            own_waited: self.own.waited()?,
            own_sleeps: own_sleeps().unwrap_or_default(),
            at: Instant::now(),
        })
    }

    /// What was used since a reading.
    pub fn used_since(&self, before: Reading) -> Result<Used, ProcessError> {
        let now = self.read()?;
        Ok(Used {
            server: now.server.saturating_sub(before.server),
            own: now.own.saturating_sub(before.own),
            server_waited: now.server_waited.saturating_sub(before.server_waited),
            own_waited: now.own_waited.saturating_sub(before.own_waited),
            own_sleeps: now.own_sleeps.saturating_sub(before.own_sleeps),
            wall: now.at - before.at,
        })
    }
}

/// Rows on the cores: how busy server and tool were, and how much of the time something else had their cores.
pub fn report_cores(report: &mut Report, windows: &[Used], with_server: bool) {
    let mut row = |key, label, time: fn(&Used) -> Duration| {
        let shares = windows.iter().map(|used| time(used).as_secs_f64() / used.wall.as_secs_f64());
        report.spread(key, label, Spread::of(shares), "");
    };
    if with_server {
        row("server_cores", "server cores used", |used| used.server);
        row("server_kept_waiting", "server kept waiting for its core", |used| used.server_waited);
    }
    row("own_cores", "cores used by this tool", |used| used.own);
    row("own_kept_waiting", "tool kept waiting for its core", |used| used.own_waited);
}

/// Microseconds of `total` for each of `count`; zero for none.
pub fn micros_each(total: Duration, count: u64) -> f64 {
    if count == 0 { 0.0 } else { total.as_secs_f64() * 1e6 / count as f64 }
}
