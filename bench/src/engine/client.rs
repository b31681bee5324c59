//! One client connection: upgrade or request of a stream, connect, subscribe, then receive and answer pings.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use mio::event::Event as Readiness;
use mio::net::TcpStream;
use ringcast_proto::client::{PushBody, Reply, ReplyResult, decode_replies};
use ringcast_proto::http::Limits;
use ringcast_proto::websocket::{self, Decoder, Role};

use super::login::{ASK_ID, CONNECT_ID, Login, PUBLISH_ID, Session, Subscribe, UPGRADE_KEY, Whereabouts, native_pong};
use super::socket::Socket;
use super::stream::{Framing, Stream};
use super::uni::{self, UniPush};
use super::{Event, Shared};
use crate::payload::Found;
use crate::scan::{Messages, is_ping};

/// Largest message that is taken from the server.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest head of the upgrade response.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Why a connection ended.
#[derive(Debug)]
pub enum Closed {
    /// We said goodbye.
    Asked,
    /// The server or the network ended it, or it never came to be.
    Cut(String),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("closed as asked"),
            Self::Cut(reason) => f.write_str(reason),
        }
    }
}

/// How a connection ends without a word.
#[derive(Debug, Clone, Copy)]
pub enum Cut {
    /// By a reset, as of a process that is killed with unread bytes.
    Reset,
    /// By the end of the stream.
    End,
    /// By a reset, with a message begun; on a stream, where nothing is under way, as [`Self::Reset`].
    Half,
}

/// A connection in any phase.
pub struct Client {
    socket: Socket,
    phase: Phase,
    wire: Wire,
    /// Start of the upgrade response. Bound: [`HEAD_BYTES_MAX`]; empty afterwards.
    head: Vec<u8>,
    /// What the socket did not take yet, and how much of the first it took. Bound: a login, a publication and a pong per ping.
    unsent: VecDeque<Rc<[u8]>>,
    sent_of_first: usize,
    /// `None` for one that only receives.
    login: Option<Login>,
    answers_pings: bool,
    /// Where commands of a stream go, once it is connected.
    whereabouts: Option<Box<Whereabouts>>,
    /// A command that asks for something is not yet answered.
    asks: bool,
}

/// How bytes become messages.
enum Wire {
    Frames(Decoder),
    Stream(Stream),
}

impl Wire {
    fn frames() -> Self {
        Self::Frames(Decoder::new(Role::Client, MESSAGE_BYTES_MAX))
    }

    /// For clients that log in.
    fn of(session: &Session) -> Self {
        match session.transport {
            transport if !transport.is_stream() => Self::frames(),
            transport if transport.is_events() => Self::Stream(Stream::new(Framing::Events)),
            _ => Self::Stream(Stream::new(Framing::Messages(session.encoding))),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Dialing,
    Upgrading,
    Connecting,
    Subscribing,
    Ready,
    Closing,
}

impl Client {
    /// A connection whose socket is on its way.
    pub fn new(socket: Socket, login: Option<Login>, session: &Session) -> Self {
        Self {
            socket,
            phase: Phase::Dialing,
            wire: if login.is_some() { Wire::of(session) } else { Wire::frames() },
            head: Vec::new(),
            unsent: VecDeque::new(),
            sent_of_first: 0,
            login,
            answers_pings: false,
            whereabouts: None,
            asks: false,
        }
    }

    /// Our end of the connection.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_address()
    }

    /// Says goodbye. A connection that is not yet upgraded only stops telling.
    pub fn close(&mut self, session: &Session) {
        if self.phase != Phase::Closing {
            self.phase = Phase::Closing;
            match self.wire {
                Wire::Frames(_) => self.write(&session.goodbye),
                Wire::Stream(_) => self.socket.finish(),
            }
        }
    }

    /// Ends it without a word.
    pub fn cut(mut self, cut: Cut, session: &Session) {
        if let (Cut::Half, Wire::Frames(_)) = (cut, &self.wire) {
            let frame = &session.pong;
            let _ = self.socket.write(&frame[..frame.len() / 2]);
        }
        match cut {
            Cut::End => self.socket.finish(),
            Cut::Reset | Cut::Half => self.socket.reset(),
        }
    }

    /// Its socket, to be watched.
    pub fn tcp(&mut self) -> &mut TcpStream {
        self.socket.tcp()
    }

    /// Reads and writes what the socket is ready for. An error ends the connection.
    pub fn handle_ready(
        &mut self,
        index: usize,
        readiness: &Readiness,
        shared: &mut Shared,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Closed> {
        if self.phase == Phase::Dialing && !self.handle_dialed(index, shared, on)? {
            return Ok(());
        }
        if readiness.is_writable() {
            self.socket.flush().map_err(cut)?;
            self.flush();
        }
        if readiness.is_readable() || readiness.is_read_closed() {
            self.read(index, readiness.is_read_closed(), shared, on)?;
        }
        Ok(())
    }

    /// Whether the socket has arrived; sends the first request if it has.
    fn handle_dialed(&mut self, index: usize, shared: &Shared, on: &mut dyn FnMut(Event)) -> Result<bool, Closed> {
        if !self.socket.has_arrived().map_err(cut)? {
            return Ok(false);
        }
        let Some(login) = &self.login else {
            self.phase = Phase::Ready;
            on(Event::Ready { client: index });
            return Ok(true);
        };
        let first = match self.wire {
            Wire::Frames(_) => Rc::clone(&shared.session.upgrade),
            Wire::Stream(_) => Rc::clone(&login.first),
        };
        self.phase = Phase::Upgrading;
        self.write(&first);
        Ok(true)
    }

    /// Readiness is edge-triggered, so the socket is read until it has no more: a read that does not fill the buffer says so,
    /// unless the end of the stream is announced, which takes one more read.
    fn read(
        &mut self,
        index: usize,
        end_announced: bool,
        shared: &mut Shared,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Closed> {
        let mut buffer = std::mem::take(&mut shared.buffer);
        let may_stop = !end_announced && self.socket.tells_the_end();
        let result = loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => break Err(self.ended()),
                Ok(count) => {
                    shared.received.reads += 1;
                    if let Err(why) = self.handle_bytes(index, &mut buffer[..count], shared, on) {
                        break Err(why);
                    }
                    if count < buffer.len() && may_stop {
                        break Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if self.phase == Phase::Closing => break Err(Closed::Asked),
                Err(error) => break Err(cut(error)),
            }
        };
        shared.buffer = buffer;
        result
    }

    fn ended(&self) -> Closed {
        match self.phase {
            Phase::Closing => Closed::Asked,
            _ => Closed::Cut("the server closed the connection".to_owned()),
        }
    }

    fn handle_bytes(
        &mut self,
        index: usize,
        bytes: &mut [u8],
        shared: &mut Shared,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Closed> {
        match (self.phase, &self.wire) {
            (Phase::Closing, _) => Ok(()),
            (_, Wire::Stream(_)) => self.handle_stream(index, bytes, shared, on),
            (Phase::Upgrading, Wire::Frames(_)) => self.handle_head(index, bytes, shared, on),
            (_, Wire::Frames(_)) => self.handle_frames(index, bytes, shared, on),
        }
    }

    fn handle_stream(
        &mut self,
        index: usize,
        bytes: &[u8],
        shared: &mut Shared,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Closed> {
        let Wire::Stream(stream) = &mut self.wire else { return Ok(()) };
        let mut body = std::mem::take(&mut shared.body);
        let taken = stream.take(bytes, &mut body).map_err(Closed::Cut);
        let (framing, has_ended) = (stream.framing(), stream.has_ended());
        if self.phase == Phase::Upgrading && stream.has_begun() {
            self.phase = Phase::Connecting;
        }
        let mut frames = Stream::frames(framing, &body);
        let handled = taken.and_then(|()| frames.try_for_each(|frame| self.handle_message(index, frame, shared, on)));
        drop(frames);
        shared.body = body;
        handled?;
        if has_ended { Err(Closed::Cut("the server ended the stream".to_owned())) } else { Ok(()) }
    }

    fn handle_head(
        &mut self,
        index: usize,
        bytes: &[u8],
        shared: &mut Shared,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Closed> {
        self.head.extend_from_slice(bytes);
        if self.head.len() > HEAD_BYTES_MAX {
            return Err(Closed::Cut("endless upgrade response".to_owned()));
        }
        let parsed = websocket::check_response(&self.head, UPGRADE_KEY, &Limits::default());
        let Some(upgraded) = parsed.map_err(|error| Closed::Cut(format!("upgrade: {error}")))? else {
            return Ok(());
        };
        if shared.session.compression && !upgraded.deflate {
            return Err(Closed::Cut("the server does not compress, see its key websocket.compression".to_owned()));
        }
        if upgraded.deflate {
            let decoder = Decoder::new(Role::Client, MESSAGE_BYTES_MAX).with_deflate(MESSAGE_BYTES_MAX);
            self.wire = Wire::Frames(decoder);
        }
        let mut rest = std::mem::take(&mut self.head).split_off(upgraded.head_len);
        self.phase = Phase::Connecting;
        if let Some(login) = &self.login {
            let connect = Rc::clone(&login.first);
            self.write(&connect);
        }
        self.handle_frames(index, &mut rest, shared, on)
    }

    fn handle_frames(
        &mut self,
        index: usize,
        bytes: &mut [u8],
        shared: &mut Shared,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Closed> {
        let Wire::Frames(mut decoder) = std::mem::replace(&mut self.wire, Wire::frames()) else { return Ok(()) };
        let mut inflater = std::mem::take(&mut shared.inflater);
        let mut outcome = Ok(());
        let decoded =
            decoder.decode_with(bytes, &mut inflater, &mut |event| match self.handle_frame(index, event, shared, on) {
                Ok(()) => ControlFlow::Continue(()),
                Err(why) => {
                    outcome = Err(why);
                    ControlFlow::Break(())
                }
            });
        self.wire = Wire::Frames(decoder);
        shared.inflater = inflater;
        if let Err(error) = decoded {
            return Err(Closed::Cut(format!("bad frame from the server: {error}")));
        }
        outcome
    }

    fn handle_frame(
        &mut self,
        index: usize,
        event: websocket::Event<'_>,
        shared: &mut Shared,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Closed> {
        match event {
            websocket::Event::Text(message) | websocket::Event::Binary(message) => {
                self.handle_message(index, message, shared, on)
            }
            websocket::Event::Close { code, reason } => Err(self.closed_with(code, reason)),
            websocket::Event::Ping(payload) => {
                self.write(&native_pong(payload));
                on(Event::Ping);
                Ok(())
            }
            websocket::Event::Pong(_) => Ok(()),
        }
    }

    fn closed_with(&self, code: Option<u16>, reason: &[u8]) -> Closed {
        let reason = String::from_utf8_lossy(reason);
        Closed::Cut(match code {
            Some(code) => format!("closed with {code} {reason}"),
            None => "closed without a code".to_owned(),
        })
    }

    fn handle_message(
        &mut self,
        index: usize,
        frame: &[u8],
        shared: &mut Shared,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Closed> {
        shared.received.frames += 1;
        let encoding = shared.session.encoding;
        let at_ns = shared.now_ns();
        for message in Messages::of(encoding, frame) {
            let Ok(message) = message else {
                on(Event::Corrupt);
                break;
            };
            if is_ping(encoding, message) {
                self.handle_ping(shared, on);
            } else if self.phase == Phase::Subscribing {
                self.handle_subscribed(index, message, shared, on)?;
            } else if !(self.asks && self.handle_asked(index, message, shared, on)) {
                match shared.reader.read(message) {
                    Found::Stamp(_) | Found::Corrupt if self.phase != Phase::Ready => {
                        return Err(Closed::Cut("publication before the subscription".to_owned()));
                    }
                    Found::Stamp(stamp) => on(Event::Delivery { client: index, stamp, at_ns }),
                    Found::Corrupt => on(Event::Corrupt),
                    Found::Nothing if shared.session.transport.is_uni() => {
                        self.handle_push(index, message, shared, on)?;
                    }
                    Found::Nothing => self.handle_replies(index, message, shared, on)?,
                }
            }
        }
        Ok(())
    }

    fn handle_ping(&mut self, shared: &mut Shared, on: &mut dyn FnMut(Event)) {
        if self.answers_pings {
            let pong = Rc::clone(&shared.session.pong);
            self.send(&pong, shared);
        }
        on(Event::Ping);
    }

    /// The answer to the subscribe command, or what is not.
    fn handle_subscribed(
        &mut self,
        index: usize,
        message: &[u8],
        shared: &mut Shared,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Closed> {
        match shared.answers.read(shared.session.encoding, message, &mut shared.reader) {
            Some(answer) => {
                self.phase = Phase::Ready;
                on(Event::Subscribed { client: index, answer });
                on(Event::Ready { client: index });
                Ok(())
            }
            None => self.handle_replies(index, message, shared, on),
        }
    }

    /// Whether a message is the answer to what was asked for: publications in it are no deliveries.
    fn handle_asked(&mut self, index: usize, message: &[u8], shared: &Shared, on: &mut dyn FnMut(Event)) -> bool {
        let reply = decode_replies(shared.session.encoding, message).next();
        let Some(Ok(Reply::Result { id: ASK_ID, result })) = reply else {
            return false;
        };
        self.asks = false;
        on(Event::Replied { client: index, result: Box::new(result) });
        true
    }

    fn handle_replies(
        &mut self,
        index: usize,
        message: &[u8],
        shared: &mut Shared,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Closed> {
        for reply in decode_replies(shared.session.encoding, message) {
            let reply = reply.map_err(|error| Closed::Cut(format!("bad reply: {error}")))?;
            self.handle_reply(index, reply, shared, on)?;
        }
        Ok(())
    }

    fn handle_reply(
        &mut self,
        index: usize,
        reply: Reply,
        shared: &mut Shared,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Closed> {
        match (self.phase, reply) {
            (Phase::Connecting, Reply::Result { id, result }) if id == CONNECT_ID => {
                if let ReplyResult::Connect(connected) = result {
                    self.answers_pings = connected.pong;
                    shared.ping_interval = interval(connected.ping);
                    if matches!(self.wire, Wire::Stream(_)) {
                        let (session, node) = (connected.session, connected.node);
                        self.whereabouts = Some(Box::new(Whereabouts { session, node }));
                    }
                }
                self.handle_connected(index, on);
                Ok(())
            }
            (Phase::Ready, Reply::Result { id, result: ReplyResult::Publish }) if id == PUBLISH_ID => {
                on(Event::Published { client: index, at_ns: shared.now_ns() });
                Ok(())
            }
            (_, Reply::Error { id, error }) => {
                Err(Closed::Cut(format!("command {id}: error {} {}", error.code, error.message)))
            }
            (phase, Reply::Push(push)) => match push.body {
                PushBody::Pub(_) if phase != Phase::Ready => {
                    Err(Closed::Cut("publication before the subscription".to_owned()))
                }
                PushBody::Unsubscribe(told) => {
                    Err(Closed::Cut(format!("unsubscribed with {} {}", told.code, told.reason)))
                }
                PushBody::Disconnect(told) => {
                    Err(Closed::Cut(format!("disconnected with {} {}", told.code, told.reason)))
                }
                _ => Ok(()),
            },
            _ => Err(Closed::Cut("unexpected reply".to_owned())),
        }
    }

    /// A push of a connection without commands, which is no publication of this tool and no ping.
    fn handle_push(
        &mut self,
        index: usize,
        message: &[u8],
        shared: &mut Shared,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Closed> {
        let hinted = self.login.as_ref().is_some_and(|login| matches!(login.subscribe, Subscribe::Hinted));
        match (self.phase, uni::read(message).map_err(Closed::Cut)?) {
            (Phase::Connecting, UniPush::Connected { subscriptions: 0, .. }) if hinted => {
                Err(Closed::Cut("connected without the subscription that was asked for".to_owned()))
            }
            (Phase::Connecting, UniPush::Connected { ping, .. }) => {
                shared.ping_interval = interval(ping);
                self.phase = Phase::Ready;
                on(Event::Ready { client: index });
                Ok(())
            }
            (Phase::Ready, UniPush::Other) => Ok(()),
            (_, UniPush::Ended(reason)) => Err(Closed::Cut(reason)),
            _ => Err(Closed::Cut("unexpected push".to_owned())),
        }
    }

    fn handle_connected(&mut self, index: usize, on: &mut dyn FnMut(Event)) {
        let subscribe = self.login.as_ref().map_or(Subscribe::No, |login| login.subscribe.clone());
        match subscribe {
            Subscribe::Then(command) => {
                self.phase = Phase::Subscribing;
                self.write(&command);
            }
            Subscribe::Along => self.phase = Phase::Subscribing,
            Subscribe::No | Subscribe::Hinted => {
                self.phase = Phase::Ready;
                on(Event::Ready { client: index });
            }
        }
    }

    /// Sends a command that asks for something; one at a time.
    pub fn ask(&mut self, command: &Rc<[u8]>, shared: &mut Shared) {
        self.asks = true;
        self.send(command, shared);
    }

    /// Sends a command; that of a stream goes by another connection.
    pub fn send(&mut self, command: &Rc<[u8]>, shared: &mut Shared) {
        match (&self.wire, &self.whereabouts) {
            (Wire::Frames(_), _) => self.write(command),
            (Wire::Stream(_), Some(from)) => shared.errands.push(shared.session.errand(from, command)),
            // Not connected: the server has nowhere to take it.
            (Wire::Stream(_), None) => {}
        }
    }

    /// Writes to the socket; what it does not take now follows.
    fn write(&mut self, bytes: &Rc<[u8]>) {
        self.unsent.push_back(Rc::clone(bytes));
        self.flush();
    }

    /// Writes until all is sent or the socket is full. An error shows at the next read.
    fn flush(&mut self) {
        while let Some(first) = self.unsent.front() {
            match self.socket.write(&first[self.sent_of_first..]) {
                Ok(count) if self.sent_of_first + count == first.len() => {
                    self.unsent.pop_front();
                    self.sent_of_first = 0;
                }
                Ok(count) => self.sent_of_first += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// A ping interval as servers tell it.
fn interval(seconds: u32) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

fn cut(error: io::Error) -> Closed {
    Closed::Cut(error.to_string())
}
