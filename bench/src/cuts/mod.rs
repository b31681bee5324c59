//! Scenario `cuts`: clients whose connections are cut in every way that networks know come back for what they missed, while the
//! API publishes all the time. What counts is that nothing is lost, doubled or out of place, and that nobody is told in vain
//! that something is missing.

mod accounts;
mod run;

use clap::Args;

use crate::drive::LATE_START;
use crate::failure::Failure;
use crate::options::Common;
use crate::payload::PUBLISHERS_MAX;
use crate::report::Report;
use crate::rounds::Windows;
use crate::telling;
use run::Run;

/// Options of this scenario.
#[derive(Args)]
pub struct Options {
    /// Publications of all channels together, in each window.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    publications: u64,
    /// Publications per second on a fixed schedule.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: u64,
    /// Publications of a request, to the channels of its connection in turn.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=1000))]
    batch: u32,
    /// Connections to the API; each publishes to channels of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=500))]
    connections: u32,
    /// Clients, each subscribed to one channel.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// Channels. They need a history that is longer than any gap, and `client.recovery_max_publication_limit` has to allow as much.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=PUBLISHERS_MAX as i64))]
    channels: u32,
    /// Start of the channels' names; six digits follow.
    #[arg(long, default_value = "kept:bench-")]
    channel_prefix: String,
    /// Connections that are cut in each window.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    cuts: u64,
    /// Longest time for which a client stays away, or does not read, in milliseconds.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    away_ms: u64,
    /// Number that the cuts are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Windows, each with a figure of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    windows: u32,
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    if common.transport.is_uni() {
        return Err(Failure::Usage(
            "cuts: the clients of --transport cannot say where they were: take another".to_owned(),
        ));
    }
    if options.clients < options.channels || options.channels < options.connections {
        let text = "cuts: --clients must be at least --channels, and those at least --connections";
        return Err(Failure::Usage(text.to_owned()));
    }
    let mut run = Run::start(common, options)?;
    let windows = Windows::of(&mut run, common, options.windows, |_| Ok(()))?;
    Ok(report(&run, options, &windows))
}

fn report(run: &Run<'_>, options: &Options, windows: &Windows) -> Report {
    let counts = &run.accounts.counts;
    let mut report = Report::new("cuts");
    report.count("clients", "clients", u64::from(options.clients));
    report.count("channels", "channels", u64::from(options.channels));
    telling::windows(&mut report, windows, run.meter.server.is_some(), ("cpu_us", "server CPU per publication"));
    telling::deliveries(&mut report, windows);
    report.count("resets", "cut by a reset", counts.resets);
    report.count("ends", "cut by the end of the stream", counts.ends);
    report.count("halves", "cut by a reset within a frame", counts.halves);
    report.count("stalls", "that did not read for a time", counts.stalls);
    report.count("given_up", "of them given up by the server", counts.given_up);
    report.count("came_back", "came back", counts.came_back);
    report.count("recovered_messages", "messages that they had missed", counts.recovered_messages);
    report.count("most_missed", "most that one of them had missed", counts.most_missed);
    report.latency("late_start", "requests sent after due", windows.latency(LATE_START));
    telling::accounts(&mut report, run);
    telling::warnings(&mut report, windows);
    report
}
