//! TLS of connections that have it: decrypts what came before anything else sees it, and encrypts each write as it leaves.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use ringcast_state::ConnectionId;

use super::{Connections, Io, Phase};
use crate::tls::{HANDSHAKES_PER_TURN, Heard, Stage, TlsOptions};
use crate::uring::SendBytes;

impl Connections {
    /// Bytes as they came from the socket.
    #[inline]
    pub(super) fn wire_received(&mut self, io: &mut Io<'_>, id: ConnectionId, bytes: &mut [u8]) {
        match self.tls.session(id.slot).map(|session| session.stage()) {
            None => self.received(io, id, bytes),
            Some(Stage::Open) => self.decrypt(io, id, bytes),
            Some(Stage::Fresh | Stage::Handshaking) => self.collect_handshake(io, id, bytes),
            Some(Stage::Failed) => {}
        }
    }

    /// A handshake costs more than anything else a peer can ask for, so it waits for its turn.
    fn collect_handshake(&mut self, io: &mut Io<'_>, id: ConnectionId, bytes: &[u8]) {
        if self.get_mut(id).is_none_or(|connection| connection.phase != Phase::Open) {
            return;
        }
        let is_holding = self.is_holding;
        match self.tls.session(id.slot).map(|session| session.keep(bytes)) {
            // It waits, too, and may begin in another process.
            Some(Some(true)) if is_holding && self.is_resting(id) => {}
            Some(Some(true)) => self.tls.enqueue(id),
            Some(Some(false)) => {}
            Some(None) | None => self.leave(io, id, None),
        }
    }

    /// Goes on with handshakes for as long as a turn may be held up by them, at least with one; gives how many.
    pub fn run_handshakes(&mut self, io: &mut Io<'_>) -> usize {
        let Some(first) = self.tls.next_handshake() else {
            return 0;
        };
        let give_up_at = Instant::now() + HANDSHAKES_PER_TURN;
        let (mut next, mut done) = (Some(first), 0);
        while let Some(id) = next {
            self.run_handshake(io, id);
            done += 1;
            next = if Instant::now() < give_up_at { self.tls.next_handshake() } else { None };
        }
        done
    }

    fn run_handshake(&mut self, io: &mut Io<'_>, id: ConnectionId) {
        if self.get_mut(id).is_none_or(|connection| connection.phase != Phase::Open) {
            return;
        }
        let mut plain = self.tls.take_plain();
        let Some(session) = self.tls.session(id.slot) else { return };
        session.queued = false;
        let heard = catch_unwind(AssertUnwindSafe(|| session.handshake(&mut plain)));
        self.heard(io, id, heard, plain);
    }

    fn decrypt(&mut self, io: &mut Io<'_>, id: ConnectionId, bytes: &mut [u8]) {
        if self.get_mut(id).is_none_or(|connection| connection.phase != Phase::Open) {
            return;
        }
        let mut plain = self.tls.take_plain();
        let Some(session) = self.tls.session(id.slot) else { return };
        let heard = catch_unwind(AssertUnwindSafe(|| session.receive(bytes, &mut plain)));
        self.heard(io, id, heard, plain);
    }

    /// Acts on what a session made of the peer's bytes.
    fn heard(&mut self, io: &mut Io<'_>, id: ConnectionId, heard: std::thread::Result<Heard>, mut plain: Vec<u8>) {
        let Ok(heard) = heard else {
            tracing::error!(connection = ?id, "panic in TLS, the connection is closed");
            return self.abort(io, id);
        };
        self.send_records(io, id);
        if !plain.is_empty() {
            self.received(io, id, &mut plain);
        }
        self.tls.keep(plain);
        match heard {
            Heard::More => {}
            Heard::Ended => self.ended(io, id),
            Heard::Pending if self.tls.park(id) => {}
            Heard::Pending | Heard::Failed => {
                self.end_streams(io, id);
                self.forget(io, id);
                self.leave(io, id, None);
            }
        }
    }

    /// Sends what TLS itself has to say, unless a write is on its way, behind which it goes. True if it did.
    pub(super) fn send_records(&mut self, io: &mut Io<'_>, id: ConnectionId) -> bool {
        let Some(session) = self.tls.session(id.slot).filter(|session| session.has_records()) else {
            return false;
        };
        let Some(connection) = self.table.get_mut(id.slot as usize) else { return false };
        if connection.generation != id.generation || connection.sending || connection.phase != Phase::Open {
            return false;
        }
        connection.sending = true;
        // Into a buffer of the pool: one that comes from elsewhere would stay there once it is sent, a kilobyte of each handshake.
        let mut records = io.sockets.take_buffer();
        records.extend_from_slice(&session.take_records());
        io.sockets.send(id.into(), SendBytes::Owned(records));
        true
    }

    /// Requests cannot have come yet, and the time for the first head runs.
    pub(super) fn is_handshaking(&mut self, id: ConnectionId) -> bool {
        self.tls.session(id.slot).is_some_and(|session| matches!(session.stage(), Stage::Fresh | Stage::Handshaking))
    }

    /// Hands a write to the ring.
    #[inline]
    pub(super) fn send_to_socket(&mut self, io: &mut Io<'_>, id: ConnectionId, bytes: SendBytes, last: bool) {
        let bytes = match self.tls.session(id.slot) {
            None => bytes,
            Some(_) => match self.seal(io, id, bytes, last) {
                Some(bytes) => bytes,
                // There is no key for it: the connection is on its way out before its handshake was through.
                None => return self.abort(io, id),
            },
        };
        match last {
            true => io.sockets.send_last(id.into(), bytes),
            false => io.sockets.send(id.into(), bytes),
        }
    }

    fn seal(&mut self, io: &mut Io<'_>, id: ConnectionId, bytes: SendBytes, last: bool) -> Option<SendBytes> {
        let session = self.tls.session(id.slot)?;
        let mut sealed = io.sockets.take_buffer();
        let is_sealed = session.seal(bytes.as_slice(), &mut sealed);
        if let SendBytes::Owned(buffer) = bytes {
            io.sockets.recycle(buffer);
        }
        if last {
            session.close(&mut sealed);
        }
        is_sealed.then_some(SendBytes::Owned(sealed))
    }

    /// The last records of a connection that has nothing else to send: an alert, or the notice that we send no more.
    pub(super) fn farewell(&mut self, io: &mut Io<'_>, id: ConnectionId) -> Option<SendBytes> {
        let session = self.tls.session(id.slot)?;
        let mut records = io.sockets.take_buffer();
        session.close(&mut records);
        if records.is_empty() {
            io.sockets.recycle(records);
            return None;
        }
        Some(SendBytes::Owned(records))
    }

    /// New configurations of TLS, in the order of the listeners: handshakes that begin from now on use them.
    pub fn set_tls(&mut self, listeners: &[Option<TlsOptions>]) {
        self.tls.set_listeners(listeners);
    }

    /// Handshakes that wait for a certificate try again.
    pub fn certificates_changed(&mut self) {
        self.tls.certificates_changed();
    }
}
