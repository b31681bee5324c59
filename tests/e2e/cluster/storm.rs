//! Nodes that are killed and come back while clients recover from one to the next: nothing is lost in silence, nothing comes twice,
//! and the order holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use super::house::{Broker as _, Redis};
use crate::http;
use crate::server::{API_KEY, PATIENCE, Server};

const NODES: usize = 3;
const CLIENTS: usize = 200;
const ROOMS: usize = 8;

/// How long nodes are killed: 10 s, or what this variable says.
const SECONDS: &str = "RINGCAST_STORM_SECONDS";

/// Seed of the storm, for another one.
const SEED: &str = "RINGCAST_STORM_SEED";

/// How long nodes are killed, and the seed.
pub fn weather() -> (Duration, u64) {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    (Duration::from_secs(number(SECONDS, 10)), number(SEED, 7))
}

/// Dice with a seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: usize) -> usize {
        // Knuth's MMIX generator; its low bits are weak.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// What all threads see.
struct Storm {
    addresses: Vec<SocketAddr>,
    /// Clients are cut and nodes killed.
    rages: AtomicBool,
    /// What stands at each offset of each room, as the first told who heard of it; all others must have heard the same.
    told: Vec<Mutex<BTreeMap<u64, u64>>>,
    /// Offset of the last publication of each room, once there are no more.
    last: Mutex<Option<Vec<u64>>>,
    recoveries: AtomicUsize,
    /// Told that the position is not recoverable, which must not happen: the history holds everything.
    unrecovered: AtomicUsize,
}

impl Storm {
    #[track_caller]
    fn tell(&self, room: usize, offset: u64, number: u64) {
        let told = *self.told[room].lock().expect("nobody panicked").entry(offset).or_insert(number);
        assert_eq!(told, number, "two publications have offset {offset} of room {room}");
    }
}

fn room(number: usize) -> String {
    format!("storm:{}", number % ROOMS)
}

/// E02, E13, H04
#[test]
fn clients_miss_nothing_while_nodes_are_killed_and_come_back() {
    let (lasts, seed) = weather();
    let redis = Redis::start();
    let configs: Vec<Value> = (0..NODES).map(|number| config(&redis, number)).collect();
    let mut servers: Vec<Option<Server>> = configs.iter().map(|config| Some(Server::start_with(2, config))).collect();
    let storm = Arc::new(Storm {
        addresses: servers.iter().flatten().map(Server::address).collect(),
        rages: AtomicBool::new(true),
        told: (0..ROOMS).map(|_| Mutex::default()).collect(),
        last: Mutex::new(None),
        recoveries: AtomicUsize::new(0),
        unrecovered: AtomicUsize::new(0),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (storm, dice) = (storm.clone(), Dice(seed + 1000 + number as u64));
            let builder = thread::Builder::new().stack_size(256 << 10);
            builder.spawn(move || Listener::new(number, dice).run(&storm)).expect("a thread")
        })
        .collect();
    let publisher = {
        let storm = storm.clone();
        thread::spawn(move || publish(&storm, Dice(seed + 1)))
    };

    let (mut dice, began, mut kills) = (Dice(seed), Instant::now(), 0);
    while began.elapsed() < lasts {
        thread::sleep(Duration::from_millis(300 + dice.below(1200) as u64));
        let victim = dice.below(NODES);
        // Dropped, it is killed.
        servers[victim] = None;
        kills += 1;
        thread::sleep(Duration::from_millis(dice.below(700) as u64));
        servers[victim] = Some(Server::start_with(2, &configs[victim]));
    }
    storm.rages.store(false, Ordering::Relaxed);
    let published = publisher.join().expect("everything could be published");
    let heard: Vec<Heard> = clients.into_iter().map(|client| client.join().expect("a client is level")).collect();
    assert_eq!(storm.unrecovered.load(Ordering::Relaxed), 0, "positions were lost");
    let (recoveries, total) =
        (storm.recoveries.load(Ordering::Relaxed), heard.iter().map(|heard| heard.count).sum::<u64>());
    assert!(recoveries > CLIENTS, "{recoveries} recoveries are no storm");
    crate::server::write_stderr(&format!(
        "{kills} kills, {recoveries} recoveries, {published} publications acknowledged, {total} heard\n"
    ));
}

fn config(redis: &Redis, number: usize) -> Value {
    let mut config = redis.config(&format!("node{number}"));
    let namespace = json!({
        "name": "storm", "history_size": 1_000_000, "history_ttl": "3600s", "force_recovery": true,
        "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
    });
    config["channel"]["namespaces"].as_array_mut().expect("a list").push(namespace);
    config["client"]["recovery_max_publication_limit"] = json!(100_000);
    config["log"]["level"] = json!("info");
    config
}

/// Publishes rising numbers to each room until the storm is over, through whichever node answers, and then tells how far each
/// room went. Returns how many were acknowledged.
fn publish(storm: &Storm, mut dice: Dice) -> u64 {
    let (mut acknowledged, mut last) = (0, vec![0; ROOMS]);
    let mut number = 0u64;
    while storm.rages.load(Ordering::Relaxed) || last.contains(&0) {
        let channel = dice.below(ROOMS);
        number += 1;
        if let Some(offset) = try_publish(storm.addresses[dice.below(NODES)], &room(channel), number) {
            assert!(offset > last[channel], "{offset} after {}", last[channel]);
            storm.tell(channel, offset, number);
            last[channel] = offset;
            acknowledged += 1;
        }
        thread::sleep(Duration::from_millis(2));
    }
    // One that was not acknowledged may have been published: the end of each room is one that was.
    for (channel, last) in last.iter_mut().enumerate() {
        let began = Instant::now();
        *last = loop {
            let address = storm.addresses[dice.below(NODES)];
            if let Some(offset) = try_publish(address, &room(channel), number) {
                break offset;
            }
            assert!(began.elapsed() < PATIENCE, "nobody publishes");
        };
    }
    *storm.last.lock().expect("nobody panicked") = Some(last);
    acknowledged
}

fn try_publish(address: SocketAddr, channel: &str, number: u64) -> Option<u64> {
    publish_at(address, channel, number)?["offset"].as_u64()
}

/// The result, if it was acknowledged.
pub fn publish_at(address: SocketAddr, channel: &str, number: u64) -> Option<Value> {
    let body = json!({"channel": channel, "data": number}).to_string();
    let request = format!(
        "POST /api/publish HTTP/1.1\r\nHost: h\r\nX-API-Key: {API_KEY}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = http::raw(address, request.as_bytes()).filter(|reply| reply.status == 200)?;
    reply.json().get("result").cloned()
}

pub type Socket = WebSocket<MaybeTlsStream<std::net::TcpStream>>;

/// A connection whose reads end after 100 ms; nothing where nobody listens.
pub fn dial(address: SocketAddr) -> Option<Socket> {
    let stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(100))).ok()?;
    let url = format!("ws://{address}/connection/websocket");
    let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
    let stream = MaybeTlsStream::Plain(stream);
    let patience = Instant::now() + PATIENCE;
    let mut handshake = tungstenite::client::client_with_config(url, stream, Some(config));
    loop {
        match handshake {
            Ok((socket, _)) => return Some(socket),
            Err(tungstenite::HandshakeError::Interrupted(more)) if Instant::now() < patience => {
                handshake = more.handshake();
            }
            Err(_) => return None,
        }
    }
}

/// What a client heard.
struct Heard {
    count: u64,
}

/// A client that recovers whenever it is cut.
struct Listener {
    room: String,
    place: usize,
    dice: Dice,
    /// Offset and epoch of the last publication heard.
    position: Option<(u64, String)>,
    count: u64,
}

impl Listener {
    fn new(number: usize, dice: Dice) -> Listener {
        Listener { room: room(number), place: number % ROOMS, dice, position: None, count: 0 }
    }

    /// Until it has heard the last publication of its room.
    fn run(mut self, storm: &Storm) -> Heard {
        let mut calm_since = None;
        while !self.is_level(storm) {
            // An error is a cut: a node was killed, or has not started yet.
            if self.listen(storm).is_none() {
                thread::sleep(Duration::from_millis(20 + self.dice.below(50) as u64));
            }
            if storm.last.lock().expect("nobody panicked").is_some() {
                let since: &mut Instant = calm_since.get_or_insert_with(Instant::now);
                assert!(since.elapsed() < PATIENCE, "{} stands at {:?}", self.room, self.position);
            }
        }
        Heard { count: self.count }
    }

    fn is_level(&self, storm: &Storm) -> bool {
        let last = storm.last.lock().expect("nobody panicked");
        last.as_ref().is_some_and(|last| self.position.as_ref().is_some_and(|(offset, _)| *offset >= last[self.place]))
    }

    /// One connection, until it is cut; sooner or later the client does so itself.
    fn listen(&mut self, storm: &Storm) -> Option<()> {
        let mut socket = dial(storm.addresses[self.dice.below(NODES)])?;
        let mut subscribe = json!({"channel": self.room});
        if let Some((offset, epoch)) = &self.position {
            subscribe["recover"] = json!(true);
            subscribe["offset"] = json!(offset);
            subscribe["epoch"] = json!(epoch);
        }
        let commands = format!("{}\n{}", json!({"id": 1, "connect": {}}), json!({"id": 2, "subscribe": subscribe}));
        socket.send(Message::text(commands)).ok()?;
        let cut_at = Instant::now() + Duration::from_millis(500 + self.dice.below(4000) as u64);
        loop {
            match self.read(&mut socket, storm) {
                Ok(()) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return Some(()),
            }
            let is_cut = cut_at < Instant::now() && storm.rages.load(Ordering::Relaxed);
            if is_cut || self.is_level(storm) {
                return Some(());
            }
        }
    }

    fn read(&mut self, socket: &mut Socket, storm: &Storm) -> tungstenite::Result<()> {
        let message = socket.read()?;
        let Message::Text(text) = message else { return Ok(()) };
        for line in text.lines() {
            let message: Value = serde_json::from_str(line).expect("a line is JSON");
            if message == json!({}) {
                socket.send(Message::text("{}"))?;
            } else if message["id"] == 2 {
                let reply = &message["subscribe"];
                // Not now: the node has just started, and tells so.
                if reply.is_null() {
                    assert!(message["error"]["temporary"] == true, "{message}");
                    return Err(tungstenite::Error::ConnectionClosed);
                }
                self.subscribed(reply, storm);
            } else if let Some(publication) = message["push"].get("pub") {
                self.hear(publication, storm);
            } else if message["push"].get("unsubscribe").is_some() {
                // Insufficient state: told, and so recovered.
                return Err(tungstenite::Error::ConnectionClosed);
            }
        }
        Ok(())
    }

    fn subscribed(&mut self, reply: &Value, storm: &Storm) {
        let epoch = reply["epoch"].as_str().expect("a position").to_owned();
        let offset = reply["offset"].as_u64().unwrap_or(0);
        if self.position.is_none() {
            self.position = Some((offset, epoch));
            return;
        }
        storm.recoveries.fetch_add(1, Ordering::Relaxed);
        if reply["recovered"] != true {
            // Told so: it goes on from there. Whether that was right is decided at the end.
            storm.unrecovered.fetch_add(1, Ordering::Relaxed);
            self.position = Some((offset, epoch));
            return;
        }
        let asked_from = self.position.as_ref().map(|(offset, _)| *offset);
        assert_eq!(Some(offset), asked_from, "{}: another place than asked for: {reply}", self.room);
        for publication in reply["publications"].as_array().into_iter().flatten() {
            self.hear(publication, storm);
        }
    }

    fn hear(&mut self, publication: &Value, storm: &Storm) {
        let (offset, number) = (publication["offset"].as_u64(), publication["data"].as_u64());
        let (heard, _) = self.position.as_mut().expect("subscribed before");
        assert_eq!(offset, Some(*heard + 1), "{}: a loss, a duplicate or disorder", self.room);
        *heard += 1;
        storm.tell(self.place, *heard, number.expect("numbers are published"));
        self.count += 1;
    }
}
