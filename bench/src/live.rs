//! The line on a terminal that shows how a run goes on. Nothing where standard error is none.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::histogram::Latency;
use crate::process::Process;

/// Time between two drawings.
const EVERY: Duration = Duration::from_millis(250);

/// The line, or nothing.
pub struct Live(Option<Line>);

struct Line {
    /// What is going on.
    phase: String,
    own: Process,
    last: Moment,
}

/// Readings of a drawing.
#[derive(Clone, Copy, Default)]
struct Moment {
    at_ns: u64,
    done: u64,
    own: Duration,
}

impl Live {
    /// Draws where standard error is a terminal.
    pub fn new() -> Self {
        let own = io::stderr().is_terminal().then(|| Process::own().ok()).flatten();
        Self(own.map(|own| Line { phase: "starting".to_owned(), own, last: Moment::default() }))
    }

    /// Says what is going on from here on.
    pub fn phase(&mut self, phase: String) {
        if let Some(line) = &mut self.0 {
            line.phase = phase;
        }
    }

    /// Draws when it is time: how many of `what` are done, per second since the last drawing, and the latencies so far.
    pub fn show(&mut self, at_ns: u64, done: u64, what: &str, latency: Option<&Latency>) {
        if let Some(line) = &mut self.0
            && at_ns.saturating_sub(line.last.at_ns) >= EVERY.as_nanos() as u64
        {
            let now = Moment { at_ns, done, own: line.own.cpu().unwrap_or(line.last.own) };
            draw(&text(&line.phase, line.last, now, what, latency));
            line.last = now;
        }
    }

    /// Wipes the line.
    pub fn clear(&mut self) {
        if self.0.is_some() {
            draw("");
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.clear();
    }
}

fn text(phase: &str, last: Moment, now: Moment, what: &str, latency: Option<&Latency>) -> String {
    let seconds = (now.at_ns - last.at_ns) as f64 / 1e9;
    let rate = now.done.saturating_sub(last.done) as f64 / seconds;
    let cores = now.own.saturating_sub(last.own).as_secs_f64() / seconds;
    let at = now.at_ns as f64 / 1e9;
    let latency = latency.filter(|latency| !latency.histogram().is_empty());
    let latency = latency.map_or_else(String::new, |latency| format!("  {} µs", latency.percentiles()));
    format!("{at:.0} s  {phase}  {} {what}  {rate:.0}/s{latency}  own cores {cores:.2}", now.done)
}

/// A terminal that is gone is told nothing.
fn draw(text: &str) {
    let _ = write!(io::stderr(), "\r\x1b[2K{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_tells_rate_and_own_use() {
        let last = Moment { at_ns: 1_000_000_000, done: 10, own: Duration::from_millis(100) };
        let now = Moment { at_ns: 1_500_000_000, done: 60, own: Duration::from_millis(350) };
        assert_eq!(
            text("window 1 of 2", last, now, "deliveries", None),
            "2 s  window 1 of 2  60 deliveries  100/s  own cores 0.50"
        );
    }
}
