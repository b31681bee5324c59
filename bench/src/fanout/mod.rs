//! Scenario `fanout`: publications over HTTP to many subscribers of one channel.
//!
//! Closed loop by default: a publisher makes its next request when the one before was answered and every subscriber has
//! received it, so `outstanding` is the number of publishers. With `--rate` it is an open loop on a fixed schedule, and latencies
//! count from the time a publication was due.

mod churn;
mod window;

use clap::Args;

use crate::crowd;
use crate::endpoint::Endpoint;
use crate::engine::{Batch, Engine, Session, Subscription};
use crate::failure::Failure;
use crate::floor::Floor;
use crate::lanes::Lanes;
use crate::measure::{Meter, Used, micros_each, report_cores};
use crate::options::Common;
use crate::payload::PUBLISHERS_MAX;
use crate::report::Report;
use crate::spread::Spread;
use crate::token::Tokens;
use churn::Churn;
use window::{Length, Run, Window};

/// Publications before the first window: they warm caches, allocators and branch predictors.
const WARM_UP_PUBLICATIONS: u64 = 200;

/// Publishing connections of an open loop.
const RATE_PUBLISHERS: usize = 8;

/// Options of this scenario.
#[derive(Args)]
pub struct Options {
    /// Subscribers that stay.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Publications per window, instead of a share of --seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    publications: Option<u64>,
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
    /// Windows, each with a figure of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    windows: u32,
    /// Alternate windows of the server with windows of the kernel's floor and tell their ratio.
    #[arg(long)]
    floor: bool,
    /// Publications that a write of the floor joins; by default as many as a read of the window before brought.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000), requires = "floor")]
    floor_frames: Option<u64>,
    /// Core of the floor's writer; by default the one the server is pinned to.
    #[arg(long, value_name = "CPU", requires = "floor")]
    floor_pin: Option<usize>,
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let mut run = start(common, options)?;
    let mut floor = options.floor.then(|| start_floor(common, options, &run)).transpose()?;
    run.window(Length::Publications(WARM_UP_PUBLICATIONS))?;
    if run.is_broken() {
        let (_, reasons) = run.problems();
        return Err(Failure::Api(reasons.join("; ")));
    }
    run.forget_latencies();
    let length = length(common, options);
    let mut windows = Vec::new();
    let mut floors = Vec::new();
    for _ in 0..options.windows {
        if run.is_broken() {
            break;
        }
        let window = run.window(length)?;
        if let Some(floor) = &mut floor {
            let frames = options.floor_frames.unwrap_or(window.deliveries_per_read());
            floors.push(floor.window(window.publications, frames as usize)?);
        }
        windows.push(window);
    }
    run.finish()?;
    let mut report = report(&run, options, &windows);
    if !floors.is_empty() {
        report_floor(&mut report, &windows, &floors);
    }
    Ok(report)
}

fn start(common: &Common, options: &Options) -> Result<Run, Failure> {
    let endpoint = Endpoint::resolve(&common.url, "ws")?;
    let api = Endpoint::resolve(&common.api, "http")?;
    let session = Session::new(&endpoint, common.protocol.encoding());
    let tokens = Tokens::new(common.token_secret.as_deref());
    let subscription = Subscription { channel: &options.channel, recoverable: options.history, since: None };
    let login = |client| session.login(&tokens.of(client), Some(subscription));
    let mut engine = Engine::new(session.clone(), common).map_err(Failure::system("starting the loop"))?;
    let subscribers =
        crowd::gather(&mut engine, endpoint.address, options.subscribers as usize, |client| Some(login(client)))?;
    let publishers = match options.rate {
        Some(_) => RATE_PUBLISHERS.max(options.outstanding as usize),
        None => options.outstanding as usize,
    };
    let batch = Batch::new(&api, &common.api_key, &options.channel, common.payload, options.batch as usize);
    for _ in 0..publishers {
        engine.open_publisher(api.address, batch.clone()).map_err(Failure::system("opening an API connection"))?;
    }
    let lanes = Lanes::new(publishers, options.batch as u32, options.on_answer);
    let churn = Churn::new(endpoint.address, login(options.subscribers as usize), options.churn);
    Ok(Run::new(engine, Meter::new(common)?, subscribers, lanes, options.rate, churn))
}

fn start_floor(common: &Common, options: &Options, run: &Run) -> Result<Floor, Failure> {
    let server = run.meter.server.as_ref();
    let core = options.floor_pin.or_else(|| server.and_then(|server| server.pinned_to()));
    Floor::start(common, options.subscribers as usize, &options.channel, core)
}

fn length(common: &Common, options: &Options) -> Length {
    match options.publications {
        Some(count) => Length::Publications(count),
        None => Length::Time(std::time::Duration::from_secs(common.seconds) / options.windows),
    }
}

fn report(run: &Run, options: &Options, windows: &[Window]) -> Report {
    let mut report = Report::new("fanout");
    let wall: f64 = windows.iter().map(|w| w.used.wall.as_secs_f64()).sum();
    let publishing: f64 = windows.iter().map(|w| w.publishing.as_secs_f64()).sum();
    let publications: u64 = windows.iter().map(|w| w.publications).sum();
    let deliveries: u64 = windows.iter().map(|w| w.deliveries).sum();
    report.count("subscribers", "subscribers", u64::from(options.subscribers));
    report.count("windows", "windows", windows.len() as u64);
    report.count("publications", "publications", publications);
    report.figure("publications_per_second", "publications per second", publications as f64 / publishing, "");
    report.figure("deliveries_per_second", "deliveries per second", deliveries as f64 / wall, "");
    if run.meter.server.is_some() {
        let each = windows.iter().map(|w| micros_each(w.used.server, w.deliveries));
        report.spread("server_cpu_per_delivery_us", "server CPU per delivery", Spread::of(each), "µs");
    }
    let used: Vec<Used> = windows.iter().map(|w| w.used).collect();
    report_cores(&mut report, &used, run.meter.server.is_some());
    let sleeps = windows.iter().map(|w| w.used.own_sleeps as f64 * 1000.0 / w.deliveries.max(1) as f64);
    report.spread("own_sleeps", "tool slept per 1000 deliveries", Spread::of(sleeps), "");
    let batching = windows.iter().map(|w| w.deliveries as f64 / w.reads.max(1) as f64);
    report.spread("deliveries_per_read", "deliveries per read", Spread::of(batching), "");
    let joined = windows.iter().map(|w| w.deliveries as f64 / w.frames.max(1) as f64);
    report.spread("deliveries_per_frame", "deliveries per WebSocket frame", Spread::of(joined), "");
    report.latency("latency", "delivery latency", run.latencies());
    if let Some(rate) = options.rate {
        report.count("rate", "publications asked per second", rate);
        report.latency("late_start", "sent after due", run.late_starts());
    }
    if options.churn > 0 {
        report.count("churned", "clients that came and went", run.churned());
    }
    report.tally(run.tally());
    let (problems, reasons) = run.problems();
    report.problems(problems, reasons);
    report
}

fn report_floor(report: &mut Report, windows: &[Window], floors: &[crate::floor::Window]) {
    let frames = floors.iter().map(|f| f.frames as f64);
    report.spread("floor_frames", "floor: publications per write", Spread::of(frames), "");
    let each = floors.iter().map(|f| micros_each(f.used.server, f.deliveries));
    report.spread("floor_cpu_per_delivery_us", "floor: CPU per delivery", Spread::of(each), "µs");
    let sleeps = floors.iter().map(|f| f.used.own_sleeps as f64 * 1000.0 / f.deliveries.max(1) as f64);
    report.spread("floor_own_sleeps", "floor: tool slept per 1000 deliveries", Spread::of(sleeps), "");
    let waited = floors.iter().map(|f| f.used.own_waited.as_secs_f64() / f.used.wall.as_secs_f64());
    report.spread("floor_own_kept_waiting", "floor: tool kept waiting for its core", Spread::of(waited), "");
    let ratios = windows
        .iter()
        .zip(floors)
        .map(|(w, f)| micros_each(w.used.server, w.deliveries) / micros_each(f.used.server, f.deliveries));
    report.spread("floor_ratio", "server / floor", Spread::of(ratios), "");
}
