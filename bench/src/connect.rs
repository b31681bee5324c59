//! Scenario `connect`: connections that upgrade, connect, subscribe and leave again; what each costs the server.

use clap::Args;

use crate::crowd::PATIENCE;
use crate::endpoint::Endpoint;
use crate::engine::{Closed, Engine, Event, Session, Subscription};
use crate::failure::Failure;
use crate::latency::Latency;
use crate::measure::{Meter, Used, micros_each, report_cores};
use crate::options::Common;
use crate::report::Report;
use crate::spread::Spread;
use crate::token::Tokens;

/// Reasons that are kept; all are counted.
const REASONS_MAX: usize = 5;

/// Options of this scenario.
#[derive(Args)]
pub struct Options {
    /// Connections per window.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Connections on their way in at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Start of the channels' names; the number of the connection follows.
    #[arg(long, default_value = "bench-")]
    channel_prefix: String,
    /// Do not subscribe.
    #[arg(long)]
    no_subscribe: bool,
    /// Keep the connections open until the window ends, so that closing them is not measured.
    #[arg(long)]
    keep: bool,
    /// Windows, each with a figure of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    windows: u32,
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let meter = Meter::new(common)?;
    let endpoint = Endpoint::resolve(&common.url, "ws")?;
    let session = Session::new(&endpoint, common.protocol.encoding());
    let engine = Engine::new(session.clone(), common).map_err(Failure::system("starting the loop"))?;
    let mut run = Run {
        engine,
        endpoint,
        session,
        tokens: Tokens::new(common.token_secret.as_deref()),
        options,
        books: Books::new(),
    };
    let warm_up = run.options.concurrency.min(run.options.count);
    run.window(warm_up, &meter)?;
    run.books.latency = Latency::new();
    let mut windows = Vec::new();
    for _ in 0..options.windows {
        windows.push(run.window(options.count, &meter)?);
    }
    Ok(report(&run, &meter, &windows))
}

struct Run<'a> {
    engine: Engine,
    endpoint: Endpoint,
    session: Session,
    tokens: Tokens,
    options: &'a Options,
    books: Books,
}

struct Books {
    latency: Latency,
    /// When each client was opened, by index.
    opened_ns: Vec<u64>,
    /// Ready and to be closed.
    ready: Vec<usize>,
    ready_count: u32,
    closed_count: u32,
    problems: u64,
    reasons: Vec<String>,
}

impl Run<'_> {
    /// Lets `count` clients in, and out again; with `keep` the going out is not measured.
    fn window(&mut self, count: u32, meter: &Meter) -> Result<Used, Failure> {
        let before = meter.read()?;
        self.books.ready_count = 0;
        self.books.closed_count = 0;
        let mut opened = 0;
        let mut used = None;
        let mut progress = (0, self.engine.now_ns());
        while self.books.closed_count < count {
            while opened < count && opened - self.finished() < self.options.concurrency {
                self.open(opened)?;
                opened += 1;
            }
            self.turn()?;
            let all_in = self.books.ready_count + self.books.cut_early() >= count;
            if self.options.keep && all_in && used.is_none() {
                used = Some(meter.used_since(before)?);
            }
            if !self.options.keep || used.is_some() {
                for client in std::mem::take(&mut self.books.ready) {
                    self.engine.close(client);
                }
            }
            self.check_progress(&mut progress)?;
        }
        used.map_or_else(|| Ok(meter.used_since(before)?), Ok)
    }

    /// Clients that no longer count against the concurrency.
    fn finished(&self) -> u32 {
        if self.options.keep { self.books.ready_count + self.books.cut_early() } else { self.books.closed_count }
    }

    fn open(&mut self, number: u32) -> Result<(), Failure> {
        let channel = format!("{}{number}", self.options.channel_prefix);
        let subscription =
            (!self.options.no_subscribe).then_some(Subscription { channel: &channel, recoverable: false, since: None });
        let token = self.tokens.of(number as usize);
        let login = self.session.login(&token, subscription);
        let opened_ns = self.engine.now_ns();
        let client =
            self.engine.open(self.endpoint.address, Some(login)).map_err(Failure::system("opening a connection"))?;
        if self.books.opened_ns.len() <= client {
            self.books.opened_ns.resize(client + 1, 0);
        }
        self.books.opened_ns[client] = opened_ns;
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let Self { engine, books, .. } = self;
        let mut ready = Vec::new();
        engine
            .turn(PATIENCE, &mut |event| books.handle(event, &mut ready))
            .map_err(Failure::system("waiting for events"))?;
        let now_ns = engine.now_ns();
        for client in ready {
            books.latency.record_ns(now_ns - books.opened_ns[client]);
            books.ready.push(client);
        }
        Ok(())
    }

    fn check_progress(&self, progress: &mut (u32, u64)) -> Result<(), Failure> {
        let done = self.books.ready_count + self.books.closed_count;
        let now_ns = self.engine.now_ns();
        if done != progress.0 {
            *progress = (done, now_ns);
        } else if now_ns - progress.1 > PATIENCE.as_nanos() as u64 {
            return Err(Failure::Stalled {
                waiting_for: format!("{} were in and {} out", self.books.ready_count, self.books.closed_count),
            });
        }
        Ok(())
    }
}

impl Books {
    fn new() -> Self {
        Self {
            latency: Latency::new(),
            opened_ns: Vec::new(),
            ready: Vec::new(),
            ready_count: 0,
            closed_count: 0,
            problems: 0,
            reasons: Vec::new(),
        }
    }

    fn handle(&mut self, event: Event, ready: &mut Vec<usize>) {
        match event {
            Event::Ready { client } => {
                self.ready_count += 1;
                ready.push(client);
            }
            Event::Closed { client, why } => {
                self.closed_count += 1;
                if let Closed::Cut(reason) = why {
                    self.problems += 1;
                    self.ready.retain(|ready| *ready != client);
                    if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
                        self.reasons.push(reason);
                    }
                }
            }
            _ => {}
        }
    }

    /// Clients that were cut, before or after they were ready; those that were are few and end the run unclean anyway.
    fn cut_early(&self) -> u32 {
        u32::try_from(self.problems).unwrap_or(u32::MAX)
    }
}

fn report(run: &Run<'_>, meter: &Meter, windows: &[Used]) -> Report {
    let options = run.options;
    let count = u64::from(options.count);
    let mut report = Report::new("connect");
    report.count("windows", "windows", windows.len() as u64);
    report.count("connections", "connections per window", count);
    report.count("concurrency", "at once", u64::from(options.concurrency));
    let rates = windows.iter().map(|w| count as f64 / w.wall.as_secs_f64());
    report.spread("connections_per_second", "connections per second", Spread::of(rates), "");
    if meter.server.is_some() {
        let each = windows.iter().map(|w| micros_each(w.server, count));
        report.spread("server_cpu_per_connection_us", "server CPU per connection", Spread::of(each), "µs");
    }
    report_cores(&mut report, windows, meter.server.is_some());
    report.latency("latency", "from dialing to ready", run.books.latency.percentiles());
    report.problems(run.books.problems, &run.books.reasons);
    report
}
