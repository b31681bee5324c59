//! Windows of a fan-out: publish for a while, wait until everything has arrived, tell what it cost.

use std::time::Duration;

use crate::crowd::{PATIENCE, TURN};
use crate::engine::{Closed, Engine, Event};
use crate::failure::Failure;
use crate::fanout::churn::Churn;
use crate::lanes::Lanes;
use crate::latency::{Latency, Percentiles};
use crate::ledger::{Ledger, Tally};
use crate::measure::{Meter, Used};
use crate::payload::Stamp;
use crate::sequence::Sequence;

/// Reasons that are kept; all are counted.
const REASONS_MAX: usize = 5;

/// What is under way when a run breaks has this long to arrive.
const PATIENCE_BROKEN: Duration = Duration::from_secs(1);

/// After the last window stray duplicates have this long to show up.
const LINGER: Duration = Duration::from_millis(200);

/// When a window ends.
#[derive(Clone, Copy)]
pub enum Length {
    Publications(u64),
    Time(Duration),
}

/// What a window cost.
pub struct Window {
    pub publications: u64,
    pub deliveries: u64,
    pub reads: u64,
    pub frames: u64,
    pub used: Used,
    /// Time from the first publication to the last; the rest of the window waits for deliveries.
    pub publishing: Duration,
}

impl Window {
    /// Publications that a read of a subscriber brought, rounded, at least 1: about what the server joined in a write, or
    /// more where this tool was the slower one.
    pub fn deliveries_per_read(&self) -> u64 {
        ((self.deliveries as f64 / self.reads.max(1) as f64).round() as u64).max(1)
    }
}

/// A run: connections, publishers and the accounts.
pub struct Run {
    engine: Engine,
    pub meter: Meter,
    /// Publications per second of an open loop.
    rate: Option<u64>,
    books: Books,
}

/// What events change.
struct Books {
    ledger: Ledger,
    lanes: Lanes,
    churn: Churn,
    latency: Latency,
    late_start: Latency,
    /// By client index.
    roles: Vec<Role>,
    stayers: Vec<usize>,
    problems: u64,
    reasons: Vec<String>,
    broken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Gone,
    Stays,
    Churns,
}

impl Run {
    /// With subscribers that are ready and lanes whose publishers are opened.
    pub fn new(
        engine: Engine,
        meter: Meter,
        subscribers: Vec<usize>,
        lanes: Lanes,
        rate: Option<u64>,
        churn: Churn,
    ) -> Self {
        let mut books = Books {
            ledger: Ledger::new(lanes.count()),
            lanes,
            churn,
            latency: Latency::new(),
            late_start: Latency::new(),
            roles: Vec::new(),
            stayers: subscribers,
            problems: 0,
            reasons: Vec::new(),
            broken: false,
        };
        for client in books.stayers.clone() {
            set_role(&mut books.roles, client, Role::Stays);
            books.ledger.open(client, |_| Sequence::starting_at(0));
        }
        Self { engine, meter, rate, books }
    }

    /// Publishes for `length` and waits until all has arrived, or nothing more does.
    pub fn window(&mut self, length: Length) -> Result<Window, Failure> {
        let before = self.meter.read()?;
        let received = self.engine.received();
        let delivered = self.books.ledger.tally().delivered;
        self.books.churn.start(self.engine.now_ns());
        let publications = match self.rate {
            None => self.publish_in_turn(length)?,
            Some(rate) => self.publish_on_schedule(length, rate)?,
        };
        let publishing = before.elapsed();
        self.settle()?;
        let received_now = self.engine.received();
        Ok(Window {
            publications,
            deliveries: self.books.ledger.tally().delivered - delivered,
            reads: received_now.reads - received.reads,
            frames: received_now.frames - received.frames,
            used: self.meter.used_since(before)?,
            publishing,
        })
    }

    /// Drops what was recorded so far: it was warm-up.
    pub fn forget_latencies(&mut self) {
        self.books.latency = Latency::new();
        self.books.late_start = Latency::new();
    }

    /// Lets the last ones leave, waits for strays and closes the accounts.
    pub fn finish(&mut self) -> Result<(), Failure> {
        let end_ns = self.engine.now_ns() + LINGER.as_nanos() as u64;
        while self.engine.now_ns() < end_ns {
            self.turn(LINGER)?;
        }
        let Books { ledger, lanes, stayers, .. } = &mut self.books;
        for client in stayers.iter() {
            ledger.close(*client, lanes.sent());
        }
        ledger.compare_orders(stayers.iter().copied());
        Ok(())
    }

    /// Whether going on would tell nothing new.
    pub fn is_broken(&self) -> bool {
        self.books.broken
    }

    /// From due to received.
    pub fn latencies(&self) -> Percentiles {
        self.books.latency.percentiles()
    }

    /// How late an open loop sent its requests: over its schedule the tool or the API connections are the bottleneck.
    pub fn late_starts(&self) -> Percentiles {
        self.books.late_start.percentiles()
    }

    /// The accounts.
    pub fn tally(&self) -> Tally {
        self.books.ledger.tally()
    }

    /// Clients that came and went.
    pub fn churned(&self) -> u64 {
        self.books.churn.left()
    }

    /// How many connections and requests failed, and the first few reasons.
    pub fn problems(&self) -> (u64, &[String]) {
        (self.books.problems, &self.books.reasons)
    }

    fn publish_in_turn(&mut self, length: Length) -> Result<u64, Failure> {
        let started_ns = self.engine.now_ns();
        let mut published = 0;
        let mut watch = Watch::new(started_ns);
        loop {
            let now_ns = self.engine.now_ns();
            let over = match length {
                Length::Publications(count) => published >= count,
                Length::Time(time) => now_ns - started_ns >= time.as_nanos() as u64,
            };
            if over || self.books.broken {
                return Ok(published);
            }
            for lane in 0..self.books.lanes.count() {
                if self.books.lanes.is_free(lane) {
                    published += self.publish(lane, now_ns)?;
                    watch = Watch::new(now_ns);
                }
            }
            if watch.is_over(now_ns) {
                self.books.give_up("publishing");
            }
            self.let_come()?;
            self.turn(TURN)?;
        }
    }

    fn publish_on_schedule(&mut self, length: Length, rate: u64) -> Result<u64, Failure> {
        let started_ns = self.engine.now_ns();
        let batch = u64::from(self.books.lanes.batch());
        let requests = match length {
            Length::Publications(count) => count.div_ceil(batch),
            Length::Time(time) => (time.as_secs_f64() * rate as f64) as u64 / batch,
        };
        let due_ns =
            |request: u64| started_ns + (u128::from(request * batch) * 1_000_000_000 / u128::from(rate)) as u64;
        let mut watch = Watch::new(started_ns);
        let mut request = 0;
        while request < requests && !self.books.broken {
            let now_ns = self.engine.now_ns();
            for lane in 0..self.books.lanes.count() {
                if request < requests && due_ns(request) <= now_ns && self.books.lanes.is_answered(lane) {
                    self.books.late_start.record_ns(now_ns - due_ns(request));
                    self.publish(lane, due_ns(request))?;
                    request += 1;
                    watch = Watch::new(now_ns);
                }
            }
            if watch.is_over(now_ns) && due_ns(request) < now_ns {
                self.books.give_up("publishing");
            }
            self.let_come()?;
            // Late already means that all API connections are busy: their answers end the turn.
            if let Some(left_ns) = due_ns(request).checked_sub(self.engine.now_ns()) {
                self.engine.wake_in(Duration::from_nanos(left_ns)).map_err(Failure::system("setting a timer"))?;
            }
            self.turn(TURN)?;
        }
        Ok(request * batch)
    }

    fn publish(&mut self, lane: usize, sent_ns: u64) -> Result<u64, Failure> {
        let receivers = self.books.stayers.len() as u64;
        let first = self.books.lanes.start(lane, receivers);
        let stamp = |index: usize| Stamp { publisher: lane as u16, sequence: first + index as u32, sent_ns };
        self.engine.publish(lane, stamp).map_err(Failure::Api)?;
        Ok(u64::from(self.books.lanes.batch()))
    }

    /// Waits until all publications are answered and received and the comers and goers have gone.
    fn settle(&mut self) -> Result<(), Failure> {
        let mut progress_ns = self.engine.now_ns();
        let mut delivered = 0;
        while !(self.books.lanes.are_quiet() && self.books.churn.is_empty()) {
            self.turn(TURN)?;
            let now_ns = self.engine.now_ns();
            let delivered_now = self.books.ledger.tally().delivered;
            let silent = Duration::from_nanos(now_ns - progress_ns);
            if delivered_now != delivered {
                delivered = delivered_now;
                progress_ns = now_ns;
            } else if self.books.broken && silent > PATIENCE_BROKEN {
                break;
            } else if silent > PATIENCE {
                self.books.give_up("waiting for deliveries");
                break;
            }
        }
        Ok(())
    }

    /// Opens the connections of comers that are due.
    fn let_come(&mut self) -> Result<(), Failure> {
        let Books { churn, roles, .. } = &mut self.books;
        churn.open_due(&mut self.engine, |client| {
            set_role(roles, client, Role::Churns);
        })
    }

    fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        let Self { engine, books, .. } = self;
        let mut timeout = timeout;
        if books.churn.is_active() {
            timeout = timeout.min(Duration::from_millis(2));
            books.churn.let_go(engine, &books.lanes, &mut books.ledger);
        }
        let mut ready = Vec::new();
        engine
            .turn(timeout, &mut |event| books.handle(event, &mut ready))
            .map_err(Failure::system("waiting for events"))?;
        let now_ns = engine.now_ns();
        for client in ready {
            books.churn.handle_ready(client, now_ns);
        }
        Ok(())
    }
}

impl Books {
    fn handle(&mut self, event: Event, ready: &mut Vec<usize>) {
        match event {
            Event::Delivery { client, stamp, at_ns } => {
                self.ledger.observe(client, stamp);
                self.latency.record_ns(at_ns.saturating_sub(stamp.sent_ns));
                if self.roles[client] == Role::Stays {
                    self.lanes.handle_delivery(usize::from(stamp.publisher));
                }
            }
            Event::Answered { publisher } => self.lanes.handle_answer(publisher),
            Event::Ready { client } => {
                let lanes = &self.lanes;
                self.ledger.open(client, |lane| Sequence::joining(lanes.unsent(lane)));
                ready.push(client);
            }
            Event::Corrupt => self.ledger.observe_corrupt(),
            Event::Closed { client, why } => self.handle_closed(client, &why),
            Event::Failed { reason } => {
                self.note(reason);
                self.broken = true;
            }
            Event::Ping | Event::Subscribed { .. } | Event::Published { .. } => {}
        }
    }

    fn handle_closed(&mut self, client: usize, why: &Closed) {
        let role = std::mem::replace(&mut self.roles[client], Role::Gone);
        if let Closed::Cut(reason) = why {
            self.note(reason.clone());
            match role {
                Role::Stays => self.broken = true,
                Role::Churns => self.churn.handle_cut(client),
                Role::Gone => {}
            }
        }
    }

    fn give_up(&mut self, doing: &str) {
        self.note(format!("no progress for {PATIENCE:?} while {doing}"));
        self.broken = true;
    }

    fn note(&mut self, reason: String) {
        self.problems += 1;
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

fn set_role(roles: &mut Vec<Role>, client: usize, role: Role) {
    if roles.len() <= client {
        roles.resize(client + 1, Role::Gone);
    }
    roles[client] = role;
}

/// Notices when nothing has happened for too long.
struct Watch {
    until_ns: u64,
}

impl Watch {
    fn new(now_ns: u64) -> Self {
        Self { until_ns: now_ns + PATIENCE.as_nanos() as u64 }
    }

    fn is_over(&self, now_ns: u64) -> bool {
        now_ns > self.until_ns
    }
}
