//! Shards, rings, sockets, clients and a clock in one thread, moved by the numbers of a seed.

use crate::backend::{Backend, Request};
use crate::client::{Client, Context, Phase};
use crate::model::Model;
use crate::random::Random;
use crate::scenario::Scenario;
use crate::token;
use crate::trace::{Detail, Trace};
use crate::transport::Means;
use ringcast_proto::client::EmulationRequest;
use ringcast_state::{Action, ConnectionId, Frames, Message, Now, Options, Seeds, Shard, ShardId, Time};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long a turn may have taken when a shard acts on the time of its beginning, microseconds.
const TURN_MAX: usize = 100;

/// Everything there is in one run.
pub struct World {
    pub scenario: Scenario,
    pub random: Random,
    pub now: Now,
    /// How far the wall clock was put forward, milliseconds.
    turned: i64,
    /// No descriptor for a new connection until then.
    full_until: Time,
    pub stations: Vec<Station>,
    pub clients: Vec<Client>,
    pub users: Vec<String>,
    pub backend: Backend,
    pub model: Model,
    pub trace: Trace,
    /// Answers of the API are wanted by the check at rest.
    pub keep_answers: bool,
    /// Commands of clients, and calls but for those of the check at rest.
    pub operations: u64,
}

/// A shard with what surrounds it.
pub struct Station {
    pub shard: Shard,
    /// What the others sent, by sender.
    rings: Vec<VecDeque<(Time, Message)>>,
    slots: Vec<Slot>,
    calls: VecDeque<Request>,
    /// Requests to the emulation endpoint.
    emulated: VecDeque<EmulationRequest>,
    stalled_until: Time,
    /// There are no buffers to receive into until then.
    dry_until: Time,
    /// The clock as the shard read it at the beginning of its turn.
    now: Now,
    /// Options of a reload that the shard has not taken yet.
    news: Option<Arc<Options>>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    link: Option<Link>,
}

/// A connection between a client and a shard.
struct Link {
    client: usize,
    is_open: bool,
    /// The first frame has come.
    is_begun: bool,
    /// Shard that takes the requests of an emulated client.
    emulator: usize,
    /// Frames on their way to the shard.
    inbound: VecDeque<Vec<u8>>,
    is_paused: bool,
    /// The socket takes nothing until then.
    blocked_until: Time,
    /// Taken from the shard, not taken by the socket yet.
    unsent: Option<Vec<u8>>,
    /// On their way to the client.
    outbound: Vec<u8>,
    /// The client is not there any more.
    is_cut: bool,
    /// The shard has closed it.
    is_closed: bool,
}

impl World {
    pub fn new(seed: u64, detail: Detail) -> Self {
        let mut random = Random::new(seed);
        let scenario = Scenario::new(&mut random);
        let now = token::clocks(Time(1000 + random.below(1 << 40) as u64), 0);
        let stations = stations(&scenario, now);
        let users: Vec<String> =
            (0..scenario.users).map(|i| if i == 0 { String::new() } else { format!("u{i}") }).collect();
        let clients = (0..scenario.clients).map(|number| {
            let means = Means::draw(&mut random);
            Client::new(number, random.pick(&users).clone(), means)
        });
        let clients = clients.collect();
        let mut trace = Trace::new(detail);
        trace.note(|| format!("{scenario:?}"));
        let (backend, model) = (Backend::default(), Model::default());
        World {
            scenario,
            random,
            now,
            turned: 0,
            full_until: Time(0),
            stations,
            clients,
            users,
            backend,
            model,
            trace,
            keep_answers: false,
            operations: 0,
        }
    }

    /// What clients and the backend look at, and the client itself.
    pub fn client(&mut self, number: usize) -> (&mut Client, Context<'_>) {
        let shed = self.shed();
        let context = Context {
            scenario: &self.scenario,
            model: &mut self.model,
            trace: &mut self.trace,
            now: self.now.at,
            unix_ms: self.now.unix_ms,
            shed,
        };
        (&mut self.clients[number], context)
    }

    pub fn backend(&mut self) -> (&mut Backend, Context<'_>, &mut Random, &[String]) {
        let context = Context {
            scenario: &self.scenario,
            model: &mut self.model,
            trace: &mut self.trace,
            now: self.now.at,
            unix_ms: self.now.unix_ms,
            shed: 0,
        };
        (&mut self.backend, context, &mut self.random, &self.users)
    }

    fn shed(&mut self) -> u64 {
        let shards = self.scenario.shards;
        let outboxes =
            |station: &mut Station| (0..shards).map(|to| station.shard.outbox(ShardId(to)).shed()).sum::<u64>();
        self.stations.iter_mut().map(outboxes).sum()
    }

    pub fn pass(&mut self, span: Duration) {
        self.now = token::clocks(self.now.at + span, self.turned);
    }

    /// Somebody sets the wall clock.
    pub fn turn_clock(&mut self, by_ms: i64) {
        self.turned += by_ms;
        self.trace.note(|| format!("the wall clock is put by {by_ms} ms"));
        self.pass(Duration::ZERO);
    }

    /// The shard and slot of a client's connection.
    fn place(&self, client: usize) -> Option<(usize, usize)> {
        self.stations.iter().enumerate().find_map(|(number, station)| {
            let is_its =
                |slot: &Slot| slot.link.as_ref().is_some_and(|l| l.client == client && !l.is_cut && !l.is_closed);
            station.slots.iter().position(is_its).map(|slot| (number, slot))
        })
    }

    fn link(&mut self, client: usize) -> Option<&mut Link> {
        let (station, slot) = self.place(client)?;
        self.stations[station].slots[slot].link.as_mut()
    }

    /// Gives a client a transport to some shard; false when nobody is accepted.
    pub fn open(&mut self, client: usize) -> bool {
        let number = self.random.below(self.stations.len());
        let emulator = self.random.below(self.stations.len());
        if self.full_until > self.now.at {
            return false;
        }
        let station = &mut self.stations[number];
        let slot = station.slots.iter().position(|slot| slot.link.is_none()).unwrap_or_else(|| {
            station.slots.push(Slot::default());
            station.slots.len() - 1
        });
        station.slots[slot].generation += 1;
        station.slots[slot].link = Some(Link {
            client,
            is_open: false,
            is_begun: false,
            emulator,
            inbound: VecDeque::new(),
            is_paused: false,
            blocked_until: Time(0),
            unsent: None,
            outbound: Vec::new(),
            is_cut: false,
            is_closed: false,
        });
        self.clients[client].opened();
        self.trace.note(|| format!("client {client} opens slot {slot} of shard {number}"));
        true
    }

    /// A client writes a frame.
    pub fn send(&mut self, client: usize, frame: Vec<u8>) {
        if let Some(link) = self.link(client) {
            link.inbound.push_back(frame);
        }
    }

    pub fn block(&mut self, client: usize, span: Duration) {
        let until = self.now.at + span;
        if let Some(link) = self.link(client) {
            link.blocked_until = until;
        }
    }

    /// The network or the client ends the connection; some of what was on its way still arrives.
    pub fn cut(&mut self, client: usize) {
        let Some((station, slot)) = self.place(client) else { return };
        let Some(link) = self.stations[station].slots[slot].link.as_mut() else { return };
        link.is_cut = true;
        let mut bytes = std::mem::take(&mut link.outbound);
        bytes.truncate(self.random.below(bytes.len() + 1));
        let keep = self.random.below(link.inbound.len() + 1);
        link.inbound.truncate(keep);
        self.trace.note(|| format!("client {client} is cut"));
        let (client, mut context) = self.client(client);
        client.receive(&mut context, &mut bytes);
        client.closed(&mut context, None);
    }

    pub fn stall(&mut self, span: Duration) {
        let shard = self.random.below(self.stations.len());
        self.trace.note(|| format!("shard {shard} stalls for {span:?}"));
        self.stations[shard].stalled_until = self.now.at + span;
    }

    /// No buffers for what connections send to a shard.
    pub fn dry(&mut self, span: Duration) {
        let shard = self.random.below(self.stations.len());
        self.trace.note(|| format!("shard {shard} has no buffers for {span:?}"));
        self.stations[shard].dry_until = self.now.at + span;
    }

    /// Nobody is accepted any more.
    pub fn fill(&mut self, span: Duration) {
        self.trace.note(|| format!("no descriptor is left for {span:?}"));
        self.full_until = self.now.at + span;
    }

    /// The process is killed, with all that it knew, and another one begins.
    pub fn restart(&mut self) {
        self.trace.note(|| "the process is killed".to_owned());
        for client in 0..self.clients.len() {
            self.cut(client);
        }
        let (backend, mut context, ..) = self.backend();
        backend.lost(&mut context);
        self.model.restarted();
        let home = self.random.bits();
        for seeds in &mut self.scenario.seeds {
            *seeds = Seeds { home, shard: self.random.seed() };
        }
        self.stations = stations(&self.scenario, self.now);
    }

    /// Other options, which shards take one after the other.
    pub fn reload(&mut self) {
        self.scenario.in_force = (self.scenario.in_force + 1) % self.scenario.options.len();
        let number = self.scenario.in_force;
        self.trace.note(|| format!("options {number} are loaded"));
        let options = Arc::new(self.scenario.options().clone());
        for station in &mut self.stations {
            station.news = Some(Arc::clone(&options));
        }
    }

    /// Hands a call to some shard.
    pub fn call(&mut self, request: Request) {
        let shard = self.random.below(self.stations.len());
        self.stations[shard].calls.push_back(request);
    }

    /// One turn of a shard. `eager`: everything that can be done is done. False when there was nothing to do.
    pub fn turn(&mut self, shard: usize, eager: bool) -> bool {
        if self.stations[shard].stalled_until > self.now.at {
            return false;
        }
        self.read_clock(shard);
        if let Some(news) = self.stations[shard].news.take_if(|_| eager || self.random.one_in(3)) {
            self.stations[shard].shard.set_options(news);
        }
        let mut is_busy = self.take_messages(shard, eager);
        is_busy |= self.take_frames_and_calls(shard, eager);
        let station = &mut self.stations[shard];
        let now = station.now;
        if station.shard.next_timeout().is_some_and(|due| due <= now.at) {
            station.shard.handle_timeout(now);
            is_busy = true;
        }
        is_busy |= self.carry_out(shard);
        is_busy |= self.flush(shard, eager);
        is_busy |= self.fill_rings(shard, eager);
        is_busy
    }

    /// A shard reads the clock once per turn, so that another may be ahead of it.
    fn read_clock(&mut self, shard: usize) {
        let behind = self.random.below(TURN_MAX) as u64;
        let station = &mut self.stations[shard];
        let at = Time(self.now.at.0 - behind).max(station.now.at);
        station.now = token::clocks(at, self.turned);
    }

    fn take_messages(&mut self, shard: usize, eager: bool) -> bool {
        let first = self.random.below(self.stations.len());
        let (arrived, now) = (self.now.at, self.stations[shard].now);
        let mut is_busy = false;
        for i in 0..self.stations.len() {
            let from = (first + i) % self.stations.len();
            let batch = if eager { usize::MAX } else { 1 + self.random.below(self.scenario.batch_max) };
            for _ in 0..batch {
                let station = &mut self.stations[shard];
                let ring = &mut station.rings[from];
                if ring.front().is_none_or(|(ready_at, _)| *ready_at > arrived) {
                    break;
                }
                let Some((_, message)) = ring.pop_front() else { break };
                self.trace.note(|| format!("shard {shard} gets from {from} {message:?}"));
                station.shard.handle_message(now, ShardId(from as u16), message);
                is_busy = true;
            }
        }
        is_busy
    }

    fn take_frames_and_calls(&mut self, shard: usize, eager: bool) -> bool {
        let now = self.stations[shard].now;
        let is_dry = self.stations[shard].dry_until > self.now.at;
        let (mut is_busy, mut emulated) = (false, Vec::new());
        for slot in 0..self.stations[shard].slots.len() {
            let is_lucky = eager || !self.random.one_in(3);
            let count = if eager { usize::MAX } else { 1 + self.random.below(4) };
            let station = &mut self.stations[shard];
            let generation = station.slots[slot].generation;
            let connection = ConnectionId { slot: slot as u32, generation };
            let Some(link) = station.slots[slot].link.as_mut().filter(|_| is_lucky) else { continue };
            if !link.is_open {
                link.is_open = true;
                let transport = self.clients[link.client].means.transport();
                station.shard.handle_open(now, connection, transport);
            }
            for _ in 0..count {
                if link.is_paused || link.is_closed || is_dry {
                    break;
                }
                let client = &self.clients[link.client];
                if link.is_cut && client.means.is_emulated() {
                    // Its client has another session by now.
                    break;
                }
                let is_first = !std::mem::replace(&mut link.is_begun, true);
                match client.session.clone().filter(|_| client.means.is_emulated() && !is_first) {
                    // Nothing follows the first request before the session is known.
                    None if client.means.is_emulated() && !is_first && client.phase == Phase::Connecting => break,
                    Some(session) => {
                        let Some(frame) = link.inbound.pop_front() else { break };
                        emulated.push((link.emulator, session, frame));
                    }
                    None => {
                        let Some(frame) = link.inbound.pop_front() else {
                            link.is_begun = !is_first;
                            break;
                        };
                        station.shard.handle_frame(now, connection, &frame);
                    }
                }
                is_busy = true;
            }
            if link.is_cut || link.is_closed {
                station.shard.handle_close(now, connection);
                station.slots[slot].link = None;
                is_busy = true;
            }
        }
        let node = self.scenario.options().node.uid.clone();
        for (emulator, session, data) in emulated {
            let request = EmulationRequest { node: node.clone(), session, data: data.into() };
            self.stations[emulator].emulated.push_back(request);
        }
        let station = &mut self.stations[shard];
        while let Some(request) = station.emulated.pop_front() {
            // A shard that is too busy for it is asked again.
            if station.shard.handle_emulation(now, &request).is_err() {
                station.emulated.push_front(request);
                break;
            }
            is_busy = true;
        }
        while let Some(request) = self.stations[shard].calls.pop_front() {
            self.stations[shard].shard.handle_api(now, request.call, Some(request.path), &request.body, false);
            is_busy = true;
        }
        is_busy
    }

    fn carry_out(&mut self, shard: usize) -> bool {
        let mut is_busy = false;
        while let Some(action) = self.stations[shard].shard.take_action() {
            is_busy = true;
            self.trace.note(|| format!("shard {shard} wants {action:?}"));
            match action {
                Action::PauseReceive { connection } => self.pause(shard, connection, true),
                Action::ResumeReceive { connection } => self.pause(shard, connection, false),
                Action::Disconnect { connection, disconnect, flush } => {
                    self.disconnect(shard, connection, disconnect.code, flush);
                }
            }
        }
        while let Some(answer) = self.stations[shard].shard.take_api_answer() {
            is_busy = true;
            let keep = self.keep_answers;
            let (backend, mut context, ..) = self.backend();
            backend.answered(&mut context, &answer, keep);
        }
        is_busy
    }

    fn pause(&mut self, shard: usize, connection: ConnectionId, is_paused: bool) {
        let slot = &mut self.stations[shard].slots[connection.slot as usize];
        assert_eq!(slot.generation, connection.generation, "an action for a connection that is gone");
        if let Some(link) = &mut slot.link {
            assert_ne!(link.is_paused, is_paused, "paused or resumed twice");
            link.is_paused = is_paused;
            let client = &mut self.clients[link.client];
            if client.means.is_emulated() {
                // There is nothing to pause.
                client.excuses.push(3013);
            }
        }
    }

    /// The shard is done with a connection: what waits is written where the socket takes it, then the code.
    fn disconnect(&mut self, shard: usize, connection: ConnectionId, code: u32, flush: bool) {
        let station = &mut self.stations[shard];
        let frames = station.shard.take_frames(connection);
        let slot = &mut station.slots[connection.slot as usize];
        assert_eq!(slot.generation, connection.generation, "a connection is closed once");
        // The socket may have gone in the same turn.
        let Some(link) = slot.link.as_mut() else { return };
        assert!(!link.is_closed, "a connection is closed once");
        link.is_closed = true;
        let number = link.client;
        let is_emulated = self.clients[number].means.is_emulated();
        assert!(flush || is_emulated || frames.is_none(), "a connection that is not flushed has an empty queue");
        if link.is_cut {
            return;
        }
        let mut bytes = std::mem::take(&mut link.outbound);
        let is_told = link.unsent.is_none() && link.blocked_until <= self.now.at && !self.random.one_in(6);
        if is_told {
            bytes.extend(frames.into_iter().flat_map(bytes_of));
        }
        let (client, mut context) = self.client(number);
        client.receive(&mut context, &mut bytes);
        client.closed(&mut context, is_told.then_some(code));
    }

    fn flush(&mut self, shard: usize, eager: bool) -> bool {
        let (now, short_one_in) = (self.now.at, self.scenario.short_one_in);
        let mut is_busy = false;
        let station = &mut self.stations[shard];
        for number in 0..station.slots.len() {
            let slot = &mut station.slots[number];
            let connection = ConnectionId { slot: number as u32, generation: slot.generation };
            let Some(link) = &mut slot.link else { continue };
            if link.blocked_until <= now
                && let Some(bytes) = link.unsent.take()
            {
                link.outbound.extend(bytes);
                is_busy = true;
                if station.shard.handle_flushed(connection)
                    && let Some(frames) = station.shard.take_frames(connection)
                {
                    link.outbound.extend(bytes_of(frames));
                    assert!(!station.shard.handle_flushed(connection), "a queue that was taken is empty");
                }
            }
        }
        while let Some(connection) = station.shard.take_dirty(station.now) {
            is_busy = true;
            let slot = &mut station.slots[connection.slot as usize];
            let Some(link) = slot.link.as_mut().filter(|_| slot.generation == connection.generation) else { continue };
            if link.unsent.is_some() {
                continue;
            }
            let Some(frames) = station.shard.take_frames(connection) else { continue };
            assert!(!link.is_closed, "a closed connection got output");
            let mut bytes = bytes_of(frames);
            if link.blocked_until > now {
                link.unsent = Some(bytes);
            } else if short_one_in > 0 && self.random.one_in(short_one_in) {
                // The rest goes when the socket is writable again, with the next turn or later.
                link.unsent = Some(bytes.split_off(self.random.below(bytes.len())));
                link.outbound.extend(bytes);
            } else {
                link.outbound.extend(bytes);
                assert!(!station.shard.handle_flushed(connection), "a queue that was taken is empty");
            }
        }
        for slot in 0..self.stations[shard].slots.len() {
            is_busy |= self.arrive(shard, slot, eager);
        }
        is_busy
    }

    /// Bytes reach a client, maybe not all that are on their way.
    fn arrive(&mut self, shard: usize, slot: usize, eager: bool) -> bool {
        let is_late = !eager && self.random.one_in(3);
        let Some(link) = self.stations[shard].slots[slot].link.as_mut() else { return false };
        if is_late || link.outbound.is_empty() || link.is_cut || link.is_closed {
            return false;
        }
        let is_part = !eager && self.random.one_in(3);
        let end = if is_part { self.random.below(link.outbound.len() + 1) } else { link.outbound.len() };
        let mut bytes = link.outbound.drain(..end).collect::<Vec<u8>>();
        let number = link.client;
        let (client, mut context) = self.client(number);
        let pongs = client.receive(&mut context, &mut bytes);
        for pong in pongs {
            self.send(number, pong);
        }
        true
    }

    fn fill_rings(&mut self, shard: usize, eager: bool) -> bool {
        let mut is_busy = false;
        for to in 0..self.stations.len() {
            let delay = self.random.below(self.scenario.ring_delay_max as usize + 1) as u64;
            let room = if eager { usize::MAX } else { self.scenario.ring_capacity };
            let (from, to_station) = two(&mut self.stations, shard, to);
            let (Some(from), Some(to_station)) = (from, to_station) else { continue };
            let ring = &mut to_station.rings[shard];
            let ready_at = Time((self.now.at.0 + delay).max(ring.back().map_or(0, |(ready_at, _)| ready_at.0)));
            from.shard.outbox(ShardId(to as u16)).drain(|message| {
                if ring.len() >= room {
                    return Err(message);
                }
                is_busy = true;
                ring.push_back((ready_at, message));
                Ok(())
            });
        }
        is_busy
    }

    /// Something is in a ring.
    pub fn has_messages(&self) -> bool {
        self.stations.iter().any(|station| station.rings.iter().any(|ring| !ring.is_empty()))
    }

    /// Nothing is on its way anywhere, and nobody waits for anything.
    pub fn is_idle(&mut self) -> bool {
        let shards = self.scenario.shards;
        let is_waiting = |client: &Client| client.phase != Phase::Away && !client.asked.is_empty();
        if self.stations.iter().any(|station| !station.emulated.is_empty()) {
            return false;
        }
        if !self.backend.is_idle() || self.clients.iter().any(is_waiting) {
            return false;
        }
        self.stations.iter_mut().all(|station| {
            let is_still = |link: &Link| link.inbound.is_empty() && link.outbound.is_empty() && link.unsent.is_none();
            station.rings.iter().all(VecDeque::is_empty)
                && station.shard.next_flush().is_none()
                && (0..shards).all(|to| station.shard.outbox(ShardId(to)).is_empty())
                && station
                    .slots
                    .iter()
                    .filter_map(|slot| slot.link.as_ref())
                    .all(|link| is_still(link) && !link.is_closed)
        })
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.full_until = Time(0);
        for station in &mut self.stations {
            station.stalled_until = Time(0);
            station.dry_until = Time(0);
            for link in station.slots.iter_mut().filter_map(|slot| slot.link.as_mut()) {
                link.blocked_until = Time(0);
            }
        }
    }
}

/// The shards of a process that begins.
fn stations(scenario: &Scenario, now: Now) -> Vec<Station> {
    let options = Arc::new(scenario.options().clone());
    let station = |(number, seeds): (usize, &_)| Station {
        shard: Shard::new(ShardId(number as u16), scenario.shards, Arc::clone(&options), *seeds, now),
        rings: (0..scenario.shards).map(|_| VecDeque::new()).collect(),
        slots: Vec::new(),
        calls: VecDeque::new(),
        emulated: VecDeque::new(),
        stalled_until: Time(0),
        dry_until: Time(0),
        now,
        news: None,
    };
    scenario.seeds.iter().enumerate().map(station).collect()
}

fn bytes_of(frames: Frames) -> Vec<u8> {
    match frames {
        Frames::One(frame) => frame.bytes().to_vec(),
        Frames::Many(frames) => frames.iter().flat_map(|frame| frame.bytes()).copied().collect(),
    }
}

/// Two different elements; nothing when they are the same.
fn two<T>(all: &mut [T], first: usize, second: usize) -> (Option<&mut T>, Option<&mut T>) {
    match all.get_disjoint_mut([first, second]) {
        Ok([first, second]) => (Some(first), Some(second)),
        Err(_) => (None, None),
    }
}
