//! Scenario `mixed`: a day in one run. Clients come, leave, are cut off and come back; clients and the API publish, alone and in
//! batches; histories and presences are asked for. An open loop, drawn from a seed.

mod accounts;
mod day;
mod dice;

use clap::Args;

use crate::drive::{DELIVERY, LATE_START};
use crate::failure::Failure;
use crate::options::Common;
use crate::payload::PUBLISHERS_MAX;
use crate::report::Report;
use crate::rounds::{WindowOptions, Windows};
use crate::telling;
use day::Day;
pub use dice::Dice;
use dice::Weights;

/// Options of this scenario.
#[derive(Args)]
pub struct Options {
    /// Clients that are there, each subscribed to one channel.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// Channels; they need a history, presence, and the right to publish and to ask for all of it.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=PUBLISHERS_MAX as i64))]
    channels: u32,
    /// Actions per second on a fixed schedule.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Publications of a batch, each to another channel.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    batch: u32,
    /// Connections to the API for publications, and as many for batches.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=500))]
    connections: u32,
    /// Start of the channels' names; six digits follow.
    #[arg(long, default_value = "day:bench-")]
    channel_prefix: String,
    /// Number that the day is drawn from: the same one draws the same day.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten, next_help_heading = "How often each thing happens")]
    weights: Weights,
    #[command(flatten)]
    pub windows: WindowOptions,
}

impl Options {
    fn connections(&self) -> usize {
        self.connections as usize
    }
}

/// Connects everybody.
pub fn start<'a>(common: &Common, options: &'a Options) -> Result<Day<'a>, Failure> {
    let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
    if options.clients < options.channels {
        return usage("mixed: --clients must be at least --channels, so that each channel has a subscriber");
    }
    if options.batch > options.channels {
        return usage("mixed: --batch must be at most --channels, for each publication goes to another channel");
    }
    if !options.weights.are_any() {
        return usage("mixed: all weights are 0, so that nothing happens");
    }
    Day::start(common, options)
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let mut day = start(common, options)?;
    let windows = Windows::of(&mut day, common, options.windows.windows, |_| Ok(()))?;
    Ok(report(&day, options, &windows))
}

fn report(day: &Day<'_>, options: &Options, windows: &Windows) -> Report {
    let counts = &day.accounts.counts;
    let mut report = Report::new("mixed");
    report.count("clients", "clients", u64::from(options.clients));
    report.count("channels", "channels", u64::from(options.channels));
    report.count("rate", "actions asked per second", options.rate);
    report.count("actions", "actions", windows.sum(|w| w.units));
    let cost = ("server_cpu_per_action_us", "server CPU per action");
    telling::windows(&mut report, windows, day.meter.server.is_some(), cost);
    telling::deliveries(&mut report, windows);
    report.count("came", "clients that came and subscribed", counts.came);
    report.count("left", "clients that left", counts.left);
    report.count("recovered", "clients that came back", counts.recovered);
    report.count("recovered_messages", "messages that they had missed", counts.recovered_messages);
    report.count("histories", "histories checked", counts.histories);
    report.count("presences", "presences checked", counts.presences);
    report.latency("late_start", "done after due", windows.latency(LATE_START));
    report.latency("latency", "delivery latency", windows.latency(DELIVERY));
    telling::accounts(&mut report, day);
    telling::warnings(&mut report, windows);
    report
}
