//! Cuts under way: publishes on a schedule, and cuts as many connections as are due by then.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Options;
use super::accounts::{Accounts, Member, State};
use crate::drive::{LATE_START, Schedule};
use crate::endpoint::Endpoint;
use crate::engine::{Batch, Cut, Engine, Item, Peer, Session, Subscription, Target};
use crate::failure::Failure;
use crate::histogram::Latency;
use crate::ledger::Tally;
use crate::measure::Meter;
use crate::mixed::Dice;
use crate::options::Common;
use crate::payload::Stamp;
use crate::problems::Problems;
use crate::rounds::{self, Length, Opening, Restless, Rounds, Window, linger, settle};
use crate::token::Tokens;
use crate::watch::Watch;

/// Longest turn: somebody is away nearly all the time.
const TURN: Duration = Duration::from_millis(2);

/// Draws in search of a client that is there; after them the cut waits for its turn.
const DRAWS: usize = 64;

/// Clients, channels and connections of a run.
pub struct Run<'a> {
    engine: Engine,
    pub meter: Meter,
    options: &'a Options,
    peer: Peer,
    session: Session,
    tokens: Tokens,
    dice: Dice,
    /// Who comes back: when, after how many cuts (tells those of one moment apart), to which channel, and the place there.
    away: BTreeSet<(u64, u64, usize, u32)>,
    /// When, who reads again.
    stalled: BTreeSet<(u64, usize)>,
    /// Publications and cuts so far, of all windows.
    published: u64,
    cut: u64,
    /// By connection to the API: the channel that is next.
    turns: Vec<usize>,
    /// Clients so far, for their tokens.
    opened: usize,
    late_start: Latency,
    pub accounts: Accounts,
}

impl Rounds for Run<'_> {
    fn unit(&self) -> (&'static str, &'static str) {
        ("publication", "publications")
    }

    fn window(&mut self) -> Result<Window, Failure> {
        let opening = Opening::new(&self.meter, &self.engine)?;
        let (delivered, published) = (self.tally().delivered, self.published);
        let length = Length::Publications(self.options.publications);
        let mut schedule = Schedule::new(self.engine.now_ns(), length, self.options.batch, Some(self.options.rate));
        let mut watch = Watch::new(&self.engine);
        while !schedule.is_over(self.engine.now_ns()) && !self.accounts.broken {
            while let Some(due_ns) = schedule.due(self.engine.now_ns())
                && self.publish(due_ns)?
            {
                self.late_start.record_ns(self.engine.now_ns() - due_ns);
                schedule.advance();
            }
            self.cut_who_is_due()?;
            if watch.is_over(&self.engine, schedule.made()) {
                rounds::give_up(self, "waiting for answers of the API");
            }
            self.turn(TURN)?;
        }
        let publishing = opening.elapsed();
        settle(self, TURN, "waiting for deliveries")?;
        let window = opening.close(&self.meter, &self.engine)?;
        Ok(Window {
            units: self.published - published,
            requests: schedule.made(),
            publications: self.published - published,
            deliveries: self.tally().delivered - delivered,
            publishing,
            latencies: vec![(LATE_START, std::mem::take(&mut self.late_start))],
            ..window
        })
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

impl Restless for Run<'_> {
    fn is_quiet(&self) -> bool {
        self.accounts.are_quiet() && self.away.is_empty() && self.stalled.is_empty()
    }

    fn done(&self) -> u64 {
        let counts = &self.accounts.counts;
        self.tally().delivered + counts.came + counts.came_back + counts.answered
    }

    fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        let now_ns = self.engine.now_ns();
        while let Some((_, _, channel, since)) = self.away.first().copied().filter(|(at_ns, ..)| *at_ns <= now_ns) {
            self.away.pop_first();
            self.let_in(channel, Some(since))?;
        }
        while let Some((_, client)) = self.stalled.first().copied().filter(|(at_ns, _)| *at_ns <= now_ns) {
            self.stalled.pop_first();
            self.end_stall(client)?;
        }
        for (channel, since) in std::mem::take(&mut self.accounts.given_up) {
            self.let_in(channel, Some(since))?;
        }
        let Self { engine, accounts, .. } = self;
        let turned = engine.turn(timeout, &mut |event| accounts.handle(event));
        turned.map_err(Failure::system("waiting for events"))?;
        engine.live().show(now_ns, accounts.ledger.tally().delivered, "deliveries", None);
        Ok(())
    }

    fn break_off(&mut self, reason: String) {
        self.accounts.problems.note(reason);
        self.accounts.broken = true;
    }
}

impl<'a> Run<'a> {
    /// Connects everybody.
    pub fn start(common: &Common, options: &'a Options) -> Result<Self, Failure> {
        let endpoint = common.endpoint()?;
        let api = Endpoint::resolve(&common.api, "http")?;
        let session = Session::new(common)?;
        let mut engine = Engine::new(session.clone(), common).map_err(Failure::system("starting the loop"))?;
        let (channels, connections) = (options.channels as usize, options.connections as usize);
        let target = Target::Numbered(&options.channel_prefix);
        let batch = Batch::new(&api, &common.api_key, target, common.payload, options.batch as usize);
        let api = Peer::new(&api, common)?;
        for _ in 0..connections {
            engine.open_publisher(&api, batch.clone()).map_err(Failure::dialing)?;
        }
        let mut run = Self {
            engine,
            meter: Meter::new(common)?,
            options,
            peer: Peer::new(&endpoint, common)?,
            session,
            tokens: Tokens::new(common.token_secret.as_deref()),
            dice: Dice::new(options.seed),
            away: BTreeSet::new(),
            stalled: BTreeSet::new(),
            published: 0,
            cut: 0,
            turns: (0..connections).collect(),
            opened: 0,
            late_start: Latency::new(),
            accounts: Accounts::new(channels, connections, common.patience),
        };
        let clients = options.clients as usize;
        rounds::let_all_in(&mut run, (clients, TURN), |run, number| run.let_in(number % channels, None))?;
        Ok(run)
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

    /// Sends a request over a connection that has none under way. False where there is none.
    fn publish(&mut self, due_ns: u64) -> Result<bool, Failure> {
        let Some(connection) = self.accounts.busy.iter().position(|busy| !busy) else { return Ok(false) };
        let (channels, connections) = (self.accounts.channels.len(), self.accounts.busy.len());
        let mut items = Vec::with_capacity(self.options.batch as usize);
        for _ in 0..self.options.batch {
            let channel = self.turns[connection];
            let state = &mut self.accounts.channels[channel];
            let stamp = Stamp { publisher: channel as u16, sequence: state.next, sent_ns: due_ns };
            items.push(Item { stamp, channel: channel as u32 });
            state.next += 1;
            let next = channel + connections;
            self.turns[connection] = if next < channels { next } else { connection };
        }
        self.engine.publish(connection, |index| items[index]).map_err(Failure::Api)?;
        self.accounts.busy[connection] = true;
        self.published += items.len() as u64;
        Ok(true)
    }

    /// Cuts are spread evenly over the publications.
    fn cut_who_is_due(&mut self) -> Result<(), Failure> {
        while self.cut < self.published * self.options.cuts / self.options.publications {
            let Some((client, channel)) = self.anybody() else { return Ok(()) };
            let now_ns = self.engine.now_ns();
            let back_ns = now_ns + self.dice.below(self.options.away_ms as usize * 1_000_000) as u64;
            self.cut += 1;
            let counts = &mut self.accounts.counts;
            let cut = match self.dice.below(4) {
                0 => {
                    counts.resets += 1;
                    Cut::Reset
                }
                1 => {
                    counts.ends += 1;
                    Cut::End
                }
                2 => {
                    counts.halves += 1;
                    Cut::Half
                }
                _ => {
                    counts.stalls += 1;
                    self.stall(client, back_ns)?;
                    continue;
                }
            };
            self.cut_off(client, channel, cut, back_ns);
        }
        Ok(())
    }

    /// A client that is there.
    fn anybody(&mut self) -> Option<(usize, usize)> {
        let Self { dice, accounts, .. } = self;
        (0..DRAWS).find_map(|_| {
            let client = dice.below(accounts.members.len());
            let member = accounts.members[client].as_ref()?;
            (member.state == State::Here).then_some((client, member.channel))
        })
    }

    fn cut_off(&mut self, client: usize, channel: usize, cut: Cut, back_ns: u64) {
        let since = self.accounts.ledger.next(client, 0);
        self.accounts.members[client] = None;
        self.engine.cut(client, cut);
        self.away.insert((back_ns, self.cut, channel, since));
    }

    fn stall(&mut self, client: usize, until_ns: u64) -> Result<(), Failure> {
        self.engine.pause(client).map_err(Failure::system("reading no more"))?;
        if let Some(member) = &mut self.accounts.members[client] {
            member.state = State::Stalled;
        }
        self.stalled.insert((until_ns, client));
        Ok(())
    }

    /// Every other one reads on, and may find that it was given up; the others are cut with all that they did not read.
    fn end_stall(&mut self, client: usize) -> Result<(), Failure> {
        let Some(Member { channel, .. }) = self.accounts.members[client] else { return Ok(()) };
        if self.dice.below(2) == 0 {
            let now_ns = self.engine.now_ns();
            self.cut_off(client, channel, Cut::Reset, now_ns);
            return Ok(());
        }
        self.engine.resume(client).map_err(Failure::system("reading on"))?;
        self.accounts.reads_again(client, channel);
        Ok(())
    }
}
