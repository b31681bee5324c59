//! Scenario `publish`: clients publish over their own connections to channels with a few subscribers.
//!
//! Closed loop: each channel has one publisher, which sends its next publication when the one before was answered and every
//! subscriber of the channel has received it.

use std::time::Duration;

use clap::Args;

use crate::crowd::{self, TURN};
use crate::drive::{ANSWER, DELIVERY};
use crate::engine::{Closed, Engine, Event, Peer, Publish, Session, Subscription};
use crate::failure::Failure;
use crate::floor::{self, Floor, FloorOptions};
use crate::histogram::Latency;
use crate::lanes::Lanes;
use crate::ledger::{Ledger, Tally};
use crate::measure::{Meter, micros_each};
use crate::options::Common;
use crate::payload::{PUBLISHERS_MAX, Stamp};
use crate::problems::Problems;
use crate::report::Report;
use crate::rounds::{Length, Opening, Rounds, Window, WindowOptions, Windows, linger};
use crate::sequence::Sequence;
use crate::spread::Spread;
use crate::telling;
use crate::token::Tokens;
use crate::watch::Watch;

/// Publications of each channel before the first window.
const WARM_UP_PUBLICATIONS: u64 = 100;

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
    /// Start of the channels' names; the number of the channel follows.
    #[arg(long, default_value = "bench-")]
    channel_prefix: String,
    #[command(flatten)]
    pub windows: WindowOptions,
    #[command(flatten)]
    floor: FloorOptions,
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let mut run = start(common, options)?;
    let mut floor = options.floor.floor.then(|| run.start_floor(common, options)).transpose()?;
    let mut floors = Vec::new();
    let windows = Windows::of(&mut run, common, options.windows.windows, |window| {
        if let Some(floor) = &mut floor {
            floors.push(floor.window(window.publications.div_ceil(options.channels), 1)?);
        }
        Ok(())
    })?;
    Ok(report(&run, options, &windows, &floors))
}

/// Connects everybody and warms up.
pub fn start(common: &Common, options: &Options) -> Result<Run, Failure> {
    let mut run = Run::connect(common, options)?;
    run.window_of(Length::Publications(WARM_UP_PUBLICATIONS))?;
    if run.books.broken {
        let problems = &run.books.problems;
        return Err(Failure::Refused { problems: problems.count(), first: problems.to_string() });
    }
    Ok(run)
}

/// A run: connections, publishers and the accounts.
pub struct Run {
    engine: Engine,
    meter: Meter,
    length: Length,
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
    problems: Problems,
    broken: bool,
}

/// A client's part in a channel.
#[derive(Clone, Copy, Default)]
struct Member {
    channel: usize,
    subscribes: bool,
}

impl Rounds for Run {
    fn unit(&self) -> (&'static str, &'static str) {
        ("publication", "publications")
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

    /// Waits for strays and closes the accounts.
    fn finish(&mut self) -> Result<(), Failure> {
        linger(self, Self::turn)?;
        let Books { ledger, lanes, members, .. } = &mut self.books;
        for (client, member) in members.iter().enumerate().filter(|(_, member)| member.subscribes) {
            ledger.close(client, std::iter::once(lanes.unsent(member.channel)));
        }
        Ok(())
    }

    fn tally(&self) -> Tally {
        self.books.ledger.tally()
    }

    fn problems(&self) -> &Problems {
        &self.books.problems
    }
}

impl Run {
    fn connect(common: &Common, options: &Options) -> Result<Self, Failure> {
        let endpoint = common.endpoint()?;
        let session = Session::new(common)?;
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
        let clients = crowd::gather(&mut engine, &Peer::new(&endpoint, common)?, channels * each, login)?;
        let mut members = vec![Member::default(); clients.iter().max().map_or(0, |last| last + 1)];
        let mut ledger = Ledger::new(1, common.patience);
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
            length: options.windows.length(common),
            publishers: (0..channels).map(publisher).collect(),
            subscribers_each: u64::from(options.subscribers),
            books: Books {
                ledger,
                lanes: Lanes::new(channels, 1, 0),
                members,
                sent_ns: vec![0; channels],
                latency: Latency::new(),
                answer_latency: Latency::new(),
                problems: Problems::default(),
                broken: false,
            },
        })
    }

    fn start_floor(&self, common: &Common, options: &Options) -> Result<Floor, Failure> {
        let sockets = self.publishers.len() * self.subscribers_each as usize;
        Floor::start(common, sockets, &options.channel_prefix, options.floor.core(&self.meter))
    }

    /// Publishes for `length` and waits until all has arrived, or nothing more does.
    fn window_of(&mut self, length: Length) -> Result<Window, Failure> {
        let opening = Opening::new(&self.meter, &self.engine)?;
        let delivered = self.tally().delivered;
        let publications = self.publish(length)?;
        let publishing = opening.elapsed();
        let latencies = [(DELIVERY, &mut self.books.latency), (ANSWER, &mut self.books.answer_latency)];
        let latencies = latencies.map(|(kind, latency)| (kind, std::mem::take(latency))).into();
        let deliveries = self.tally().delivered - delivered;
        let window = opening.close(&self.meter, &self.engine)?;
        Ok(Window { units: publications, publications, deliveries, publishing, latencies, ..window })
    }

    fn publish(&mut self, length: Length) -> Result<u64, Failure> {
        let started_ns = self.engine.now_ns();
        let mut published = vec![0; self.publishers.len()];
        let mut watch = Watch::new(&self.engine);
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
            if watch.is_over(&self.engine, total + self.tally().delivered) {
                self.books.problems.note(format!("no progress for {:?}", self.engine.patience()));
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

    fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        let Self { engine, books, .. } = self;
        engine.turn(timeout, &mut |event| books.handle(event)).map_err(Failure::system("waiting for events"))?;
        let now_ns = engine.now_ns();
        engine.live().show(now_ns, books.ledger.tally().delivered, "deliveries", Some(&books.latency));
        Ok(())
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
                    self.problems.note(reason);
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
        self.ledger.observe(client, Stamp { publisher: 0, ..stamp }, at_ns);
        self.lanes.handle_delivery(member.channel);
        self.latency.record_ns(at_ns.saturating_sub(stamp.sent_ns));
    }
}

fn report(run: &Run, options: &Options, windows: &Windows, floors: &[floor::Window]) -> Report {
    let mut report = Report::new("publish");
    report.count("channels", "channels", options.channels);
    report.count("subscribers", "subscribers of each", run.subscribers_each);
    let cost = ("server_cpu_per_publication_us", "server CPU per publication");
    telling::windows(&mut report, windows, run.meter.server.is_some(), cost);
    telling::deliveries(&mut report, windows);
    report.latency("latency", "delivery latency", windows.latency(DELIVERY));
    report.latency("answer_latency", "from sent to answered", windows.latency(ANSWER));
    report_floor(&mut report, run, windows, floors);
    telling::accounts(&mut report, run);
    telling::warnings(&mut report, windows);
    report
}

/// The floor of a publication is the writes to its subscribers; reading and answering it are the server's.
fn report_floor(report: &mut Report, run: &Run, windows: &Windows, floors: &[floor::Window]) {
    let of_publication = |f: &floor::Window| micros_each(f.used.server, f.deliveries) * run.subscribers_each as f64;
    let each = floors.iter().map(of_publication);
    report.spread("floor_cpu_per_publication_us", "floor: CPU of the writes alone", Spread::of(each), "µs");
    if run.meter.server.is_some() {
        let ratios = windows.list.iter().zip(floors).map(|(w, f)| w.cost_us() / of_publication(f));
        report.spread("floor_ratio", "server / floor", Spread::of(ratios), "");
    }
}
