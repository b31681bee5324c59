//! The sessions whose home is this shard: from requests to the client machine, and from that to whoever reads.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use ringcast_proto::client::Encoding;
use ringcast_proto::codes::Disconnect;
use ringcast_proto::sockjs::{self, Form};
use ringcast_state::{Farewell, Framing, Pings, Time, Transport, TransportKind, Visitor};

use super::session::{Advance, INTERRUPTED, Output, Session};
use super::{Address, Ask, Desk, Name, Parcel, Told};
use crate::connection::{Carrier, Connections, Io};
use crate::uring::SendBytes;

/// Sessions of one shard, those that have ended and are remembered for a while included. Full: 503. A session is no socket, so
/// that no limit of open files holds them.
const SESSIONS_MAX: usize = 65_536;

/// How long what a session has to say may wait. It watches over its readers itself: without one it ends sooner, and one that
/// takes nothing is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Sessions of one shard.
pub(crate) struct Sessions {
    desk: Desk,
    heartbeat_delay: Duration,
    by_name: HashMap<Name, Session>,
    /// One for each session.
    timeouts: BTreeSet<(Time, Name)>,
    /// Sessions whose carrier was told something.
    stirred: Stirred,
}

type Stirred = Rc<RefCell<Vec<Name>>>;

impl Sessions {
    pub fn new(desk: Desk, heartbeat_delay: Duration) -> Self {
        Self { desk, heartbeat_delay, by_name: HashMap::new(), timeouts: BTreeSet::new(), stirred: Stirred::default() }
    }

    /// What another shard, or this one, has to tell.
    pub fn handle(&mut self, connections: &mut Connections, io: &mut Io<'_>, parcel: Parcel) {
        match parcel {
            Parcel::Told(call, told) => connections.handle_told(io, call, told),
            Parcel::Ask(name, from, Ask::Receive { form, visitor }) => {
                self.receive(connections, io, &name, from, form, visitor);
            }
            Parcel::Ask(name, from, Ask::Send(lines)) => self.send(connections, io, &name, from, &lines),
            Parcel::Written(name, from) => {
                self.change(connections, io, &name, |session, _| Some(session.written(from)));
            }
            Parcel::Gone(name, from) => self.gone(connections, io, &name, from),
        }
    }

    fn receive(
        &mut self,
        connections: &mut Connections,
        io: &mut Io<'_>,
        name: &Name,
        from: Address,
        form: Form,
        visitor: Visitor,
    ) {
        if !self.by_name.contains_key(name) && !self.open(connections, io, name, visitor) {
            return self.desk.answer(from, Told::Status(503));
        }
        let desk = self.desk.clone();
        self.change(connections, io, name, |session, now| {
            if let Some(told) = session.attach(now, from, form) {
                desk.answer(from, told);
            }
            Some(Advance::default())
        });
    }

    fn open(&mut self, connections: &mut Connections, io: &mut Io<'_>, name: &Name, visitor: Visitor) -> bool {
        if self.by_name.len() >= SESSIONS_MAX || !connections.admit(io) {
            return false;
        }
        let transport = Transport {
            encoding: Encoding::Json,
            framing: Framing::Lines,
            kind: TransportKind::SockJs,
            pings: Pings::Messages,
            visitor,
            farewell: Farewell::Push,
        };
        let output = Rc::new(RefCell::default());
        let carrier = Courier { name: name.clone(), output: output.clone(), stirred: self.stirred.clone() };
        let connection = connections.open_carried(io, transport, None, Box::new(carrier));
        let session = Session::new(connection, output, io.now.at);
        self.timeouts.insert((session.entry_at, name.clone()));
        self.by_name.insert(name.clone(), session);
        true
    }

    fn send(&mut self, connections: &mut Connections, io: &mut Io<'_>, name: &Name, from: Address, lines: &[u8]) {
        let Some(session) = self.by_name.get_mut(name).filter(|session| !session.has_ended()) else {
            return self.desk.answer(from, Told::Status(404));
        };
        let connection = session.connection;
        if session.output.borrow().is_paused {
            // Who waits for the answers to its requests does not come here.
            io.shard.disconnect(io.now, connection, Disconnect::TOO_MANY_REQUESTS);
        } else if !lines.is_empty() {
            connections.carried_frame(io, connection, lines);
        }
        match session.held {
            None => session.held = Some(from),
            Some(_) => self.desk.answer(from, Told::Status(204)),
        }
        self.stirred.borrow_mut().push(name.clone());
    }

    /// A reader is gone, and the client with it: what it did not get is lost.
    fn gone(&mut self, connections: &mut Connections, io: &mut Io<'_>, name: &Name, from: Address) {
        let Some(session) = self.by_name.get_mut(name) else { return };
        if session.detach(io.now.at, from) && !session.has_ended() {
            connections.carried_gone(io, session.connection);
        }
        self.change(connections, io, name, |_, _| Some(Advance::default()));
    }

    /// Passes on what clients were told in this turn.
    pub fn take_output(&mut self, connections: &mut Connections, io: &mut Io<'_>) {
        let stirred = std::mem::take(&mut *self.stirred.borrow_mut());
        for name in stirred {
            self.change(connections, io, &name, |_, _| Some(Advance::default()));
            let Some(session) = self.by_name.get_mut(&name) else { continue };
            if (!session.output.borrow().is_paused || session.has_ended())
                && let Some(held) = session.held.take()
            {
                self.desk.answer(held, Told::Status(204));
            }
        }
    }

    /// When `handle_timeout` wants to be called.
    pub fn next_timeout(&self) -> Option<Time> {
        self.timeouts.first().map(|(at, _)| *at)
    }

    /// Heartbeats, and the end of sessions that nobody reads.
    pub fn handle_timeout(&mut self, connections: &mut Connections, io: &mut Io<'_>) {
        while let Some((at, name)) = self.timeouts.first().cloned()
            && at <= io.now.at
        {
            self.change(connections, io, &name, Session::handle_timeout);
        }
    }

    /// Changes a session, then does whatever has become possible; `None` of `change` ends it.
    fn change(
        &mut self,
        connections: &mut Connections,
        io: &mut Io<'_>,
        name: &Name,
        change: impl FnOnce(&mut Session, Time) -> Option<Advance>,
    ) {
        let Some(session) = self.by_name.get_mut(name) else { return };
        let Some(mut advance) = change(session, io.now.at) else {
            return self.remove(connections, io, name);
        };
        loop {
            if let Some((reader, told)) = advance.told {
                self.desk.answer(reader, told);
            }
            if advance.is_written {
                // The client machine may say more at once.
                connections.carried_written(io, session.connection);
            }
            advance = session.advance(io.now.at);
            if advance == Advance::default() {
                break;
            }
        }
        let timeout = session.next_timeout(self.heartbeat_delay);
        if timeout != session.entry_at {
            self.timeouts.remove(&(session.entry_at, name.clone()));
            self.timeouts.insert((timeout, name.clone()));
            session.entry_at = timeout;
        }
    }

    fn remove(&mut self, connections: &mut Connections, io: &mut Io<'_>, name: &Name) {
        let Some(session) = self.by_name.remove(name) else { return };
        self.timeouts.remove(&(session.entry_at, name.clone()));
        if let Some(held) = session.held {
            self.desk.answer(held, Told::Status(204));
        }
        if !session.has_ended() {
            connections.carried_gone(io, session.connection);
        }
    }
}

/// Carries what the client machine says to its session.
struct Courier {
    name: Name,
    output: Rc<RefCell<Output>>,
    stirred: Stirred,
}

impl Courier {
    /// Several times a turn is no harm: what was passed on is not there any more.
    fn stir(&self) {
        let mut stirred = self.stirred.borrow_mut();
        if stirred.last() != Some(&self.name) {
            stirred.push(self.name.clone());
        }
    }
}

impl Carrier for Courier {
    fn send(&mut self, bytes: SendBytes) {
        self.output.borrow_mut().lines.extend_from_slice(bytes.as_slice());
        self.stir();
    }

    fn end(&mut self, why: Option<&Disconnect>) -> bool {
        let (code, reason) = why.map_or(INTERRUPTED, |why| (why.code, &*why.reason));
        let mut frame = Vec::new();
        sockjs::encode_close(code, reason, &mut frame);
        self.output.borrow_mut().end = Some(frame);
        self.stir();
        false
    }

    fn pause(&mut self, paused: bool) {
        self.output.borrow_mut().is_paused = paused;
        self.stir();
    }

    fn patience(&self) -> Option<Duration> {
        Some(WRITE_TIMEOUT)
    }
}
