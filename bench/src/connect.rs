//! Scenario `connect`: connections that upgrade, connect, subscribe and leave again; what each costs the server.

use clap::Args;

use crate::crowd::TURN;
use crate::engine::{Closed, Engine, Event, Peer, Session, Subscription};
use crate::failure::Failure;
use crate::floor::{FloorOptions, Greeting};
use crate::histogram::Latency;
use crate::ledger::Tally;
use crate::measure::Meter;
use crate::options::Common;
use crate::problems::Problems;
use crate::report::Report;
use crate::rounds::{Opening, Rounds, Window, Windows};
use crate::spread::Spread;
use crate::telling;
use crate::token::Tokens;
use crate::watch::Watch;

/// Kind of latency: from dialing to connected and subscribed.
const READY: &str = "ready";

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
    pub windows: u32,
    #[command(flatten)]
    floor: FloorOptions,
}

impl Options {
    /// Connections of all windows.
    pub fn measured(&self) -> u64 {
        u64::from(self.count) * u64::from(self.windows)
    }
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    run_as("connect", common, options)
}

/// The same under another name.
pub fn run_as(name: &'static str, common: &Common, options: &Options) -> Result<Report, Failure> {
    let mut run = start(common, options)?;
    let mut floor = options.floor.floor.then(|| Floor::start(common, options, &run)).transpose()?;
    let mut floors = Vec::new();
    let windows = Windows::of(&mut run, common, options.windows, |_| {
        if let Some(floor) = &mut floor {
            floors.push(floor.window()?);
        }
        Ok(())
    })?;
    let mut report = report(name, &run, &windows);
    tell_floor(&mut report, &windows, &floors, run.meter.server.is_some());
    Ok(report)
}

/// Lets a few clients in and out again to warm up.
pub fn start<'a>(common: &Common, options: &'a Options) -> Result<Run<'a>, Failure> {
    let endpoint = common.endpoint()?;
    let session = Session::new(common)?;
    start_at(common, options, session, Peer::new(&endpoint, common)?, Meter::new(common)?)
}

fn start_at<'a>(
    common: &Common,
    options: &'a Options,
    session: Session,
    peer: Peer,
    meter: Meter,
) -> Result<Run<'a>, Failure> {
    let mut run = Run {
        engine: Engine::new(session.clone(), common).map_err(Failure::system("starting the loop"))?,
        meter,
        peer,
        session,
        tokens: Tokens::new(common.token_secret.as_deref()),
        options,
        books: Books::new(),
    };
    run.window_of(options.concurrency.min(options.count))?;
    Ok(run)
}

/// A run: what it is made of, and who is on the way.
pub struct Run<'a> {
    engine: Engine,
    meter: Meter,
    peer: Peer,
    session: Session,
    tokens: Tokens,
    options: &'a Options,
    books: Books,
}

impl Rounds for Run<'_> {
    fn unit(&self) -> (&'static str, &'static str) {
        ("connection", "connections")
    }

    fn window(&mut self) -> Result<Window, Failure> {
        self.window_of(self.options.count)
    }

    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn is_broken(&self) -> bool {
        false
    }

    fn finish(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn tally(&self) -> Tally {
        Tally::default()
    }

    fn problems(&self) -> &Problems {
        &self.books.problems
    }
}

/// The same clients at the process that lets everybody in.
struct Floor<'a> {
    run: Run<'a>,
    /// Ended with the run.
    _greeting: Greeting,
}

impl<'a> Floor<'a> {
    fn start(common: &Common, options: &'a Options, server: &Run<'_>) -> Result<Self, Failure> {
        let session = server.session.clone();
        let greeting = Greeting::start(&session, !options.no_subscribe, None, &options.floor, &server.meter)?;
        let run = start_at(common, options, session, greeting.peer(), greeting.meter()?)?;
        Ok(Self { run, _greeting: greeting })
    }

    fn window(&mut self) -> Result<Window, Failure> {
        let window = self.run.window()?;
        match self.run.problems().count() {
            0 => Ok(window),
            _ => Err(Failure::Stalled { waiting_for: format!("the floor: {}", self.run.problems()) }),
        }
    }
}

struct Books {
    latency: Latency,
    /// When each client was opened, by index.
    opened_ns: Vec<u64>,
    /// Ready and to be closed.
    ready: Vec<usize>,
    ready_count: u32,
    closed_count: u32,
    /// Cut before they were ready.
    cut_early: u32,
    problems: Problems,
}

impl Run<'_> {
    /// Lets `count` clients in, and out again; with `keep` the going out is not measured.
    fn window_of(&mut self, count: u32) -> Result<Window, Failure> {
        let opening = Opening::new(&self.meter, &self.engine)?;
        self.books.ready_count = 0;
        self.books.closed_count = 0;
        self.books.cut_early = 0;
        let mut opened = 0;
        let mut measured = None;
        let mut watch = Watch::new(&self.engine);
        while self.books.closed_count < count {
            while opened < count && opened - self.finished() < self.options.concurrency {
                self.open(opened)?;
                opened += 1;
            }
            self.turn()?;
            let all_in = self.books.ready_count + self.books.cut_early >= count;
            if self.options.keep && all_in && measured.is_none() {
                measured = Some(opening.close(&self.meter, &self.engine)?);
            }
            if !self.options.keep || measured.is_some() {
                for client in std::mem::take(&mut self.books.ready) {
                    self.engine.close(client);
                }
            }
            self.check_progress(&mut watch)?;
        }
        let window = measured.map_or_else(|| opening.close(&self.meter, &self.engine), Ok)?;
        let latencies = vec![(READY, std::mem::take(&mut self.books.latency))];
        Ok(Window { units: u64::from(count), latencies, ..window })
    }

    /// Clients that no longer count against the concurrency.
    fn finished(&self) -> u32 {
        if self.options.keep { self.books.ready_count + self.books.cut_early } else { self.books.closed_count }
    }

    fn open(&mut self, number: u32) -> Result<(), Failure> {
        let channel = format!("{}{number}", self.options.channel_prefix);
        let subscription =
            (!self.options.no_subscribe).then_some(Subscription { channel: &channel, recoverable: false, since: None });
        let token = self.tokens.of(number as usize);
        let login = self.session.login(&token, subscription);
        let opened_ns = self.engine.now_ns();
        let client = self.engine.open(&self.peer, Some(login)).map_err(Failure::dialing)?;
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
            .turn(TURN, &mut |event| books.handle(event, &mut ready))
            .map_err(Failure::system("waiting for events"))?;
        let now_ns = engine.now_ns();
        for client in ready {
            books.latency.record_ns(now_ns - books.opened_ns[client]);
            books.ready.push(client);
        }
        engine.live().show(now_ns, u64::from(books.ready_count), "clients in", Some(&books.latency));
        Ok(())
    }

    fn check_progress(&self, watch: &mut Watch) -> Result<(), Failure> {
        let Books { ready_count, closed_count, .. } = &self.books;
        if watch.is_over(&self.engine, u64::from(ready_count + closed_count)) {
            return Err(Failure::Stalled { waiting_for: format!("{ready_count} were in and {closed_count} out") });
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
            cut_early: 0,
            problems: Problems::default(),
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
                    let known = self.ready.len() + ready.len();
                    self.ready.retain(|ready| *ready != client);
                    ready.retain(|ready| *ready != client);
                    self.cut_early += u32::from(self.ready.len() + ready.len() == known);
                    self.problems.note(reason);
                }
            }
            _ => {}
        }
    }
}

fn report(name: &'static str, run: &Run<'_>, windows: &Windows) -> Report {
    let options = run.options;
    let mut report = Report::new(name);
    report.count("connections", "connections per window", u64::from(options.count));
    report.count("concurrency", "at once", u64::from(options.concurrency));
    report.spread("connections_per_second", "connections per second", windows.spread(|w| w.per_second()), "");
    let cost = ("server_cpu_per_connection_us", "server CPU per connection");
    telling::windows(&mut report, windows, run.meter.server.is_some(), cost);
    report.latency("latency", "from dialing to ready", windows.latency(READY));
    report.problems(run.problems());
    telling::warnings(&mut report, windows);
    report
}

fn tell_floor(report: &mut Report, windows: &Windows, floors: &[Window], with_server: bool) {
    let each = floors.iter().map(Window::cost_us);
    report.spread("floor_cpu_per_connection_us", "floor: CPU per connection", Spread::of(each), "µs");
    if with_server {
        let ratios = windows.list.iter().zip(floors).map(|(server, floor)| server.cost_us() / floor.cost_us());
        report.spread("floor_ratio", "server / floor", Spread::of(ratios), "");
    }
}
