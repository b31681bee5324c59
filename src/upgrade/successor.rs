//! The old process: starts the new one and hands over to it.

use super::CHANNELS_VERSION;
use super::program::Program;
use super::wire::{Frame, Kind, Wire};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use ringcast_runtime::{HandoverLine, Moved, Pool};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long the new process may take until it is ready to take over. Meanwhile the old one serves.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take for each step of the handover, while clients wait.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(5);

/// How long requests that are under way may take to be answered before the handover goes on.
const REQUESTS_PATIENCE: Duration = Duration::from_millis(100);

/// How long connections that are held may take to be passed on.
const MOVE_PATIENCE: Duration = Duration::from_millis(500);

/// Time for a process that failed to end by itself, so that its exit status can be told; and the same while clients wait.
const END_PATIENCE: Duration = Duration::from_secs(1);
const SHORT_END_PATIENCE: Duration = Duration::from_millis(50);

/// What came of the start of a new process.
pub enum Event {
    /// It would take over.
    Ready(Successor),
    /// It does not, and why.
    Failed(String),
}

/// Starts new processes, one at a time.
pub struct Upgrade {
    program: Program,
    sender: Sender<Event>,
    events: Receiver<Event>,
    is_running: bool,
}

/// A process that waits to take over.
pub struct Successor {
    child: Child,
    wire: Wire,
    /// It reads channels as we write them.
    takes_channels: bool,
}

impl Upgrade {
    pub fn new(program: Program) -> Self {
        let (sender, events) = bounded(1);
        Self { program, sender, events, is_running: false }
    }

    /// One for each `begin`.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// Starts the program, on a thread of its own, with these sockets by their names. False while another start is under way.
    pub fn begin(&mut self, sockets: Vec<(String, OwnedFd)>) -> io::Result<bool> {
        if self.is_running {
            return Ok(false);
        }
        let (program, events) = (self.program.clone(), self.sender.clone());
        thread::Builder::new().name("upgrade".to_owned()).spawn(move || {
            let event = match Successor::start(&program, &sockets) {
                Ok(successor) => Event::Ready(successor),
                Err(reason) => Event::Failed(reason),
            };
            // Nobody waits any more when the server stops meanwhile; the new process ends with the wire.
            let _ = events.send(event);
        })?;
        self.is_running = true;
        Ok(true)
    }

    /// The event of the last `begin` has been dealt with.
    pub fn end(&mut self) {
        self.is_running = false;
    }
}

impl Successor {
    fn start(program: &Program, sockets: &[(String, OwnedFd)]) -> Result<Self, String> {
        let path = program.path().display();
        let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
        let child = program.start(theirs.into()).map_err(|error| format!("{path} cannot be started: {error}"))?;
        info!(pid = child.id(), program = %path, sockets = sockets.len(), "a new process starts");
        let mut successor = Self { child, wire: Wire::new(ours), takes_channels: false };
        match successor.prepare(sockets) {
            Ok(()) => Ok(successor),
            Err(reason) => Err(successor.give_up(reason, END_PATIENCE)),
        }
    }

    fn prepare(&mut self, sockets: &[(String, OwnedFd)]) -> Result<(), String> {
        let lost = |error: io::Error| format!("it does not take the sockets: {error}");
        self.wire.set_patience(Some(START_PATIENCE)).map_err(lost)?;
        self.wire.send(Kind::Hello, &[CHANNELS_VERSION]).map_err(lost)?;
        for (name, socket) in sockets {
            self.wire.send_with(Kind::Socket, name.as_bytes(), socket.as_fd()).map_err(lost)?;
        }
        self.wire.send(Kind::SocketsEnd, &[]).map_err(lost)?;
        let body = self.expect(Kind::Ready, START_PATIENCE)?;
        self.takes_channels = body.first() == Some(&CHANNELS_VERSION);
        if !self.takes_channels {
            warn!("the new process reads channels in another version: it gets the sockets, histories begin anew");
        }
        Ok(())
    }

    /// The next frame, which must be of this kind.
    fn expect(&mut self, kind: Kind, patience: Duration) -> Result<Vec<u8>, String> {
        match self.wire.receive() {
            Ok(Some(Frame { kind: Some(Kind::Failed), body, .. })) => Err(String::from_utf8_lossy(&body).into_owned()),
            Ok(Some(frame)) if frame.kind == Some(kind) => Ok(frame.body),
            Ok(Some(frame)) => Err(format!("it says something else than {kind:?}: {:?}", frame.kind)),
            Ok(None) => Err("it has ended; what it logged last says why".to_owned()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(format!("it took longer than {} s", patience.as_secs()))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Ends the process, if it has not ended. Adds to the reason how it did.
    fn give_up(mut self, reason: String, patience: Duration) -> String {
        let give_up_at = Instant::now() + patience;
        drop(self.wire);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return format!("{reason} ({status})"),
                Ok(None) if Instant::now() < give_up_at => thread::sleep(Duration::from_millis(5)),
                Ok(None) | Err(_) => break,
            }
        }
        // Fails only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        reason
    }

    /// Hands over: on success the new process serves, and this one has to send its clients away. Else this one serves as
    /// before, and the reason is given.
    ///
    /// `ports`: names of the listeners in their order.
    pub fn take_over(mut self, pool: &Pool, ports: &[String]) -> Result<u32, String> {
        let line = pool.handover_line();
        let began = Instant::now();
        line.hold(REQUESTS_PATIENCE);
        if let Err(reason) = self.hand_over(&line) {
            // It must be gone before anything is served here again.
            let reason = self.give_up(reason, SHORT_END_PATIENCE);
            line.resume();
            return Err(reason);
        }
        let pause = began.elapsed();
        let moved = self.pass_on(&line, ports);
        let pid = self.child.id();
        info!(pid, pause_ms = pause.as_secs_f64() * 1000.0, connections = moved, "the new process serves");
        Ok(pid)
    }

    fn hand_over(&mut self, line: &HandoverLine) -> Result<(), String> {
        let lost = |error: io::Error| format!("it does not take over: {error}");
        self.wire.set_patience(Some(HANDOVER_PATIENCE)).map_err(lost)?;
        // Written in any case, for until the new process serves nothing may change here.
        let lists = line.write_channels();
        let give_up_at = Instant::now() + HANDOVER_PATIENCE;
        loop {
            match lists.recv_deadline(give_up_at) {
                Ok(list) if self.takes_channels => self.wire.send(Kind::Channels, &list).map_err(lost)?,
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err("the shards take too long to write channels".to_owned()),
            }
        }
        self.wire.send(Kind::Commit, &[]).map_err(lost)?;
        self.expect(Kind::Serving, HANDOVER_PATIENCE).map(drop)
    }

    /// Passes on the connections that wait. One that does not get there closes, as if its server had stopped.
    fn pass_on(&self, line: &HandoverLine, ports: &[String]) -> usize {
        let moved = line.cede();
        let give_up_at = Instant::now() + MOVE_PATIENCE;
        let mut count = 0;
        while let Ok(Moved { listener, socket, read }) = moved.recv_deadline(give_up_at) {
            let port = ports[listener].as_bytes();
            let length = u8::try_from(port.len()).expect("names of ports are cut");
            let body = [&[length], port, &read].concat();
            match self.wire.send_with(Kind::Connection, &body, socket.as_fd()) {
                Ok(()) => count += 1,
                Err(error) => {
                    warn!(%error, "connections that wait cannot be passed on");
                    break;
                }
            }
        }
        count
    }
}
