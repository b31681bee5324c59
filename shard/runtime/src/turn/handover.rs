//! A shard's part in handing over to another process, or in taking over from one. See `crate::handover`.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use crossbeam_channel::Sender;
use ringcast_state::Now;

use super::ShardLoop;
use crate::connection::Io;
use crate::handover::{Handover, Moved};
use crate::listen::{self, ShardSocket};
use crate::start::StartError;
use crate::uring::Event;

/// Requests wait.
pub(super) struct Hold {
    /// Nobody waits longer for requests that are under way.
    until: Instant,
    /// Dropped when no request is.
    quiet: Option<Sender<Infallible>>,
}

/// Held connections go away.
pub(super) struct Moving {
    to: Sender<Moved>,
}

impl ShardLoop {
    /// Listens at the sockets that wait for it, and accepts.
    pub(super) fn accept(&mut self) -> Result<(), StartError> {
        for ShardSocket { listener, socket, shared } in std::mem::take(&mut self.waiting) {
            listen::listen(&socket)?;
            match shared {
                true => self.uring.add_shared_listener(socket.into()),
                false => self.uring.add_listener(socket.into()),
            };
            self.listeners.push(listener);
        }
        Ok(())
    }

    pub(super) fn handle_handover(&mut self, now: Now, handover: Handover) {
        match handover {
            // Whoever asked may have given up.
            Handover::Sockets(to) => drop(to.send(self.sockets())),
            Handover::Hold(until, quiet) => self.hold(until, quiet),
            Handover::Resume => self.resume(now),
            Handover::Write(to) => drop(self.state.write_channels(now, &mut |list| to.send(list).is_ok())),
            Handover::Read(list, to) => {
                drop(to.send(self.state.read_channels(now, &list).map_err(|error| error.to_string())));
            }
            Handover::Check(to) => drop(to.send(self.state.has_whole_channels())),
            Handover::Cede(to) => {
                self.state.cede(now);
                self.moving = Some(Moving { to });
            }
            Handover::Accept(to) => drop(to.send(self.accept())),
            Handover::Adopt(moved) => self.adopt(now, moved),
        }
    }

    /// Those that the ring accepts from.
    fn sockets(&self) -> Vec<(usize, io::Result<OwnedFd>)> {
        let numbered = self.listeners.iter().enumerate();
        let open = numbered.filter_map(|(socket, listener)| Some((*listener, self.uring.listener(socket)?)));
        open.map(|(listener, socket)| (listener, socket.as_fd().try_clone_to_owned())).collect()
    }

    fn hold(&mut self, until: Instant, quiet: Sender<Infallible>) {
        for socket in 0..self.listeners.len() {
            self.uring.pause_accept(socket);
        }
        self.connections.hold();
        self.hold = Some(Hold { until, quiet: Some(quiet) });
    }

    fn resume(&mut self, now: Now) {
        (self.hold, self.moving) = (None, None);
        self.state.reclaim(now);
        for socket in 0..self.listeners.len() {
            self.uring.resume_accept(socket);
        }
        let mut io = Io { sockets: &mut self.uring, shard: &mut self.state, now };
        self.connections.resume(&mut io);
    }

    fn adopt(&mut self, now: Now, moved: Moved) {
        let Moved { listener, socket, mut read } = moved;
        if self.connections.is_stopping() {
            return;
        }
        let socket = self.balance.take_in(&mut self.uring, listener, socket);
        let mut io = Io { sockets: &mut self.uring, shard: &mut self.state, now };
        self.connections.handle_event(&mut io, Event::Accepted { listener, socket });
        if !read.is_empty() {
            self.connections.handle_event(&mut io, Event::Received { socket, bytes: &mut read });
        }
    }

    /// There is something to look at again and again.
    pub(super) fn is_handing_over(&self) -> bool {
        self.moving.is_some() || self.hold.as_ref().is_some_and(|hold| hold.quiet.is_some())
    }

    /// Towards the end of a turn: holds the connections that have come to rest, and moves those that are held.
    pub(super) fn tend_handover(&mut self, now: Now, instant: Instant) {
        let Some(hold) = &mut self.hold else { return };
        let mut io = Io { sockets: &mut self.uring, shard: &mut self.state, now };
        let under_way = self.connections.hold_resting(&mut io);
        if (under_way == 0 && !self.uring.is_accepting() && self.balance.waiting() == 0) || hold.until <= instant {
            hold.quiet = None;
        }
        let Some(Moving { to }) = &self.moving else { return };
        let mut io = Io { sockets: &mut self.uring, shard: &mut self.state, now };
        let balance = &mut self.balance;
        let left = self.connections.move_held(&mut io, |id, moved| {
            balance.closed(id.into());
            // Nobody to take it: the connection closes, as those of a server that stops do.
            let _ = to.send(moved);
        });
        if left == 0 {
            // Whoever asks for something from now on is served here, as far as that goes.
            (self.hold, self.moving) = (None, None);
            self.connections.end_hold();
        }
    }
}
