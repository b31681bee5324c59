//! Accounts of cuts: channels, clients that are there or away, and what each of them must have received.
//!
//! A channel's publications come from one connection of the API, in the order of their numbers, so that a number tells its offset.

use std::time::Duration;

use crate::comeback::Comeback;
use crate::engine::{Answer, Closed, Event, Position};
use crate::ledger::{Ledger, Tally};
use crate::payload::Stamp;
use crate::problems::Problems;
use crate::sequence::Sequence;

/// A channel.
#[derive(Clone, Default)]
pub struct Channel {
    /// Where its stream stood before the first publication of this run; `None` until a subscriber was told.
    base: Option<Position>,
    /// Number of the next publication.
    pub next: u32,
}

impl Channel {
    /// Where a client stands that has everything below `next`.
    pub fn position(&self, next: u32) -> Position {
        let base = self.base.clone().unwrap_or_default();
        Position { offset: base.offset + u64::from(next), ..base }
    }
}

/// A client.
#[derive(Clone, Copy)]
pub struct Member {
    pub channel: usize,
    pub state: State,
}

/// Where a client is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not yet subscribed; `since` is the place of one that comes back.
    Coming {
        since: Option<u32>,
    },
    Here,
    /// Does not read.
    Stalled,
    /// Reads again. Until it has everything below `end`, it may find that it was given up.
    CatchingUp {
        end: u32,
    },
}

/// Everything that is counted.
pub struct Accounts {
    pub channels: Vec<Channel>,
    /// By client index.
    pub members: Vec<Option<Member>>,
    pub ledger: Ledger,
    pub problems: Problems,
    pub broken: bool,
    pub counts: Counts,
    /// Found that the server has given them up: to which channel they come back, and their place there.
    pub given_up: Vec<(usize, u32)>,
    /// By connection to the API: a request is not yet answered.
    pub busy: Vec<bool>,
    /// Recovered publications whose offset does not fit their number.
    misplaced: u64,
}

/// What was done, beyond the deliveries.
#[derive(Default)]
pub struct Counts {
    pub resets: u64,
    pub ends: u64,
    pub halves: u64,
    pub stalls: u64,
    pub given_up: u64,
    pub came: u64,
    pub came_back: u64,
    pub recovered_messages: u64,
    pub most_missed: u64,
    pub answered: u64,
}

impl Accounts {
    /// Of so many channels and connections to the API.
    pub fn new(channels: usize, connections: usize, patience: Duration) -> Self {
        Self {
            channels: vec![Channel::default(); channels],
            members: Vec::new(),
            ledger: Ledger::new(1, patience),
            problems: Problems::default(),
            broken: false,
            counts: Counts::default(),
            given_up: Vec::new(),
            busy: vec![false; connections],
            misplaced: 0,
        }
    }

    /// The counts of deliveries; a publication with a wrong offset is one in a wrong place.
    pub fn tally(&self) -> Tally {
        let mut tally = self.ledger.tally();
        tally.reordered += self.misplaced;
        tally
    }

    /// A client is on its way to a channel.
    pub fn expect(&mut self, client: usize, channel: usize, since: Option<u32>) {
        if self.members.len() <= client {
            self.members.resize(client + 1, None);
        }
        self.members[client] = Some(Member { channel, state: State::Coming { since } });
    }

    /// A client that did not read goes on.
    pub fn reads_again(&mut self, client: usize, channel: usize) {
        let end = self.channels[channel].next;
        let has_all = self.ledger.is_complete(client, std::iter::once(end));
        let state = if has_all { State::Here } else { State::CatchingUp { end } };
        self.members[client] = Some(Member { channel, state });
    }

    /// Whether all have all, and nothing is under way any more.
    pub fn are_quiet(&self) -> bool {
        let has_all = |(client, member): (usize, &Option<Member>)| match member {
            None => true,
            Some(Member { channel, state: State::Here }) => {
                self.ledger.is_complete(client, std::iter::once(self.channels[*channel].next))
            }
            Some(_) => false,
        };
        !self.busy.contains(&true) && self.given_up.is_empty() && self.members.iter().enumerate().all(has_all)
    }

    /// Counts what those who are there lack.
    pub fn close(&mut self) {
        for (client, member) in self.members.iter().enumerate() {
            if let Some(Member { channel, state: State::Here | State::CatchingUp { .. } }) = member {
                self.ledger.close(client, std::iter::once(self.channels[*channel].next));
            }
        }
    }

    /// Enters what happened.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Delivery { client, stamp, at_ns } => self.handle_delivery(client, stamp, at_ns),
            Event::Corrupt => self.ledger.observe_corrupt(),
            Event::Subscribed { client, answer } => self.handle_subscribed(client, &answer),
            Event::Answered { publisher, .. } => {
                self.busy[publisher] = false;
                self.counts.answered += 1;
            }
            Event::Closed { client, why } => self.handle_closed(client, why),
            Event::Failed { reason } => {
                self.problems.note(reason);
                self.broken = true;
            }
            Event::Ready { .. } | Event::Ping | Event::Published { .. } | Event::Replied { .. } => {}
        }
    }

    fn handle_delivery(&mut self, client: usize, stamp: Stamp, at_ns: u64) {
        match self.members.get_mut(client) {
            Some(Some(member)) if member.channel == usize::from(stamp.publisher) => {
                self.ledger.observe(client, Stamp { publisher: 0, ..stamp }, at_ns);
                if let State::CatchingUp { end } = member.state
                    && self.ledger.is_complete(client, std::iter::once(end))
                {
                    member.state = State::Here;
                }
            }
            _ => self.ledger.observe_corrupt(),
        }
    }

    fn handle_subscribed(&mut self, client: usize, answer: &Answer) {
        let Some(Some(member)) = self.members.get_mut(client) else { return };
        let Member { channel, state: State::Coming { since } } = *member else { return };
        member.state = State::Here;
        // Nothing of this run is published before the first clients are there.
        let base = self.channels[channel].base.get_or_insert_with(|| answer.position.clone()).offset;
        self.ledger.open(client, |_| Sequence::starting_at(since.unwrap_or(0)));
        if since.is_none() {
            self.counts.came += 1;
            return;
        }
        self.counts.came_back += 1;
        let came = Comeback::enter(answer, (client, channel, base), &mut self.ledger, &mut self.problems);
        self.misplaced += came.misplaced;
        self.counts.recovered_messages += came.messages;
        self.counts.most_missed = self.counts.most_missed.max(came.messages);
    }

    /// The server may give up who did not read; nobody else.
    fn handle_closed(&mut self, client: usize, why: Closed) {
        let Some(member) = self.members.get_mut(client).and_then(Option::take) else { return };
        if let State::CatchingUp { .. } = member.state {
            self.counts.given_up += 1;
            self.given_up.push((member.channel, self.ledger.next(client, 0)));
        } else {
            self.problems.note(why.to_string());
            self.broken = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Recovered;
    use std::rc::Rc;

    /// One that had the numbers below 3 at offset 13 comes back and gets these, each with its offset.
    #[track_caller]
    fn check(recovered: bool, publications: &[(u64, u32)], is_clean: bool) {
        let mut accounts = Accounts::new(1, 1, Duration::from_secs(1));
        let epoch = "e".to_owned();
        accounts.channels[0] = Channel { base: Some(Position { offset: 10, epoch }), next: 5 };
        accounts.expect(0, 0, Some(3));
        let stamp = |sequence| Some(Stamp { publisher: 0, sequence, sent_ns: 0 });
        let publication = |&(offset, sequence): &(u64, u32)| Recovered { offset, stamp: stamp(sequence) };
        let publications = publications.iter().map(publication).collect();
        let answer = Answer { position: accounts.channels[0].position(5), recovered, publications };
        accounts.handle(Event::Subscribed { client: 0, answer: Rc::new(answer) });
        accounts.close();
        assert_eq!(accounts.tally().is_clean() && accounts.problems.count() == 0, is_clean);
    }

    #[test]
    fn exactly_what_was_missed_is_clean() {
        check(true, &[(14, 3), (15, 4)], true);
        check(false, &[(14, 3), (15, 4)], false);
        check(true, &[(14, 3)], false);
        check(true, &[(15, 3), (16, 4)], false);
        check(true, &[(13, 2), (14, 3), (15, 4)], false);
        check(true, &[(14, 3), (14, 3), (15, 4)], false);
    }

    #[test]
    fn only_who_did_not_read_may_be_given_up() {
        let mut accounts = Accounts::new(1, 1, Duration::from_secs(1));
        for state in [State::CatchingUp { end: 9 }, State::Here] {
            accounts.ledger.open(0, |_| Sequence::starting_at(7));
            accounts.expect(0, 0, None);
            accounts.members[0] = Some(Member { channel: 0, state });
            accounts.handle(Event::Closed { client: 0, why: Closed::Cut("slow".to_owned()) });
        }
        assert_eq!((&*accounts.given_up, accounts.problems.count()), (&[(0, 7)][..], 1));
        assert!(accounts.broken);
    }
}
