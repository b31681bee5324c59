//! What to do when a connection cannot be accepted: answer 503 with a spare descriptor, and rest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::uring::Sockets;

/// Rest before accepting again: descriptors and memory do not come back by asking.
const REST: Duration = Duration::from_millis(100);

/// Connections refused per rest.
const REFUSALS_MAX: usize = 64;

/// Wait for a connection to refuse.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(1);

const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Keeps one descriptor for refusals, and the time of each listener's next try.
pub(crate) struct Acceptor {
    spare: Option<File>,
    resume_at: Vec<Option<Instant>>,
}

impl Acceptor {
    pub fn new(listeners: usize) -> io::Result<Self> {
        Ok(Self { spare: Some(spare()?), resume_at: vec![None; listeners] })
    }

    /// Accepting has failed and stopped.
    pub fn failed(&mut self, sockets: &Sockets, listener: usize, error: &io::Error, now: Instant) {
        tracing::warn!(%error, "cannot accept connections, refusing them for a moment");
        self.resume_at[listener] = Some(now + REST);
        if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
            self.spare = None;
            refuse_waiting(sockets, listener);
            self.spare = spare().ok();
        }
    }

    /// Accepts again where the rest is over.
    pub fn resume_due(&mut self, sockets: &mut Sockets, now: Instant) {
        for (listener, resume_at) in self.resume_at.iter_mut().enumerate() {
            if resume_at.take_if(|at| *at <= now).is_some() {
                sockets.resume_accept(listener);
            }
        }
    }

    /// When the next rest is over.
    pub fn next_resume(&self) -> Option<Instant> {
        self.resume_at.iter().flatten().min().copied()
    }
}

fn spare() -> io::Result<File> {
    File::open("/dev/null")
}

fn refuse_waiting(sockets: &Sockets, listener: usize) {
    let Some(fd) = sockets.listener(listener) else {
        return;
    };
    let listener = SockRef::from(&fd);
    // The ring's accept has ended, but another shard may accept from the same socket: what waits now may be gone in a
    // moment. And what is set here is set for all of them, so nothing is set back; the ring does not mind a time limit.
    if listener.set_read_timeout(Some(REFUSAL_PATIENCE)).is_err() {
        return;
    }
    for _ in 0..REFUSALS_MAX {
        let Ok((mut socket, _)) = listener.accept() else {
            break;
        };
        // One try: the peer may be gone. Its request is read so that our answer is not lost in a reset.
        let _ = socket.set_nonblocking(true).and_then(|()| socket.write_all(REFUSAL));
        let _ = socket.shutdown(Shutdown::Write);
        let _ = socket.read(&mut [0; 4096]);
    }
}
