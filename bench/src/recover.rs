//! Scenario `recover`: clients subscribe, drop, miss publications and come back for them, all with the same position, as after
//! an outage. What a recovered message costs the server beyond a plain subscribe of the same clients.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;

use crate::crowd::{self, TURN};
use crate::endpoint::Endpoint;
use crate::engine::{Answer, Batch, Engine, Event, Item, Peer, Position, Recovered, Session, Subscription, Target};
use crate::failure::Failure;
use crate::floor::{Floor, FloorOptions};
use crate::ledger::{Ledger, Tally};
use crate::measure::{Meter, Used, micros_each};
use crate::options::Common;
use crate::payload::Stamp;
use crate::problems::Problems;
use crate::report::Report;
use crate::rounds::{Opening, Rounds, Window, Windows};
use crate::sequence::Sequence;
use crate::spread::Spread;
use crate::telling;
use crate::token::Tokens;

/// Clients of the round before the first window, which warms caches, allocators and branch predictors.
const WARM_UP_CLIENTS: u32 = 500;

/// Options of this scenario.
#[derive(Args)]
pub struct Options {
    /// Clients that come back.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    clients: u32,
    /// Publications that each has missed; the channel must keep as many, and the server must let as many be recovered.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    missed: u32,
    /// Channel of all clients; it needs a history.
    #[arg(long, default_value = "bench")]
    channel: String,
    /// Windows, each with a figure of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub windows: u32,
    #[command(flatten)]
    floor: FloorOptions,
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let mut run = start(common, options)?;
    let mut floor = options.floor.floor.then(|| run.start_floor(common)).transpose()?;
    let mut floors = Vec::new();
    let windows = Windows::of(&mut run, common, options.windows, |_| {
        if let Some(floor) = &mut floor {
            floors.push(FloorWindow::measure(floor, options.missed)?);
        }
        Ok(())
    })?;
    Ok(report(&run, &windows, &floors))
}

/// Opens what is needed and lets some clients come back to warm up.
pub fn start<'a>(common: &Common, options: &'a Options) -> Result<Run<'a>, Failure> {
    let mut run = Run::open(common, options)?;
    run.come_and_come_back(options.clients.min(WARM_UP_CLIENTS))?;
    Ok(run)
}

/// A run: what it is made of, and the accounts.
pub struct Run<'a> {
    engine: Engine,
    peer: Peer,
    session: Session,
    tokens: Tokens,
    meter: Meter,
    options: &'a Options,
    /// Publications so far.
    published: u32,
    books: Books,
    /// Of each window.
    costs: Vec<Cost>,
}

impl Rounds for Run<'_> {
    fn unit(&self) -> (&'static str, &'static str) {
        ("recovered message", "recovered messages")
    }

    /// The cost of a window is what recovering cost beyond the plain subscribe.
    fn window(&mut self) -> Result<Window, Failure> {
        let opening = Opening::new(&self.meter, &self.engine)?;
        let delivered = self.tally().delivered;
        let cost = self.come_and_come_back(self.options.clients)?;
        let window = opening.close(&self.meter, &self.engine)?;
        let server = cost.recovering.server.saturating_sub(cost.plain.server);
        let used = Used { server, ..cost.recovering };
        self.costs.push(cost);
        let units = u64::from(self.options.clients) * u64::from(self.options.missed);
        Ok(Window { units, deliveries: self.tally().delivered - delivered, used, own_idle: Duration::ZERO, ..window })
    }

    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn is_broken(&self) -> bool {
        !self.books.is_clean()
    }

    fn finish(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn tally(&self) -> Tally {
        self.books.tally()
    }

    fn problems(&self) -> &Problems {
        &self.books.unrecovered
    }
}

/// What came back, compared with what was missed.
struct Books {
    ledger: Ledger,
    /// Answers that said that something is missing.
    unrecovered: Problems,
    /// Recovered publications whose offset is not the one after that before.
    misplaced: u64,
}

/// What a window cost: the clients on their way in, without and with something to recover.
struct Cost {
    plain: Used,
    recovering: Used,
}

impl<'a> Run<'a> {
    fn open(common: &Common, options: &'a Options) -> Result<Self, Failure> {
        let endpoint = common.endpoint()?;
        let api = Endpoint::resolve(&common.api, "http")?;
        let session = Session::new(common)?;
        let mut engine = Engine::new(session.clone(), common).map_err(Failure::system("starting the loop"))?;
        let batch = Batch::new(&api, &common.api_key, Target::Channel(&options.channel), common.payload, 1);
        engine.open_publisher(&Peer::new(&api, common)?, batch).map_err(Failure::dialing)?;
        Ok(Self {
            engine,
            peer: Peer::new(&endpoint, common)?,
            session,
            tokens: Tokens::new(common.token_secret.as_deref()),
            meter: Meter::new(common)?,
            options,
            published: 0,
            books: Books { ledger: Ledger::new(1, common.patience), unrecovered: Problems::default(), misplaced: 0 },
            costs: Vec::new(),
        })
    }

    fn start_floor(&self, common: &Common) -> Result<Floor, Failure> {
        let core = self.options.floor.core(&self.meter);
        Floor::start(common, self.options.clients as usize, &self.options.channel, core)
    }

    /// Lets clients in, sends them away, publishes, and lets them in again. Closing and publishing are not measured.
    fn come_and_come_back(&mut self, clients: u32) -> Result<Cost, Failure> {
        let (plain, answers) = self.let_in(clients, &[])?;
        let positions: Vec<Position> = answers.iter().map(|answer| answer.position.clone()).collect();
        let missed_from = self.published;
        self.publish_missed()?;
        let (recovering, answers) = self.let_in(clients, &positions)?;
        for (client, answer) in answers.iter().enumerate() {
            self.books.check(client, answer, &positions[client], missed_from..self.published);
        }
        Ok(Cost { plain, recovering })
    }

    /// What letting clients in cost, and what each was answered. Without positions they ask for nothing that they missed.
    fn let_in(&mut self, clients: u32, since: &[Position]) -> Result<(Used, Vec<Rc<Answer>>), Failure> {
        let Self { engine, peer, session, tokens, meter, options, .. } = self;
        let login = |client: usize| {
            let subscription = Subscription { channel: &options.channel, recoverable: true, since: since.get(client) };
            Some(session.login(&tokens.of(client), Some(subscription)))
        };
        // By the index of the connection; those of one round count up from 0, for all others are gone.
        let mut answers = vec![None; clients as usize];
        let before = meter.read()?;
        let opened = crowd::gather_and_tell(engine, peer, clients as usize, login, |event| {
            if let Event::Subscribed { client, answer } = event {
                answers[client] = Some(answer);
            }
        })?;
        let used = meter.used_since(before)?;
        let answers = opened.iter().map(|client| answers[*client].take().expect("a client that is in was answered"));
        let answers = answers.collect();
        crowd::dismiss(engine, opened)?;
        Ok((used, answers))
    }

    /// Publishes what the clients miss, each when the one before was answered.
    fn publish_missed(&mut self) -> Result<(), Failure> {
        for _ in 0..self.options.missed {
            let (sequence, sent_ns) = (self.published, self.engine.now_ns());
            let stamp = Stamp { publisher: 0, sequence, sent_ns };
            self.engine.publish(0, |_| Item { stamp, channel: 0 }).map_err(Failure::Api)?;
            self.published += 1;
            let mut answered = None;
            while answered.is_none() {
                let turned = self.engine.turn(TURN, &mut |event| match event {
                    Event::Answered { .. } => answered = Some(Ok(())),
                    Event::Failed { reason } => answered = Some(Err(reason)),
                    _ => {}
                });
                turned.map_err(Failure::system("waiting for the API"))?;
                if answered.is_none() && self.engine.now_ns() - sent_ns > self.engine.patience().as_nanos() as u64 {
                    return Err(Failure::Stalled { waiting_for: "publishing".to_owned() });
                }
            }
            answered.transpose().map_err(Failure::Api)?;
        }
        Ok(())
    }
}

impl Books {
    /// Enters what a client got that had missed the numbers `missed`.
    fn check(&mut self, client: usize, answer: &Answer, since: &Position, missed: Range<u32>) {
        if !answer.recovered {
            self.unrecovered.note("the server said that something is missing".to_owned());
        }
        self.ledger.open(client, |_| Sequence::starting_at(missed.start));
        for (Recovered { offset, stamp }, want) in answer.publications.iter().zip(since.offset + 1..) {
            match stamp {
                Some(stamp) => self.ledger.observe(client, *stamp, stamp.sent_ns),
                None => self.ledger.observe_corrupt(),
            }
            self.misplaced += u64::from(*offset != want);
        }
        self.ledger.close(client, std::iter::once(missed.end));
    }

    /// The accounts; a publication with a wrong offset is one in a wrong place.
    fn tally(&self) -> Tally {
        let mut tally = self.ledger.tally();
        tally.reordered += self.misplaced;
        tally
    }

    fn is_clean(&self) -> bool {
        self.tally().is_clean() && self.unrecovered.count() == 0
    }
}

/// What the kernel asks for the same bytes: the missed publications in one write to each socket, and a single one.
struct FloorWindow {
    joined: Used,
    single: Used,
}

impl FloorWindow {
    fn measure(floor: &mut Floor, missed: u32) -> Result<Self, Failure> {
        let joined = floor.window(u64::from(missed), missed as usize)?.used;
        let single = floor.window(1, 1)?.used;
        Ok(Self { joined, single })
    }
}

/// Microseconds of the server for each message of `count`, beyond what was used without them.
fn beyond(with: &Used, without: &Used, count: u64) -> f64 {
    micros_each(with.server, count) - micros_each(without.server, count)
}

fn report(run: &Run<'_>, windows: &Windows, floors: &[FloorWindow]) -> Report {
    let (clients, missed) = (u64::from(run.options.clients), u64::from(run.options.missed));
    let with_server = run.meter.server.is_some();
    let mut report = Report::new("recover");
    report.count("clients", "clients", clients);
    report.count("missed", "messages that each missed", missed);
    if with_server {
        let plain = run.costs.iter().map(|cost| micros_each(cost.plain.server, clients));
        report.spread("plain_cpu_per_client_us", "server CPU per client, plain subscribe", Spread::of(plain), "µs");
        let recovering = run.costs.iter().map(|cost| micros_each(cost.recovering.server, clients));
        report.spread("recover_cpu_per_client_us", "server CPU per client, recovering", Spread::of(recovering), "µs");
    }
    let cost = ("cpu_per_message_us", "server CPU per recovered message, beyond");
    telling::windows(&mut report, windows, with_server, cost);
    let floor = floors.iter().map(|f| beyond(&f.joined, &f.single, clients * missed));
    report.spread("floor_cpu_per_message_us", "floor: CPU per message in a write, beyond", Spread::of(floor), "µs");
    telling::accounts(&mut report, run);
    telling::warnings(&mut report, windows);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enters an answer (offset and sequence of each publication) to a client that missed the numbers 4, 5 and 6 at offset 10.
    #[track_caller]
    fn check(recovered: bool, publications: &[(u64, Option<u32>)], want: Tally, clean: bool) {
        let publication = |(offset, sequence): &(u64, Option<u32>)| Recovered {
            offset: *offset,
            stamp: sequence.map(|sequence| Stamp { publisher: 0, sequence, sent_ns: 0 }),
        };
        let publications = publications.iter().map(publication).collect();
        let answer = Answer { position: Position::default(), recovered, publications };
        let mut books =
            Books { ledger: Ledger::new(1, Duration::ZERO), unrecovered: Problems::default(), misplaced: 0 };
        books.check(0, &answer, &Position { offset: 10, epoch: String::new() }, 4..7);
        assert_eq!((books.tally(), books.is_clean()), (want, clean));
    }

    fn delivered(delivered: u64) -> Tally {
        Tally { delivered, ..Tally::default() }
    }

    #[test]
    fn exactly_what_was_missed_in_order_is_clean() {
        check(true, &[(11, Some(4)), (12, Some(5)), (13, Some(6))], delivered(3), true);
    }

    #[test]
    fn everything_else_is_told() {
        let all = [(11, Some(4)), (12, Some(5)), (13, Some(6))];
        check(false, &all, delivered(3), false);
        check(true, &all[..2], Tally { lost: 1, ..delivered(2) }, false);
        check(true, &[], Tally { lost: 3, ..delivered(0) }, false);
        check(true, &[all[0], all[2]], Tally { lost: 1, reordered: 1, ..delivered(2) }, false);
        check(
            true,
            &[all[0], all[1], (12, Some(5)), (14, Some(6))],
            Tally { duplicated: 1, reordered: 1, ..delivered(4) },
            false,
        );
        check(true, &[all[0], (12, Some(6)), (13, Some(5))], Tally { reordered: 1, ..delivered(3) }, false);
        check(true, &[all[0], (12, None), all[2]], Tally { corrupted: 1, lost: 1, ..delivered(2) }, false);
        check(
            true,
            &[(10, Some(3)), (11, Some(4)), (12, Some(5)), (13, Some(6))],
            Tally { duplicated: 1, reordered: 4, ..delivered(4) },
            false,
        );
    }
}
