//! Submission and completion queue of one io_uring, and nothing about what the operations mean.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::wake::WakeHandle;

/// Entries of the submission queue: sends leave in chunks of this size. Measured: the receivers start
/// while the rest is still being sent, and larger chunks gain nothing.
const SUBMISSION_ENTRIES: u32 = 128;

/// Entries of the completion queue; the kernel keeps what does not fit, at a price.
const COMPLETION_ENTRIES: u32 = 16 << 10;

/// IORING_ENTER_GETEVENTS: run the deferred work and post its completions.
const GET_EVENTS: u32 = 1;

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

/// The ring of the thread that made it. Signals the eventfd only between `prepare_sleep` and `awake`.
pub(super) struct Queue {
    ring: IoUring,
    timer: Box<Timespec>,
    timer_at: Option<Instant>,
}

impl Queue {
    pub fn new(wake: &WakeHandle) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETION_ENTRIES)
            .build(SUBMISSION_ENTRIES)?;
        ring.submitter().register_eventfd(wake.as_raw_fd())?;
        let mut queue = Self { ring, timer: Box::new(Timespec::new()), timer_at: None };
        queue.awake();
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
        if !idle {
            self.enter_always();
        }
    }

    fn enter_always(&mut self) {
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

    /// From now on a completion signals the eventfd. Work that came before this call is posted by it, so the
    /// caller must `drain` once more before it sleeps.
    pub fn prepare_sleep(&mut self) {
        self.ring.completion().enable_eventfd();
        // Orders the switch before the kernel's look at its list of deferred work.
        fence(Ordering::SeqCst);
        self.enter_always();
    }

    /// Completions signal nothing: somebody looks at the queue anyway.
    pub fn awake(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    /// Makes sure that a completion with `user_data` comes at `at` or earlier. One timer per ring.
    pub fn wake_at(&mut self, at: Instant, now: Instant, user_data: u64, update_data: u64) {
        if self.timer_at.is_some_and(|armed| armed <= at) {
            return;
        }
        let wait = at.saturating_duration_since(now).max(Duration::from_nanos(1));
        *self.timer = Timespec::from(wait);
        let timer: *const Timespec = &*self.timer;
        let entry = match self.timer_at {
            None => opcode::Timeout::new(timer).build().user_data(user_data),
            Some(_) => opcode::TimeoutUpdate::new(user_data, timer).build().user_data(update_data),
        };
        self.timer_at = Some(at);
        // SAFETY: the kernel reads the boxed time at submission only; it lives as long as the queue. A later
        // call may change it before that, which is then the time wanted.
        unsafe { self.push(&entry) };
    }

    /// The completion of the timer has come.
    pub fn timer_fired(&mut self) {
        self.timer_at = None;
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
