//! The loop of the load client: one thread, nonblocking sockets, one epoll. It opens connections, answers pings and tells the
//! scenario what happened; what to do about it is the scenario's business.
//!
//! The tool shares the machine with the server, so a delivery costs it one read and no allocation.

mod answer;
mod client;
mod courier;
mod dial;
mod exchange;
mod login;
mod publisher;
mod socket;
mod stream;
mod transport;
mod uni;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use ringcast_proto::client::ReplyResult;
use ringcast_proto::websocket::Inflater;
use slab::Slab;

pub use answer::{Answer, Recovered};
pub use client::{Closed, Cut};
pub use dial::Peer;
pub use login::{CONNECT_ID, Login, Position, Publish, SUBSCRIBE_ID, Session, Subscription};
pub use publisher::{Batch, Item, Target};
pub use transport::Transport;

use crate::live::Live;
use crate::options::Common;
use crate::payload::{Reader, Stamp};
use answer::Answers;
use client::Client;
use courier::{Couriers, Wanting};
use dial::Dialer;
use publisher::Publisher;
use socket::Socket;

/// Bytes of one read, shared by all connections.
const READ_BYTES: usize = 64 * 1024;

/// Events of one turn.
const EVENTS_MAX: usize = 1024;

/// Tokens from here on are publishers; below are clients.
const PUBLISHER_TOKENS: usize = 1 << 32;

/// Tokens from here on are couriers.
const COURIER_TOKENS: usize = 1 << 33;

/// Token of the timer.
const TIMER_TOKEN: Token = Token(usize::MAX >> 1);

/// What happened to a connection. Clients and publishers are known by their indices.
#[derive(Debug)]
pub enum Event {
    /// A client is connected and, if it wanted, subscribed.
    Ready { client: usize },
    /// A client's subscribe command was answered; [`Event::Ready`] follows.
    Subscribed { client: usize, answer: Rc<Answer> },
    /// A client's publish command was answered with success, `at_ns` nanoseconds after the start of the run.
    Published { client: usize, at_ns: u64 },
    /// What a client asked for was answered with success.
    Replied { client: usize, result: Box<ReplyResult> },
    /// A client received a publication, `at_ns` nanoseconds after the start of the run.
    Delivery { client: usize, stamp: Stamp, at_ns: u64 },
    /// A client received a damaged publication.
    Corrupt,
    /// A client was pinged and has answered.
    Ping,
    /// A client is gone; its index may be used again.
    Closed { client: usize, why: Closed },
    /// A publisher's request was answered with success, `at_ns` nanoseconds after the start of the run.
    Answered { publisher: usize, at_ns: u64 },
    /// A request of a publisher, or one that brings the command of a stream's client, or its connection failed.
    Failed { reason: String },
}

/// Counts of what was read, to tell how the server batches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Received {
    /// Reads of clients that brought bytes.
    pub reads: u64,
    /// WebSocket messages of clients.
    pub frames: u64,
    /// Time of turns that found nothing, where this tool never sleeps.
    pub idle: Duration,
}

/// All connections of the tool.
pub struct Engine {
    poll: Poll,
    events: Events,
    clients: Slab<Client>,
    publishers: Vec<Publisher>,
    api: Option<Peer>,
    couriers: Couriers,
    /// Whom the first client dialed; couriers go there.
    server: Option<Peer>,
    dialer: Dialer,
    timer: TimerFd,
    spin: bool,
    patience: Duration,
    live: Live,
    shared: Shared,
}

/// What all connections use in turn.
struct Shared {
    buffer: Vec<u8>,
    /// Messages of a stream that came at once.
    body: Vec<u8>,
    /// Requests for couriers, until the end of the turn.
    errands: Vec<Vec<u8>>,
    reader: Reader,
    answers: Answers,
    session: Session,
    /// For the messages of all clients.
    inflater: Inflater,
    origin: Instant,
    received: Received,
    ping_interval: Option<Duration>,
}

impl Shared {
    /// Nanoseconds since the start of the run.
    fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

impl Engine {
    /// For connections of `session`.
    pub fn new(session: Session, common: &Common) -> io::Result<Self> {
        let poll = Poll::new()?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // Edge-triggered: each expiry is an event of its own, the timer need not be read.
        poll.registry().register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER_TOKEN, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            clients: Slab::new(),
            publishers: Vec::new(),
            api: None,
            couriers: Couriers::default(),
            server: None,
            dialer: Dialer::new(common.sources()),
            timer,
            spin: common.spin,
            patience: common.patience,
            live: Live::new(),
            shared: Shared {
                buffer: vec![0; READ_BYTES],
                body: Vec::new(),
                errands: Vec::new(),
                reader: Reader::new(common.payload),
                answers: Answers::default(),
                session: if common.compression { session.with_compression() } else { session },
                inflater: Inflater::default(),
                origin: Instant::now(),
                received: Received::default(),
                ping_interval: None,
            },
        })
    }

    /// Starts a client's connection and returns its index. [`Event::Ready`] or [`Event::Closed`] follows.
    ///
    /// Without a login nothing is sent: the client only receives, as those of the floor do.
    pub fn open(&mut self, peer: &Peer, login: Option<Login>) -> io::Result<usize> {
        let index = self.clients.vacant_key();
        let socket = self.dial(peer, Token(index))?;
        if self.server.is_none() {
            self.server = Some(peer.clone());
        }
        Ok(self.clients.insert(Client::new(socket, login, &self.shared.session)))
    }

    /// Says goodbye; [`Event::Closed`] follows when the server has closed. What arrives meanwhile is not told.
    pub fn close(&mut self, client: usize) {
        if let Some(client) = self.clients.get_mut(client) {
            client.close(&self.shared.session);
        }
    }

    /// Ends a client's connection without a word. Nothing follows; its index may be used again.
    pub fn cut(&mut self, client: usize, cut: Cut) {
        if let Some(client) = self.clients.try_remove(client) {
            client.cut(cut, &self.shared.session);
        }
    }

    /// Does not read from a client's connection any more, until [`Self::resume`].
    pub fn pause(&mut self, client: usize) -> io::Result<()> {
        let client = self.clients.get_mut(client).ok_or(io::ErrorKind::NotConnected)?;
        self.poll.registry().deregister(client.tcp())
    }

    /// Reads on.
    pub fn resume(&mut self, client: usize) -> io::Result<()> {
        let token = Token(client);
        let client = self.clients.get_mut(client).ok_or(io::ErrorKind::NotConnected)?;
        self.poll.registry().register(client.tcp(), token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Our end of a client's connection.
    pub fn local_address(&self, client: usize) -> io::Result<SocketAddr> {
        let client = self.clients.get(client).ok_or(io::ErrorKind::NotConnected)?;
        client.local_address()
    }

    /// Sends a command of a client.
    pub fn send(&mut self, client: usize, frame: &Rc<[u8]>) {
        if let Some(client) = self.clients.get_mut(client) {
            client.send(frame, &mut self.shared);
        }
    }

    /// Sends a command of a client that asks for something; [`Event::Replied`] follows. One at a time.
    pub fn ask(&mut self, client: usize, command: &Rc<[u8]>) {
        if let Some(client) = self.clients.get_mut(client) {
            client.ask(command, &mut self.shared);
        }
    }

    /// Opens a connection to the HTTP API and returns its index, counted from 0.
    pub fn open_publisher(&mut self, peer: &Peer, batch: Batch) -> io::Result<usize> {
        let index = self.publishers.len();
        let socket = self.dial(peer, Token(PUBLISHER_TOKENS + index))?;
        self.api = Some(peer.clone());
        self.publishers.push(Publisher::new(socket, batch));
        Ok(index)
    }

    fn dial(&mut self, peer: &Peer, token: Token) -> io::Result<Socket> {
        let (mut tcp, tls) = self.dialer.dial(peer)?;
        self.poll.registry().register(&mut tcp, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Socket::new(tcp, tls))
    }

    /// Sends one request of a publisher that has no other under way; `item` gives what each publication in it is.
    pub fn publish(&mut self, publisher: usize, item: impl Fn(usize) -> Item) -> Result<(), String> {
        if self.publishers[publisher].is_retired()
            && let Some(peer) = self.api.clone()
        {
            let socket = self.dial(&peer, Token(PUBLISHER_TOKENS + publisher));
            let socket = socket.map_err(|error| format!("API connection: {error}"))?;
            self.publishers[publisher].replace(socket);
        }
        self.publishers[publisher].publish(item)
    }

    /// The last response to a publisher, as it came.
    pub fn response(&self, publisher: usize) -> &[u8] {
        self.publishers[publisher].response()
    }

    /// Ends a turn after `time`, to the microsecond where the timeout of [`Self::turn`] counts in milliseconds.
    pub fn wake_in(&mut self, time: Duration) -> io::Result<()> {
        // A time of zero would disarm the timer.
        let time = TimeSpec::from_duration(time.max(Duration::from_nanos(1)));
        self.timer.set(Expiration::OneShot(time), TimerSetTimeFlags::empty())?;
        Ok(())
    }

    /// Waits for something to happen, at most `timeout`, and tells all that did. One that spins does not wait.
    pub fn turn(&mut self, timeout: Duration, on: &mut dyn FnMut(Event)) -> io::Result<()> {
        let started = self.spin.then(Instant::now);
        let timeout = if self.spin { Duration::ZERO } else { timeout };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        if let Some(started) = started
            && self.events.is_empty()
        {
            self.shared.received.idle += started.elapsed();
        }
        for event in &self.events {
            match event.token() {
                TIMER_TOKEN => {}
                Token(index) if index >= COURIER_TOKENS => {
                    let courier = index - COURIER_TOKENS;
                    let handled = self.couriers.handle_ready(courier, event, &mut self.shared.buffer);
                    if let Err(reason) = handled {
                        on(Event::Failed { reason });
                    }
                }
                Token(index) if index >= PUBLISHER_TOKENS => {
                    let publisher = index - PUBLISHER_TOKENS;
                    let handled = self.publishers[publisher].handle_ready(event, &mut self.shared.buffer);
                    match handled {
                        Ok(true) => on(Event::Answered { publisher, at_ns: self.shared.now_ns() }),
                        Ok(false) => {}
                        Err(reason) => on(Event::Failed { reason }),
                    }
                }
                Token(index) => {
                    let Some(client) = self.clients.get_mut(index) else {
                        continue;
                    };
                    if let Err(why) = client.handle_ready(index, event, &mut self.shared, on) {
                        self.clients.remove(index);
                        on(Event::Closed { client: index, why });
                    }
                }
            }
        }
        self.send_couriers()
    }

    /// Sends out what clients of streams had to say.
    fn send_couriers(&mut self) -> io::Result<()> {
        self.shared.errands.drain(..).for_each(|errand| self.couriers.add(errand));
        while let Some(wanting) = self.couriers.send_out() {
            let (Wanting::Another(index) | Wanting::Fresh(index)) = wanting;
            let Some(server) = self.server.clone() else { break };
            let socket = self.dial(&server, Token(COURIER_TOKENS + index))?;
            self.couriers.equip(wanting, socket);
        }
        Ok(())
    }

    /// Nanoseconds since the start of the run.
    pub fn now_ns(&self) -> u64 {
        self.shared.now_ns()
    }

    /// Without any progress for this long the server is given up, and a delivery that takes longer is late.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// What the server told the last client that connected; none where it does not ping.
    pub fn ping_interval(&self) -> Option<Duration> {
        self.shared.ping_interval
    }

    /// Where the run shows how it goes on.
    pub fn live(&mut self) -> &mut Live {
        &mut self.live
    }

    /// Counts since the start of the run.
    pub fn received(&self) -> Received {
        self.shared.received
    }
}
