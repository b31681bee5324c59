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
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use ringcast_state::{ShardId, Written};

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

/// Lists of channels that wait between the shards and whoever sends them on.
const LISTS_MAX: usize = 16;

/// What is being read of another process's channels.
pub struct Reading {
    sender: Sender<Result<Written, String>>,
    read: Receiver<Result<Written, String>>,
}

impl Default for Reading {
    fn default() -> Self {
        let (sender, read) = unbounded();
        Self { sender, read }
    }
}

/// What a shard is asked to do.
pub(crate) enum Handover {
    /// Name the sockets that it accepts from: indexes of `Options::listeners`, and descriptors of their own.
    Sockets(Sender<Vec<(usize, io::Result<OwnedFd>)>>),
    /// Hold; the sender is dropped when no request is under way, or at the given moment.
    Hold(Instant, Sender<Infallible>),
    /// Undo that.
    Resume,
    /// Write the channels down, list after list; they rest meanwhile. The sender is dropped behind the last one.
    Write(Sender<Vec<u8>>),
    /// Take in what of these channels belongs here.
    Read(Arc<[u8]>, Sender<Result<Written, String>>),
    /// Say whether all of them are whole.
    Check(Sender<bool>),
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
    /// Waits; fails when a shard does not answer within `patience`.
    pub fn sockets(&self, patience: Duration) -> io::Result<Vec<(usize, OwnedFd)>> {
        let give_up_at = Instant::now() + patience;
        let (sender, all) = unbounded();
        self.tell_all(|| Handover::Sockets(sender.clone()));
        let mut sockets = Vec::new();
        for _ in 0..self.line.shards() {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "a shard does not answer");
            for (listener, socket) in all.recv_deadline(give_up_at).map_err(late)? {
                sockets.push((listener, socket?));
            }
        }
        Ok(sockets)
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

    /// Has the homes write their channels down, which rest from then on; the end comes when all are written.
    ///
    /// Bound: `LISTS_MAX` lists of about 256 KiB, behind which a shard waits: drop the receiver to let it go.
    pub fn write_channels(&self) -> Receiver<Vec<u8>> {
        let (sender, lists) = bounded(LISTS_MAX);
        self.tell_all(|| Handover::Write(sender.clone()));
        lists
    }

    /// Takes in a list that another process has written. What came of it is told by `reading`.
    pub fn read_channels(&self, reading: &mut Reading, list: Vec<u8>) {
        let list: Arc<[u8]> = list.into();
        self.tell_all(|| Handover::Read(list.clone(), reading.sender.clone()));
    }

    /// Waits until all lists are taken in, at most `patience`. How much that was; or what is wrong.
    pub fn finish_reading(&self, reading: Reading, patience: Duration) -> Result<Written, String> {
        let give_up_at = Instant::now() + patience;
        let Reading { sender, read } = reading;
        drop(sender);
        let late = "the shards take too long to read channels".to_owned();
        let mut all = Written::default();
        loop {
            match read.recv_deadline(give_up_at) {
                Ok(part) => all += part?,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err(late),
            }
        }
        let (sender, checked) = unbounded();
        self.tell_all(|| Handover::Check(sender.clone()));
        drop(sender);
        match checked.into_iter().all(|is_whole| is_whole) {
            true => Ok(all),
            false => Err("a channel has come without some of its publications".to_owned()),
        }
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
