//! The new process: takes over from the one that started it.

use super::CHANNELS_VERSION;
use super::program::FROM_VARIABLE;
use super::wire::{Frame, Kind, Wire};
use ringcast_runtime::{HandoverLine, Moved, Reading};
use rustix::process::getppid;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;
use tracing::{info, warn};

/// How long the process before may take for its sockets, which are there when we look.
const SOCKETS_PATIENCE: Duration = Duration::from_secs(10);

/// How long the shards may take to read the last of the channels; the process before gives up about then.
const READ_PATIENCE: Duration = Duration::from_secs(5);

/// The process before this one, which waits for us.
pub struct Predecessor {
    wire: Wire,
    /// By their names, in its order.
    sockets: Vec<(String, OwnedFd)>,
    writes_channels: bool,
}

impl Predecessor {
    /// None for a process that was not started to take over. Takes what it was given as standard input.
    pub fn of_process() -> io::Result<Option<Self>> {
        let parent = getppid().map(|pid| pid.as_raw_nonzero().to_string());
        // The variable goes on to whatever we start; only a child of that very process is meant.
        if std::env::var(FROM_VARIABLE).ok().is_none_or(|from| Some(from) != parent) {
            return Ok(None);
        }
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let mut wire = Wire::new(stream);
        wire.set_patience(Some(SOCKETS_PATIENCE))?;
        let (mut sockets, mut writes_channels) = (Vec::new(), false);
        loop {
            let frame = wire.receive()?.ok_or_else(gone)?;
            match (frame.kind, frame.descriptor) {
                (Some(Kind::Hello), _) => writes_channels = frame.body.first() == Some(&CHANNELS_VERSION),
                (Some(Kind::Socket), Some(socket)) => {
                    sockets.push((String::from_utf8_lossy(&frame.body).into_owned(), socket));
                }
                (Some(Kind::SocketsEnd), _) => return Ok(Some(Self { wire, sockets, writes_channels })),
                _ => {}
            }
        }
    }

    /// The sockets of this name; none the second time.
    pub fn take_tcp(&mut self, name: &str) -> Vec<TcpListener> {
        self.take(name).into_iter().map(TcpListener::from).collect()
    }

    /// The same, whatever they are.
    pub fn take(&mut self, name: &str) -> Vec<OwnedFd> {
        let (taken, rest) = std::mem::take(&mut self.sockets).into_iter().partition(|(known, _)| known == name);
        self.sockets = rest;
        let taken: Vec<(String, OwnedFd)> = taken;
        taken.into_iter().map(|(_, socket)| socket).collect()
    }

    /// Says that we are ready, takes the channels in, and waits for the word to serve.
    pub fn take_over(&mut self, line: &HandoverLine) -> io::Result<()> {
        if !self.writes_channels {
            warn!("the process before this one writes channels in another version: histories begin anew");
        }
        self.wire.send(Kind::Ready, &[CHANNELS_VERSION])?;
        self.wire.set_patience(None)?;
        let mut reading = Reading::default();
        loop {
            let frame = self.wire.receive()?.ok_or_else(gone)?;
            match frame.kind {
                Some(Kind::Channels) => line.read_channels(&mut reading, frame.body),
                Some(Kind::Commit) => break,
                _ => {}
            }
        }
        let read = line.finish_reading(reading, READ_PATIENCE).map_err(io::Error::other)?;
        info!(
            channels = read.channels,
            publications = read.publications,
            "channels of the process before this one are here"
        );
        Ok(())
    }

    /// Says that we serve, and takes the connections that waited. `ports`: names of the listeners in their order.
    pub fn serving(mut self, line: HandoverLine, ports: Vec<String>) -> io::Result<()> {
        for (name, _) in self.sockets.drain(..) {
            info!(socket = name, "a socket of the process before this one is not configured any more, it is closed");
        }
        self.wire.send(Kind::Serving, &[])?;
        let work = move || {
            let mut turn = 0;
            while let Ok(Some(frame)) = self.wire.receive() {
                if let Some(moved) = connection(frame, &ports) {
                    line.adopt(turn, moved);
                    turn += 1;
                }
            }
        };
        thread::Builder::new().name("upgrade".to_owned()).spawn(work).map(drop)
    }

    /// Says why we do not.
    pub fn failed(&self, reason: &str) {
        // It notices our end as well.
        let _ = self.wire.send(Kind::Failed, reason.as_bytes());
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the process before this one has ended, or gave this one up")
}

/// None for a connection to a port that is not served any more, which closes.
fn connection(frame: Frame, ports: &[String]) -> Option<Moved> {
    let socket = frame.descriptor.filter(|_| frame.kind == Some(Kind::Connection))?;
    let (length, rest) = frame.body.split_first()?;
    let (port, read) = rest.split_at_checked(usize::from(*length))?;
    let listener = ports.iter().position(|known| known.as_bytes() == port)?;
    Some(Moved { listener, socket, read: read.to_vec() })
}
