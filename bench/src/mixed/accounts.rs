//! Accounts of a day: channels with one publication under way each, the clients that are there, on their way in or out, and what each
//! of them must have received.
//!
//! All publications of a channel count through one sequence, and a channel's next one is sent when the one before was answered. So
//! the number of a publication tells its offset, and a position that the server tells is a place in the sequence.

use std::time::Duration;

use ringcast_proto::client::{HistoryResult, ReplyResult};

use crate::comeback::Comeback;
use crate::engine::{Answer, Closed, Event, Position};
use crate::histogram::Latency;
use crate::ledger::{Ledger, Tally};
use crate::payload::{Found, Reader, Stamp};
use crate::problems::Problems;
use crate::sequence::Sequence;

/// Publications that are asked for with a history command.
pub const HISTORY_LIMIT: i32 = 50;

/// A channel.
#[derive(Debug, Clone, Default)]
pub struct Channel {
    /// Where its stream stood before the first publication of this run; `None` until a subscriber was told.
    base: Option<Position>,
    /// Number of the next publication.
    pub next: u32,
    /// A publication is not yet answered.
    pub busy: bool,
    /// Everything below is acknowledged.
    pub acknowledged: u32,
}

impl Channel {
    /// Where a client stands that has everything below `next`.
    pub fn position(&self, next: u32) -> Position {
        let base = self.base.clone().unwrap_or_default();
        Position { offset: base.offset + u64::from(next), ..base }
    }

    fn place(&self, offset: u64) -> Option<u32> {
        u32::try_from(offset.checked_sub(self.base.as_ref()?.offset)?).ok()
    }
}

/// A client.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    pub channel: usize,
    pub state: State,
    /// A command is not yet answered; this was acknowledged in its channel when it was sent.
    pub asked: Option<u32>,
}

impl Member {
    /// Whether it waits to leave.
    pub fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving { .. })
    }
}

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not yet subscribed; `since` is the place of one that comes back.
    Coming {
        since: Option<u32>,
    },
    Here,
    /// Leaves when it has everything below `end`.
    Leaving {
        end: u32,
        give_up_ns: u64,
    },
    /// Said goodbye, or was cut.
    Gone,
}

/// Everything that is counted.
pub struct Accounts {
    pub channels: Vec<Channel>,
    /// By client index.
    pub members: Vec<Option<Member>>,
    pub ledger: Ledger,
    pub latency: Latency,
    pub problems: Problems,
    pub broken: bool,
    pub counts: Counts,
    /// Recovered or remembered publications whose offset does not fit their number.
    misplaced: u64,
    reader: Reader,
    /// By connection to the API: the channels of its request under way.
    pub requests: Vec<Vec<usize>>,
}

/// What was done, beyond the deliveries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub came: u64,
    pub left: u64,
    pub recovered: u64,
    pub recovered_messages: u64,
    pub histories: u64,
    pub presences: u64,
    pub answered: u64,
}

impl Accounts {
    /// Of so many channels and connections to the API.
    pub fn new(channels: usize, connections: usize, payload_bytes: usize, patience: Duration) -> Self {
        Self {
            channels: vec![Channel::default(); channels],
            members: Vec::new(),
            ledger: Ledger::new(1, patience),
            latency: Latency::new(),
            problems: Problems::default(),
            broken: false,
            counts: Counts::default(),
            misplaced: 0,
            reader: Reader::new(payload_bytes),
            requests: vec![Vec::new(); connections],
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
        self.members[client] = Some(Member { channel, state: State::Coming { since }, asked: None });
    }

    /// Whether nothing is under way any more.
    pub fn are_quiet(&self) -> bool {
        let still = |(client, member): (usize, &Option<Member>)| match member {
            None | Some(Member { state: State::Gone, .. }) => true,
            Some(Member { channel, state: State::Here, asked }) => {
                asked.is_none() && self.ledger.is_complete(client, std::iter::once(self.channels[*channel].next))
            }
            Some(_) => false,
        };
        self.channels.iter().all(|channel| !channel.busy) && self.members.iter().enumerate().all(still)
    }

    /// Counts what those who are there lack.
    pub fn close(&mut self) {
        for (client, member) in self.members.iter().enumerate() {
            if let Some(Member { channel, state: State::Here | State::Leaving { .. }, .. }) = member {
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
            Event::Published { client, .. } => {
                if let Some(member) = self.member(client) {
                    member.asked = None;
                    let channel = member.channel;
                    self.acknowledge(channel);
                }
            }
            Event::Answered { publisher, .. } => {
                for channel in std::mem::take(&mut self.requests[publisher]) {
                    self.acknowledge(channel);
                }
            }
            Event::Replied { client, result } => self.handle_replied(client, *result),
            Event::Closed { client, why } => self.handle_closed(client, why),
            Event::Failed { reason } => {
                self.problems.note(reason);
                self.broken = true;
            }
            Event::Ready { .. } | Event::Ping => {}
        }
    }

    fn member(&mut self, client: usize) -> Option<&mut Member> {
        self.members.get_mut(client)?.as_mut()
    }

    fn acknowledge(&mut self, channel: usize) {
        let channel = &mut self.channels[channel];
        channel.busy = false;
        channel.acknowledged = channel.next;
        self.counts.answered += 1;
    }

    /// What comes from another channel counts as corrupted.
    fn handle_delivery(&mut self, client: usize, stamp: Stamp, at_ns: u64) {
        match self.member(client) {
            Some(member) if member.channel == usize::from(stamp.publisher) => {
                self.ledger.observe(client, Stamp { publisher: 0, ..stamp }, at_ns);
                self.latency.record_ns(at_ns.saturating_sub(stamp.sent_ns));
            }
            _ => self.ledger.observe_corrupt(),
        }
    }

    fn handle_subscribed(&mut self, client: usize, answer: &Answer) {
        let Some(Member { channel, state: State::Coming { since }, .. }) = self.members.get(client).copied().flatten()
        else {
            return;
        };
        let Channel { base, next, acknowledged, .. } = &mut self.channels[channel];
        // Nothing of this run is published before the first clients are there.
        let base = base.get_or_insert_with(|| answer.position.clone()).clone();
        let (next, acknowledged) = (*next, *acknowledged);
        let place = match since {
            Some(since) => since,
            None => match self.channels[channel].place(answer.position.offset) {
                Some(place) if place <= next => place,
                _ => {
                    self.misplaced += 1;
                    acknowledged
                }
            },
        };
        self.ledger.open(client, |_| Sequence::starting_at(place));
        if since.is_some() {
            self.enter_recovered(client, channel, &base, answer);
        } else {
            self.counts.came += 1;
        }
        if let Some(member) = self.member(client) {
            member.state = State::Here;
        }
    }

    fn enter_recovered(&mut self, client: usize, channel: usize, base: &Position, answer: &Answer) {
        let came = Comeback::enter(answer, (client, channel, base.offset), &mut self.ledger, &mut self.problems);
        self.misplaced += came.misplaced;
        self.counts.recovered += 1;
        self.counts.recovered_messages += came.messages;
    }

    fn handle_replied(&mut self, client: usize, result: ReplyResult) {
        let Some(member) = self.member(client) else {
            return;
        };
        let channel = member.channel;
        let acknowledged = member.asked.take().unwrap_or_default();
        let told = match result {
            ReplyResult::History(history) => {
                self.counts.histories += 1;
                self.check_history(channel, acknowledged, &history)
            }
            // The client that asks is one of them.
            ReplyResult::Presence(presence) => {
                self.counts.presences += 1;
                if presence.presence.is_empty() { Err("a presence without the client that asked") } else { Ok(()) }
            }
            _ => Err("an answer to another command"),
        };
        if let Err(what) = told {
            self.problems.note(what.to_owned());
        }
    }

    /// A history, newest first, holds what was acknowledged when it was asked for, whole and without holes.
    fn check_history(
        &mut self,
        channel: usize,
        acknowledged: u32,
        history: &HistoryResult,
    ) -> Result<(), &'static str> {
        let mut below = None;
        let mut ours = 0;
        for publication in &history.publications {
            let Some(place) = self.channels[channel].place(publication.offset).filter(|place| *place > 0) else {
                // From before this run.
                break;
            };
            let want = Some(place - 1);
            match self.reader.read(&publication.data) {
                Found::Stamp(stamp) if usize::from(stamp.publisher) == channel && Some(stamp.sequence) == want => {}
                _ => return Err("a history with a publication in a wrong place"),
            }
            if below.is_some() && below != Some(place) {
                return Err("a history with a hole");
            }
            below = want;
            ours += 1;
        }
        let newest = below.map_or(0, |below| below + ours);
        let enough = ours >= newest.min(HISTORY_LIMIT as u32);
        if newest >= acknowledged && enough { Ok(()) } else { Err("a history that lacks what was acknowledged") }
    }

    fn handle_closed(&mut self, client: usize, why: Closed) {
        let member = self.members.get_mut(client).and_then(Option::take);
        if let Closed::Cut(reason) = why {
            self.problems.note(reason);
            self.broken |= member.is_some();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload;
    use ringcast_proto::client::Publication;

    /// A channel whose stream stood at 10, with six publications of which five are acknowledged; histories of (offset, sequence).
    #[track_caller]
    fn check(history: &[(u64, u32)], want: bool) {
        let mut accounts = Accounts::new(1, 1, 60, Duration::from_secs(1));
        let base = Some(Position { offset: 10, epoch: "e".to_owned() });
        accounts.channels[0] = Channel { base, next: 6, busy: true, acknowledged: 5 };
        let publication = |(offset, sequence): &(u64, u32)| {
            let mut data = payload::template(60);
            payload::stamp(&mut data, Stamp { publisher: 0, sequence: *sequence, sent_ns: 0 });
            Publication { data: data.into(), offset: *offset, ..Publication::default() }
        };
        let result = HistoryResult { publications: history.iter().map(publication).collect(), ..Default::default() };
        assert_eq!(accounts.check_history(0, 5, &result).is_ok(), want, "{history:?}");
    }

    #[test]
    fn histories_hold_what_was_acknowledged_without_holes() {
        check(&[(15, 4), (14, 3), (13, 2), (12, 1), (11, 0), (10, 99), (9, 98)], true);
        check(&[(16, 5), (15, 4), (14, 3), (13, 2), (12, 1), (11, 0)], true);
        check(&[(14, 3), (13, 2), (12, 1), (11, 0)], false);
        check(&[(15, 4), (13, 2), (12, 1), (11, 0)], false);
        check(&[(15, 4), (14, 3)], false);
        check(&[(15, 3), (14, 3), (13, 2), (12, 1), (11, 0)], false);
        check(&[], false);
    }
}
