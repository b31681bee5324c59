//! Nodes on NATS that are killed and come back. NATS keeps nothing: who is cut has missed what was published meanwhile. But for as
//! long as a client is connected it hears everything that was acknowledged since it subscribed, once and in order.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;

use super::house::{Broker as _, wait_for};
use super::storm::{Dice, Socket, dial, publish_at, weather};
use crate::nats::peer::NatsServer;
use crate::server::{PATIENCE, Server};

const NODES: usize = 3;
const CLIENTS: usize = 60;
const ROOMS: usize = 4;

/// What all threads see.
struct Storm {
    addresses: Vec<SocketAddr>,
    /// Clients are cut and nodes killed.
    rages: AtomicBool,
    /// The highest number that anybody began to publish.
    begun: AtomicU64,
    /// Numbers that were acknowledged, of each room.
    acknowledged: Vec<Mutex<BTreeSet<u64>>>,
    /// Clients that are subscribed after the storm.
    calm: AtomicUsize,
    /// The last number of each room; 0 while that is not known.
    last: Vec<AtomicU64>,
    sessions: AtomicUsize,
}

fn room(number: usize) -> String {
    format!("quiet:{}", number % ROOMS)
}

/// E07, E13
#[test]
fn who_stays_connected_hears_everything_while_nodes_on_nats_are_killed() {
    let (lasts, seed) = weather();
    let nats = NatsServer::start();
    let configs: Vec<Value> = (0..NODES).map(|number| nats.config(&format!("node{number}"))).collect();
    let mut servers: Vec<Option<Server>> = configs.iter().map(|config| Some(Server::start_with(2, config))).collect();
    let storm = Arc::new(Storm {
        addresses: servers.iter().flatten().map(Server::address).collect(),
        rages: AtomicBool::new(true),
        begun: AtomicU64::new(0),
        acknowledged: (0..ROOMS).map(|_| Mutex::default()).collect(),
        calm: AtomicUsize::new(0),
        last: (0..ROOMS).map(|_| AtomicU64::new(0)).collect(),
        sessions: AtomicUsize::new(0),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (storm, dice) = (storm.clone(), Dice(seed + 1000 + number as u64));
            thread::spawn(move || listen(&storm, number % ROOMS, dice))
        })
        .collect();
    let publisher = {
        let (storm, mut dice) = (storm.clone(), Dice(seed + 1));
        thread::spawn(move || {
            while storm.rages.load(Ordering::SeqCst) {
                publish(&storm, dice.below(ROOMS), dice.below(NODES));
                thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let (mut dice, began, mut kills) = (Dice(seed), Instant::now(), 0);
    while began.elapsed() < lasts {
        thread::sleep(Duration::from_millis(500 + dice.below(1500) as u64));
        let victim = dice.below(NODES);
        // Dropped, it is killed.
        servers[victim] = None;
        kills += 1;
        thread::sleep(Duration::from_millis(dice.below(700) as u64));
        servers[victim] = Some(Server::start_with(2, &configs[victim]));
    }
    storm.rages.store(false, Ordering::SeqCst);
    publisher.join().expect("no panic");
    wait_for("all are subscribed", || storm.calm.load(Ordering::SeqCst) == CLIENTS);
    for room in 0..ROOMS {
        let last = publish(&storm, room, room % NODES).expect("nobody is killed any more");
        storm.last[room].store(last, Ordering::SeqCst);
    }
    let heard: usize = clients.into_iter().map(|client| client.join().expect("a client is content")).sum();
    let acknowledged: usize = storm.acknowledged.iter().map(|room| room.lock().expect("no panic").len()).sum();
    let sessions = storm.sessions.load(Ordering::SeqCst);
    assert!(sessions > CLIENTS && heard > acknowledged, "{sessions} sessions that heard {heard} are no storm");
    crate::server::write_stderr(&format!(
        "{kills} kills, {sessions} sessions, {acknowledged} publications acknowledged, {heard} heard\n"
    ));
}

/// The number that was published, if it was acknowledged.
fn publish(storm: &Storm, place: usize, node: usize) -> Option<u64> {
    let number = storm.begun.fetch_add(1, Ordering::SeqCst) + 1;
    publish_at(storm.addresses[node], &room(place), number)?;
    storm.acknowledged[place].lock().expect("nobody panicked").insert(number);
    Some(number)
}

/// Connects again and again until it has heard the last publication of its room; tells how many it heard.
fn listen(storm: &Storm, place: usize, mut dice: Dice) -> usize {
    let mut heard = 0;
    loop {
        let socket = dial(storm.addresses[dice.below(NODES)]);
        let cut_at = Instant::now() + Duration::from_millis(500 + dice.below(4000) as u64);
        if let Some(session) = socket.and_then(|socket| Session::begin(socket, storm, place)) {
            storm.sessions.fetch_add(1, Ordering::SeqCst);
            let (numbers, is_over) = session.hear(storm, place, cut_at);
            heard += numbers;
            if is_over {
                return heard;
            }
        } else {
            thread::sleep(Duration::from_millis(20 + dice.below(50) as u64));
        }
    }
}

/// A client that is subscribed.
struct Session {
    socket: Socket,
    /// What was begun later than this it must hear.
    since: u64,
    numbers: Vec<u64>,
}

impl Session {
    fn begin(mut socket: Socket, storm: &Storm, place: usize) -> Option<Session> {
        let subscribe = json!({"id": 2, "subscribe": {"channel": room(place)}});
        socket.send(Message::text(format!("{}\n{subscribe}", json!({"id": 1, "connect": {}})))).ok()?;
        let mut session = Session { socket, since: 0, numbers: Vec::new() };
        let (patience, mut is_subscribed) = (Instant::now() + PATIENCE, false);
        loop {
            for message in session.read().ok()? {
                if message["id"] == 2 {
                    assert!(message.get("subscribe").is_some() || message["error"]["temporary"] == true, "{message}");
                    message.get("subscribe")?;
                    session.since = storm.begun.load(Ordering::SeqCst);
                    is_subscribed = true;
                }
                session.numbers.extend(message["push"]["pub"]["data"].as_u64());
            }
            if is_subscribed {
                return Some(session);
            }
            assert!(Instant::now() < patience, "a subscription is not answered");
        }
    }

    /// Until it is cut, or has heard the last publication, which is told.
    fn hear(mut self, storm: &Storm, place: usize, cut_at: Instant) -> (usize, bool) {
        let mut is_calm = false;
        let mut patience = None;
        let is_over = loop {
            let Ok(messages) = self.read() else { break false };
            self.numbers.extend(messages.iter().filter_map(|message| message["push"]["pub"]["data"].as_u64()));
            let last = storm.last[place].load(Ordering::SeqCst);
            if last > 0 && self.numbers.contains(&last) {
                break true;
            }
            if storm.rages.load(Ordering::SeqCst) {
                if cut_at < Instant::now() {
                    break false;
                }
                continue;
            }
            if !is_calm {
                is_calm = true;
                storm.calm.fetch_add(1, Ordering::SeqCst);
            }
            let since = patience.get_or_insert_with(Instant::now);
            assert!(since.elapsed() < PATIENCE * 2, "the last publication does not come");
        };
        if is_calm && !is_over {
            storm.calm.fetch_sub(1, Ordering::SeqCst);
        }
        self.check(storm, place);
        (self.numbers.len(), is_over)
    }

    fn check(&self, storm: &Storm, place: usize) {
        let acknowledged = storm.acknowledged[place].lock().expect("nobody panicked");
        let heard: BTreeSet<u64> = self.numbers.iter().copied().collect();
        assert_eq!(heard.len(), self.numbers.len(), "{}: a duplicate: {:?}", room(place), self.numbers);
        // One that was not acknowledged may come late: its node was killed, and NATS has not yet read all that it wrote.
        let ordered: Vec<u64> = self.numbers.iter().copied().filter(|number| acknowledged.contains(number)).collect();
        assert!(ordered.is_sorted(), "{}: disorder: {ordered:?}", room(place));
        let Some(last) = ordered.last().filter(|last| **last > self.since) else { return };
        let lost: Vec<_> = acknowledged.range(self.since + 1..*last).filter(|number| !heard.contains(number)).collect();
        assert!(lost.is_empty(), "{}: acknowledged since {} and not heard: {lost:?}", room(place), self.since);
    }

    /// The messages of a frame; none when nothing came for a while.
    fn read(&mut self) -> tungstenite::Result<Vec<Value>> {
        let text = match self.socket.read() {
            Ok(Message::Text(text)) => text,
            Ok(_) => return Ok(Vec::new()),
            Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let messages: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        if messages.contains(&json!({})) {
            self.socket.send(Message::text("{}"))?;
        }
        Ok(messages)
    }
}
