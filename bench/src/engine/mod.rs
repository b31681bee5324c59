//! The loop of the load client: one thread, nonblocking sockets, one epoll. It opens connections, answers pings and tells the
//! scenario what happened; what to do about it is the scenario's business.
//!
//! The tool shares the machine with the server, so a delivery costs it one read and no allocation.

mod answer;
mod client;
mod login;
mod publisher;

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

pub use answer::{Answer, Recovered};
pub use client::Closed;
pub use login::{Login, Position, Publish, Session, Subscription};
pub use publisher::Batch;

use crate::options::Common;
use crate::payload::{Reader, Stamp};
use answer::Answers;
use client::Client;
use publisher::Publisher;

/// Bytes of one read, shared by all connections.
const READ_BYTES: usize = 64 * 1024;

/// Events of one turn.
const EVENTS_MAX: usize = 1024;

/// Tokens from here on are publishers; below are clients.
const PUBLISHER_TOKENS: usize = 1 << 32;

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
    /// A client received a publication, `at_ns` nanoseconds after the start of the run.
    Delivery { client: usize, stamp: Stamp, at_ns: u64 },
    /// A client received a damaged publication.
    Corrupt,
    /// A client was pinged and has answered.
    Ping,
    /// A client is gone; its index may be used again.
    Closed { client: usize, why: Closed },
    /// A publisher's request was answered with success.
    Answered { publisher: usize },
    /// A publisher's request or its connection failed.
    Failed { reason: String },
}

/// Counts of what was read, to tell how the server batches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Received {
    /// Reads of clients that brought bytes.
    pub reads: u64,
    /// WebSocket messages of clients.
    pub frames: u64,
}

/// All connections of the tool.
pub struct Engine {
    poll: Poll,
    events: Events,
    clients: Slab<Client>,
    publishers: Vec<Publisher>,
    api: Option<SocketAddr>,
    timer: TimerFd,
    spin: bool,
    shared: Shared,
}

/// What all connections use in turn.
struct Shared {
    buffer: Vec<u8>,
    reader: Reader,
    answers: Answers,
    session: Session,
    origin: Instant,
    received: Received,
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
            timer,
            spin: common.spin,
            shared: Shared {
                buffer: vec![0; READ_BYTES],
                reader: Reader::new(common.payload),
                answers: Answers::default(),
                session,
                origin: Instant::now(),
                received: Received::default(),
            },
        })
    }

    /// Starts a client's connection and returns its index. [`Event::Ready`] or [`Event::Closed`] follows.
    ///
    /// Without a login nothing is sent: the client only receives, as those of the floor do.
    pub fn open(&mut self, address: SocketAddr, login: Option<Login>) -> io::Result<usize> {
        let index = self.clients.vacant_key();
        let socket = self.dial(address, Token(index))?;
        Ok(self.clients.insert(Client::new(socket, login)))
    }

    /// Says goodbye; [`Event::Closed`] follows when the server has closed. What arrives meanwhile is not told.
    pub fn close(&mut self, client: usize) {
        if let Some(client) = self.clients.get_mut(client) {
            client.close(&self.shared.session);
        }
    }

    /// Sends a frame on a client's connection.
    pub fn send(&mut self, client: usize, frame: &Rc<[u8]>) {
        if let Some(client) = self.clients.get_mut(client) {
            client.send(frame);
        }
    }

    /// Opens a connection to the HTTP API and returns its index, counted from 0.
    pub fn open_publisher(&mut self, address: SocketAddr, batch: Batch) -> io::Result<usize> {
        let index = self.publishers.len();
        let socket = self.dial(address, Token(PUBLISHER_TOKENS + index))?;
        self.api = Some(address);
        self.publishers.push(Publisher::new(socket, batch));
        Ok(index)
    }

    /// A nonblocking socket on its way to `address`, without Nagle's delay.
    fn dial(&self, address: SocketAddr, token: Token) -> io::Result<TcpStream> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {
                return Err(error);
            }
            _ => {}
        }
        let mut socket = TcpStream::from_std(StdStream::from(socket));
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, token, interest)?;
        Ok(socket)
    }

    /// Sends one request of a publisher that has no other under way; `stamp` gives the numbers of each publication in it.
    pub fn publish(&mut self, publisher: usize, stamp: impl Fn(usize) -> Stamp) -> Result<(), String> {
        if self.publishers[publisher].is_retired()
            && let Some(address) = self.api
        {
            let socket = self.dial(address, Token(PUBLISHER_TOKENS + publisher));
            let socket = socket.map_err(|error| format!("API connection: {error}"))?;
            self.publishers[publisher].replace(socket);
        }
        self.publishers[publisher].publish(stamp)
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
        let timeout = if self.spin { Duration::ZERO } else { timeout };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            match event.token() {
                TIMER_TOKEN => {}
                Token(index) if index >= PUBLISHER_TOKENS => {
                    let publisher = index - PUBLISHER_TOKENS;
                    let buffer = &mut self.shared.buffer;
                    if let Some(event) = self.publishers[publisher].handle_ready(publisher, event, buffer) {
                        on(event);
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
        Ok(())
    }

    /// Nanoseconds since the start of the run.
    pub fn now_ns(&self) -> u64 {
        self.shared.now_ns()
    }

    /// Counts since the start of the run.
    pub fn received(&self) -> Received {
        self.shared.received
    }
}
