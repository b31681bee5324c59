//! Scenario `idle`: many connections that only answer pings; what the server keeps for each and what a ping costs it.

use std::time::Duration;

use clap::Args;

use crate::crowd;
use crate::endpoint::Endpoint;
use crate::engine::{Engine, Event, Peer, Session, Subscription};
use crate::failure::Failure;
use crate::measure::{Meter, micros_each};
use crate::options::Common;
use crate::problems::Problems;
use crate::report::Report;
use crate::token::Tokens;

/// After the last connection, before memory is read: allocators and collectors come to rest.
const SETTLE: Duration = Duration::from_secs(2);

/// Options of this scenario.
#[derive(Args)]
pub struct Options {
    /// Connections.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Subscribe each to a channel of its own.
    #[arg(long)]
    subscribe_own: bool,
    /// Start of the channels' names; the number of the connection follows.
    #[arg(long, default_value = "bench-")]
    channel_prefix: String,
    /// Seconds to go on answering pings; 0 for none.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    hold: u64,
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let meter = Meter::new(common)?;
    let endpoint = Endpoint::resolve(&common.url, "ws")?;
    let session = Session::new(&endpoint, common.protocol.encoding());
    let tokens = Tokens::new(common.token_secret.as_deref());
    let mut engine = Engine::new(session.clone(), common).map_err(Failure::system("starting the loop"))?;
    let login = |client: usize| {
        let channel = format!("{}{client}", options.channel_prefix);
        let subscription =
            options.subscribe_own.then_some(Subscription { channel: &channel, recoverable: false, since: None });
        session.login(&tokens.of(client), subscription)
    };
    let empty_bytes = resident_bytes(&meter)?;
    let before = meter.read()?;
    let count = options.connections as usize;
    crowd::gather(&mut engine, &Peer::new(&endpoint, common)?, count, |client| Some(login(client)))?;
    let opened = meter.used_since(before)?;
    let mut report = Report::new("idle");
    report.count("connections", "connections", count as u64);
    report.figure("open_seconds", "opened in", opened.wall.as_secs_f64(), "s");
    report.problems(&hold(&mut engine, SETTLE)?.problems);
    if let (Some(empty), Some(full)) = (empty_bytes, resident_bytes(&meter)?) {
        tell_memory(&mut report, empty, full, count);
    }
    if options.hold > 0 {
        let before = meter.read()?;
        let held = hold(&mut engine, Duration::from_secs(options.hold))?;
        let used = meter.used_since(before)?;
        report.problems(&held.problems);
        report.count("pings", "pings answered", held.pings);
        if meter.server.is_some() {
            report.figure("held_cpu_seconds", "server CPU while held", used.server.as_secs_f64(), "s");
            report.figure(
                "cpu_per_ping_us",
                "server CPU per ping and pong",
                micros_each(used.server, held.pings),
                "µs",
            );
        }
        if let Some(bytes) = resident_bytes(&meter)? {
            report.figure("held_mib", "server memory after", mib(bytes), "MiB");
        }
    }
    Ok(report)
}

/// What happened while connections were held.
#[derive(Default)]
struct Held {
    pings: u64,
    problems: Problems,
}

fn hold(engine: &mut Engine, time: Duration) -> Result<Held, Failure> {
    let mut held = Held::default();
    let end_ns = engine.now_ns() + time.as_nanos() as u64;
    loop {
        let left_ns = end_ns.saturating_sub(engine.now_ns());
        if left_ns == 0 {
            return Ok(held);
        }
        let turned = engine.turn(Duration::from_nanos(left_ns), &mut |event| match event {
            Event::Ping => held.pings += 1,
            Event::Closed { why, .. } => {
                held.problems.note(why.to_string());
            }
            _ => {}
        });
        turned.map_err(Failure::system("waiting for events"))?;
        let now_ns = engine.now_ns();
        engine.live().show(now_ns, held.pings, "pings answered", None);
    }
}

fn tell_memory(report: &mut Report, empty: u64, full: u64, connections: usize) {
    report.figure("empty_mib", "server memory before", mib(empty), "MiB");
    report.figure("full_mib", "server memory with them", mib(full), "MiB");
    report.figure(
        "bytes_per_connection",
        "resident bytes per connection",
        full.saturating_sub(empty) as f64 / connections as f64,
        "B",
    );
}

fn resident_bytes(meter: &Meter) -> Result<Option<u64>, Failure> {
    let bytes = meter.server.as_ref().map(|server| server.resident_bytes());
    Ok(bytes.transpose()?)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
