//! The eventfd that ends a shard's sleep: its ring polls it, other threads write to it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Wakes one sleeping shard. Cheap to clone, usable from every thread.
#[derive(Clone, Debug)]
pub struct WakeHandle {
    eventfd: Arc<File>,
}

impl WakeHandle {
    /// Makes an eventfd of its own. Fails when descriptors run out.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made above and belongs to nobody else.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { eventfd: Arc::new(File::from(eventfd)) })
    }

    /// Ends the current sleep, or the next one at once. One system call: call it only for a sleeper.
    pub fn wake(&self) {
        (&*self.eventfd)
            .write_all(&1u64.to_ne_bytes())
            .expect("an eventfd blocks, and fails, at 2^64 unread wakes only");
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}

impl AsFd for WakeHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
