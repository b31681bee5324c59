//! TLS of the connections of a shard: rustls without its buffers, between the sockets and `connection/`. What the peer
//! sends is decrypted before anything else sees it, and what is written is encrypted as it goes to the ring.
//!
//! Only connections of listeners with TLS have a session here; the others pay for none of it, and their table entries
//! do not grow. An idle session is what rustls keeps of it and no buffer: measured (`ringcast-bench idle`), each connection beyond
//! the first 4000 takes 4.7 KB resident with its subscription, 3.5 of them for TLS.

mod options;
mod record;
mod session;

use std::collections::VecDeque;
use std::time::Duration;

use ringcast_state::ConnectionId;

use crate::options::ListenerOptions;
use crate::table::Table;

pub use options::{ACME_PROTOCOL, Credentials, OnDemand, Readiness, Sessions, TlsOptions, protocols};
pub(crate) use session::{Heard, Session, Stage};

/// Handshakes begun in one turn of the loop take no longer than this, and one more: a storm of them must not hold up the
/// messages of everybody else. Measured with `openssl s_time -new`, a connection with one costs 0.20 ms of CPU with a P-256 key
/// and 0.55 ms with RSA of 2048 bits; resumed, 0.10 ms (`ringcast-bench connect`, 143 µs against 38 µs without TLS).
/// A turn is hardly dearer for being shorter: with 1 ms in place of 0.25 ms as many came in (5400 and 5900 a second of 64 at once), and
/// p99 of the deliveries to others was 2.8 ms for 1.0, with 500 at once 8 ms for 3 (`ringcast-bench latency` beside `connect`).
pub(crate) const HANDSHAKES_PER_TURN: Duration = Duration::from_micros(250);

/// Handshakes of a shard that wait for a certificate which is being obtained; more fail at once.
const PARKED_MAX: usize = 1024;

/// Capacity of the decrypted bytes that is kept for the next ones: two records.
const PLAIN_BYTES_KEPT: usize = 64 << 10;

/// TLS of one shard: configurations of its listeners, sessions by slot.
pub(crate) struct Tls {
    listeners: Vec<Option<TlsOptions>>,
    sessions: Table<Option<Box<Session>>>,
    /// Handshakes with a record to look at. Bound: one entry for each open connection, which its head timeout ends.
    waiting: VecDeque<ConnectionId>,
    /// Handshakes whose certificate is being obtained.
    parked: Vec<ConnectionId>,
    /// Decrypted bytes, for the time of one call.
    plain: Vec<u8>,
}

impl Tls {
    pub fn new(listeners: &[ListenerOptions]) -> Self {
        Self {
            listeners: listeners.iter().map(|listener| listener.tls.clone()).collect(),
            sessions: Table::new(|| None),
            waiting: VecDeque::new(),
            parked: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// Configurations of new handshakes, in the order of the listeners.
    pub fn set_listeners(&mut self, listeners: &[Option<TlsOptions>]) {
        for (now, new) in self.listeners.iter_mut().zip(listeners) {
            if now.is_some() && new.is_some() {
                now.clone_from(new);
            }
        }
        self.certificates_changed();
    }

    /// A connection was accepted. None if its listener has no TLS.
    pub fn open(&mut self, listener: usize, slot: u32) -> Option<Result<(), rustls::Error>> {
        let options = self.listeners.get(listener)?.as_ref()?;
        let session = Session::new(options.clone());
        self.sessions.reach(slot as usize);
        Some(session.map(|session| *self.entry(slot) = Some(Box::new(session))))
    }

    fn entry(&mut self, slot: u32) -> &mut Option<Box<Session>> {
        self.sessions.get_mut(slot as usize).expect("reached before")
    }

    /// The session of a connection; none without TLS.
    #[inline]
    pub fn session(&mut self, slot: u32) -> Option<&mut Session> {
        self.sessions.get_mut(slot as usize)?.as_deref_mut()
    }

    /// A connection is gone.
    pub fn close(&mut self, slot: u32) {
        if let Some(entry) = self.sessions.get_mut(slot as usize) {
            *entry = None;
        }
    }

    /// The handshake of this connection can go on; one that has begun goes before those that have not.
    pub fn enqueue(&mut self, id: ConnectionId) {
        let Some(session) = self.session(id.slot) else { return };
        if std::mem::replace(&mut session.queued, true) {
            return;
        }
        match session.stage() {
            Stage::Fresh => self.waiting.push_back(id),
            Stage::Handshaking | Stage::Open | Stage::Failed => self.waiting.push_front(id),
        }
    }

    /// The next handshake that can go on.
    pub fn next_handshake(&mut self) -> Option<ConnectionId> {
        self.waiting.pop_front()
    }

    /// Lets a handshake wait for its certificate. False if too many do.
    pub fn park(&mut self, id: ConnectionId) -> bool {
        let has_room = self.parked.len() < PARKED_MAX;
        if has_room {
            self.parked.push(id);
        }
        has_room
    }

    /// Handshakes that wait for a certificate try again.
    pub fn certificates_changed(&mut self) {
        for id in std::mem::take(&mut self.parked) {
            self.enqueue(id);
        }
    }

    /// An empty buffer for decrypted bytes; comes back with `keep`.
    pub fn take_plain(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plain)
    }

    pub fn keep(&mut self, mut plain: Vec<u8>) {
        if plain.capacity() <= PLAIN_BYTES_KEPT {
            plain.clear();
            self.plain = plain;
        }
    }
}
