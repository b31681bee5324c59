//! Redis Cluster: sends each question to the node that serves the slot of its channel, wherever that is by now. A connection to each
//! master; publications go to all nodes by the cluster's own ways, so that one PUB/SUB connection to any of them hears everything.
//!
//! A node that is gone answers nothing: what was asked of it fails, and what is asked for its slots fails at once until another
//! serves them. Then whoever subscribed there is told to look at history, for the new node may know less than the old one told.

mod detour;
pub mod link;
mod map;

pub use map::Map;

use super::answer::Expected;
use super::commands::Order;
use super::connection::{Connection, within};
use super::dialect::Dialect;
use super::news::{Listener, News, Recipient};
use super::options::{Address, Endpoint, Place};
use super::subscriptions;
use crate::control::socket::Backoff;
use bytes::Bytes;
use detour::{Detours, Step};
use link::{Errand, Link, Redirect, Return};
use ringcast_proto::redis::{CommandWriter, SLOTS, slot_of_tag};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// Orders that are taken before answers are looked at again.
const ORDERS_MAX: usize = 64;

/// Wait before what cannot be done yet is asked again, while a slot moves.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Time between two looks at who serves what: while all is well, while something is not, and at least.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Asks one cluster.
pub struct Cluster {
    endpoint: Arc<Endpoint>,
    dialect: Dialect,
    listener: Arc<dyn Listener>,
    inbox: UnboundedReceiver<Order>,
    hearing: UnboundedSender<subscriptions::Order>,
    /// Where the PUB/SUB connection may be.
    places: watch::Sender<Vec<Address>>,
    /// Who serves each slot.
    owners: Vec<Option<Address>>,
    nodes: HashMap<Address, Node>,
    links_made: u64,
    returns: (UnboundedSender<Return>, UnboundedReceiver<Return>),
    looks: (UnboundedSender<Option<Map>>, UnboundedReceiver<Option<Map>>),
    /// Errands of each slot that a link has.
    out: Vec<u32>,
    detours: Detours,
    /// Slots whose node may know less than was told of them.
    doubted: HashSet<u16>,
    errands_made: u64,
    look_at: Instant,
    is_looking: bool,
    news: News,
}

/// A node that serves slots.
struct Node {
    state: State,
    backoff: Backoff,
}

enum State {
    /// Errands wait for the connection, unless one before it has failed.
    Opening {
        link: u64,
        sender: UnboundedSender<Errand>,
        is_again: bool,
    },
    Open {
        link: u64,
        sender: UnboundedSender<Errand>,
        since: Instant,
    },
    Closed {
        retry_at: Instant,
    },
}

/// What a cluster needs to be asked.
pub struct Parts {
    pub endpoint: Endpoint,
    pub dialect: Dialect,
    pub listener: Arc<dyn Listener>,
    pub inbox: UnboundedReceiver<Order>,
    pub hearing: UnboundedSender<subscriptions::Order>,
    pub places: watch::Sender<Vec<Address>>,
}

impl Cluster {
    /// A cluster that looks like this for now.
    pub fn new(parts: Parts, map: &Map) -> Self {
        let Parts { endpoint, dialect, listener, inbox, hearing, places } = parts;
        let mut cluster = Self {
            endpoint: Arc::new(endpoint),
            dialect,
            listener,
            inbox,
            hearing,
            places,
            owners: vec![None; usize::from(SLOTS)],
            nodes: HashMap::new(),
            links_made: 0,
            returns: unbounded_channel(),
            looks: unbounded_channel(),
            out: vec![0; usize::from(SLOTS)],
            detours: Detours::default(),
            doubted: HashSet::new(),
            errands_made: 0,
            look_at: Instant::now() + LOOK_EVERY,
            is_looking: false,
            news: News::default(),
        };
        cluster.adopt(map);
        cluster.doubted.clear();
        cluster
    }

    /// Serves until nobody can ask any more.
    pub async fn run(mut self) {
        for node in self.masters() {
            self.open(&node, false);
        }
        let mut orders = Vec::with_capacity(ORDERS_MAX);
        loop {
            let timeout = self.next_timeout();
            tokio::select! {
                biased;
                Some(told) = self.returns.1.recv() => self.handle(told),
                taken = self.inbox.recv_many(&mut orders, ORDERS_MAX) => {
                    if taken == 0 {
                        return;
                    }
                    orders.drain(..).for_each(|order| self.take(order));
                }
                Some(map) = self.looks.1.recv() => self.looked(map),
                () = sleep_until(timeout) => self.handle_timeout(Instant::now()),
            }
            self.news.tell(&*self.listener);
        }
    }

    fn masters(&self) -> HashSet<Address> {
        self.owners.iter().flatten().cloned().collect()
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Ask(questions) => {
                for question in questions {
                    let slot = slot_of_tag(question.asked.ask.channel());
                    let mut bytes = Vec::new();
                    let recipient = Recipient::Shard(question.asker());
                    let expected = self.dialect.write(question.asked.ask, &mut bytes);
                    let errand = self.errand(Some(slot), recipient, expected, bytes);
                    if let Some(errand) = self.detours.hold(slot, errand) {
                        self.send(errand, None);
                    }
                }
            }
            Order::Tell { channel, message, said } => {
                let mut bytes = Vec::new();
                CommandWriter::new(&mut bytes).command(&[b"PUBLISH", channel.as_bytes(), &message]);
                let recipient = said.map_or(Recipient::Nobody, Recipient::Teller);
                let errand = self.errand(None, recipient, Expected::Done, bytes);
                self.send_anywhere(errand, slot_of_tag(&channel));
            }
        }
    }

    fn errand(&mut self, slot: Option<u16>, recipient: Recipient, expected: Expected, bytes: Vec<u8>) -> Errand {
        self.errands_made += 1;
        let (number, bytes) = (self.errands_made, Bytes::from(bytes));
        Errand { number, slot, recipient, expected, bytes, since: Instant::now(), asking: false }
    }

    /// Every node can do it: the one of the slot does, so that messages of a channel keep their order, or else another.
    fn send_anywhere(&mut self, errand: Errand, slot: u16) {
        let is_open = |node: &Node| matches!(node.state, State::Open { .. });
        let owner = self.owners[usize::from(slot)].as_ref();
        let owner = owner.filter(|owner| self.nodes.get(*owner).is_some_and(is_open));
        let other = || self.nodes.iter().find(|(_, node)| is_open(node)).map(|(address, _)| address);
        match owner.or_else(other).cloned() {
            Some(node) => self.send_to(errand, &node),
            None => errand.recipient.refuse(&mut self.news),
        }
    }

    /// To the owner of the slot, or to the node that another named.
    fn send(&mut self, mut errand: Errand, named: Option<Address>) {
        errand.asking = named.is_some();
        let owner = || errand.slot.and_then(|slot| self.owners[usize::from(slot)].clone());
        match named.or_else(owner) {
            Some(node) => self.send_to(errand, &node),
            None => errand.recipient.refuse(&mut self.news),
        }
    }

    fn send_to(&mut self, errand: Errand, address: &Address) {
        if !self.nodes.contains_key(address) {
            self.open(address, false);
        }
        let sender = match self.nodes.get(address).map(|node| &node.state) {
            Some(State::Open { sender, .. } | State::Opening { sender, is_again: false, .. }) => sender,
            _ => return errand.recipient.refuse(&mut self.news),
        };
        let slot = errand.slot;
        match sender.send(errand) {
            Ok(()) => slot.into_iter().for_each(|slot| self.out[usize::from(slot)] += 1),
            // It has just ended, and says so next.
            Err(errand) => errand.0.recipient.refuse(&mut self.news),
        }
    }

    /// Connects to a node.
    fn open(&mut self, address: &Address, is_again: bool) {
        self.links_made += 1;
        let (sender, inbox) = unbounded_channel();
        let link = Link {
            id: self.links_made,
            address: address.clone(),
            endpoint: self.endpoint.clone(),
            listener: self.listener.clone(),
            inbox,
            returns: self.returns.0.clone(),
        };
        let state = State::Opening { link: link.id, sender, is_again };
        tokio::spawn(link.run());
        let backoff = self.nodes.remove(address).map(|node| node.backoff).unwrap_or_default();
        self.nodes.insert(address.clone(), Node { state, backoff });
    }

    fn handle(&mut self, told: Return) {
        match told {
            Return::Opened(link) => self.opened(link),
            Return::Done(slot) => slot.into_iter().for_each(|slot| self.done(slot)),
            Return::Redirected(errand, redirect) => self.redirected(errand, redirect),
            Return::Unsettled => self.look_soon(),
            Return::Closed(link, error) => self.closed(link, &error),
        }
    }

    fn opened(&mut self, opened: u64) {
        for node in self.nodes.values_mut() {
            if let State::Opening { link, sender, .. } = &node.state
                && *link == opened
            {
                node.state = State::Open { link: opened, sender: sender.clone(), since: Instant::now() };
            }
        }
        self.tell_doubts();
    }

    fn closed(&mut self, closed: u64, error: &std::io::Error) {
        let is_it = |node: &Node| match node.state {
            State::Opening { link, .. } | State::Open { link, .. } => link == closed,
            State::Closed { .. } => false,
        };
        // One that is not needed any more is not known.
        let Some((address, node)) = self.nodes.iter_mut().find(|(_, node)| is_it(node)) else { return };
        if let State::Open { since, .. } = node.state {
            warn!(node = %address, %error, "connection to a node of Redis Cluster lost: its slots fail until they are served again");
            if since.elapsed() > Duration::from_secs(10) {
                node.backoff.reset();
            }
            let slots = (0..SLOTS).filter(|slot| self.owners[usize::from(*slot)].as_ref() == Some(address));
            self.doubted.extend(slots);
        } else {
            warn!(node = %address, %error, "cannot connect to a node of Redis Cluster");
        }
        node.state = State::Closed { retry_at: Instant::now() + node.backoff.next() };
        self.look_soon();
    }

    /// An errand of a slot is answered.
    fn done(&mut self, slot: u16) {
        self.out[usize::from(slot)] -= 1;
        self.go_on(slot);
    }

    fn redirected(&mut self, errand: Errand, redirect: Redirect) {
        let now = Instant::now();
        let Some(slot) = errand.slot else { return errand.recipient.refuse(&mut self.news) };
        self.out[usize::from(slot)] -= 1;
        let (to, pause) = match redirect {
            Redirect::Moved(to) => {
                self.doubted.insert(slot);
                self.owners[usize::from(slot)] = Some(to);
                self.look_soon();
                (None, None)
            }
            Redirect::Ask(to) => (Some(to), None),
            Redirect::Again => (None, Some(now + AGAIN_AFTER)),
        };
        if errand.since + self.endpoint.io_timeout < now {
            errand.recipient.refuse(&mut self.news);
            self.detours.begin(slot);
        } else {
            self.detours.add(slot, errand, to, pause);
        }
        self.go_on(slot);
    }

    /// The next step of a slot that may be on the move.
    fn go_on(&mut self, slot: u16) {
        while self.out[usize::from(slot)] == 0 {
            match self.detours.step(slot, Instant::now()) {
                Step::Send(errands) => errands.into_iter().for_each(|(errand, named)| self.send(errand, named)),
                Step::Over(errands) => {
                    self.tell_doubts();
                    return errands.into_iter().for_each(|errand| self.send(errand, None));
                }
                Step::Later | Step::Nothing => return,
            }
        }
    }

    /// Whoever subscribed in slots that are served again is to look at history.
    fn tell_doubts(&mut self) {
        if self.doubted.is_empty() {
            return;
        }
        let (owners, nodes) = (&self.owners, &self.nodes);
        let is_served = |slot: &u16| {
            let node = owners[usize::from(*slot)].as_ref().and_then(|owner| nodes.get(owner));
            node.is_some_and(|node| matches!(node.state, State::Open { .. }))
        };
        let served: HashSet<_> = self.doubted.extract_if(is_served).collect();
        if !served.is_empty() {
            // Fails only while the server stops.
            let _ = self.hearing.send(subscriptions::Order::Doubt(served));
        }
    }

    fn next_timeout(&self) -> Instant {
        let retries = self.nodes.values().filter_map(|node| match node.state {
            State::Closed { retry_at } => Some(retry_at),
            _ => None,
        });
        let look = (!self.is_looking).then_some(self.look_at);
        let first = retries.chain(look).chain(self.detours.next_timeout()).min();
        first.unwrap_or_else(|| Instant::now() + LOOK_EVERY)
    }

    fn handle_timeout(&mut self, now: Instant) {
        for slot in self.detours.due(now) {
            self.go_on(slot);
        }
        if self.look_at <= now && !self.is_looking {
            self.look();
        }
        let masters = self.masters();
        let is_due = |node: &Node| matches!(node.state, State::Closed { retry_at } if retry_at <= now);
        let due: Vec<_> = self.nodes.iter().filter(|(_, node)| is_due(node)).map(|(node, _)| node.clone()).collect();
        for node in due {
            match masters.contains(&node) {
                true => self.open(&node, true),
                false => drop(self.nodes.remove(&node)),
            }
        }
    }

    fn look_soon(&mut self) {
        self.look_at = self.look_at.min(Instant::now() + LOOK_PAUSE);
    }

    /// Asks a node who serves what.
    fn look(&mut self) {
        self.is_looking = true;
        let open = self.nodes.iter().filter(|(_, node)| matches!(node.state, State::Open { .. }));
        let mut candidates: Vec<_> = open.map(|(address, _)| address.clone()).collect();
        if candidates.is_empty() {
            candidates = self.places.borrow().clone();
            if let Place::Cluster(seeds) = &self.endpoint.place {
                candidates.extend(seeds.iter().cloned());
            }
        }
        let (endpoint, looks) = (self.endpoint.clone(), self.looks.0.clone());
        tokio::spawn(async move {
            let ask = async {
                let mut connection = Connection::open_any(&endpoint, &candidates).await?;
                Map::ask(&mut connection).await
            };
            let limit = endpoint.connect_timeout * 2;
            // Fails only while the server stops.
            let _ = looks.send(within(limit, ask).await.ok());
        });
    }

    fn looked(&mut self, map: Option<Map>) {
        self.is_looking = false;
        if let Some(map) = &map {
            self.adopt(map);
            let unknown = self.masters().into_iter().filter(|master| !self.nodes.contains_key(master));
            unknown.collect::<Vec<_>>().iter().for_each(|master| self.open(master, false));
        }
        let is_well = map.is_some() && self.nodes.values().all(|node| matches!(node.state, State::Open { .. }));
        self.look_at = Instant::now() + if is_well { LOOK_EVERY } else { LOOK_AGAIN };
        self.tell_doubts();
    }

    /// From now on these serve the slots.
    fn adopt(&mut self, map: &Map) {
        let mut moved = 0;
        for part in &map.0 {
            for slot in part.slots.clone() {
                let owner = &mut self.owners[usize::from(slot)];
                if owner.as_ref() != Some(&part.master) {
                    *owner = Some(part.master.clone());
                    self.doubted.insert(slot);
                    moved += 1;
                    // Those that are out are still to come back from where the slot was.
                    if self.out[usize::from(slot)] > 0 {
                        self.detours.begin(slot);
                    }
                }
            }
        }
        let masters = self.masters();
        self.nodes.retain(|address, _| masters.contains(address));
        if moved > 0 {
            info!(slots = moved, masters = masters.len(), "slots of Redis Cluster have new places");
        }
        self.places.send_if_modified(|places| {
            let now = map.addresses();
            let is_new = *places != now;
            *places = now;
            is_new
        });
    }
}
