//! Presence that is read at replicas: of the master that sentinels name, or of the masters of a cluster. What no replica can
//! say is asked of the master instead: while none is connected, when one fails, and when entries have expired, which only the
//! master may take out.

use super::cluster::Map;
use super::cluster::link::{Errand, Link, Return};
use super::commands::Order;
use super::connection::{Connection, within};
use super::dialect::Dialect;
use super::news::{Asker, Listener, News, Question, Recipient};
use super::options::{Address, Endpoint, Place};
use super::sentinel;
use bytes::Bytes;
use ringcast_proto::redis::{SLOTS, slot_of_tag};
use ringcast_state::broker::{BrokerAsk, BrokerRequest};
use ringcast_state::message::ChannelName;
use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// Time between two looks at which replicas there are: while all is well, and while something is not.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Asks the replicas of one Redis.
pub struct Replicas {
    /// Of the place where the masters are found, too.
    endpoint: Arc<Endpoint>,
    dialect: Dialect,
    listener: Arc<dyn Listener>,
    inbox: UnboundedReceiver<Vec<Reading>>,
    master: UnboundedSender<Order>,
    /// Who answers for which slots; without a cluster all of them for all.
    parts: Parts,
    links: HashMap<Address, Open>,
    links_made: u64,
    returns: (UnboundedSender<Return>, UnboundedReceiver<Return>),
    looks: (UnboundedSender<io::Result<Parts>>, UnboundedReceiver<io::Result<Parts>>),
    look_at: Instant,
    is_looking: bool,
    /// Which replica is asked next.
    turn: usize,
    news: News,
}

type Parts = Vec<(RangeInclusive<u16>, Vec<Address>)>;

/// A connection that is there, or will be.
struct Open {
    id: u64,
    sender: UnboundedSender<Errand>,
    is_ready: bool,
}

/// A question that a replica may be asked.
pub struct Reading {
    /// Who asks.
    pub asker: Asker,
    channel: ChannelName,
    /// How many, not who.
    is_count: bool,
}

impl Reading {
    /// Nothing where it must be asked of the master.
    pub fn of(question: &Question) -> Option<Self> {
        let (channel, is_count) = match &question.asked.ask {
            BrokerAsk::Presence { channel } => (channel, false),
            BrokerAsk::PresenceStats { channel } => (channel, true),
            _ => return None,
        };
        Some(Self { asker: question.asker(), channel: channel.clone(), is_count })
    }

    fn ask(&self) -> BrokerAsk {
        let channel = self.channel.clone();
        if self.is_count { BrokerAsk::PresenceStats { channel } } else { BrokerAsk::Presence { channel } }
    }
}

/// A question that a replica has, and who else knows.
pub struct AtReplica {
    pub reading: Reading,
    master: UnboundedSender<Order>,
}

impl AtReplica {
    /// The replica does not say it.
    pub fn ask_master(self) {
        let Asker { shard, request } = self.reading.asker;
        let asked = BrokerRequest { request, ask: self.reading.ask() };
        // Fails only while the server stops.
        let _ = self.master.send(Order::Ask(vec![Question { shard, asked }]));
    }
}

impl Replicas {
    /// Connects once it runs.
    pub fn new(
        endpoint: Endpoint,
        dialect: Dialect,
        listener: Arc<dyn Listener>,
        inbox: UnboundedReceiver<Vec<Reading>>,
        master: UnboundedSender<Order>,
    ) -> Self {
        let readonly = matches!(endpoint.place, Place::Cluster(_));
        Self {
            endpoint: Arc::new(Endpoint { readonly, ..endpoint }),
            dialect: dialect.at_replica(),
            listener,
            inbox,
            master,
            parts: Vec::new(),
            links: HashMap::new(),
            links_made: 0,
            returns: unbounded_channel(),
            looks: unbounded_channel(),
            look_at: Instant::now(),
            is_looking: false,
            turn: 0,
            news: News::default(),
        }
    }

    /// Serves until nobody can ask any more.
    pub async fn run(mut self) {
        loop {
            let look_at = self.look_at;
            tokio::select! {
                biased;
                Some(told) = self.returns.1.recv() => self.handle(told),
                readings = self.inbox.recv() => match readings {
                    Some(readings) => readings.into_iter().for_each(|reading| self.ask(reading)),
                    None => return,
                },
                Some(found) = self.looks.1.recv() => self.looked(found),
                () = sleep_until(look_at), if !self.is_looking => self.look(),
            }
            self.news.tell(&*self.listener);
        }
    }

    fn ask(&mut self, reading: Reading) {
        let slot = slot_of_tag(&reading.channel);
        let mut bytes = Vec::new();
        let expected = self.dialect.write(reading.ask(), &mut bytes);
        let recipient = Recipient::Reader(Box::new(AtReplica { reading, master: self.master.clone() }));
        let candidates = self.parts.iter().filter(|(slots, _)| slots.contains(&slot)).flat_map(|(_, nodes)| nodes);
        let ready: Vec<_> = candidates.filter_map(|node| self.links.get(node)).filter(|link| link.is_ready).collect();
        if ready.is_empty() {
            return recipient.refuse(&mut self.news);
        }
        self.turn = self.turn.wrapping_add(1);
        let link = ready[self.turn % ready.len()];
        let (number, bytes, since) = (self.turn as u64, Bytes::from(bytes), Instant::now());
        let errand = Errand { number, slot: Some(slot), recipient, expected, bytes, since, asking: false };
        if let Err(errand) = link.sender.send(errand) {
            // It has just ended, and says so next.
            errand.0.recipient.refuse(&mut self.news);
        }
    }

    fn handle(&mut self, told: Return) {
        match told {
            Return::Opened(id) => self.links.values_mut().filter(|link| link.id == id).for_each(|link| {
                link.is_ready = true;
            }),
            Return::Done(_) => (),
            // The replica has another master now, or moves slots.
            Return::Redirected(errand, _) => {
                errand.recipient.refuse(&mut self.news);
                self.look_again();
            }
            Return::Unsettled => self.look_again(),
            Return::Closed(id, error) => {
                let Some((address, link)) = self.links.iter().find(|(_, link)| link.id == id) else { return };
                let (node, was_ready) = (address.clone(), link.is_ready);
                warn!(%node, %error, was_ready, "no connection to a replica of Redis: presence is read elsewhere");
                self.links.remove(&node);
                self.look_again();
            }
        }
    }

    fn look_again(&mut self) {
        self.look_at = self.look_at.min(Instant::now() + LOOK_AGAIN);
    }

    fn look(&mut self) {
        self.is_looking = true;
        let (endpoint, looks) = (self.endpoint.clone(), self.looks.0.clone());
        let known: Vec<_> = self.links.keys().cloned().collect();
        tokio::spawn(async move {
            let found = within(endpoint.connect_timeout * 2, find(&endpoint, known)).await;
            // Fails only while the server stops.
            let _ = looks.send(found);
        });
    }

    fn looked(&mut self, found: io::Result<Parts>) {
        self.is_looking = false;
        let now = Instant::now();
        match found {
            Ok(parts) => self.adopt(parts),
            Err(error) => {
                warn!(%error, "cannot learn which replicas Redis has");
                self.look_at = now + LOOK_AGAIN;
                return;
            }
        }
        let is_well = !self.links.is_empty();
        self.look_at = now + if is_well { LOOK_EVERY } else { LOOK_AGAIN };
    }

    /// These replicas are asked from now on.
    fn adopt(&mut self, parts: Parts) {
        let nodes: HashSet<Address> = parts.iter().flat_map(|(_, nodes)| nodes).cloned().collect();
        // What one owes that is not asked any more, it still answers.
        self.links.retain(|address, _| nodes.contains(address));
        for address in nodes {
            if !self.links.contains_key(&address) {
                info!(node = %address, "presence is read at a replica of Redis");
                let link = self.open(&address);
                self.links.insert(address, link);
            }
        }
        self.parts = parts;
    }

    fn open(&mut self, address: &Address) -> Open {
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
        tokio::spawn(link.run());
        Open { id: self.links_made, sender, is_ready: false }
    }
}

/// Asks the sentinels, or a node of the cluster.
async fn find(endpoint: &Endpoint, known: Vec<Address>) -> io::Result<Parts> {
    match &endpoint.place {
        Place::Fixed(_) => Err(io::Error::other("a Redis that is alone has no replicas")),
        Place::Sentinel(sentinels) => {
            let replicas = sentinel::find_replicas(sentinels, endpoint).await?;
            Ok(vec![(0..=SLOTS - 1, replicas)])
        }
        Place::Cluster(seeds) => {
            let candidates: Vec<_> = known.into_iter().chain(seeds.iter().cloned()).collect();
            let map = Map::ask(&mut Connection::open_any(endpoint, &candidates).await?).await?;
            Ok(map.0.into_iter().map(|part| (part.slots, part.replicas)).collect())
        }
    }
}
