//! Scenario `fanout`: publications over HTTP to many subscribers of one channel.
//!
//! Closed loop by default: a publisher makes its next request when the one before was answered and every subscriber has
//! received it, so `outstanding` is the number of publishers. With `--rate` it is an open loop on a fixed schedule, and latencies
//! count from the time a publication was due.

use clap::Args;

use crate::drive::{ANSWER, DELIVERY, LATE_START, Plan, Run};
use crate::engine::Target;
use crate::failure::Failure;
use crate::floor::{self, Floor, FloorOptions};
use crate::measure::micros_each;
use crate::options::Common;
use crate::payload::PUBLISHERS_MAX;
use crate::report::Report;
use crate::rounds::{WindowOptions, Windows};
use crate::spread::Spread;
use crate::telling;

/// Publishing connections of an open loop.
const RATE_PUBLISHERS: usize = 8;

/// Options of this scenario.
#[derive(Args)]
pub struct Options {
    /// Subscribers that stay.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Requests that are not yet answered and received by all, each on its own API connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=PUBLISHERS_MAX as u64))]
    outstanding: u64,
    /// Publish again as soon as the API has answered, without waiting for the subscribers.
    #[arg(long)]
    on_answer: bool,
    /// Publications per API request; over 1 in one `batch` request.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    batch: u64,
    /// Publications per second on a fixed schedule, instead of a closed loop.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,
    /// Clients per second that connect, subscribe, receive for a second and leave.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    churn: u64,
    /// Channel of all subscribers.
    #[arg(long, default_value = "bench")]
    channel: String,
    /// Ask for recoverable subscriptions; the channel needs a history.
    #[arg(long)]
    history: bool,
    #[command(flatten)]
    pub windows: WindowOptions,
    #[command(flatten)]
    floor: FloorOptions,
    /// Publications that a write of the floor joins; by default as many as a read of the window before brought.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000), requires = "floor")]
    floor_frames: Option<u64>,
}

/// Connects everybody and warms up.
pub fn start(common: &Common, options: &Options) -> Result<Run, Failure> {
    let outstanding = options.outstanding as usize;
    let target = Target::Channel(&options.channel);
    let plan = Plan {
        recoverable: options.history,
        connections: options.rate.map_or(outstanding, |_| RATE_PUBLISHERS.max(outstanding)),
        batch: options.batch as usize,
        backlog: if options.on_answer { u64::MAX } else { 0 },
        rate: options.rate,
        churn: options.churn,
        ..Plan::new(target, options.subscribers as usize, options.windows.length(common))
    };
    plan.start(common)
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let mut run = start(common, options)?;
    let mut floor = options.floor.floor.then(|| start_floor(common, options, &run)).transpose()?;
    let mut floors = Vec::new();
    let windows = Windows::of(&mut run, common, options.windows.windows, |window| {
        if let Some(floor) = &mut floor {
            let frames = options.floor_frames.unwrap_or(window.deliveries_per_read());
            floors.push(floor.window(window.publications, frames as usize)?);
        }
        Ok(())
    })?;
    let mut report = report(&run, options, &windows);
    if !floors.is_empty() {
        report_floor(&mut report, &windows, &floors);
    }
    Ok(report)
}

fn start_floor(common: &Common, options: &Options, run: &Run) -> Result<Floor, Failure> {
    Floor::start(common, options.subscribers as usize, &options.channel, options.floor.core(&run.meter))
}

fn report(run: &Run, options: &Options, windows: &Windows) -> Report {
    let mut report = Report::new("fanout");
    report.count("subscribers", "subscribers", u64::from(options.subscribers));
    let cost = ("server_cpu_per_delivery_us", "server CPU per delivery");
    telling::windows(&mut report, windows, run.meter.server.is_some(), cost);
    telling::deliveries(&mut report, windows);
    report.latency("latency", "delivery latency", windows.latency(DELIVERY));
    report.latency("answer_latency", "from due to answered", windows.latency(ANSWER));
    if let Some(rate) = options.rate {
        report.count("rate", "publications asked per second", rate);
        report.latency("late_start", "sent after due", windows.latency(LATE_START));
    }
    if options.churn > 0 {
        report.count("churned", "clients that came and went", run.churned());
    }
    telling::accounts(&mut report, run);
    telling::warnings(&mut report, windows);
    report
}

fn report_floor(report: &mut Report, windows: &Windows, floors: &[floor::Window]) {
    let frames = floors.iter().map(|f| f.frames as f64);
    report.spread("floor_frames", "floor: publications per write", Spread::of(frames), "");
    let each = floors.iter().map(|f| micros_each(f.used.server, f.deliveries));
    report.spread("floor_cpu_per_delivery_us", "floor: CPU per delivery", Spread::of(each), "µs");
    let sleeps = floors.iter().map(|f| f.used.own_sleeps as f64 * 1000.0 / f.deliveries.max(1) as f64);
    report.spread("floor_own_sleeps", "floor: tool slept per 1000 deliveries", Spread::of(sleeps), "");
    let waited = floors.iter().map(|f| f.used.own_waited.as_secs_f64() / f.used.wall.as_secs_f64());
    report.spread("floor_own_kept_waiting", "floor: tool kept waiting for its core", Spread::of(waited), "");
    let pairs = windows.list.iter().zip(floors);
    let ratios = pairs.map(|(w, f)| w.cost_us() / micros_each(f.used.server, f.deliveries));
    report.spread("floor_ratio", "server / floor", Spread::of(ratios), "");
}
