//! Submission and completion queue of one io_uring, and nothing about what the operations mean.

use std::io;
use std::os::fd::RawFd;
use std::thread;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Timespec};
use io_uring::{IoUring, cqueue, squeue};

/// Entries of the submission queue: sends leave in chunks of this size. Measured: the receivers start
/// while the rest is still being sent, and larger chunks gain nothing.
const SUBMISSION_ENTRIES: u32 = 128;

/// Entries of the completion queue; the kernel keeps what does not fit, at a price.
const COMPLETION_ENTRIES: u32 = 16 << 10;

/// IORING_ENTER_GETEVENTS: run the deferred work and post its completions.
const GET_EVENTS: u32 = 1;

/// IORING_ENTER_EXT_ARG: the argument is a [`WaitArgument`].
const EXTENDED_ARGUMENT: u32 = 1 << 3;

/// `struct io_uring_getevents_arg` of the kernel, whose `min_wait_usec` the io-uring crate does not offer.
#[repr(C)]
struct WaitArgument {
    signal_mask: u64,
    signal_mask_bytes: u32,
    min_wait_usec: u32,
    timeout: u64,
}

/// When to return from a sleep before its timeout: once something has completed, or not before several things have, but
/// after `at_most` with what there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Several {
    pub count: usize,
    pub at_most: Duration,
}

/// One finished (step of an) operation.
#[derive(Clone, Copy)]
pub(super) struct Completion {
    pub user_data: u64,
    pub result: i32,
    pub flags: u32,
}

impl Completion {
    /// The operation goes on: more completions will come.
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that holds the received bytes.
    pub fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    pub fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(-self.result)
    }
}

/// The ring of the thread that made it.
pub(super) struct Queue {
    ring: IoUring,
    /// Since Linux 6.12.
    can_wait_for_several: bool,
    /// System calls so far.
    pub enters: u64,
}

impl Queue {
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETION_ENTRIES)
            .build(SUBMISSION_ENTRIES)?;
        let mut queue = Self { ring, can_wait_for_several: true, enters: 0 };
        // Older kernels refuse the field.
        queue.can_wait_for_several = queue.wait_with(1, Duration::ZERO, Duration::from_micros(1)).is_ok();
        Ok(queue)
    }

    /// # Safety
    /// `entries` must point to `count` entries, page aligned, that outlive this queue.
    pub unsafe fn register_buffers(&self, entries: u64, count: u16, group: u16) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.ring.submitter().register_buf_ring_with_flags(entries, count, group, 0) }
    }

    /// Queues an operation; it starts with the next `enter`, or earlier when the queue is full.
    ///
    /// # Safety
    /// Its descriptor and all memory it points to must stay valid, and the memory untouched, until its last
    /// completion.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller's promise.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.submit();
        }
    }

    fn submit(&mut self) {
        self.enters += 1;
        match self.ring.submit() {
            Ok(_) => {}
            // Short of memory for a moment, or interrupted: everything is still queued.
            Err(error) if is_transient(&error) => thread::yield_now(),
            Err(error) => panic!("io_uring refuses submissions: {error}"),
        }
    }

    /// Submits what is queued and lets the kernel post completions; no system call if there is nothing to do.
    pub fn enter(&mut self) {
        let submission = self.ring.submission();
        let idle = submission.is_empty() && !submission.taskrun() && !submission.cq_overflow();
        drop(submission);
        if idle {
            return;
        }
        self.enters += 1;
        let queued = self.ring.submission().len() as u32;
        // SAFETY: no argument is passed, so there is nothing that could be invalid.
        let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GET_EVENTS, None) };
        match entered {
            Ok(_) => {}
            Err(error) if is_transient(&error) => {}
            Err(error) => panic!("io_uring_enter failed: {error}"),
        }
    }

    /// Appends everything that has completed.
    pub fn drain(&mut self, into: &mut Vec<Completion>) {
        into.extend(self.ring.completion().map(|done| Completion {
            user_data: done.user_data(),
            result: done.result(),
            flags: done.flags(),
        }));
    }

    /// Submits what is queued and sleeps until something completes, at most for `timeout`. Where the kernel can, it waits
    /// for several things.
    pub fn wait(&mut self, timeout: Duration, several: Option<Several>) {
        let waited = match several.filter(|_| self.can_wait_for_several) {
            Some(Several { count, at_most }) => self.wait_with(count, timeout, at_most),
            None => self.wait_with(1, timeout, Duration::ZERO),
        };
        if let Err(error) = waited {
            panic!("io_uring_enter failed: {error}");
        }
    }

    fn wait_with(&mut self, count: usize, timeout: Duration, min_wait: Duration) -> io::Result<()> {
        self.enters += 1;
        let timeout = Timespec::from(timeout);
        let argument = WaitArgument {
            signal_mask: 0,
            signal_mask_bytes: 0,
            min_wait_usec: min_wait.as_micros() as u32,
            timeout: std::ptr::from_ref(&timeout) as u64,
        };
        let queued = self.ring.submission().len() as u32;
        let flags = GET_EVENTS | EXTENDED_ARGUMENT;
        // SAFETY: the argument is laid out as the kernel's, and both it and the time it points to live through the call.
        match unsafe { self.ring.submitter().enter(queued, count as u32, flags, Some(&argument)) } {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ETIME) || is_transient(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends all operations, so that their memory can go. False if the kernel did not comply.
    pub fn cancel_all(&mut self) -> bool {
        let all = CancelBuilder::any().all();
        match self.ring.submitter().register_sync_cancel(None, all) {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

/// A descriptor as operations name it.
pub(super) fn fd(fd: RawFd) -> io_uring::types::Fd {
    io_uring::types::Fd(fd)
}
