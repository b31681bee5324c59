//! What the owner of a ring does with its sockets: receive, send, close.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::ptr;
use std::time::{Duration, Instant};

use io_uring::opcode;
use socket2::SockRef;

use super::buffers::GROUP;
use super::pool::BufferPool;
use super::queue::{Completion, Queue, fd};
use super::slot::{Flags, Phase, Slots};
use super::{Closing, Event, Kind, SendBytes, SocketId, user_data};
use crate::metrics::RingCounters;

/// Chunk that the kernel reads from one socket before it looks at the next: MULTISHOT_MAX_RETRY.
const BUFFERS_PER_RECEIVE: usize = 32;

/// A listening socket and what its accept is doing.
pub(super) struct Listener {
    fd: OwnedFd,
    /// Other rings accept from the same socket.
    shared: bool,
    accepting: bool,
    /// Nothing is accepted until `resume_accept`.
    paused: bool,
    /// Dropped as soon as the accept has ended.
    closing: bool,
}

/// The sockets and listeners of one ring.
pub struct Sockets {
    pub(super) queue: Queue,
    pub(super) slots: Slots,
    pub(super) listeners: Vec<Option<Listener>>,
    /// Sockets whose receive found no buffer, in order; see `rearm_starved`.
    starved: VecDeque<SocketId>,
    /// When a graceful close gives up; entries of sockets that are gone are skipped.
    give_up: BinaryHeap<Reverse<(Instant, SocketId)>>,
    pool: BufferPool,
    /// But for the system calls, which the queue counts.
    pub(super) counters: RingCounters,
}

impl Sockets {
    pub(super) fn new(queue: Queue) -> Self {
        Self {
            queue,
            slots: Slots::default(),
            listeners: Vec::new(),
            starved: VecDeque::new(),
            give_up: BinaryHeap::new(),
            pool: BufferPool::default(),
            counters: RingCounters::default(),
        }
    }

    /// Sockets that are open or still closing.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// No socket is open or closing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Starts accepting. The socket must be bound, listening and blocking; TCP_NODELAY set on it is
    /// inherited by what it accepts. Returns the number that `Event::Accepted` names.
    pub fn add_listener(&mut self, listener: OwnedFd) -> usize {
        self.start_accepting(listener, false)
    }

    /// As `add_listener`, for a socket that other rings accept from, too: they take turns.
    ///
    /// The kernel wakes the ring whose accept has waited longest. A multishot accept keeps its place in that line, so the
    /// first ring would take everything (24 of 24 in the test `rings_that_share_a_listener_take_turns`); one accept at a time goes to the end of it.
    pub fn add_shared_listener(&mut self, listener: OwnedFd) -> usize {
        self.start_accepting(listener, true)
    }

    fn start_accepting(&mut self, listener: OwnedFd, shared: bool) -> usize {
        self.listeners.push(Some(Listener { fd: listener, shared, accepting: false, paused: false, closing: false }));
        let index = self.listeners.len() - 1;
        self.resume_accept(index);
        index
    }

    /// Accepts again after `Event::AcceptFailed` or `pause_accept`.
    pub fn resume_accept(&mut self, listener: usize) {
        let Some(found) = self.listeners.get_mut(listener).and_then(Option::as_mut) else {
            return;
        };
        found.paused = false;
        if found.accepting || found.closing {
            return;
        }
        found.accepting = true;
        let listening = fd(found.fd.as_raw_fd());
        let entry = match found.shared {
            true => opcode::Accept::new(listening, ptr::null_mut(), ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build(),
            false => opcode::AcceptMulti::new(listening).flags(libc::SOCK_CLOEXEC).build(),
        };
        let entry = entry.user_data(listener_data(listener));
        // SAFETY: the listener is closed only after this operation's last completion; no memory is named.
        unsafe { self.queue.push(&entry) };
    }

    /// Stops accepting; connections wait in the socket. What the kernel has accepted already still comes.
    pub fn pause_accept(&mut self, listener: usize) {
        let Some(found) = self.listeners.get_mut(listener).and_then(Option::as_mut) else {
            return;
        };
        found.paused = true;
        if found.accepting {
            self.cancel_accept(listener);
        }
    }

    /// Whether further connections may come out of an accept.
    pub fn is_accepting(&self) -> bool {
        self.listeners.iter().flatten().any(|listener| listener.accepting)
    }

    fn cancel_accept(&mut self, listener: usize) {
        let cancel = opcode::AsyncCancel::new(listener_data(listener)).build().user_data(Kind::Ignored as u64);
        // SAFETY: no memory is named.
        unsafe { self.queue.push(&cancel) };
    }

    /// Stops accepting and closes the listening socket; connections that wait in it are reset.
    pub fn close_listener(&mut self, listener: usize) {
        let Some(found) = self.listeners.get_mut(listener).and_then(Option::as_mut) else {
            return;
        };
        found.closing = true;
        if !found.accepting {
            self.listeners[listener] = None;
            return;
        }
        self.cancel_accept(listener);
    }

    /// The listening socket itself, unless it has been closed.
    pub fn listener(&self, listener: usize) -> Option<BorrowedFd<'_>> {
        self.listeners.get(listener)?.as_ref().map(|found| found.fd.as_fd())
    }

    /// Takes over a connected, blocking socket.
    pub fn adopt(&mut self, socket: OwnedFd) -> SocketId {
        self.slots.insert(socket.into_raw_fd())
    }

    /// Gives a socket up that is open and with which the kernel is doing nothing, without closing it: one that was just
    /// accepted, or whose receive has been paused and has ended. None, and nothing changed, for any other.
    pub fn release(&mut self, socket: SocketId) -> Option<OwnedFd> {
        let slot = self.slots.get(socket).filter(|slot| slot.is_at_rest())?;
        // SAFETY: the slot owns the descriptor and is freed below; no operation names it.
        let released = unsafe { OwnedFd::from_raw_fd(slot.fd) };
        self.slots.free(socket);
        Some(released)
    }

    /// A number for a connection that has no socket. Nothing can be done with it but `unreserve`, which must follow.
    pub fn reserve(&mut self) -> SocketId {
        self.slots.reserve()
    }

    /// Gives such a number back.
    pub fn unreserve(&mut self, id: SocketId) {
        if self.slots.get(id).is_some_and(|slot| slot.phase == Phase::Reserved) {
            self.slots.free(id);
        }
    }

    /// For socket options and addresses. None once the socket is gone.
    pub fn borrow(&self, socket: SocketId) -> Option<BorrowedFd<'_>> {
        let slot = self.slots.get(socket)?;
        if slot.phase == Phase::Reserved || slot.flags.any(Flags::CLOSING_DESCRIPTOR) {
            return None;
        }
        // SAFETY: open until the close that `CLOSING_DESCRIPTOR` announces, which needs `&mut self`.
        Some(unsafe { BorrowedFd::borrow_raw(slot.fd) })
    }

    /// Wants bytes: `Event::Received` until `Event::Ended` or `pause_receive`.
    pub fn start_receive(&mut self, socket: SocketId) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        if slot.phase == Phase::Open && !slot.flags.any(Flags::ENDED) {
            slot.flags.set(Flags::WANTED);
            self.arm_receive(socket);
        }
    }

    /// Wants no bytes until `start_receive`. What the kernel has handed over already still arrives.
    pub fn pause_receive(&mut self, socket: SocketId) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        if slot.phase == Phase::Open {
            slot.flags.clear(Flags::WANTED);
            self.cancel_receive(socket);
        }
    }

    fn arm_receive(&mut self, socket: SocketId) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        if slot.flags.any(Flags::RECEIVING.with(Flags::STARVED)) {
            return;
        }
        slot.flags.set(Flags::RECEIVING);
        let entry = opcode::RecvMulti::new(fd(slot.fd), GROUP).build().user_data(user_data(Kind::Receive, socket));
        // SAFETY: the descriptor stays open while RECEIVING is set; bytes go to the buffers of the group, which
        // outlive the ring.
        unsafe { self.queue.push(&entry) };
    }

    fn cancel_receive(&mut self, socket: SocketId) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        if slot.flags.any(Flags::RECEIVING) && !slot.flags.any(Flags::CANCELLING_RECEIVE) {
            slot.flags.set(Flags::CANCELLING_RECEIVE);
            self.cancel(Kind::Receive, Kind::CancelReceive, socket);
        }
    }

    fn cancel(&mut self, target: Kind, kind: Kind, socket: SocketId) {
        // By user data and not by descriptor, for which the kernel searches all armed operations.
        let entry = opcode::AsyncCancel::new(user_data(target, socket)).build().user_data(user_data(kind, socket));
        // SAFETY: no memory is named.
        unsafe { self.queue.push(&entry) };
    }

    /// Lets sockets that found no buffer receive again, longest wait first, and no more of them than the
    /// buffers serve: so a flooder, who goes to the end of the line, cannot starve the others.
    pub(super) fn rearm_starved(&mut self, buffers: usize) {
        let share = (buffers / BUFFERS_PER_RECEIVE).max(1);
        for _ in 0..share.min(self.starved.len()) {
            let socket = self.starved.pop_front().expect("bounded by the length");
            let Some(slot) = self.slots.get_mut(socket) else {
                continue;
            };
            slot.flags.clear(Flags::STARVED);
            if slot.flags.any(Flags::WANTED) {
                self.arm_receive(socket);
            }
        }
    }

    /// True if sockets wait for buffers: another turn is due at once.
    pub(super) fn has_starved(&self) -> bool {
        !self.starved.is_empty()
    }

    /// An empty buffer for `SendBytes::Owned`, from those that earlier sends gave back.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        self.pool.take()
    }

    /// Gives a buffer back that was not sent.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.pool.give_back(buffer);
    }

    /// Bytes handed to `send` that the kernel has not taken yet.
    pub fn unsent_bytes(&self, socket: SocketId) -> usize {
        self.slots.get(socket).map_or(0, |slot| slot.unsent_bytes())
    }

    /// Sends `bytes`; `Event::Flushed` or `Event::SendFailed` follows. One send at a time: the last one must
    /// have been answered. Bytes for a socket that is gone or closing are dropped.
    pub fn send(&mut self, socket: SocketId, bytes: SendBytes) {
        self.start_send(socket, bytes, Flags::NONE);
    }

    /// The same for the last bytes before a `close`, which must follow in this turn: they leave with the FIN, in one packet
    /// where two would cost the price of a write more.
    pub fn send_last(&mut self, socket: SocketId, bytes: SendBytes) {
        self.start_send(socket, bytes, Flags::LAST);
    }

    fn start_send(&mut self, socket: SocketId, bytes: SendBytes, flags: Flags) {
        let Some(slot) = self.slots.get_mut(socket).filter(|slot| slot.phase == Phase::Open) else {
            return self.pool.give_back_sent(bytes);
        };
        assert!(slot.sending.is_none(), "one send in flight per socket");
        assert!(!bytes.is_empty() && u32::try_from(bytes.len()).is_ok());
        slot.sending = Some(bytes);
        slot.sent = 0;
        slot.flags.set(flags);
        self.counters.sends += 1;
        self.submit_send(socket);
    }

    fn submit_send(&mut self, socket: SocketId) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        let Some(bytes) = &slot.sending else { return };
        let rest = &bytes.as_slice()[slot.sent as usize..];
        let more = if slot.flags.any(Flags::LAST) { libc::MSG_MORE } else { 0 };
        let entry = opcode::Send::new(fd(slot.fd), rest.as_ptr(), rest.len() as u32)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | more)
            .build()
            .user_data(user_data(Kind::Send, socket));
        slot.flags.set(Flags::SENDING);
        // SAFETY: `sending` keeps the bytes, which nobody can change behind an `Rc` or an owned `Vec`, at their
        // heap address while SENDING is set, and the descriptor stays open as long.
        unsafe { self.queue.push(&entry) };
    }

    fn wait_for_space(&mut self, socket: SocketId) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        slot.flags.set(Flags::POLLING);
        let events = libc::POLLOUT as u32;
        let entry = opcode::PollAdd::new(fd(slot.fd), events).build().user_data(user_data(Kind::Poll, socket));
        // SAFETY: the descriptor stays open while POLLING is set; no memory is named.
        unsafe { self.queue.push(&entry) };
    }

    /// Closes a socket; `Event::Closed` follows once its slot is free. A second call may only turn a
    /// graceful close into an abort.
    pub fn close(&mut self, socket: SocketId, how: Closing) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        match how {
            Closing::Graceful { give_up_at } if slot.phase == Phase::Open => {
                slot.phase = Phase::Flushing;
                self.give_up.push(Reverse((give_up_at, socket)));
            }
            Closing::Graceful { .. } => return,
            Closing::Abort if matches!(slot.phase, Phase::Ending | Phase::Reserved) => return,
            Closing::Abort => {
                slot.phase = Phase::Ending;
                self.discard_on_close(socket);
            }
        }
        self.advance_close(socket);
    }

    /// Aborts every socket, open or closing.
    pub fn abort_all(&mut self) {
        for socket in self.slots.in_use() {
            self.close(socket, Closing::Abort);
        }
    }

    /// Makes the close free the kernel's send buffer at once instead of trying to deliver it.
    fn discard_on_close(&mut self, socket: SocketId) {
        if let Some(fd) = self.borrow(socket) {
            // Fails only on a connection that the peer has reset, where there is nothing to discard.
            let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
        }
    }

    /// Aborts graceful closes whose peer has not answered in time.
    pub fn expire_closing(&mut self, now: Instant) {
        while let Some(&Reverse((at, socket))) = self.give_up.peek() {
            if at > now {
                return;
            }
            self.give_up.pop();
            self.close(socket, Closing::Abort);
        }
    }

    /// When `expire_closing` has work; may be early.
    pub fn next_closing_deadline(&self) -> Option<Instant> {
        self.give_up.peek().map(|Reverse((at, _))| *at)
    }

    fn advance_close(&mut self, socket: SocketId) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        let ended = slot.flags.any(Flags::ENDED);
        match slot.phase {
            Phase::Flushing if slot.sending.is_some() => {}
            Phase::Flushing if !ended => {
                slot.phase = Phase::Draining;
                slot.flags.set(Flags::WANTED);
                self.send_fin(socket);
                self.arm_receive(socket);
            }
            Phase::Draining if !ended => {}
            Phase::Flushing | Phase::Draining => {
                slot.phase = Phase::Ending;
                self.end(socket);
            }
            Phase::Ending => self.end(socket),
            Phase::Open | Phase::Free | Phase::Reserved => {}
        }
    }

    fn send_fin(&mut self, socket: SocketId) {
        if let Some(fd) = self.borrow(socket) {
            // A call and not an operation, which the kernel would give to a worker thread. Fails only if the
            // peer has reset the connection: the receive says so, too.
            let _ = SockRef::from(&fd).shutdown(Shutdown::Write);
        }
    }

    /// Cancels what is in the kernel; closes the descriptor once nothing is.
    fn end(&mut self, socket: SocketId) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        slot.flags.clear(Flags::WANTED);
        if !slot.flags.any(Flags::SENDING)
            && let Some(bytes) = slot.sending.take()
        {
            self.pool.give_back_sent(bytes);
        }
        if slot.flags.any(Flags::POLLING) && !slot.flags.any(Flags::CANCELLING_POLL) {
            slot.flags.set(Flags::CANCELLING_POLL);
            self.cancel(Kind::Poll, Kind::CancelPoll, socket);
        }
        self.cancel_receive(socket);
        self.close_descriptor(socket);
    }

    fn close_descriptor(&mut self, socket: SocketId) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        if slot.flags.any(Flags::IN_KERNEL) {
            return;
        }
        slot.flags.set(Flags::CLOSING_DESCRIPTOR);
        let entry = opcode::Close::new(fd(slot.fd)).build().user_data(user_data(Kind::Close, socket));
        // SAFETY: this slot owns the descriptor, and no operation uses it any more.
        unsafe { self.queue.push(&entry) };
    }

    pub(super) fn accepted(&mut self, done: Completion, on: &mut impl FnMut(&mut Self, Event<'_>)) {
        let listener = done.user_data as u32 as usize;
        let Some(found) = self.listeners.get_mut(listener).and_then(Option::as_mut) else {
            return;
        };
        found.accepting = done.more();
        let (closing, paused) = (found.closing, found.paused);
        if done.result >= 0 {
            // SAFETY: the kernel made this descriptor for us.
            let socket = unsafe { OwnedFd::from_raw_fd(done.result) };
            if !closing {
                let socket = self.adopt(socket);
                on(self, Event::Accepted { listener, socket });
            }
        }
        if done.more() {
            return;
        }
        let harmless = matches!(-done.result, libc::ECONNABORTED | libc::EINTR | libc::ECANCELED);
        if closing {
            self.listeners[listener] = None;
        } else if paused {
            // Until somebody resumes it.
        } else if done.result >= 0 || harmless {
            self.resume_accept(listener);
        } else {
            on(self, Event::AcceptFailed { listener, error: done.error() });
        }
    }

    /// A receive without bytes, or the last one of a multishot. Bytes are the caller's business.
    pub(super) fn receive_done(
        &mut self,
        socket: SocketId,
        done: Completion,
        on: &mut impl FnMut(&mut Self, Event<'_>),
    ) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        if done.more() {
            return;
        }
        slot.flags.clear(Flags::RECEIVING);
        let wanted = slot.flags.any(Flags::WANTED);
        let open = slot.phase == Phase::Open;
        match -done.result {
            libc::ENOBUFS if wanted => {
                slot.flags.set(Flags::STARVED);
                self.starved.push_back(socket);
            }
            libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN | i32::MIN..0 => {
                if wanted {
                    self.arm_receive(socket);
                }
            }
            error => {
                slot.flags.set(Flags::ENDED);
                slot.flags.clear(Flags::WANTED);
                if open {
                    let error = (error != 0).then(|| done.error());
                    on(self, Event::Ended { socket, error });
                }
            }
        }
        self.advance_close(socket);
    }

    /// Whether received bytes are for the owner, or dropped because the socket is closing.
    pub(super) fn is_open(&self, socket: SocketId) -> bool {
        self.slots.get(socket).is_some_and(|slot| slot.phase == Phase::Open)
    }

    pub(super) fn send_done(&mut self, socket: SocketId, done: Completion, on: &mut impl FnMut(&mut Self, Event<'_>)) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        slot.flags.clear(Flags::SENDING);
        if slot.phase == Phase::Ending {
            return self.advance_close(socket);
        }
        match done.result {
            sent @ 0.. => {
                slot.sent += sent as u32;
                self.counters.sent_bytes += sent as u64;
            }
            error if matches!(-error, libc::EAGAIN | libc::EINTR) => {}
            _ => return self.send_failed(socket, done.error(), on),
        }
        let open = slot.phase == Phase::Open;
        if slot.unsent_bytes() > 0 {
            let known = slot.flags.any(Flags::BLOCKED);
            slot.flags.set(Flags::BLOCKED);
            self.wait_for_space(socket);
            self.counters.blocked += u64::from(!known);
            if open && !known {
                on(self, Event::Blocked { socket });
            }
            return;
        }
        slot.flags.clear(Flags::BLOCKED);
        if let Some(bytes) = slot.sending.take() {
            self.pool.give_back_sent(bytes);
        }
        if open {
            on(self, Event::Flushed { socket });
        } else {
            self.advance_close(socket);
        }
    }

    fn send_failed(&mut self, socket: SocketId, error: io::Error, on: &mut impl FnMut(&mut Self, Event<'_>)) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        if let Some(bytes) = slot.sending.take() {
            self.pool.give_back_sent(bytes);
        }
        if slot.phase == Phase::Open {
            on(self, Event::SendFailed { socket, error });
        } else {
            slot.phase = Phase::Ending;
            self.advance_close(socket);
        }
    }

    pub(super) fn poll_done(&mut self, socket: SocketId) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        slot.flags.clear(Flags::POLLING);
        if slot.phase == Phase::Ending {
            self.advance_close(socket);
        } else {
            self.submit_send(socket);
        }
    }

    pub(super) fn cancel_done(&mut self, socket: SocketId, flag: Flags) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        slot.flags.clear(flag);
        self.advance_close(socket);
    }

    pub(super) fn close_done(&mut self, socket: SocketId, on: &mut impl FnMut(&mut Self, Event<'_>)) {
        let Some(slot) = self.slots.get_mut(socket) else {
            return;
        };
        // Whatever the result, the descriptor is gone: Linux frees it before it reports an error.
        slot.flags.clear(Flags::CLOSING_DESCRIPTOR);
        self.slots.free(socket);
        on(self, Event::Closed { socket });
    }
}

/// User data of a listener's accept.
fn listener_data(listener: usize) -> u64 {
    let slot = u32::try_from(listener).expect("a handful of listeners");
    (Kind::Accept as u64) << 56 | u64::from(slot)
}
