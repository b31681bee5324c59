//! Scenario `latency`: delivery latency at a given rate, counted from the time a publication was due; or the greatest rate that a
//! server delivers, to choose the given one by.

use clap::Args;

use crate::drive::{Audience, DELIVERY, LATE_START, Own, Plan, Run};
use crate::engine::Target;
use crate::failure::Failure;
use crate::options::Common;
use crate::payload::PUBLISHERS_MAX;
use crate::report::Report;
use crate::rounds::{WindowOptions, Windows};
use crate::telling;

/// Publications of each connection that may be under way to the subscribers while the saturation is looked for: enough to keep a
/// server busy, and little enough for its queues.
const SATURATING_BACKLOG: u64 = 16;

/// Options of this scenario.
#[derive(Args)]
pub struct Options {
    /// Publications per second on a fixed schedule, all channels together.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Look for the greatest rate instead: publish as soon as the API has answered, as long as few publications are under way.
    #[arg(long, conflicts_with = "rate")]
    saturate: bool,
    /// Channels; over 1 they are rounded up to as many for each connection and published to in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    channels: u32,
    /// Subscribers of each channel.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    subscribers: u32,
    /// Connections to the API.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=PUBLISHERS_MAX as i64))]
    connections: u32,
    /// Publications per request; over 1 in one `batch` request.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    batch: u64,
    /// Start of the channels' names; six digits follow.
    #[arg(long, default_value = "bench-")]
    channel_prefix: String,
    /// Clients per second that connect to the first channel, receive for a second and leave; for one channel.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    churn: u64,
    #[command(flatten)]
    pub windows: WindowOptions,
}

impl Options {
    fn audience(&self) -> Audience {
        match self.channels {
            1 => Audience::Shared,
            channels => Audience::Own(Own {
                lanes: self.connections,
                each: channels.div_ceil(self.connections),
                subscribers: self.subscribers,
            }),
        }
    }

    fn channel_count(&self) -> u32 {
        match self.audience() {
            Audience::Shared => 1,
            Audience::Own(own) => own.lanes * own.each,
        }
    }
}

/// Connects everybody and warms up.
pub fn start(common: &Common, options: &Options) -> Result<Run, Failure> {
    if options.churn > 0 && options.channels > 1 {
        return Err(Failure::Usage("--churn goes with one channel only".to_owned()));
    }
    let subscribers = u64::from(options.subscribers);
    let all = (u64::from(options.channel_count()) * subscribers) as usize;
    let target = Target::Numbered(&options.channel_prefix);
    let plan = Plan {
        audience: options.audience(),
        connections: options.connections as usize,
        rate: (!options.saturate).then_some(options.rate),
        backlog: SATURATING_BACKLOG * options.batch * subscribers,
        batch: options.batch as usize,
        churn: options.churn,
        ..Plan::new(target, all, options.windows.length(common))
    };
    plan.start(common)
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let mut run = start(common, options)?;
    let windows = Windows::of(&mut run, common, options.windows.windows, |_| Ok(()))?;
    Ok(report(&run, options, &windows))
}

fn report(run: &Run, options: &Options, windows: &Windows) -> Report {
    let mut report = Report::new("latency");
    report.count("channels", "channels", u64::from(options.channel_count()));
    report.count("subscribers", "subscribers of each", u64::from(options.subscribers));
    let cost = ("server_cpu_per_delivery_us", "server CPU per delivery");
    telling::windows(&mut report, windows, run.meter.server.is_some(), cost);
    telling::deliveries(&mut report, windows);
    if options.saturate {
        let rates = windows.spread(|w| w.publications as f64 / w.used.wall.as_secs_f64());
        report.spread("saturation_rate", "saturates at publications per second", rates, "");
        let half = rates.map_or(0.0, |rates| rates.median / 2.0).round();
        report.count("half_saturation_rate", "half of it, for --rate", half as u64);
    } else {
        report.count("rate", "publications asked per second", options.rate);
        report.latency("late_start", "sent after due", windows.latency(LATE_START));
    }
    report.latency("latency", "delivery latency", windows.latency(DELIVERY));
    if options.churn > 0 {
        report.count("churned", "clients that came and went", run.churned());
    }
    telling::accounts(&mut report, run);
    telling::warnings(&mut report, windows);
    report
}
