//! Scenario `publish`: clients publish over their own connections to channels with a few subscribers.
//!
//! Closed loop: each channel has one publisher, which sends its next publication when the one before was answered and every
//! subscriber of the channel has received it.

use std::time::Duration;

use clap::Args;

use crate::crowd::{self, PATIENCE, TURN};
use crate::endpoint::Endpoint;
use crate::engine::{Closed, Engine, Event, Publish, Session, Subscription};
use crate::failure::Failure;
use crate::floor::{self, Floor};
use crate::lanes::Lanes;
use crate::latency::Latency;
use crate::ledger::Ledger;
use crate::measure::{Meter, Used, micros_each, report_cores};
use crate::options::Common;
use crate::payload::{PUBLISHERS_MAX, Stamp};
use crate::report::Report;
use crate::sequence::Sequence;
use crate::spread::Spread;
use crate::token::Tokens;

/// Publications of each channel before the first window.
const WARM_UP_PUBLICATIONS: u64 = 100;

/// Reasons that are kept; all are counted.
const REASONS_MAX: usize = 5;

/// After the last window stray duplicates have this long to show up.
const LINGER: Duration = Duration::from_millis(200);

/// Options of this scenario.
#[derive(Args)]
pub struct Options {
    /// Channels, each with a publisher.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=PUBLISHERS_MAX as u64))]
    channels: u64,
    /// Subscribers of each channel.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    subscribers: u32,
    /// The publisher is not one of the subscribers, but a client of its own.
    #[arg(long)]
    apart: bool,
    /// Publications of each channel per window, instead of a share of --seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    publications: Option<u64>,
    /// Start of the channels' names; the number of the channel follows.
    #[arg(long, default_value = "bench-")]
    channel_prefix: String,
    /// Windows, each with a figure of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    windows: u32,
    /// Alternate windows of the server with windows of the kernel's floor: bare writes to as many sockets.
    #[arg(long)]
    floor: bool,
    /// Core of the floor's writer; by default the one the server is pinned to.
    #[arg(long, value_name = "CPU", requires = "floor")]
    floor_pin: Option<usize>,
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let mut run = Run::start(common, options)?;
    let mut floor = options.floor.then(|| run.start_floor(common, options)).transpose()?;
    run.window(Length::Publications(WARM_UP_PUBLICATIONS))?;
    if run.books.broken {
        return Err(Failure::Refused { problems: run.books.problems, first: run.books.reasons.join("; ") });
    }
    run.books.latency = Latency::new();
    run.books.answer_latency = Latency::new();
    let length = match options.publications {
        Some(count) => Length::Publications(count),
        None => Length::Time(Duration::from_secs(common.seconds) / options.windows),
    };
    let mut windows = Vec::new();
    let mut floors = Vec::new();
    for _ in 0..options.windows {
        if run.books.broken {
            break;
        }
        let window = run.window(length)?;
        if let Some(floor) = &mut floor {
            floors.push(floor.window(window.publications.div_ceil(options.channels), 1)?);
        }
        windows.push(window);
    }
    run.finish()?;
    Ok(report(&run, options, &windows, &floors))
}

/// When a window ends.
#[derive(Clone, Copy)]
enum Length {
    /// So many of each channel.
    Publications(u64),
    Time(Duration),
}

/// What a window cost.
struct Window {
    publications: u64,
    deliveries: u64,
    reads: u64,
    used: Used,
}

struct Run {
    engine: Engine,
    meter: Meter,
    /// By channel.
    publishers: Vec<Publisher>,
    subscribers_each: u64,
    books: Books,
}

struct Publisher {
    client: usize,
    publish: Publish,
}

/// What events change.
struct Books {
    /// Each subscriber has one publisher, that of its channel.
    ledger: Ledger,
    /// A lane is a channel.
    lanes: Lanes,
    /// By client index.
    members: Vec<Member>,
    /// When each channel's last publication was sent.
    sent_ns: Vec<u64>,
    latency: Latency,
    answer_latency: Latency,
    problems: u64,
    reasons: Vec<String>,
    broken: bool,
}

/// A client's part in a channel.
#[derive(Clone, Copy, Default)]
struct Member {
    channel: usize,
    subscribes: bool,
}

impl Run {
    fn start(common: &Common, options: &Options) -> Result<Self, Failure> {
        let endpoint = Endpoint::resolve(&common.url, "ws")?;
        let session = Session::new(&endpoint, common.protocol.encoding());
        let tokens = Tokens::new(common.token_secret.as_deref());
        let mut engine = Engine::new(session.clone(), common).map_err(Failure::system("starting the loop"))?;
        let channels = options.channels as usize;
        let each = options.subscribers as usize + usize::from(options.apart);
        let name = |channel: usize| format!("{}{channel}", options.channel_prefix);
        // The members of a channel come one after the other, its publisher first.
        let member = |number: usize| Member {
            channel: number / each,
            subscribes: !(options.apart && number.is_multiple_of(each)),
        };
        let login = |number: usize| {
            let (member, channel) = (member(number), name(number / each));
            let subscription =
                member.subscribes.then_some(Subscription { channel: &channel, recoverable: false, since: None });
            Some(session.login(&tokens.of(number), subscription))
        };
        let clients = crowd::gather(&mut engine, endpoint.address, channels * each, login)?;
        let mut members = vec![Member::default(); clients.iter().max().map_or(0, |last| last + 1)];
        let mut ledger = Ledger::new(1);
        for (number, client) in clients.iter().enumerate() {
            members[*client] = member(number);
            ledger.open(*client, |_| Sequence::starting_at(0));
        }
        let publisher = |channel: usize| Publisher {
            client: clients[channel * each],
            publish: session.publish(&name(channel), common.payload),
        };
        Ok(Self {
            engine,
            meter: Meter::new(common)?,
            publishers: (0..channels).map(publisher).collect(),
            subscribers_each: u64::from(options.subscribers),
            books: Books {
                ledger,
                lanes: Lanes::new(channels, 1, false),
                members,
                sent_ns: vec![0; channels],
                latency: Latency::new(),
                answer_latency: Latency::new(),
                problems: 0,
                reasons: Vec::new(),
                broken: false,
            },
        })
    }

    fn start_floor(&self, common: &Common, options: &Options) -> Result<Floor, Failure> {
        let server = self.meter.server.as_ref();
        let core = options.floor_pin.or_else(|| server.and_then(|server| server.pinned_to()));
        let sockets = self.publishers.len() * self.subscribers_each as usize;
        Floor::start(common, sockets, &options.channel_prefix, core)
    }

    /// Publishes for `length` and waits until all has arrived, or nothing more does.
    fn window(&mut self, length: Length) -> Result<Window, Failure> {
        let before = self.meter.read()?;
        let reads = self.engine.received().reads;
        let delivered = self.books.ledger.tally().delivered;
        let publications = self.publish(length)?;
        Ok(Window {
            publications,
            deliveries: self.books.ledger.tally().delivered - delivered,
            reads: self.engine.received().reads - reads,
            used: self.meter.used_since(before)?,
        })
    }

    fn publish(&mut self, length: Length) -> Result<u64, Failure> {
        let started_ns = self.engine.now_ns();
        let mut published = vec![0; self.publishers.len()];
        let mut progress = (0, started_ns);
        loop {
            let now_ns = self.engine.now_ns();
            for (channel, published) in published.iter_mut().enumerate() {
                let over = match length {
                    Length::Publications(count) => *published >= count,
                    Length::Time(time) => now_ns - started_ns >= time.as_nanos() as u64,
                };
                if !over && !self.books.broken && self.books.lanes.is_free(channel) {
                    self.publish_one(channel);
                    *published += 1;
                }
            }
            let total = published.iter().sum();
            if self.books.broken || self.books.lanes.are_quiet() {
                return Ok(total);
            }
            self.turn(TURN)?;
            let done = total + self.books.ledger.tally().delivered;
            if done != progress.0 {
                progress = (done, now_ns);
            } else if now_ns - progress.1 > PATIENCE.as_nanos() as u64 {
                self.books.note(format!("no progress for {PATIENCE:?}"));
                self.books.broken = true;
            }
        }
    }

    fn publish_one(&mut self, channel: usize) {
        let sent_ns = self.engine.now_ns();
        let sequence = self.books.lanes.start(channel, self.subscribers_each);
        self.books.sent_ns[channel] = sent_ns;
        let Publisher { client, publish } = &mut self.publishers[channel];
        let frame = publish.frame(Stamp { publisher: channel as u16, sequence, sent_ns });
        self.engine.send(*client, &frame);
    }

    /// Waits for strays and closes the accounts.
    fn finish(&mut self) -> Result<(), Failure> {
        let end_ns = self.engine.now_ns() + LINGER.as_nanos() as u64;
        while self.engine.now_ns() < end_ns {
            self.turn(LINGER)?;
        }
        let Books { ledger, lanes, members, .. } = &mut self.books;
        for (client, member) in members.iter().enumerate().filter(|(_, member)| member.subscribes) {
            ledger.close(client, std::iter::once(lanes.unsent(member.channel)));
        }
        Ok(())
    }

    fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        let Self { engine, books, .. } = self;
        engine.turn(timeout, &mut |event| books.handle(event)).map_err(Failure::system("waiting for events"))
    }
}

impl Books {
    fn handle(&mut self, event: Event) {
        match event {
            Event::Delivery { client, stamp, at_ns } => self.handle_delivery(client, stamp, at_ns),
            Event::Published { client, at_ns } => {
                let channel = self.members[client].channel;
                self.lanes.handle_answer(channel);
                self.answer_latency.record_ns(at_ns.saturating_sub(self.sent_ns[channel]));
            }
            Event::Corrupt => self.ledger.observe_corrupt(),
            Event::Closed { why, .. } => {
                if let Closed::Cut(reason) = why {
                    self.note(reason);
                }
                self.broken = true;
            }
            _ => {}
        }
    }

    /// What comes from another channel, or to one that did not subscribe, counts as corrupted.
    fn handle_delivery(&mut self, client: usize, stamp: Stamp, at_ns: u64) {
        let member = self.members[client];
        if !member.subscribes || member.channel != usize::from(stamp.publisher) {
            return self.ledger.observe_corrupt();
        }
        self.ledger.observe(client, Stamp { publisher: 0, ..stamp });
        self.lanes.handle_delivery(member.channel);
        self.latency.record_ns(at_ns.saturating_sub(stamp.sent_ns));
    }

    fn note(&mut self, reason: String) {
        self.problems += 1;
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

fn report(run: &Run, options: &Options, windows: &[Window], floors: &[floor::Window]) -> Report {
    let publications: u64 = windows.iter().map(|w| w.publications).sum();
    let wall: f64 = windows.iter().map(|w| w.used.wall.as_secs_f64()).sum();
    let mut report = Report::new("publish");
    report.count("channels", "channels", options.channels);
    report.count("subscribers", "subscribers of each", run.subscribers_each);
    report.count("windows", "windows", windows.len() as u64);
    report.count("publications", "publications", publications);
    report.figure("publications_per_second", "publications per second", publications as f64 / wall, "");
    if run.meter.server.is_some() {
        let each = windows.iter().map(|w| micros_each(w.used.server, w.publications));
        report.spread("server_cpu_per_publication_us", "server CPU per publication", Spread::of(each), "µs");
    }
    let used: Vec<Used> = windows.iter().map(|w| w.used).collect();
    report_cores(&mut report, &used, run.meter.server.is_some());
    let sleeps = windows.iter().map(|w| w.used.own_sleeps as f64 * 1000.0 / w.deliveries.max(1) as f64);
    report.spread("own_sleeps", "tool slept per 1000 deliveries", Spread::of(sleeps), "");
    let batching = windows.iter().map(|w| w.deliveries as f64 / w.reads.max(1) as f64);
    report.spread("deliveries_per_read", "deliveries per read", Spread::of(batching), "");
    report.latency("latency", "delivery latency", run.books.latency.percentiles());
    report.latency("answer_latency", "from sent to answered", run.books.answer_latency.percentiles());
    report_floor(&mut report, run, windows, floors);
    report.tally(run.books.ledger.tally());
    report.problems(run.books.problems, &run.books.reasons);
    report
}

/// The floor of a publication is the writes to its subscribers; reading and answering it are the server's.
fn report_floor(report: &mut Report, run: &Run, windows: &[Window], floors: &[floor::Window]) {
    let of_publication = |f: &floor::Window| micros_each(f.used.server, f.deliveries) * run.subscribers_each as f64;
    let each = floors.iter().map(of_publication);
    report.spread("floor_cpu_per_publication_us", "floor: CPU of the writes alone", Spread::of(each), "µs");
    if run.meter.server.is_some() {
        let ratios =
            windows.iter().zip(floors).map(|(w, f)| micros_each(w.used.server, w.publications) / of_publication(f));
        report.spread("floor_ratio", "server / floor", Spread::of(ratios), "");
    }
}
