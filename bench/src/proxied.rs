//! Scenarios `proxy-connect` and `proxy-rpc`: clients whose connects, or calls, the server asks a backend about. The backend is a process of
//! this tool, so that it is not measured along with the server.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use ringcast_proto::client::ReplyResult;

use crate::connect;
use crate::crowd::{self, TURN};
use crate::engine::{Closed, Engine, Event, Peer, Session};
use crate::failure::Failure;
use crate::floor::{BACKEND_DATA, Backend};
use crate::histogram::Latency;
use crate::ledger::Tally;
use crate::measure::Meter;
use crate::options::Common;
use crate::problems::Problems;
use crate::report::Report;
use crate::rounds::{Length, Opening, Rounds, Window, WindowOptions, Windows};
use crate::telling;
use crate::token::Tokens;
use crate::watch::Watch;

/// Kind of latency: from asked to answered.
const ANSWER: &str = "answer";

/// Calls of each client before the first window.
const WARM_UP_CALLS: u64 = 100;

/// Where the server finds the backend.
#[derive(Args)]
pub struct BackendOptions {
    /// Address of the built-in backend, which the proxies of the server are to name: `http://ADDRESS/connect` and `http://ADDRESS/rpc`.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 9100)))]
    backend: SocketAddr,
    /// Core of the backend's process.
    #[arg(long, value_name = "CPU")]
    backend_pin: Option<usize>,
}

impl BackendOptions {
    fn start(&self) -> Result<Backend, Failure> {
        Backend::start(self.backend, self.backend_pin).map_err(Failure::system("starting the backend"))
    }
}

/// Options of `proxy-connect`.
#[derive(Args)]
pub struct ConnectOptions {
    #[command(flatten)]
    backend: BackendOptions,
    #[command(flatten)]
    connect: connect::Options,
}

/// Options of `proxy-rpc`.
#[derive(Args)]
pub struct RpcOptions {
    #[command(flatten)]
    backend: BackendOptions,
    /// Clients, each with one call under way.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Method that is called.
    #[arg(long, default_value = "bench")]
    method: String,
    #[command(flatten)]
    windows: WindowOptions,
}

/// Carries out `proxy-connect`.
pub fn run_connect(common: &Common, options: &ConnectOptions) -> Result<Report, Failure> {
    let mut backend = options.backend.start()?;
    let report = connect::run_as("proxy-connect", common, &options.connect)?;
    tell_backend(report, &mut backend, options.connect.measured())
}

/// Carries out `proxy-rpc`.
pub fn run_rpc(common: &Common, options: &RpcOptions) -> Result<Report, Failure> {
    let mut backend = options.backend.start()?;
    let mut run = Run::connect(common, options)?;
    run.window_of(Length::Publications(WARM_UP_CALLS))?;
    if run.books.broken {
        let problems = &run.books.problems;
        return Err(Failure::Refused { problems: problems.count(), first: problems.to_string() });
    }
    let windows = Windows::of(&mut run, common, options.windows.windows, |_| Ok(()))?;
    let mut report = Report::new("proxy-rpc");
    report.count("clients", "clients", u64::from(options.clients));
    let calls = windows.sum(|w| w.units);
    report.count("calls", "calls, every answer checked", calls);
    report.spread("calls_per_second", "calls per second", windows.spread(|w| w.per_second()), "");
    let cost = ("server_cpu_per_call_us", "server CPU per call");
    telling::windows(&mut report, &windows, run.meter.server.is_some(), cost);
    report.latency("answer_latency", "from asked to answered", windows.latency(ANSWER));
    report.problems(run.problems());
    telling::warnings(&mut report, &windows);
    tell_backend(report, &mut backend, calls)
}

/// A server that does not ask is not what was to be measured.
fn tell_backend(mut report: Report, backend: &mut Backend, wanted: u64) -> Result<Report, Failure> {
    let answered = backend.answered().map_err(Failure::system("asking the backend"))?;
    report.count("backend_requests", "requests that the backend answered", answered);
    if answered < wanted {
        let problems = wanted - answered;
        let first = format!("the backend was asked {answered} times about {wanted}: does a proxy name its address?");
        return Err(Failure::Refused { problems, first });
    }
    Ok(report)
}

struct Run {
    engine: Engine,
    meter: Meter,
    length: Length,
    clients: Vec<usize>,
    call: Rc<[u8]>,
    books: Books,
}

struct Books {
    /// Who may call again.
    idle: Vec<usize>,
    /// When each client called, by index.
    asked_ns: Vec<u64>,
    answered: u64,
    latency: Latency,
    problems: Problems,
    broken: bool,
}

impl Rounds for Run {
    fn unit(&self) -> (&'static str, &'static str) {
        ("call", "calls")
    }

    fn window(&mut self) -> Result<Window, Failure> {
        self.window_of(self.length)
    }

    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn is_broken(&self) -> bool {
        self.books.broken
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

impl Run {
    fn connect(common: &Common, options: &RpcOptions) -> Result<Self, Failure> {
        let endpoint = common.endpoint()?;
        let session = Session::new(common)?;
        let tokens = Tokens::new(common.token_secret.as_deref());
        let mut engine = Engine::new(session.clone(), common).map_err(Failure::system("starting the loop"))?;
        let login = |number: usize| Some(session.login(&tokens.of(number), None));
        let clients = crowd::gather(&mut engine, &Peer::new(&endpoint, common)?, options.clients as usize, login)?;
        let places = clients.iter().max().map_or(0, |last| last + 1);
        Ok(Self {
            engine,
            meter: Meter::new(common)?,
            length: options.windows.length(common),
            call: session.rpc(&options.method, common.payload),
            books: Books {
                idle: clients.clone(),
                asked_ns: vec![0; places],
                answered: 0,
                latency: Latency::new(),
                problems: Problems::default(),
                broken: false,
            },
            clients,
        })
    }

    /// Calls for `length` (calls of each client) and waits for the answers.
    fn window_of(&mut self, length: Length) -> Result<Window, Failure> {
        let opening = Opening::new(&self.meter, &self.engine)?;
        let (started_ns, before) = (self.engine.now_ns(), self.books.answered);
        let mut asked = 0;
        let mut watch = Watch::new(&self.engine);
        loop {
            let over = match length {
                Length::Publications(count) => asked >= count * self.clients.len() as u64,
                Length::Time(time) => self.engine.now_ns() - started_ns >= time.as_nanos() as u64,
            };
            if !over && !self.books.broken {
                for client in std::mem::take(&mut self.books.idle) {
                    self.books.asked_ns[client] = self.engine.now_ns();
                    self.engine.ask(client, &self.call);
                    asked += 1;
                }
            } else if self.books.broken || self.books.idle.len() == self.clients.len() {
                break;
            }
            self.turn(TURN)?;
            if watch.is_over(&self.engine, self.books.answered) {
                self.books.problems.note(format!("no progress for {:?}", self.engine.patience()));
                self.books.broken = true;
            }
        }
        let latencies = vec![(ANSWER, std::mem::take(&mut self.books.latency))];
        let units = self.books.answered - before;
        Ok(Window { units, latencies, ..opening.close(&self.meter, &self.engine)? })
    }

    fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        let Self { engine, books, .. } = self;
        let mut answered = Vec::new();
        let on = &mut |event| books.handle(event, &mut answered);
        engine.turn(timeout, on).map_err(Failure::system("waiting for events"))?;
        let now_ns = engine.now_ns();
        for client in answered {
            books.latency.record_ns(now_ns - books.asked_ns[client]);
            books.idle.push(client);
        }
        engine.live().show(now_ns, books.answered, "calls", Some(&books.latency));
        Ok(())
    }
}

impl Books {
    fn handle(&mut self, event: Event, answered: &mut Vec<usize>) {
        match event {
            Event::Replied { client, result } => {
                if !matches!(&*result, ReplyResult::Rpc(result) if result.data == BACKEND_DATA) {
                    self.problems.note(format!("an answer that is not the backend's: {result:?}"));
                }
                self.answered += 1;
                answered.push(client);
            }
            Event::Closed { why, .. } => {
                if let Closed::Cut(reason) = why {
                    self.problems.note(reason);
                }
                self.broken = true;
            }
            _ => {}
        }
    }
}
