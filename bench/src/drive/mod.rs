//! Publishes over HTTP and receives over WebSocket, window by window: what `fanout`, `api`, `channels` and `latency` have in common.
//!
//! Closed loop by default: a lane makes its next request when the one before was answered and received. With a rate it is an open
//! loop on a fixed schedule, and latencies count from the time a request was due.

mod audience;
mod books;
mod churn;
mod plan;
mod schedule;

use std::time::Duration;

use crate::crowd::TURN;
use crate::engine::{Engine, Item};
use crate::failure::Failure;
use crate::ledger::Tally;
use crate::measure::Meter;
use crate::payload::Stamp;
use crate::problems::Problems;
use crate::rounds::{LINGER_BROKEN, Length, Opening, Rounds, Window, linger};
use crate::watch::Watch;
pub use audience::{Audience, Own};
pub use books::{ANSWER, DELIVERY, LATE_START};
use books::{Books, Latencies, Role};
pub use plan::Plan;
pub use schedule::Schedule;

/// What the cost of a window is told for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Delivery,
    Publication,
}

/// A run: connections, publishers and the accounts.
pub struct Run {
    pub engine: Engine,
    pub meter: Meter,
    length: Length,
    /// Publications per second of an open loop.
    rate: Option<u64>,
    unit: Unit,
    books: Books,
}

impl Rounds for Run {
    fn unit(&self) -> (&'static str, &'static str) {
        match self.unit {
            Unit::Delivery => ("delivery", "deliveries"),
            Unit::Publication => ("publication", "publications"),
        }
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
        linger(self, Self::turn)?;
        self.books.close();
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
    /// Publishes for `length` and waits until all has arrived, or nothing more does.
    pub fn window_of(&mut self, length: Length) -> Result<Window, Failure> {
        let opening = Opening::new(&self.meter, &self.engine)?;
        let delivered = self.tally().delivered;
        self.books.churn.start(self.engine.now_ns());
        let schedule = self.publish_all(length)?;
        let publishing = opening.elapsed();
        self.settle()?;
        let window = opening.close(&self.meter, &self.engine)?;
        let deliveries = self.tally().delivered - delivered;
        let latencies = std::mem::take(&mut self.books.latencies);
        let mut latencies =
            vec![(DELIVERY, latencies.delivery), (ANSWER, latencies.answer), (LATE_START, latencies.late_start)];
        if self.books.stayers.is_empty() {
            latencies.remove(0);
        }
        Ok(Window {
            units: if self.unit == Unit::Delivery { deliveries } else { schedule.published() },
            requests: schedule.made(),
            publications: schedule.published(),
            deliveries,
            publishing,
            latencies,
            ..window
        })
    }

    /// Clients that came and went.
    pub fn churned(&self) -> u64 {
        self.books.churn.left()
    }

    fn publish_all(&mut self, length: Length) -> Result<Schedule, Failure> {
        let mut schedule = Schedule::new(self.engine.now_ns(), length, self.books.lanes.batch(), self.rate);
        let mut watch = Watch::new(&self.engine);
        while !schedule.is_over(self.engine.now_ns()) && !self.books.broken {
            self.publish_due(&mut schedule)?;
            self.let_come()?;
            let until_due = schedule.until_due(self.engine.now_ns());
            if let Some(left) = until_due {
                self.engine.wake_in(left).map_err(Failure::system("setting a timer"))?;
            }
            self.turn(TURN)?;
            let waits_for_lanes = until_due.is_none();
            if watch.is_over(&self.engine, schedule.made()) && waits_for_lanes {
                self.give_up("publishing");
            }
        }
        Ok(schedule)
    }

    /// Has the free lanes make the requests that are due.
    fn publish_due(&mut self, schedule: &mut Schedule) -> Result<(), Failure> {
        let now_ns = self.engine.now_ns();
        let open = self.rate.is_some();
        for lane in 0..self.books.lanes.count() {
            let Some(due_ns) = schedule.due(now_ns) else {
                return Ok(());
            };
            let lanes = &self.books.lanes;
            if if open { lanes.is_answered(lane) } else { lanes.is_free(lane) } {
                if open {
                    self.books.latencies.late_start.record_ns(now_ns - due_ns);
                }
                self.publish(lane, due_ns)?;
                schedule.advance();
            }
        }
        Ok(())
    }

    fn publish(&mut self, lane: usize, sent_ns: u64) -> Result<(), Failure> {
        let Books { lanes, audience, stayers, due_ns, .. } = &mut self.books;
        let first = lanes.start(lane, audience.receivers(stayers.len()));
        due_ns[lane] = sent_ns;
        let item = |index: usize| {
            let sequence = first + index as u32;
            let channel = audience.channel(lane, sequence);
            Item { stamp: Stamp { publisher: lane as u16, sequence, sent_ns }, channel }
        };
        self.engine.publish(lane, item).map_err(Failure::Api)
    }

    /// Waits until all publications are answered and received and the comers and goers have gone.
    fn settle(&mut self) -> Result<(), Failure> {
        let mut watch = Watch::new(&self.engine);
        while !(self.books.lanes.are_quiet() && self.books.churn.is_empty()) {
            self.turn(TURN)?;
            let silent = watch.silent(&self.engine, self.tally().delivered);
            if self.books.broken && silent > LINGER_BROKEN {
                break;
            }
            if silent > self.engine.patience() {
                self.give_up("waiting for deliveries");
                break;
            }
        }
        Ok(())
    }

    /// Opens the connections of comers that are due.
    fn let_come(&mut self) -> Result<(), Failure> {
        for client in self.books.churn.open_due(&mut self.engine)? {
            self.books.set_role(client, Role::Churns);
        }
        Ok(())
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
        let Latencies { delivery, answer, .. } = &books.latencies;
        if books.stayers.is_empty() {
            engine.live().show(now_ns, books.lanes.answered(), "publications", Some(answer));
        } else {
            engine.live().show(now_ns, books.ledger.tally().delivered, "deliveries", Some(delivery));
        }
        Ok(())
    }

    fn give_up(&mut self, doing: &str) {
        self.books.problems.note(format!("no progress for {:?} while {doing}", self.engine.patience()));
        self.books.broken = true;
    }
}
