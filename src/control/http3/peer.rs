//! What the streams of one connection share: the meeting place of a WebTransport session, and the bounds of what they hold.

use super::lobby::Lobby;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Bytes of heads that are not whole.
pub const HEADS_BYTES_MAX: usize = 256 << 10;

/// Bytes of bodies that are not whole, beside the largest that the server API takes.
const BODIES_BYTES_SPARE: usize = 1 << 20;

/// Bytes of responses that wait for the peer to read them; beyond, requests wait until they are.
const UNREAD_BYTES_MAX: usize = 1 << 20;

/// Requests given up in a second; one more ends the connection. As for HTTP/2.
const GIVEN_UP_MAX: u32 = 1000;

/// One connection, seen by its streams.
pub struct Peer {
    /// Where it came from.
    pub address: IpAddr,
    /// Of WebTransport.
    pub lobby: Lobby,
    /// Bytes that heads may still take.
    pub heads: Semaphore,
    /// Of requests.
    pub bodies: Bodies,
    /// Of responses.
    pub unread: Unread,
}

impl Peer {
    /// `body_bytes_max`: the largest body that the server API takes.
    pub fn new(address: IpAddr, body_bytes_max: usize) -> Self {
        Self {
            address,
            lobby: Lobby::default(),
            heads: Semaphore::new(HEADS_BYTES_MAX),
            bodies: Bodies { bytes: AtomicUsize::new(0), bytes_max: body_bytes_max + BODIES_BYTES_SPARE },
            unread: Unread(Arc::new(watch::Sender::new(0))),
        }
    }
}

/// Bytes of bodies that are not whole.
///
/// Bound: `http_api.body_size_limit` and one MiB. Full: the request whose bytes are too many is refused.
pub struct Bodies {
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// One body; its bytes count until it is dropped.
pub struct Body<'a> {
    bodies: &'a Bodies,
    bytes: usize,
}

impl Bodies {
    /// Nothing has come of it.
    pub fn begin(&self) -> Body<'_> {
        Body { bodies: self, bytes: 0 }
    }
}

impl Body<'_> {
    /// Counts bytes that came; false if they are too many.
    pub fn take(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.bodies.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.bodies.bytes_max
    }

    /// So many came.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.bodies.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes of responses that are not written.
///
/// Bound: 1 MiB, and what requests that are being served add to it. Full: further requests wait.
#[derive(Clone)]
pub struct Unread(Arc<watch::Sender<usize>>);

/// Bytes of a response; they count until they are dropped.
pub struct Piece {
    bytes: Vec<u8>,
    unread: Unread,
}

impl Unread {
    /// Counts bytes.
    pub fn piece(&self, bytes: Vec<u8>) -> Piece {
        self.0.send_modify(|unread| *unread += bytes.len());
        Piece { bytes, unread: self.clone() }
    }

    /// Waits until there are few enough.
    pub async fn has_room(&self) {
        // Fails only without a sender, which is here.
        let _ = self.0.subscribe().wait_for(|unread| *unread <= UNREAD_BYTES_MAX).await;
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.unread.0.send_modify(|unread| *unread -= self.bytes.len());
    }
}

/// Counts requests that a peer gives up before they are served: they cost it little. Source: CVE-2023-44487.
pub struct GivenUp {
    second: Instant,
    counted: u32,
}

impl GivenUp {
    /// None so far.
    pub fn new(now: Instant) -> Self {
        Self { second: now, counted: 0 }
    }

    /// One more; false if there were too many.
    pub fn count(&mut self, now: Instant) -> bool {
        if now >= self.second + Duration::from_secs(1) {
            (self.second, self.counted) = (now, 0);
        }
        self.counted += 1;
        self.counted <= GIVEN_UP_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_has_its_own_count_of_requests_given_up() {
        let now = Instant::now();
        let mut given_up = GivenUp::new(now);
        assert!((0..GIVEN_UP_MAX).all(|_| given_up.count(now)));
        assert!(!given_up.count(now + Duration::from_millis(999)));
        assert!(given_up.count(now + Duration::from_secs(1)));
    }

    #[test]
    fn bodies_share_one_bound_until_they_are_whole() {
        let peer = Peer::new([127, 0, 0, 1].into(), 1000);
        let (mut first, mut second) = (peer.bodies.begin(), peer.bodies.begin());
        assert!(first.take(BODIES_BYTES_SPARE) && second.take(1000) && !second.take(1));
        drop(first);
        assert!(second.take(1));
    }
}
