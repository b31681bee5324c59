//! How a shard runs: pinned executors, the turn of the loop, sockets on an io_uring of our own, queues between
//! shards. Carries bytes and time to the pure state machines of `ringcast-state` and knows no rules of its own.

pub mod listen;
pub mod ring;
pub mod start;
#[allow(unsafe_code)]
pub mod uring;
