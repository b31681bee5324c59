//! What every scenario tells of its windows: rates, cost, cores, how the server batches, and whether the figures can be believed.

use std::time::Duration;

use serde_json::Value;

use crate::drive::LATE_START;
use crate::measure::report_cores;
use crate::report::Report;
use crate::rounds::{Rounds, Windows};

/// From this share of its core on, this tool may be what a closed loop measures.
const BUSY: f64 = 0.9;

/// An open loop that is so late at the 99th percentile is none.
const LATE: Duration = Duration::from_millis(5);

/// Cost of a unit for the server, with its key and label.
pub type Cost = (&'static str, &'static str);

/// Rows on the windows; `cost` is left out where no process is measured.
pub fn windows(report: &mut Report, windows: &Windows, with_server: bool, cost: Cost) {
    report.count("windows", "windows", windows.list.len() as u64);
    let publications = windows.sum(|w| w.publications);
    if publications > 0 {
        report.count("publications", "publications", publications);
        let rate = windows.rate(|w| w.publications, |w| w.publishing);
        report.figure("publications_per_second", "publications per second", rate, "");
    }
    if with_server {
        let (key, label) = cost;
        report.spread(key, label, windows.spread(|w| w.cost_us()), "µs");
    }
    report_cores(report, &windows.used(), with_server);
    report.spread("own_busy", "share for which this tool was busy", windows.spread(|w| w.own_busy()), "");
    let each = windows.list.iter().map(|window| window.to_json(with_server));
    report.value("each_window", Value::Array(each.collect()));
}

/// Rows on the deliveries; none without any.
pub fn deliveries(report: &mut Report, windows: &Windows) {
    if windows.sum(|w| w.deliveries) == 0 {
        return;
    }
    let rate = windows.rate(|w| w.deliveries, |w| w.used.wall);
    report.figure("deliveries_per_second", "deliveries per second", rate, "");
    let sleeps = windows.spread(|w| w.used.own_sleeps as f64 * 1000.0 / w.deliveries.max(1) as f64);
    report.spread("own_sleeps", "tool slept per 1000 deliveries", sleeps, "");
    let batching = windows.spread(|w| w.deliveries as f64 / w.reads.max(1) as f64);
    report.spread("deliveries_per_read", "deliveries per read", batching, "");
    let joined = windows.spread(|w| w.deliveries as f64 / w.frames.max(1) as f64);
    report.spread("deliveries_per_frame", "deliveries per WebSocket frame", joined, "");
}

/// Warns where this tool was the bottleneck: in a closed loop it then measures itself, in an open one it falls behind.
pub fn warnings(report: &mut Report, windows: &Windows) {
    doubts(windows).for_each(|doubt| report.warn(doubt));
}

/// Why the figures of these windows should not be believed, if that is so.
pub fn doubts(windows: &Windows) -> impl Iterator<Item = String> {
    let busy = windows.spread(|w| w.own_busy()).map_or(0.0, |busy| busy.median);
    let busy = (busy > BUSY).then(|| {
        let share = busy * 100.0;
        format!("this tool was busy for {share:.0} % of the time: rates and latencies are its own")
    });
    let late = windows.latency(LATE_START).p99_us;
    let late = (u128::from(late) > LATE.as_micros())
        .then(|| format!("1 % of the requests were sent {late} µs or more after they were due: the rate is not kept"));
    busy.into_iter().chain(late)
}

/// The accounts.
pub fn accounts(report: &mut Report, run: &impl Rounds) {
    report.tally(run.tally());
    report.problems(run.problems());
}
