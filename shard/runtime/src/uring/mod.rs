//! The io_uring of one shard: its sockets, their receive buffers and sends. Owns every descriptor and every
//! byte the kernel works on until the last completion, so that nothing outside needs `unsafe`.
//!
//! Knows nothing of protocols. The owner calls [`Uring::submit_and_collect`] once per turn and answers events
//! through the [`Sockets`] it is handed back; between turns it sleeps in [`Uring::sleep`], which a completion or the
//! [`WakeHandle`] ends.
//!
//! What every `unsafe` here leans on: bytes that an operation names belong to a slot or to `Buffers`, which let go of them behind
//! its last completion only, and leak them where a ring ends before that came; a descriptor is closed behind the last completion of
//! all that names it; and a completion carries slot and generation, so that a late one finds nobody.

mod buffers;
mod pool;
mod queue;
mod slot;
mod sockets;
mod wake;

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use buffers::Buffers;
use io_uring::opcode;
use queue::{Completion, Queue, Several};
use ringcast_state::{ConnectionId, Frame};
use slot::{Flags, Phase};

use crate::metrics::RingCounters;

pub use sockets::Sockets;
pub use wake::WakeHandle;

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct UringOptions {
    /// Receive buffers of the shard, a power of two, at most 32768. Default 2048.
    pub receive_buffers: u16,
    /// Bytes of one receive buffer. Default 2048.
    pub receive_buffer_bytes: u32,
}

impl Default for UringOptions {
    fn default() -> Self {
        Self { receive_buffers: 2048, receive_buffer_bytes: 2048 }
    }
}

/// A socket of one ring. The slot is reused, the generation tells its users apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    /// Index into tables that run parallel to the sockets; below 2^24.
    pub slot: u32,
    /// Counts the sockets that have used the slot.
    pub generation: u32,
}

/// Bytes to send.
pub enum SendBytes {
    /// A frame that many sockets send from the same memory.
    Shared(Rc<[u8]>),
    /// Bytes of this socket alone; the buffer is reused (`Sockets::take_buffer`).
    Owned(Vec<u8>),
}

impl SendBytes {
    /// Never zero for a send.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }

    /// All of them, for one who keeps them; shared ones are copied.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Shared(bytes) => bytes.to_vec(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// How to close a socket.
#[derive(Clone, Copy, Debug)]
pub enum Closing {
    /// After the last byte: FIN, then read and drop until the peer's FIN, so that it sees our last bytes and
    /// not a reset. Aborted at `give_up_at`, at the earliest when `expire_closing` is called.
    Graceful {
        /// End of patience with the peer.
        give_up_at: Instant,
    },
    /// Now: unsent bytes are dropped, the peer sees a reset.
    Abort,
}

/// What has happened. Events of a socket end with `Closed`; none comes after `Sockets::close` but that.
#[derive(Debug)]
pub enum Event<'a> {
    /// A new connection. Nothing is received before `start_receive`.
    Accepted {
        /// Number that `add_listener` returned.
        listener: usize,
        /// The connection.
        socket: SocketId,
    },
    /// Descriptors or memory ran out: this listener rests until `resume_accept`. Wait before that, for the
    /// cause does not go away by asking again.
    AcceptFailed {
        /// Number that `add_listener` returned.
        listener: usize,
        /// EMFILE, ENFILE, ENOMEM and the like.
        error: io::Error,
    },
    /// Bytes of the peer, never empty. Writable, for masks are removed in place. The buffer goes back to the
    /// kernel when the callback returns.
    Received {
        /// From whom.
        socket: SocketId,
        /// At most a receive buffer full.
        bytes: &'a mut [u8],
    },
    /// EOF, or an error: no more bytes will come. The owner still has to `close`.
    Ended {
        /// Whose.
        socket: SocketId,
        /// None at EOF.
        error: Option<io::Error>,
    },
    /// Everything handed to `send` is in the kernel: the next `send` may come.
    Flushed {
        /// Whose.
        socket: SocketId,
    },
    /// The peer takes no more for now, which says nothing about what it has taken. At most once per `send`.
    Blocked {
        /// Whose.
        socket: SocketId,
    },
    /// The bytes handed to `send` are lost. The owner still has to `close`.
    SendFailed {
        /// Whose.
        socket: SocketId,
        /// EPIPE, ECONNRESET and the like.
        error: io::Error,
    },
    /// The descriptor is closed; the slot may come back with the next accept.
    Closed {
        /// Its last mention.
        socket: SocketId,
    },
}

/// What an operation is for; the top byte of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Ignored,
    Accept,
    Receive,
    Send,
    Poll,
    CancelReceive,
    CancelPoll,
    Close,
    Wake,
}

impl Kind {
    fn of(user_data: u64) -> Self {
        const KINDS: [Kind; 9] = [
            Kind::Ignored,
            Kind::Accept,
            Kind::Receive,
            Kind::Send,
            Kind::Poll,
            Kind::CancelReceive,
            Kind::CancelPoll,
            Kind::Close,
            Kind::Wake,
        ];
        KINDS[(user_data >> 56) as usize]
    }
}

/// Kind, slot and generation of an operation on a socket.
fn user_data(kind: Kind, socket: SocketId) -> u64 {
    (kind as u64) << 56 | u64::from(socket.slot) << 32 | u64::from(socket.generation)
}

impl From<SocketId> for ConnectionId {
    fn from(SocketId { slot, generation }: SocketId) -> Self {
        Self { slot, generation }
    }
}

impl From<ConnectionId> for SocketId {
    fn from(ConnectionId { slot, generation }: ConnectionId) -> Self {
        Self { slot, generation }
    }
}

impl From<Frame> for SendBytes {
    fn from(frame: Frame) -> Self {
        match frame {
            Frame::Shared(bytes) => Self::Shared(bytes),
            Frame::Owned(bytes) => Self::Owned(bytes),
        }
    }
}

fn socket_of(user_data: u64) -> SocketId {
    SocketId { slot: (user_data >> 32) as u32 & 0xff_ffff, generation: user_data as u32 }
}

/// Whether a ring can be made at all. glommio panics where this fails, so ask first.
pub fn probe() -> io::Result<()> {
    Queue::new().map(drop)
}

/// The ring of a shard. Must be made and used on the shard's thread. Sockets are reached through `Deref`.
pub struct Uring {
    sockets: Sockets,
    /// None only while dropped. After `sockets`: the ring goes first.
    buffers: Option<Buffers>,
    batch: Vec<Completion>,
    wake: WakeHandle,
}

impl Uring {
    /// Fails with EPERM or ENOSYS where io_uring is refused, EINVAL on a kernel before 6.1, ENOMEM where
    /// memory may not be locked.
    pub fn new(options: UringOptions, wake: WakeHandle) -> io::Result<Self> {
        let queue = Queue::new()?;
        let buffers = Buffers::register(&queue, options.receive_buffers, options.receive_buffer_bytes)?;
        let sockets = Sockets::new(queue);
        let mut uring = Self { sockets, buffers: Some(buffers), batch: Vec::new(), wake };
        uring.arm_wake();
        Ok(uring)
    }

    /// Every write to the eventfd completes this operation once more; nobody has to read it.
    fn arm_wake(&mut self) {
        let entry = opcode::PollAdd::new(queue::fd(self.wake.as_raw_fd()), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data((Kind::Wake as u64) << 56);
        // SAFETY: `wake` keeps the eventfd open as long as the ring lives; no memory is named.
        unsafe { self.sockets.queue.push(&entry) };
    }

    /// Submits everything queued: on return the kernel has worked on all sends.
    pub fn submit(&mut self) {
        self.sockets.queue.enter();
    }

    /// What the ring did so far.
    pub fn counters(&self) -> RingCounters {
        RingCounters { enters: self.sockets.queue.enters, ..self.sockets.counters }
    }

    /// Submits everything queued, then hands over what has completed, without waiting. Returns how many
    /// completions there were; zero means that there is nothing to do.
    pub fn submit_and_collect(&mut self, mut on: impl FnMut(&mut Sockets, Event<'_>)) -> usize {
        self.sockets.queue.enter();
        let mut batch = std::mem::take(&mut self.batch);
        self.sockets.queue.drain(&mut batch);
        for done in &batch {
            self.dispatch(*done, &mut on);
        }
        let seen = batch.len() + usize::from(self.sockets.has_starved());
        batch.clear();
        self.batch = batch;
        let buffers = self.buffers.as_mut().map_or(0, |buffers| {
            buffers.adapt();
            buffers.rotating()
        });
        self.sockets.rearm_starved(buffers);
        seen
    }

    fn dispatch(&mut self, done: Completion, on: &mut impl FnMut(&mut Sockets, Event<'_>)) {
        let socket = socket_of(done.user_data);
        let sockets = &mut self.sockets;
        match Kind::of(done.user_data) {
            Kind::Ignored => {}
            Kind::Wake => {
                sockets.counters.wakes += 1;
                if !done.more() {
                    self.arm_wake();
                }
            }
            Kind::Accept => sockets.accepted(done, on),
            Kind::Receive => self.received(socket, done, on),
            Kind::Send => sockets.send_done(socket, done, on),
            Kind::Poll => sockets.poll_done(socket),
            Kind::CancelReceive => sockets.cancel_done(socket, Flags::CANCELLING_RECEIVE),
            Kind::CancelPoll => sockets.cancel_done(socket, Flags::CANCELLING_POLL),
            Kind::Close => sockets.close_done(socket, on),
        }
    }

    fn received(&mut self, socket: SocketId, done: Completion, on: &mut impl FnMut(&mut Sockets, Event<'_>)) {
        if let (Some(id), Some(buffers)) = (done.buffer(), &mut self.buffers) {
            if done.result > 0 && self.sockets.is_open(socket) {
                let bytes = buffers.received(id, done.result as usize);
                on(&mut self.sockets, Event::Received { socket, bytes });
            }
            buffers.give_back(id);
        }
        self.sockets.receive_done(socket, done, on);
    }

    /// Submits everything queued and sleeps until something has completed or somebody wakes the shard, at most for
    /// `timeout`.
    pub fn sleep(&mut self, timeout: Duration) {
        self.sockets.queue.wait(timeout, None);
    }

    /// The same for answers that are expected soon: until `count` of them have come, or after `at_most` any. Before Linux
    /// 6.12 a plain `sleep`.
    pub fn sleep_for_several(&mut self, timeout: Duration, count: usize, at_most: Duration) {
        self.sockets.queue.wait(timeout, Some(Several { count, at_most }));
    }
}

impl Deref for Uring {
    type Target = Sockets;

    fn deref(&self) -> &Sockets {
        &self.sockets
    }
}

impl DerefMut for Uring {
    fn deref_mut(&mut self) -> &mut Sockets {
        &mut self.sockets
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.sockets.queue.enter();
        let mut closed = std::mem::take(&mut self.batch);
        self.sockets.queue.drain(&mut closed);
        for done in closed.iter().filter(|done| Kind::of(done.user_data) == Kind::Close) {
            self.sockets.close_done(socket_of(done.user_data), &mut |_, _| {});
        }
        let quiet = self.sockets.queue.cancel_all();
        if !quiet {
            // The kernel may still write to them.
            std::mem::forget(self.buffers.take());
        }
        for slot in self.sockets.slots.all_mut() {
            if !quiet {
                std::mem::forget(slot.sending.take());
            }
            let has_descriptor = !matches!(slot.phase, Phase::Free | Phase::Reserved);
            if has_descriptor && !slot.flags.any(Flags::CLOSING_DESCRIPTOR) {
                // SAFETY: the slot owns the descriptor, and no close of it has been submitted.
                drop(unsafe { OwnedFd::from_raw_fd(slot.fd) });
            }
        }
    }
}

#[cfg(test)]
mod tests;
