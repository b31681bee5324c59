//! A load as applications make it: clients in a few channels each, some channels far more popular than others, and backends that
//! publish over some connections of the API.

use std::collections::{BTreeMap, BTreeSet};

use ringcast_runtime::balance::choose;

use crate::machine::Machine;

/// Channels; the popularity of the n-th is 1/n (Zipf).
const CHANNELS: usize = 2000;

/// Subscriptions of a client.
const SUBSCRIPTIONS: usize = 4;

/// Connections of backends, per shard.
const API_CONNECTIONS: usize = 2;

/// Who decides where a connection goes.
#[derive(Clone, Copy, Debug)]
pub enum Spread {
    /// The kernel, by a hash of the addresses.
    Hashed,
    /// The kernel, corrected by the shards.
    Balanced,
}

pub struct Load {
    pub machine: Machine,
    pub publications: u64,
    random: Random,
    shards: usize,
    /// Shards of the API connections.
    backends: Vec<usize>,
    clients: Vec<usize>,
    /// Shards with subscribers of each channel, and how many subscribers there are.
    listeners: BTreeMap<String, (BTreeSet<usize>, u64)>,
    /// Sums of the popularities up to each channel.
    popularity: Vec<f64>,
}

impl Load {
    pub fn new(shards: u16, spread: Spread, clients: usize, seed: u64) -> Self {
        let weights = (1..=CHANNELS).scan(0.0, |sum, rank| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        });
        let mut load = Load {
            machine: Machine::new(shards, seed),
            publications: 0,
            random: Random(seed),
            shards: usize::from(shards),
            backends: Vec::new(),
            clients: vec![0; usize::from(shards)],
            listeners: BTreeMap::new(),
            popularity: weights.collect(),
        };
        let mut backends = vec![0; load.shards];
        for _ in 0..API_CONNECTIONS * load.shards {
            let shard = load.accept(&mut backends, spread);
            load.backends.push(shard);
        }
        let mut counts = std::mem::take(&mut load.clients);
        for _ in 0..clients {
            let shard = load.accept(&mut counts, spread);
            load.add_client(shard);
        }
        load.clients = counts;
        load.machine.reset();
        load
    }

    fn accept(&mut self, counts: &mut [usize], spread: Spread) -> usize {
        let own = (self.random.next() * self.shards as f64) as usize;
        let chosen = match spread {
            Spread::Hashed => None,
            Spread::Balanced => choose(own, self.shards, |shard| counts[shard]),
        };
        let shard = chosen.unwrap_or(own);
        counts[shard] += 1;
        shard
    }

    fn add_client(&mut self, shard: usize) {
        let mut channels = BTreeSet::new();
        while channels.len() < SUBSCRIPTIONS {
            channels.insert(self.channel());
        }
        let channels: Vec<_> = channels.into_iter().collect();
        self.machine.connect(shard, &channels);
        for channel in channels {
            let (shards, subscribers) = self.listeners.entry(channel).or_default();
            shards.insert(shard);
            *subscribers += 1;
        }
    }

    /// Some channel, the popular ones more often.
    fn channel(&mut self) -> String {
        let total = self.popularity[CHANNELS - 1];
        let at = self.random.next() * total;
        format!("channel-{}", self.popularity.partition_point(|sum| *sum <= at))
    }

    /// Publishes for some rounds, a batch from every backend in each. Returns what it must lead to: publish messages, deliver messages, frames.
    pub fn publish(&mut self, rounds: usize, batch: usize) -> (u64, u64, u64) {
        let mut expected = (0, 0, 0);
        for _ in 0..rounds {
            for backend in 0..self.backends.len() {
                for _ in 0..batch {
                    self.publish_one(self.backends[backend], &mut expected);
                }
            }
            self.machine.round();
        }
        self.machine.settle();
        expected
    }

    fn publish_one(&mut self, shard: usize, expected: &mut (u64, u64, u64)) {
        // One to which somebody is subscribed: homes of others are not known here.
        let (channel, listening, subscribers) = loop {
            let channel = self.channel();
            if let Some((shards, subscribers)) = self.listeners.get(&channel) {
                break (channel, shards, *subscribers);
            }
        };
        let only = || *listening.first().expect("somebody is subscribed");
        let home = self.machine.homes.get(&channel).copied().unwrap_or_else(only);
        expected.0 += u64::from(home != shard);
        expected.1 += listening.iter().filter(|listener| **listener != home).count() as u64;
        expected.2 += subscribers;
        self.machine.publish(shard, &channel);
        self.publications += 1;
    }

    /// Connections of the fullest shard, in relation to the mean.
    pub fn connections(&self) -> f64 {
        skew(self.clients.iter().map(|count| *count as f64))
    }

    /// Likewise the channels by home.
    pub fn homes(&self) -> f64 {
        let mut counts = vec![0.0; self.shards];
        for (channel, (listening, _)) in &self.listeners {
            let only = || *listening.first().expect("somebody is subscribed");
            counts[self.machine.homes.get(channel).copied().unwrap_or_else(only)] += 1.0;
        }
        skew(counts)
    }
}

/// The greatest in relation to the mean.
pub fn skew(values: impl IntoIterator<Item = f64>) -> f64 {
    let values: Vec<_> = values.into_iter().collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.into_iter().fold(0.0, f64::max) / mean
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// From 0 to 1, which it never is.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
