//! Wakes a shard, only if it sleeps, and never too late: rule 12 of the design.
//!
//! The sleeper raises its flag, then looks at its queues again; a sender pushes, then looks at the flag. Each has
//! a SeqCst fence between the two, so at least one of them sees what the other did. Proved with loom in `proof/`.

#[cfg(loom)]
use loom::sync::{
    Arc,
    atomic::{AtomicBool, Ordering, fence},
};
#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering, fence},
};

use crate::uring::WakeHandle;

/// What ends a sleep, once, also when called before it begins.
pub trait Wake {
    /// Called at most once per sleep.
    fn wake(&self);
}

impl Wake for WakeHandle {
    fn wake(&self) {
        WakeHandle::wake(self);
    }
}

/// The bell of one shard, shared by everyone who sends to it.
pub struct Doorbell<W = WakeHandle> {
    shared: Arc<Shared<W>>,
}

/// Alone on its cache lines: senders of all shards read the flag with every batch.
#[repr(align(128))]
struct Shared<W> {
    sleeping: AtomicBool,
    wake: W,
}

impl<W> Clone for Doorbell<W> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<W: Wake> Doorbell<W> {
    /// The bell of a shard that does not sleep yet.
    pub fn new(wake: W) -> Self {
        Self { shared: Arc::new(Shared { sleeping: AtomicBool::new(false), wake }) }
    }

    /// Sender: call once after a batch of pushes. A system call only if the shard sleeps.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        let sleeping = &self.shared.sleeping;
        // The plain load first: a shard that is busy must not lose its cache line to every sender.
        if sleeping.load(Ordering::Relaxed) && sleeping.swap(false, Ordering::Relaxed) {
            self.shared.wake.wake();
        }
    }

    /// Sleeper: call first, then look at every queue again, and sleep only if all are empty.
    ///
    /// A swap here and in `awake`, where a store is enough for C11: all writes of the flag are then in an order that loom can
    /// follow, and beside a sleep it costs nothing.
    pub fn prepare_sleep(&self) {
        self.shared.sleeping.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Sleeper: the sleep is over, or did not take place.
    pub fn awake(&self) {
        self.shared.sleeping.swap(false, Ordering::Relaxed);
    }
}
