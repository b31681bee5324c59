//! Scenarios `api`, `channels`, `redis-publish` and `nats-publish`: requests to the HTTP API that publish to many channels, to which nobody listens, or each of which
//! has one subscriber.

use clap::Args;

use crate::drive::{ANSWER, Audience, DELIVERY, LATE_START, Own, Plan, Run, Unit};
use crate::engine::Target;
use crate::failure::Failure;
use crate::floor::{FloorOptions, RequestFloor};
use crate::options::Common;
use crate::payload::PUBLISHERS_MAX;
use crate::report::Report;
use crate::rounds::{WindowOptions, Windows};
use crate::telling;

/// Names of channels have six digits.
const CHANNELS_MAX: i64 = 1_000_000;

/// Options of these scenarios.
#[derive(Args)]
pub struct Options {
    /// Keep-alive connections to the API, each with one request under way.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=PUBLISHERS_MAX as i64))]
    connections: u32,
    /// Channels that are published to in turn, rounded up to as many for each connection.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=CHANNELS_MAX))]
    channels: u32,
    /// Publications per request; over 1 in one `batch` request, each to another channel while there are as many.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    batch: u64,
    /// Publications per second on a fixed schedule, instead of a closed loop.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,
    /// Make the next request as soon as the API has answered, without waiting for the subscribers.
    #[arg(long)]
    on_answer: bool,
    /// Start of the channels' names; six digits follow [default: bench-, of redis-publish kept:bench-].
    #[arg(long)]
    channel_prefix: Option<String>,
    #[command(flatten)]
    pub windows: WindowOptions,
    #[command(flatten)]
    floor: FloorOptions,
}

/// Which of the scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listeners {
    /// `api`
    Nobody,
    /// `channels`
    OneEach,
    /// `redis-publish`: one each, too
    Redis,
    /// `nats-publish`: likewise
    Nats,
}

impl Listeners {
    fn scenario(self) -> &'static str {
        match self {
            Self::Nobody => "api",
            Self::OneEach => "channels",
            Self::Redis => "redis-publish",
            Self::Nats => "nats-publish",
        }
    }

    fn channel_prefix(self) -> &'static str {
        if self == Self::Redis { "kept:bench-" } else { "bench-" }
    }
}

impl Options {
    fn channels(&self, listeners: Listeners) -> Own {
        Own {
            lanes: self.connections,
            each: self.channels.div_ceil(self.connections),
            subscribers: u32::from(listeners != Listeners::Nobody),
        }
    }

    fn plan(&self, common: &Common, listeners: Listeners) -> Plan<'_> {
        let channels = self.channels(listeners);
        let subscribers = channels.lanes * channels.each * channels.subscribers;
        let prefix = self.channel_prefix.as_deref().unwrap_or(listeners.channel_prefix());
        let target = Target::Numbered(prefix);
        Plan {
            audience: Audience::Own(channels),
            unit: Unit::Publication,
            connections: self.connections as usize,
            batch: self.batch as usize,
            backlog: if self.on_answer { u64::MAX } else { 0 },
            rate: self.rate,
            ..Plan::new(target, subscribers as usize, self.windows.length(common))
        }
    }
}

/// Connects everybody and warms up.
pub fn start(common: &Common, options: &Options, listeners: Listeners) -> Result<Run, Failure> {
    options.plan(common, listeners).start(common)
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options, listeners: Listeners) -> Result<Report, Failure> {
    let plan = options.plan(common, listeners);
    let mut run = plan.start(common)?;
    let floor = options.floor.floor.then(|| RequestFloor::start(common, &plan, &options.floor, &run));
    let mut floor = floor.transpose()?;
    let windows = Windows::of(&mut run, common, options.windows.windows, |_| match &mut floor {
        Some(floor) => floor.window(),
        None => Ok(()),
    })?;
    let mut report = report(&run, options, listeners, &windows);
    if let Some(floor) = &floor {
        floor.tell(&mut report, &windows, run.meter.server.is_some());
    }
    Ok(report)
}

fn report(run: &Run, options: &Options, listeners: Listeners, windows: &Windows) -> Report {
    let with_server = run.meter.server.is_some();
    let channels = options.channels(listeners);
    let mut report = Report::new(listeners.scenario());
    report.count("connections", "API connections", u64::from(options.connections));
    report.count("channels", "channels", u64::from(channels.lanes * channels.each));
    report.count("batch", "publications per request", options.batch);
    report.count("requests", "requests, every answer checked", windows.sum(|w| w.requests));
    let rate = windows.rate(|w| w.requests, |w| w.publishing);
    report.figure("requests_per_second", "requests per second", rate, "");
    if with_server {
        let each = windows.spread(|w| w.cost_us() * options.batch as f64);
        report.spread("server_cpu_per_request_us", "server CPU per request", each, "µs");
    }
    let cost = ("server_cpu_per_publication_us", "server CPU per publication");
    telling::windows(&mut report, windows, with_server, cost);
    telling::deliveries(&mut report, windows);
    report.latency("answer_latency", "from due to answered", windows.latency(ANSWER));
    if listeners != Listeners::Nobody {
        report.latency("latency", "delivery latency", windows.latency(DELIVERY));
    }
    if let Some(rate) = options.rate {
        report.count("rate", "publications asked per second", rate);
        report.latency("late_start", "sent after due", windows.latency(LATE_START));
    }
    telling::accounts(&mut report, run);
    telling::warnings(&mut report, windows);
    report
}
