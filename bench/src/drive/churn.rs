//! Clients that come and go beside those that stay. Each must receive everything between its subscription and its leave.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::{Engine, Login, Peer};
use crate::failure::Failure;
use crate::lanes::Lanes;
use crate::ledger::Ledger;

/// How long a client stays after its subscription is confirmed.
const STAY: Duration = Duration::from_secs(1);

/// The coming and going.
pub struct Churn {
    peer: Peer,
    login: Login,
    per_second: u64,
    started_ns: u64,
    opened: u64,
    /// Opened, not yet subscribed.
    coming: u64,
    /// Subscribed, in the order of their leaving; bounded by rate and stay.
    staying: VecDeque<Staying>,
    /// On their way out; bounded by rate and patience.
    leaving: Vec<Leaving>,
    left: u64,
}

struct Staying {
    client: usize,
    until_ns: u64,
}

/// A client that leaves as soon as it has all that was acknowledged when its time was up: what is acknowledged is ordered, and
/// a subscriber of that time has to get it.
struct Leaving {
    client: usize,
    ends: Box<[u32]>,
    give_up_ns: u64,
}

impl Churn {
    /// `per_second` clients come and go; 0 for none.
    pub fn new(peer: Peer, login: Login, per_second: u64) -> Self {
        Self {
            peer,
            login,
            per_second,
            started_ns: 0,
            opened: 0,
            coming: 0,
            staying: VecDeque::new(),
            leaving: Vec::new(),
            left: 0,
        }
    }

    /// Starts the schedule anew: none is due for the time between windows.
    pub fn start(&mut self, now_ns: u64) {
        self.started_ns = now_ns;
        self.opened = 0;
    }

    /// Whether anybody comes and goes.
    pub fn is_active(&self) -> bool {
        self.per_second > 0
    }

    /// Whether all have left.
    pub fn is_empty(&self) -> bool {
        self.coming == 0 && self.staying.is_empty() && self.leaving.is_empty()
    }

    /// How many have come and gone.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Opens the connections that are due, at most a few at a time.
    pub fn open_due(&mut self, engine: &mut Engine) -> Result<Vec<usize>, Failure> {
        const AT_A_TIME: u64 = 16;
        let elapsed_ns = u128::from(engine.now_ns() - self.started_ns);
        let due = (elapsed_ns * u128::from(self.per_second) / 1_000_000_000) as u64;
        let mut opened = Vec::new();
        for _ in 0..due.saturating_sub(self.opened).min(AT_A_TIME) {
            let client = engine.open(&self.peer, Some(self.login.clone()));
            opened.push(client.map_err(Failure::dialing)?);
            self.opened += 1;
            self.coming += 1;
        }
        Ok(opened)
    }

    /// A client's subscription is confirmed.
    pub fn handle_ready(&mut self, client: usize, now_ns: u64) {
        self.coming -= 1;
        let until_ns = now_ns + STAY.as_nanos() as u64;
        self.staying.push_back(Staying { client, until_ns });
    }

    /// A client was cut: it is not waited for.
    pub fn handle_cut(&mut self, client: usize) {
        let subscribed = self.staying.len() + self.leaving.len();
        self.staying.retain(|staying| staying.client != client);
        self.leaving.retain(|leaving| leaving.client != client);
        if self.staying.len() + self.leaving.len() == subscribed {
            self.coming -= 1;
        }
    }

    /// Moves on those whose time is up, and lets go those that have everything or are given up.
    pub fn let_go(&mut self, engine: &mut Engine, lanes: &Lanes, ledger: &mut Ledger) {
        let now_ns = engine.now_ns();
        while let Some(first) = self.staying.front()
            && first.until_ns <= now_ns
        {
            self.leaving.push(Leaving {
                client: first.client,
                ends: lanes.acknowledged().collect(),
                give_up_ns: now_ns + engine.patience().as_nanos() as u64,
            });
            self.staying.pop_front();
        }
        let mut left = 0;
        self.leaving.retain(|leaving| {
            let ends = || leaving.ends.iter().copied();
            let stays = !ledger.is_complete(leaving.client, ends()) && now_ns < leaving.give_up_ns;
            if !stays {
                ledger.close(leaving.client, ends());
                engine.close(leaving.client);
                left += 1;
            }
            stays
        });
        self.left += left;
    }
}
