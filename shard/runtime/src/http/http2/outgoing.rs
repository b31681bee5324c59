//! What leaves on one stream: bytes that tell when HTTP/2 has written them, which is once the peer's windows and the socket
//! have taken all that was before them.

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use bytes::Buf;
use h2::SendStream;
use ringcast_state::ConnectionId;

use crate::uring::SendBytes;

/// Payload of the largest frame that a peer must take.
const FRAME_BYTES: usize = 16 << 10;

/// Connections that are to be driven, each once.
pub type Woken = Rc<RefCell<Vec<ConnectionId>>>;

/// What is new on the streams of one connection.
pub struct Desk {
    connection: ConnectionId,
    woken: Woken,
    /// In `woken`, or being driven.
    listed: Cell<bool>,
    /// Streams to look at.
    streams: Arc<Streams>,
    /// Buffers that have been sent.
    spent: RefCell<Vec<Vec<u8>>>,
    /// Bytes of whole responses that are not written.
    unread: Cell<usize>,
    /// Window updates that data written by now may be answered with.
    updates: Cell<u32>,
}

/// Numbers of streams; the library wakes from behind its own lock, and wants it to be shareable between threads.
#[derive(Default)]
struct Streams(Mutex<Vec<u32>>);

impl Streams {
    fn push(&self, stream: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }

    fn pop(&self) -> Option<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// Puts a stream on the list when the library has news of it, which it only has while its connection is driven.
struct StreamWaker {
    stream: u32,
    streams: Arc<Streams>,
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.streams.push(self.stream);
    }
}

impl Desk {
    /// Of a connection that will be listed in `woken`.
    pub fn new(connection: ConnectionId, woken: Woken) -> Self {
        let (listed, streams) = (Cell::new(false), Arc::default());
        let (spent, unread, updates) = (RefCell::default(), Cell::new(0), Cell::new(0));
        Self { connection, woken, listed, streams, spent, unread, updates }
    }

    /// Has the connection driven before the turn ends.
    pub fn wake(&self) {
        if !self.listed.replace(true) {
            self.woken.borrow_mut().push(self.connection);
        }
    }

    /// The connection is being driven; `false` when that is over.
    pub fn set_driven(&self, driven: bool) {
        self.listed.set(driven);
    }

    /// Has a stream looked at.
    pub fn look_at(&self, stream: u32) {
        self.streams.push(stream);
        self.wake();
    }

    /// A stream to look at.
    pub fn next(&self) -> Option<u32> {
        self.streams.pop()
    }

    /// For the library.
    pub fn waker(&self, stream: u32) -> std::task::Waker {
        Arc::new(StreamWaker { stream, streams: Arc::clone(&self.streams) }).into()
    }

    /// Buffers to use again.
    pub fn take_spent(&self) -> Vec<Vec<u8>> {
        self.spent.take()
    }

    /// Bytes of whole responses that are not written.
    pub fn unread(&self) -> usize {
        self.unread.get()
    }

    /// Window updates that data written since the last call may be answered with.
    pub fn take_updates(&self) -> u32 {
        self.updates.take()
    }
}

/// What became of the bytes of one stream.
pub struct Progress {
    stream: u32,
    desk: Rc<Desk>,
    /// Chunks that are not written.
    outstanding: Cell<u32>,
    /// Bytes written.
    written: Cell<usize>,
}

impl Progress {
    /// Of a stream that has sent nothing.
    pub fn new(stream: u32, desk: &Rc<Desk>) -> Rc<Self> {
        let (outstanding, written) = (Cell::new(0), Cell::new(0));
        Rc::new(Self { stream, desk: Rc::clone(desk), outstanding, written })
    }

    /// Everything has been written.
    pub fn is_through(&self) -> bool {
        self.outstanding.get() == 0
    }

    /// Bytes written.
    pub fn written(&self) -> usize {
        self.written.get()
    }
}

/// Bytes in the hands of the library, which drops them once they are written, or will never be.
pub struct Chunk {
    bytes: SendBytes,
    at: usize,
    /// Part of a response that a request waits for.
    is_response: bool,
    progress: Rc<Progress>,
}

impl Chunk {
    fn new(bytes: SendBytes, at: usize, is_response: bool, progress: &Rc<Progress>) -> Self {
        progress.outstanding.set(progress.outstanding.get() + 1);
        if is_response {
            let unread = &progress.desk.unread;
            unread.set(unread.get() + bytes.len() - at);
        }
        Self { bytes, at, is_response, progress: Rc::clone(progress) }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes.as_slice()[self.at..]
    }

    fn advance(&mut self, count: usize) {
        self.at += count;
        let Progress { desk, written, .. } = &*self.progress;
        written.set(written.get() + count);
        if self.is_response {
            desk.unread.set(desk.unread.get() - count);
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let Progress { stream, desk, outstanding, .. } = &*self.progress;
        if self.is_response {
            desk.unread.set(desk.unread.get() - self.remaining());
        }
        let frames = u32::try_from(1 + self.bytes.len() / FRAME_BYTES).unwrap_or(u32::MAX);
        // One for the stream, one for the connection.
        desk.updates.set(desk.updates.get().saturating_add(frames.saturating_mul(2)));
        outstanding.set(outstanding.get() - 1);
        if outstanding.get() == 0 {
            desk.look_at(*stream);
        }
        if let SendBytes::Owned(buffer) = mem::replace(&mut self.bytes, SendBytes::Owned(Vec::new())) {
            desk.spent.borrow_mut().push(buffer);
        }
    }
}

/// How a stream of the client protocol ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// What was sent before may take the usual time to leave.
    Patient,
    /// The client does not keep up.
    Slow,
}

/// The response of one stream.
pub struct Outgoing {
    send: RefCell<Option<SendStream<Chunk>>>,
    progress: Rc<Progress>,
    /// A send of the client machine is to be confirmed.
    pub unconfirmed: Cell<bool>,
    /// Nothing of the client is wanted.
    pub paused: Cell<bool>,
    /// Nothing more is sent.
    pub ended: Cell<Option<End>>,
    /// The peer has reset the stream.
    pub lost: Cell<bool>,
}

impl Outgoing {
    /// A response that has not begun.
    pub fn new(progress: Rc<Progress>) -> Rc<Self> {
        let (unconfirmed, paused, lost) = (Cell::new(false), Cell::new(false), Cell::new(false));
        Rc::new(Self { send: RefCell::new(None), progress, unconfirmed, paused, ended: Cell::new(None), lost })
    }

    /// What became of the bytes.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Its head has been sent.
    pub fn began(&self, send: SendStream<Chunk>) {
        *self.send.borrow_mut() = Some(send);
    }

    /// Sends bytes from `at` on, and ends the response with them or not.
    pub fn send(&self, bytes: SendBytes, at: usize, is_last: bool, is_response: bool) {
        let chunk = Chunk::new(bytes, at, is_response, &self.progress);
        if let Some(send) = &mut *self.send.borrow_mut() {
            self.lost.set(self.lost.get() || send.send_data(chunk, is_last).is_err());
        }
        self.progress.desk.wake();
    }

    /// Has the connection look at this stream.
    pub fn tell(&self) {
        self.progress.desk.look_at(self.progress.stream);
    }

    /// Does something with the stream, if it has begun.
    pub fn with<T>(&self, act: impl FnOnce(&mut SendStream<Chunk>) -> T) -> Option<T> {
        self.send.borrow_mut().as_mut().map(act)
    }
}
