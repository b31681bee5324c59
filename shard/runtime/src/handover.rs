//! Another process takes the place of this one: what the shards do for it, on either side. Who talks to the other process is
//! not here.
//!
//! The old side *holds* (nobody is accepted, requests that have not begun stay in their sockets), lets its homes write down
//! their channels (`export`), and then *cedes*: connections that wait with a request move to the new process, and whatever
//! would still change a channel here fails. Until it cedes, `resume` undoes all of it. The new side reads channels (`import`)
//! before it accepts anybody.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use ringcast_state::ShardId;

use crate::pool::{Control, Line};
use crate::start::StartError;

/// A connection that waits with its request, or for one.
pub struct Moved {
    /// The port that it came to, by its index in `Options::listeners`.
    pub listener: usize,
    /// The connection.
    pub socket: OwnedFd,
    /// What was read of it already, and not understood yet.
    pub read: Vec<u8>,
}

/// Makes the shards hand over or take over. The calls wait for the shards where it says so.
#[derive(Clone)]
pub struct HandoverLine {
    line: Line,
}

/// What a shard is asked to do.
pub(crate) enum Handover {
    /// Name the sockets that it accepts from: indexes of `Options::listeners`, and descriptors of their own.
    Sockets(Sender<Vec<(usize, io::Result<OwnedFd>)>>),
    /// Hold; the sender is dropped when no request is under way, or at the given moment.
    Hold(Instant, Sender<Infallible>),
    /// Undo that.
    Resume,
    /// Leave the channels to the other process, and give it what is held. The sender is dropped when that is done.
    Cede(Sender<Moved>),
    /// Listen and accept.
    Accept(Sender<Result<(), StartError>>),
    /// Serve a connection of the other process.
    Adopt(Moved),
}

impl HandoverLine {
    pub(crate) fn new(line: Line) -> Self {
        Self { line }
    }

    /// The sockets that the shards accept from, with the index in `Options::listeners`: each as often as shards share it.
    /// Waits.
    pub fn sockets(&self) -> io::Result<Vec<(usize, OwnedFd)>> {
        let (sender, all) = unbounded();
        self.tell_all(|| Handover::Sockets(sender.clone()));
        drop(sender);
        let of_all = all.into_iter().flatten();
        of_all.map(|(listener, socket)| Ok((listener, socket?))).collect()
    }

    /// Accepts nobody, and lets requests over HTTP/1 that have not begun wait. Waits until those are answered that have, at most
    /// `patience`: what is not answered by then is served here.
    pub fn hold(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let (sender, all_hold) = bounded(0);
        self.tell_all(|| Handover::Hold(until, sender.clone()));
        drop(sender);
        // A shard looks at the time, but may itself be stuck.
        let _ = all_hold.recv_timeout(patience * 2);
    }

    /// Goes on as if nothing had been held.
    pub fn resume(&self) {
        self.tell_all(|| Handover::Resume);
    }

    /// Gives the channels up, and gives out the connections that are held; the end comes when there are no more.
    pub fn cede(&self) -> Receiver<Moved> {
        let (sender, moved) = unbounded();
        self.tell_all(|| Handover::Cede(sender.clone()));
        moved
    }

    /// Listens and accepts, where the shards were started to wait for this. Waits.
    pub fn accept(&self) -> Result<(), StartError> {
        let (sender, all) = unbounded();
        self.tell_all(|| Handover::Accept(sender.clone()));
        drop(sender);
        all.into_iter().collect()
    }

    /// Serves a connection that another process gave up, on some shard: the next one's `turn`, counted by the caller.
    pub fn adopt(&self, turn: usize, moved: Moved) {
        let shard = turn % self.line.shards();
        let shard = ShardId(u16::try_from(shard).expect("fewer shards than 65536"));
        self.line.tell(shard, Control::Handover(Handover::Adopt(moved)));
    }

    fn tell_all(&self, handover: impl Fn() -> Handover) {
        self.line.tell_all(|| Control::Handover(handover()));
    }
}
