//! The queues and bells between shards by themselves, without the runtime around them, so that loom and Miri can run them:
//! `dev/interleave`. The code is that of `ring/` and `uring/wake.rs`, not a copy.

#[cfg(loom)]
#[path = "../../src/ring/doorbell.rs"]
pub mod doorbell;

#[cfg(not(loom))]
#[path = "../../src/ring/mod.rs"]
pub mod ring;

#[cfg(not(loom))]
#[allow(dead_code)]
#[path = "../../src/uring/wake.rs"]
mod wake;

/// What ends a sleep.
pub mod uring {
    #[cfg(not(loom))]
    pub use crate::wake::WakeHandle;

    /// Under loom there is no kernel; each test brings its own.
    #[cfg(loom)]
    pub struct WakeHandle;

    #[cfg(loom)]
    impl WakeHandle {
        /// Never called.
        pub fn wake(&self) {}
    }
}
