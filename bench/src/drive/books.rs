//! What the events of a run change: accounts, latencies, who is there.

use crate::drive::audience::Audience;
use crate::drive::churn::Churn;
use crate::engine::{Closed, Event};
use crate::histogram::Latency;
use crate::lanes::Lanes;
use crate::ledger::Ledger;
use crate::payload::Stamp;
use crate::problems::Problems;
use crate::sequence::Sequence;

/// Kinds of latencies of a window.
pub const DELIVERY: &str = "delivery";
pub const ANSWER: &str = "answer";
pub const LATE_START: &str = "late_start";

/// Of one run.
pub struct Books {
    pub ledger: Ledger,
    pub lanes: Lanes,
    pub audience: Audience,
    pub churn: Churn,
    pub latencies: Latencies,
    /// When each lane's request under way was due.
    pub due_ns: Vec<u64>,
    /// By client index.
    pub roles: Vec<Role>,
    pub stayers: Vec<usize>,
    pub problems: Problems,
    pub broken: bool,
}

/// Of the window under way.
#[derive(Default)]
pub struct Latencies {
    /// From due to received.
    pub delivery: Latency,
    /// From due to answered.
    pub answer: Latency,
    /// How late an open loop sent its requests.
    pub late_start: Latency,
}

/// What a client is here for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Gone,
    Stays { channel: u32 },
    Churns,
}

impl Books {
    /// Enters what happened; who became ready is told to `ready`.
    pub fn handle(&mut self, event: Event, ready: &mut Vec<usize>) {
        match event {
            Event::Delivery { client, stamp, at_ns } => self.handle_delivery(client, stamp, at_ns),
            Event::Answered { publisher, at_ns } => {
                self.lanes.handle_answer(publisher);
                self.latencies.answer.record_ns(at_ns.saturating_sub(self.due_ns[publisher]));
            }
            Event::Ready { client } => {
                let lanes = &self.lanes;
                self.ledger.open(client, |lane| Sequence::joining(lanes.unsent(lane)));
                ready.push(client);
            }
            Event::Corrupt => self.ledger.observe_corrupt(),
            Event::Closed { client, why } => self.handle_closed(client, &why),
            Event::Failed { reason } => {
                self.problems.note(reason);
                self.broken = true;
            }
            _ => {}
        }
    }

    /// What comes to a subscriber of another channel counts as corrupted.
    fn handle_delivery(&mut self, client: usize, stamp: Stamp, at_ns: u64) {
        let role = self.roles[client];
        let channel = if let Role::Stays { channel } = role { channel } else { 0 };
        let Some(place) = self.audience.place(channel, stamp) else {
            return self.ledger.observe_corrupt();
        };
        self.ledger.observe(client, place, at_ns);
        self.latencies.delivery.record_ns(at_ns.saturating_sub(stamp.sent_ns));
        if role != Role::Churns {
            self.lanes.handle_delivery(usize::from(stamp.publisher));
        }
    }

    fn handle_closed(&mut self, client: usize, why: &Closed) {
        let role = std::mem::replace(&mut self.roles[client], Role::Gone);
        if let Closed::Cut(reason) = why {
            self.problems.note(reason.clone());
            match role {
                Role::Stays { .. } => self.broken = true,
                Role::Churns => self.churn.handle_cut(client),
                Role::Gone => {}
            }
        }
    }

    /// Opens the account of a subscriber that is there from the start.
    pub fn enter(&mut self, client: usize, number: usize) {
        let channel = self.audience.channel_of_subscriber(number);
        self.set_role(client, Role::Stays { channel });
        self.stayers.push(client);
        self.ledger.open(client, |_| Sequence::starting_at(0));
    }

    /// Says what a client is here for.
    pub fn set_role(&mut self, client: usize, role: Role) {
        if self.roles.len() <= client {
            self.roles.resize(client + 1, Role::Gone);
        }
        self.roles[client] = role;
    }

    /// Counts what the subscribers lack, and compares the orders of those who should have the same.
    pub fn close(&mut self) {
        let Self { ledger, lanes, audience, roles, stayers, .. } = self;
        for client in stayers.iter() {
            let channel = if let Role::Stays { channel } = roles[*client] { channel } else { 0 };
            ledger.close(*client, audience.ends(channel, lanes.sent()));
        }
        if *audience == Audience::Shared {
            ledger.compare_orders(stayers.iter().copied());
        }
    }
}
