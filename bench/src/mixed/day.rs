//! A day under way: draws what happens when it is due, and does it.

use std::collections::VecDeque;
use std::time::Duration;

use super::Options;
use super::accounts::{Accounts, HISTORY_LIMIT, Member, State};
use super::dice::{Action, Dice};
use crate::crowd::TURN;
use crate::drive::{DELIVERY, LATE_START, Schedule};
use crate::endpoint::Endpoint;
use crate::engine::{Batch, Engine, Item, Peer, Publish, Session, Subscription, Target};
use crate::failure::Failure;
use crate::histogram::Latency;
use crate::ledger::Tally;
use crate::measure::Meter;
use crate::options::Common;
use crate::payload::Stamp;
use crate::problems::Problems;
use crate::rounds::{self, Length, Opening, Restless, Rounds, Window, linger, settle};
use crate::token::Tokens;
use crate::watch::Watch;

/// A client that is cut off stays away for this long.
const AWAY: Duration = Duration::from_millis(200);

/// Longest turn while the rest comes in.
const SETTLING_TURN: Duration = Duration::from_millis(10);

/// Draws in search of a client or channel that is free; after them the action waits for its turn.
const DRAWS: usize = 64;

/// Clients, channels and connections of a day.
pub struct Day<'a> {
    engine: Engine,
    pub meter: Meter,
    options: &'a Options,
    length: Length,
    peer: Peer,
    session: Session,
    tokens: Tokens,
    /// By channel.
    publishes: Vec<Publish>,
    dice: Dice,
    /// Drawn, and waiting for a client or channel that is free.
    waiting: Option<Action>,
    /// Cut off, in the order of their return: when, to which channel, and their place there.
    away: VecDeque<(u64, usize, u32)>,
    /// Clients so far, for their tokens.
    opened: usize,
    late_start: Latency,
    pub accounts: Accounts,
}

impl Rounds for Day<'_> {
    fn unit(&self) -> (&'static str, &'static str) {
        ("action", "actions")
    }

    fn window(&mut self) -> Result<Window, Failure> {
        self.window_of(self.length)
    }

    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn is_broken(&self) -> bool {
        self.accounts.broken
    }

    fn finish(&mut self) -> Result<(), Failure> {
        linger(self, Self::turn)?;
        self.accounts.close();
        Ok(())
    }

    fn tally(&self) -> Tally {
        self.accounts.tally()
    }

    fn problems(&self) -> &Problems {
        &self.accounts.problems
    }
}

impl Restless for Day<'_> {
    fn is_quiet(&self) -> bool {
        self.accounts.are_quiet() && self.away.is_empty()
    }

    fn done(&self) -> u64 {
        let counts = &self.accounts.counts;
        self.tally().delivered + counts.came + counts.left + counts.recovered + counts.answered
    }

    fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        let now_ns = self.engine.now_ns();
        self.let_go(now_ns)?;
        while let Some((_, channel, since)) = self.away.pop_front_if(|(at_ns, ..)| *at_ns <= now_ns) {
            self.let_in(channel, Some(since))?;
        }
        let comes_and_goes = !self.away.is_empty() || self.accounts.members.iter().flatten().any(Member::is_leaving);
        let timeout = if comes_and_goes { timeout.min(Duration::from_millis(2)) } else { timeout };
        let Self { engine, accounts, .. } = self;
        let turned = engine.turn(timeout, &mut |event| accounts.handle(event));
        turned.map_err(Failure::system("waiting for events"))?;
        let delivered = accounts.ledger.tally().delivered;
        engine.live().show(now_ns, delivered, "deliveries", Some(&accounts.latency));
        Ok(())
    }

    fn break_off(&mut self, reason: String) {
        self.accounts.problems.note(reason);
        self.accounts.broken = true;
    }
}

impl<'a> Day<'a> {
    /// Connects everybody.
    pub fn start(common: &Common, options: &'a Options) -> Result<Self, Failure> {
        let endpoint = common.endpoint()?;
        let api = Endpoint::resolve(&common.api, "http")?;
        let session = Session::new(common)?;
        let mut engine = Engine::new(session.clone(), common).map_err(Failure::system("starting the loop"))?;
        let channels = options.channels as usize;
        let target = Target::Numbered(&options.channel_prefix);
        let accounts = Accounts::new(channels, 2 * options.connections(), common.payload, common.patience);
        let mut day = Self {
            meter: Meter::new(common)?,
            options,
            length: options.windows.length(common),
            peer: Peer::new(&endpoint, common)?,
            tokens: Tokens::new(common.token_secret.as_deref()),
            publishes: (0..channels).map(|n| session.publish(&target.name(n as u32), common.payload)).collect(),
            dice: Dice::new(options.seed),
            waiting: None,
            away: VecDeque::new(),
            opened: 0,
            late_start: Latency::new(),
            accounts,
            session,
            engine: {
                let peer = Peer::new(&api, common)?;
                for count in [1, options.batch as usize] {
                    let batch = Batch::new(&api, &common.api_key, target, common.payload, count);
                    for _ in 0..options.connections() {
                        let opened = engine.open_publisher(&peer, batch.clone());
                        opened.map_err(Failure::dialing)?;
                    }
                }
                engine
            },
        };
        let clients = options.clients as usize;
        rounds::let_all_in(&mut day, (clients, SETTLING_TURN), |day, number| day.let_in(number % channels, None))?;
        Ok(day)
    }

    fn window_of(&mut self, length: Length) -> Result<Window, Failure> {
        let opening = Opening::new(&self.meter, &self.engine)?;
        let delivered = self.tally().delivered;
        let answered = self.accounts.counts.answered;
        let mut schedule = Schedule::new(self.engine.now_ns(), length, 1, Some(self.options.rate));
        let mut watch = Watch::new(&self.engine);
        while !schedule.is_over(self.engine.now_ns()) && !self.accounts.broken {
            while let Some(due_ns) = schedule.due(self.engine.now_ns())
                && self.act(due_ns)?
            {
                self.late_start.record_ns(self.engine.now_ns() - due_ns);
                schedule.advance();
            }
            match schedule.until_due(self.engine.now_ns()) {
                Some(left) => self.engine.wake_in(left).map_err(Failure::system("setting a timer"))?,
                None if watch.is_over(&self.engine, schedule.made()) => rounds::give_up(self, "nobody is free"),
                None => {}
            }
            self.turn(TURN)?;
        }
        let publishing = opening.elapsed();
        settle(self, SETTLING_TURN, "waiting for deliveries")?;
        let window = opening.close(&self.meter, &self.engine)?;
        Ok(Window {
            units: schedule.made(),
            publications: self.accounts.counts.answered - answered,
            deliveries: self.tally().delivered - delivered,
            publishing,
            latencies: vec![
                (DELIVERY, std::mem::take(&mut self.accounts.latency)),
                (LATE_START, std::mem::take(&mut self.late_start)),
            ],
            ..window
        })
    }

    fn let_in(&mut self, channel: usize, since: Option<u32>) -> Result<(), Failure> {
        let name = Target::Numbered(&self.options.channel_prefix).name(channel as u32);
        let position = since.map(|since| self.accounts.channels[channel].position(since));
        let subscription = Subscription { channel: &name, recoverable: true, since: position.as_ref() };
        let login = self.session.login(&self.tokens.of(self.opened), Some(subscription));
        self.opened += 1;
        let client = self.engine.open(&self.peer, Some(login)).map_err(Failure::dialing)?;
        self.accounts.expect(client, channel, since);
        Ok(())
    }

    /// Lets those go who have all that they wait for, or are given up; for each another one comes.
    fn let_go(&mut self, now_ns: u64) -> Result<(), Failure> {
        for client in 0..self.accounts.members.len() {
            let Accounts { members, ledger, counts, .. } = &mut self.accounts;
            let Some(Member { channel, state, .. }) = &mut members[client] else {
                continue;
            };
            let State::Leaving { end, give_up_ns } = *state else {
                continue;
            };
            if ledger.is_complete(client, std::iter::once(end)) || now_ns >= give_up_ns {
                ledger.close(client, std::iter::once(end));
                *state = State::Gone;
                counts.left += 1;
                let channel = *channel;
                self.engine.close(client);
                self.let_in(channel, None)?;
            }
        }
        Ok(())
    }

    /// Does what was drawn. False when nobody is free for it yet.
    fn act(&mut self, due_ns: u64) -> Result<bool, Failure> {
        let action = self.waiting.take().unwrap_or_else(|| self.dice.action(&self.options.weights));
        let done = match action {
            Action::Publish => self.publish(due_ns),
            Action::Api => self.request(0, 1, due_ns)?,
            Action::Batch => self.request(self.options.connections(), self.options.batch as usize, due_ns)?,
            Action::History | Action::Presence => self.ask(action),
            Action::Turnover => self.send_away(),
            Action::Recover => self.cut_off(),
        };
        if !done {
            self.waiting = Some(action);
        }
        Ok(done)
    }

    /// A client that is there and awaits no answer.
    fn free_client(&mut self) -> Option<(usize, usize)> {
        let Self { dice, accounts, .. } = self;
        (0..DRAWS).find_map(|_| {
            let client = dice.below(accounts.members.len());
            let member = accounts.members[client].as_ref()?;
            (member.state == State::Here && member.asked.is_none()).then_some((client, member.channel))
        })
    }

    fn publish(&mut self, sent_ns: u64) -> bool {
        let free =
            (0..DRAWS).find_map(|_| self.free_client().filter(|(_, channel)| !self.accounts.channels[*channel].busy));
        let Some((client, channel)) = free else {
            return false;
        };
        let acknowledged = self.accounts.channels[channel].acknowledged;
        let stamp = self.stamp(channel, sent_ns);
        let frame = self.publishes[channel].frame(stamp);
        self.engine.send(client, &frame);
        if let Some(member) = &mut self.accounts.members[client] {
            member.asked = Some(acknowledged);
        }
        true
    }

    /// Takes the next number of a channel.
    fn stamp(&mut self, channel: usize, sent_ns: u64) -> Stamp {
        let state = &mut self.accounts.channels[channel];
        let sequence = state.next;
        state.next += 1;
        state.busy = true;
        Stamp { publisher: channel as u16, sequence, sent_ns }
    }

    /// Publishes to `count` different channels with one request on one of the connections from `first` on.
    fn request(&mut self, first: usize, count: usize, sent_ns: u64) -> Result<bool, Failure> {
        let mut connections = first..first + self.options.connections();
        let Some(connection) = connections.find(|connection| self.accounts.requests[*connection].is_empty()) else {
            return Ok(false);
        };
        let channels = self.accounts.channels.len();
        let start = self.dice.below(channels);
        let in_turn = (0..channels).map(|step| (start + step) % channels);
        let free: Vec<usize> = in_turn.filter(|n| !self.accounts.channels[*n].busy).take(count).collect();
        if free.len() < count {
            return Ok(false);
        }
        let stamps: Vec<Stamp> = free.iter().map(|channel| self.stamp(*channel, sent_ns)).collect();
        let item = |index: usize| Item { stamp: stamps[index], channel: free[index] as u32 };
        self.engine.publish(connection, item).map_err(Failure::Api)?;
        self.accounts.requests[connection] = free;
        Ok(true)
    }

    fn ask(&mut self, action: Action) -> bool {
        let Some((client, channel)) = self.free_client() else {
            return false;
        };
        let name = Target::Numbered(&self.options.channel_prefix).name(channel as u32);
        let frame = match action {
            Action::History => self.session.history(&name, HISTORY_LIMIT),
            _ => self.session.presence(&name),
        };
        self.engine.ask(client, &frame);
        let acknowledged = self.accounts.channels[channel].acknowledged;
        if let Some(member) = &mut self.accounts.members[client] {
            member.asked = Some(acknowledged);
        }
        true
    }

    fn send_away(&mut self) -> bool {
        let Some((client, channel)) = self.free_client() else {
            return false;
        };
        let end = self.accounts.channels[channel].acknowledged;
        let give_up_ns = self.engine.now_ns() + self.engine.patience().as_nanos() as u64;
        if let Some(member) = &mut self.accounts.members[client] {
            member.state = State::Leaving { end, give_up_ns };
        }
        true
    }

    /// Closes a connection, to come back for what is missed.
    fn cut_off(&mut self) -> bool {
        let Some((client, channel)) = self.free_client() else {
            return false;
        };
        let since = self.accounts.ledger.next(client, 0);
        if let Some(member) = &mut self.accounts.members[client] {
            member.state = State::Gone;
        }
        self.engine.close(client);
        self.away.push_back((self.engine.now_ns() + AWAY.as_nanos() as u64, channel, since));
        true
    }
}
