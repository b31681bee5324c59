//! Shards and the rings between them, one turn after the other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringcast_proto::client::Encoding;
use ringcast_runtime::ring::ring_messages;
use ringcast_state::options::ClientOptions;
use ringcast_state::{
    ApiCallId, ConnectionId, Farewell, Frames, Framing, Message, Now, Options, Pings, Seeds, Shard, ShardId, Time,
    Transport, TransportKind, Visitor,
};

/// Messages taken of each ring per turn, as the runtime does.
const MESSAGES_PER_RING: usize = 256;

/// Time between two rounds: far from every deadline.
const ROUND: Duration = Duration::from_micros(100);

/// What went over the rings and to the clients.
#[derive(Debug, Default)]
pub struct Counts {
    /// To homes.
    pub publishes: u64,
    /// From homes to those who published.
    pub answers: u64,
    /// From homes to listening shards.
    pub deliveries: u64,
    /// Anything else.
    pub other: u64,
    /// To clients.
    pub frames: u64,
    /// To callers of the API.
    pub api_answers: u64,
}

/// How full rings were when their shard came to take.
#[derive(Debug)]
pub struct Occupancy {
    pub max: usize,
    /// Of those that were not empty.
    pub p99: usize,
    /// How often, after a turn, messages for another shard had found no room.
    pub held_back: usize,
    /// Rounds since counting began.
    pub rounds: usize,
}

pub struct Machine {
    stations: Vec<Station>,
    pub ring_messages: usize,
    pub counts: Counts,
    /// Home of each channel that a shard other than it subscribed to.
    pub homes: BTreeMap<String, usize>,
    now: Now,
    waiting: Vec<usize>,
    held_back: usize,
    rounds: usize,
    calls: u32,
}

struct Station {
    shard: Shard,
    /// What the others sent, by sender.
    rings: Vec<VecDeque<Message>>,
    connections: u32,
    frames: u64,
    busy: Duration,
}

impl Machine {
    pub fn new(shards: u16, seed: u64) -> Self {
        let now = Now { at: Time(1_000_000), unix_ms: 1_700_000_000_000 };
        let client = ClientOptions { insecure: true, ping_interval: Duration::ZERO, ..ClientOptions::default() };
        let options = Arc::new(Options { client, ..Options::default() });
        let station = |number: u16| Station {
            shard: Shard::new(ShardId(number), shards, options.clone(), seeds(seed, number), now),
            rings: (0..shards).map(|_| VecDeque::new()).collect(),
            connections: 0,
            frames: 0,
            busy: Duration::ZERO,
        };
        Machine {
            stations: (0..shards).map(station).collect(),
            ring_messages: ring_messages(usize::from(shards), size_of::<Message>()),
            counts: Counts::default(),
            homes: BTreeMap::new(),
            now,
            waiting: Vec::new(),
            held_back: 0,
            rounds: 0,
            calls: 0,
        }
    }

    /// A client on this shard that is subscribed to these channels when it returns.
    pub fn connect(&mut self, shard: usize, channels: &[String]) {
        let station = &mut self.stations[shard];
        let connection = ConnectionId { slot: station.connections, generation: 0 };
        station.connections += 1;
        let transport = Transport {
            encoding: Encoding::Json,
            framing: Framing::WebSocket,
            kind: TransportKind::WebSocket,
            pings: Pings::Messages,
            visitor: Visitor::UNKNOWN,
            farewell: Farewell::Push,
        };
        station.shard.handle_open(self.now, connection, transport);
        station.shard.handle_frame(self.now, connection, br#"{"id":1,"connect":{}}"#);
        self.settle();
        for (number, channel) in channels.iter().enumerate() {
            let command = format!(r#"{{"id":{},"subscribe":{{"channel":"{channel}"}}}}"#, number + 2);
            self.stations[shard].shard.handle_frame(self.now, connection, command.as_bytes());
        }
        self.settle();
    }

    /// The server API is called on this shard.
    pub fn publish(&mut self, shard: usize, channel: &str) {
        const DATA: &str =
            "a payload of some length, as long as those of most applications are, which is about a hundred bytes";
        self.calls += 1;
        let connection = ConnectionId { slot: u32::MAX, generation: 0 };
        let call = ApiCallId { connection, sequence: self.calls };
        let body = format!(r#"{{"channel":"{channel}","data":{{"text":"{DATA}"}}}}"#);
        let station = &mut self.stations[shard];
        let start = Instant::now();
        station.shard.handle_api(self.now, call, Some("publish"), body.as_bytes(), false);
        station.busy += start.elapsed();
    }

    /// One turn of every shard. Returns whether messages are left.
    pub fn round(&mut self) -> bool {
        self.rounds += 1;
        self.now.at = self.now.at + ROUND;
        (0..self.stations.len()).for_each(|shard| self.turn(shard));
        self.stations.iter().any(|station| station.rings.iter().any(|ring| !ring.is_empty()))
    }

    /// Rounds until nobody has anything to do.
    pub fn settle(&mut self) {
        while self.round() {}
    }

    fn turn(&mut self, own: usize) {
        let (now, counts) = (self.now, &mut self.counts);
        let station = &mut self.stations[own];
        let mut taken = Vec::new();
        for (from, ring) in station.rings.iter_mut().enumerate().filter(|(_, ring)| !ring.is_empty()) {
            self.waiting.push(ring.len());
            let batch = ring.len().min(MESSAGES_PER_RING);
            taken.extend(ring.drain(..batch).map(|message| (from, message)));
        }
        for (_, message) in &taken {
            count(counts, message);
            if let Message::Subscribe(subscribe) = message {
                self.homes.insert(subscribe.channel.to_string(), own);
            }
        }
        let start = Instant::now();
        for (from, message) in taken {
            station.shard.handle_message(now, ShardId(from as u16), message);
        }
        let frames = flush(&mut station.shard, self.now);
        while station.shard.take_api_answer().is_some() {
            counts.api_answers += 1;
        }
        station.busy += start.elapsed();
        assert!(station.shard.take_action().is_none(), "no client is closed here");
        station.frames += frames;
        counts.frames += frames;
        self.send(own);
    }

    fn send(&mut self, own: usize) {
        let room = self.ring_messages;
        for to in (0..self.stations.len()).filter(|to| *to != own) {
            // For the time of the call, so that both shards are at hand.
            let mut ring = std::mem::take(&mut self.stations[to].rings[own]);
            let station = &mut self.stations[own];
            let start = Instant::now();
            let outbox = station.shard.outbox(ShardId(to as u16));
            outbox.drain(|message| {
                if ring.len() >= room {
                    return Err(message);
                }
                ring.push_back(message);
                Ok(())
            });
            self.held_back += usize::from(!outbox.is_empty());
            assert_eq!(outbox.shed(), 0, "nothing is given up here");
            station.busy += start.elapsed();
            self.stations[to].rings[own] = ring;
        }
    }

    /// Forgets what was counted so far.
    pub fn reset(&mut self) {
        (self.counts, self.held_back, self.rounds) = (Counts::default(), 0, 0);
        self.waiting.clear();
        for station in &mut self.stations {
            (station.frames, station.busy) = (0, Duration::ZERO);
        }
    }

    pub fn occupancy(&self) -> Occupancy {
        let mut sorted = self.waiting.clone();
        sorted.sort_unstable();
        let p99 = sorted.get(sorted.len() * 99 / 100).copied().unwrap_or(0);
        let max = sorted.last().copied().unwrap_or(0);
        Occupancy { max, p99, held_back: self.held_back, rounds: self.rounds }
    }

    /// Time that each shard was at work.
    pub fn busy(&self) -> Vec<f64> {
        self.stations.iter().map(|station| station.busy.as_nanos() as f64).collect()
    }

    /// Frames that each shard handed to its clients.
    pub fn frames(&self) -> Vec<f64> {
        self.stations.iter().map(|station| station.frames as f64).collect()
    }
}

/// Writes to sockets that take everything. Returns the number of frames.
fn flush(shard: &mut Shard, now: Now) -> u64 {
    let mut written = 0;
    while let Some(connection) = shard.take_dirty(now) {
        match shard.take_frames(connection) {
            Some(Frames::One(_)) => written += 1,
            Some(Frames::Many(mut frames)) => {
                written += frames.len() as u64;
                frames.clear();
                shard.recycle(frames);
            }
            None => {}
        }
        shard.handle_flushed(connection);
    }
    written
}

fn count(counts: &mut Counts, message: &Message) {
    let counter = match message {
        Message::Publish(_) => &mut counts.publishes,
        Message::Published { .. } => &mut counts.answers,
        Message::Deliver { .. } => &mut counts.deliveries,
        _ => &mut counts.other,
    };
    *counter += 1;
}

fn seeds(seed: u64, shard: u16) -> Seeds {
    let mut own = [0; 32];
    own[..8].copy_from_slice(&seed.to_le_bytes());
    own[8..10].copy_from_slice(&shard.to_le_bytes());
    Seeds { home: seed, shard: own }
}
