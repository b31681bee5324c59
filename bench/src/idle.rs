//! Scenario `idle`: many connections that only answer pings; what the server keeps for each and what a ping costs it.

use std::time::Duration;

use clap::Args;

use crate::crowd;
use crate::engine::{Engine, Event, Peer, Session, Subscription};
use crate::failure::Failure;
use crate::floor::{FloorOptions, Greeting, Pinging};
use crate::measure::{Meter, Used, micros_each};
use crate::options::Common;
use crate::problems::Problems;
use crate::report::Report;
use crate::spread::Spread;
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
    #[command(flatten)]
    floor: FloorOptions,
    /// Pings that the floor sends without a pause.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000), requires = "floor")]
    floor_together: u32,
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let endpoint = common.endpoint()?;
    let session = Session::new(common)?;
    let mut crowd = Crowd::new(common, options, session, Meter::new(common)?)?;
    let count = options.connections as usize;
    let mut report = Report::new("idle");
    report.count("connections", "connections", count as u64);
    let empty = resident_bytes(&crowd.meter)?;
    let opened = crowd.gather(&Peer::new(&endpoint, common)?)?;
    report.figure("open_seconds", "opened in", opened.wall.as_secs_f64(), "s");
    report.problems(&crowd.hold(SETTLE)?.problems);
    if let (Some(empty), Some(full)) = (empty, resident_bytes(&crowd.meter)?) {
        tell_memory(&mut report, empty, full, count);
    }
    if options.hold > 0 {
        let held = crowd.hold(Duration::from_secs(options.hold))?;
        tell_held(&mut report, &held, &crowd)?;
        if options.floor.floor {
            let floor = hold_at_floor(common, options, crowd)?;
            tell_floor(&mut report, &held, &floor);
        }
    }
    Ok(report)
}

/// Clients that are in, and whom they cost something.
struct Crowd<'a> {
    engine: Engine,
    meter: Meter,
    session: Session,
    tokens: Tokens,
    options: &'a Options,
    clients: Vec<usize>,
}

impl<'a> Crowd<'a> {
    fn new(common: &Common, options: &'a Options, session: Session, meter: Meter) -> Result<Self, Failure> {
        Ok(Self {
            engine: Engine::new(session.clone(), common).map_err(Failure::system("starting the loop"))?,
            meter,
            session,
            tokens: Tokens::new(common.token_secret.as_deref()),
            options,
            clients: Vec::new(),
        })
    }

    /// Lets all in, and tells what that took.
    fn gather(&mut self, peer: &Peer) -> Result<Used, Failure> {
        let Self { engine, session, tokens, options, .. } = self;
        let login = |client: usize| {
            let channel = format!("{}{client}", options.channel_prefix);
            let subscription =
                options.subscribe_own.then_some(Subscription { channel: &channel, recoverable: false, since: None });
            Some(session.login(&tokens.of(client), subscription))
        };
        let before = self.meter.read()?;
        self.clients = crowd::gather(engine, peer, options.connections as usize, login)?;
        Ok(self.meter.used_since(before)?)
    }

    fn hold(&mut self, time: Duration) -> Result<Held, Failure> {
        let before = self.meter.read()?;
        let mut held = hold(&mut self.engine, time)?;
        held.used = self.meter.used_since(before)?;
        Ok(held)
    }
}

/// The same clients leave the server and are held for the same time by a process that does nothing else, with as many pings.
fn hold_at_floor(common: &Common, options: &Options, server: Crowd<'_>) -> Result<Held, Failure> {
    let Crowd { mut engine, meter, session, clients, .. } = server;
    let interval = engine.ping_interval();
    let interval = interval.ok_or_else(|| Failure::Usage("a server that sends no pings has no floor".to_owned()))?;
    crowd::dismiss(&mut engine, clients)?;
    drop(engine);
    let together = options.floor_together as usize;
    let pinging = Pinging { clients: options.connections as usize, together, interval };
    let greeting = Greeting::start(&session, options.subscribe_own, Some(pinging), &options.floor, &meter)?;
    let mut floor = Crowd::new(common, options, session, greeting.meter()?)?;
    floor.gather(&greeting.peer())?;
    let settled = floor.hold(SETTLE)?;
    let held = floor.hold(Duration::from_secs(options.hold))?;
    match settled.problems.count() + held.problems.count() {
        0 => Ok(held),
        _ => Err(Failure::Stalled { waiting_for: format!("the floor: {}", held.problems) }),
    }
}

/// What happened while connections were held.
#[derive(Default)]
struct Held {
    pings: u64,
    used: Used,
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
            Event::Failed { reason } => {
                held.problems.note(reason);
            }
            _ => {}
        });
        turned.map_err(Failure::system("waiting for events"))?;
        let now_ns = engine.now_ns();
        engine.live().show(now_ns, held.pings, "pings answered", None);
    }
}

impl Held {
    /// What the server did, for each ping that was answered.
    fn per_ping_us(&self) -> f64 {
        micros_each(self.used.server, self.pings)
    }
}

fn tell_held(report: &mut Report, held: &Held, crowd: &Crowd<'_>) -> Result<(), Failure> {
    report.problems(&held.problems);
    report.count("pings", "pings answered", held.pings);
    if crowd.meter.server.is_some() {
        report.figure("held_cpu_seconds", "server CPU while held", held.used.server.as_secs_f64(), "s");
        report.figure("cpu_per_ping_us", "server CPU per ping and pong", held.per_ping_us(), "µs");
    }
    if let Some(bytes) = resident_bytes(&crowd.meter)? {
        report.figure("held_mib", "server memory after", mib(bytes), "MiB");
    }
    Ok(())
}

fn tell_floor(report: &mut Report, server: &Held, floor: &Held) {
    report.count("floor_pings", "floor: pings answered", floor.pings);
    report.figure("floor_cpu_per_ping_us", "floor: CPU per ping and pong", floor.per_ping_us(), "µs");
    if !server.used.server.is_zero() {
        let ratio = server.per_ping_us() / floor.per_ping_us();
        report.spread("floor_ratio", "server / floor", Spread::of([ratio]), "");
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
