//! Windows of a scenario, one after the other: what each measured, and all of them together.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::crowd::UNDER_WAY_MAX;
use crate::engine::{Engine, Received};
use crate::failure::Failure;
use crate::hdr_log::HdrLog;
use crate::histogram::{Latency, Percentiles};
use crate::ledger::Tally;
use crate::measure::{Meter, Reading, Used, micros_each};
use crate::options::Common;
use crate::problems::Problems;
use crate::spread::Spread;
use crate::watch::Watch;

/// After the last window stray duplicates have this long to show up.
const LINGER: Duration = Duration::from_millis(200);

/// What is under way when a run breaks has this long to arrive.
pub const LINGER_BROKEN: Duration = Duration::from_secs(1);

/// How long the windows of a scenario are, and how many.
#[derive(Args, Clone)]
pub struct WindowOptions {
    /// Publications per window instead of a share of --seconds; in publish of each channel, in mixed actions.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    publications: Option<u64>,
    /// Windows, each with a figure of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub windows: u32,
}

/// When a window ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Publications(u64),
    Time(Duration),
}

impl WindowOptions {
    /// Of each window.
    pub fn length(&self, common: &Common) -> Length {
        match self.publications {
            Some(count) => Length::Publications(count),
            None => Length::Time(Duration::from_secs(common.seconds) / self.windows),
        }
    }
}

/// A scenario under way: connected, warmed up, to be measured window by window.
pub trait Rounds {
    /// What the cost is told for: one and many.
    fn unit(&self) -> (&'static str, &'static str);

    /// Carries out one window.
    fn window(&mut self) -> Result<Window, Failure>;

    /// Its connections.
    fn engine(&mut self) -> &mut Engine;

    /// Whether going on would tell nothing new.
    fn is_broken(&self) -> bool;

    /// Waits for strays and closes the accounts. Call once, after the last window.
    fn finish(&mut self) -> Result<(), Failure>;

    /// The accounts.
    fn tally(&self) -> Tally;

    /// What went wrong besides.
    fn problems(&self) -> &Problems;
}

/// A window that is under way.
pub struct Opening {
    reading: Reading,
    received: Received,
}

impl Opening {
    /// Starts one.
    pub fn new(meter: &Meter, engine: &Engine) -> Result<Self, Failure> {
        Ok(Self { reading: meter.read()?, received: engine.received() })
    }

    /// Time since then.
    pub fn elapsed(&self) -> Duration {
        self.reading.elapsed()
    }

    /// Ends it: what was used and read since then. The rest is to be filled in.
    pub fn close(&self, meter: &Meter, engine: &Engine) -> Result<Window, Failure> {
        let used = meter.used_since(self.reading)?;
        let received = engine.received();
        Ok(Window {
            reads: received.reads - self.received.reads,
            frames: received.frames - self.received.frames,
            own_idle: received.idle - self.received.idle,
            used,
            ..Window::default()
        })
    }
}

/// Waits for strays after the last window, with turns of the run: duplicates that show up late, and after a run that broke what
/// was under way. What is missing gets as long as anything that is awaited: if it comes, it was late, and not lost.
pub fn linger<R: Rounds>(run: &mut R, turn: impl Fn(&mut R, Duration) -> Result<(), Failure>) -> Result<(), Failure> {
    let (time, more) =
        if run.is_broken() { (LINGER_BROKEN, Duration::ZERO) } else { (LINGER, run.engine().patience()) };
    let end_ns = run.engine().now_ns() + time.as_nanos() as u64;
    let late_ns = end_ns + more.as_nanos() as u64;
    while run.engine().now_ns() < if run.tally().lost > 0 { late_ns } else { end_ns } {
        turn(run, LINGER)?;
    }
    Ok(())
}

/// A scenario whose clients come and go of themselves.
pub trait Restless: Rounds {
    /// Whether nothing is under way any more.
    fn is_quiet(&self) -> bool;

    /// Changes with all that happens.
    fn done(&self) -> u64;

    /// Does what is due and handles what happens, for at most this long.
    fn turn(&mut self, timeout: Duration) -> Result<(), Failure>;

    /// Going on would tell nothing new, for this reason.
    fn break_off(&mut self, reason: String);
}

/// Waits until nothing is under way any more, with turns of this length.
pub fn settle<R: Restless>(run: &mut R, turn: Duration, doing: &str) -> Result<(), Failure> {
    let mut watch = Watch::new(run.engine());
    while !run.is_quiet() {
        run.turn(turn)?;
        let done = run.done();
        let silent = watch.silent(run.engine(), done);
        let patience = run.engine().patience();
        if run.is_broken() && silent > LINGER_BROKEN.min(patience) {
            break;
        }
        if silent > patience {
            give_up(run, doing);
            break;
        }
    }
    Ok(())
}

/// Nothing happens any more.
pub fn give_up<R: Restless>(run: &mut R, doing: &str) {
    let patience = run.engine().patience();
    run.break_off(format!("no progress for {patience:?}: {doing}"));
}

/// Lets the first clients in, a few at a time; a problem on the way ends it.
pub fn let_all_in<R: Restless>(
    run: &mut R,
    (clients, turn): (usize, Duration),
    let_in: impl Fn(&mut R, usize) -> Result<(), Failure>,
) -> Result<(), Failure> {
    const DOING: &str = "the first clients came";
    for number in 0..clients {
        let_in(run, number)?;
        if number % UNDER_WAY_MAX == 0 {
            settle(run, turn, DOING)?;
        }
    }
    settle(run, turn, DOING)?;
    match run.is_broken() {
        true => Err(Failure::Refused { problems: run.problems().count(), first: run.problems().to_string() }),
        false => Ok(()),
    }
}

/// What a window cost.
#[derive(Default)]
pub struct Window {
    /// What the cost is told for: see [`Rounds::unit`].
    pub units: u64,
    /// Requests to the API.
    pub requests: u64,
    pub publications: u64,
    pub deliveries: u64,
    /// Reads of clients that brought bytes.
    pub reads: u64,
    /// WebSocket messages of clients.
    pub frames: u64,
    pub used: Used,
    /// Of the CPU time of this tool, what it spent looking in vain for something to do.
    pub own_idle: Duration,
    /// Time in which was published; the rest of the window waits for deliveries.
    pub publishing: Duration,
    /// By kind, that of the unit first.
    pub latencies: Vec<(&'static str, Latency)>,
    /// Percentiles of the first kind; filled when the window is over.
    pub latency: Percentiles,
}

impl Window {
    /// Server CPU per unit, microseconds.
    pub fn cost_us(&self) -> f64 {
        micros_each(self.used.server, self.units)
    }

    /// Units per second, the waiting for deliveries included.
    pub fn per_second(&self) -> f64 {
        self.units as f64 / self.used.wall.as_secs_f64()
    }

    /// Share of the time for which this tool was busy, also where it never sleeps; near 1 it is the bottleneck.
    pub fn own_busy(&self) -> f64 {
        self.used.own.saturating_sub(self.own_idle).as_secs_f64() / self.used.wall.as_secs_f64()
    }

    /// Publications that a read of a subscriber brought, rounded, at least 1: about what the server joined in a write, or
    /// more where this tool was the slower one.
    pub fn deliveries_per_read(&self) -> u64 {
        ((self.deliveries as f64 / self.reads.max(1) as f64).round() as u64).max(1)
    }

    /// For the machine-readable report.
    pub fn to_json(&self, with_server: bool) -> Value {
        let mut value = json!({
            "units": self.units,
            "units_per_second": self.per_second(),
            "seconds": self.used.wall.as_secs_f64(),
            "own_busy": self.own_busy(),
            "latency": self.latency.to_json(),
        });
        if with_server {
            value["server_cpu_us"] = json!(self.cost_us());
        }
        value
    }
}

/// All windows of a run.
pub struct Windows {
    pub list: Vec<Window>,
    totals: Vec<(&'static str, Latency)>,
    log: HdrLog,
}

impl Windows {
    /// None yet.
    pub fn new(common: &Common) -> Result<Self, Failure> {
        Ok(Self { list: Vec::new(), totals: Vec::new(), log: HdrLog::create(common)? })
    }

    /// Carries out all windows of a scenario, with `after_each` in between, and closes its accounts.
    pub fn of(
        run: &mut impl Rounds,
        common: &Common,
        count: u32,
        mut after_each: impl FnMut(&Window) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let mut windows = Self::new(common)?;
        for number in 1..=count {
            if run.is_broken() {
                break;
            }
            run.engine().live().phase(format!("window {number} of {count}"));
            let window = run.window()?;
            windows.push(window)?;
            if let Some(window) = windows.list.last() {
                after_each(window)?;
            }
        }
        run.engine().live().clear();
        run.finish()?;
        Ok(windows)
    }

    /// Takes note of a window that is over.
    pub fn push(&mut self, mut window: Window) -> Result<(), Failure> {
        let latencies = std::mem::take(&mut window.latencies);
        window.latency = latencies.first().map(|(_, latency)| latency.percentiles()).unwrap_or_default();
        self.log.write(&latencies, window.used.wall)?;
        for (kind, latency) in latencies {
            match self.totals.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, total)) => total.add(&latency),
                None => self.totals.push((kind, latency)),
            }
        }
        self.list.push(window);
        Ok(())
    }

    /// Of all windows together; zeros for a kind that was not measured.
    pub fn latency(&self, kind: &str) -> Percentiles {
        let total = self.totals.iter().find(|(known, _)| *known == kind);
        total.map(|(_, latency)| latency.percentiles()).unwrap_or_default()
    }

    /// Sum over all windows.
    pub fn sum(&self, count: impl Fn(&Window) -> u64) -> u64 {
        self.list.iter().map(count).sum()
    }

    /// A figure of each window.
    pub fn spread(&self, figure: impl Fn(&Window) -> f64) -> Option<Spread> {
        Spread::of(self.list.iter().map(figure))
    }

    /// Readings of the clocks, window by window.
    pub fn used(&self) -> Vec<Used> {
        self.list.iter().map(|window| window.used).collect()
    }

    /// `count` of all windows per second of `time`.
    pub fn rate(&self, count: impl Fn(&Window) -> u64, time: impl Fn(&Window) -> Duration) -> f64 {
        self.sum(count) as f64 / self.list.iter().map(time).sum::<Duration>().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bring_at_least_one_delivery() {
        let of = |deliveries, reads| Window { deliveries, reads, ..Window::default() }.deliveries_per_read();
        assert_eq!([of(0, 0), of(10, 10), of(10, 4), of(1, 9)], [1, 1, 3, 1]);
    }
}
