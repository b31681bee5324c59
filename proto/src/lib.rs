//! Bytes <-> values: the client protocol, the server API, WebSocket and HTTP/1 framing.
//!
//! Nothing here does I/O, reads a clock, draws random numbers, starts a thread or takes a lock. Bytes from outside never
//! panic and never make memory grow without a bound; every decoder has a fuzz target.

pub mod api;
pub mod client;
pub mod codes;
pub mod control;
pub mod delta;
pub mod filter;
#[doc(hidden)]
pub mod fuzz;
pub mod handover;
pub mod http;
mod json;
pub mod nats;
pub mod proxy;
pub mod redis;
pub mod sockjs;
pub mod websocket;

pub use json::{InvalidJson, is_json, is_json_object, write_json_string};

use std::fmt;

/// Bytes that are not a message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What is wrong, for the operator's log.
    pub reason: &'static str,
    /// Byte of the decoded text where it was noticed; 0 where that is not known.
    pub position: usize,
}

impl DecodeError {
    pub(crate) const fn new(reason: &'static str, position: usize) -> Self {
        Self { reason, position }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.position)
    }
}

impl std::error::Error for DecodeError {}

impl From<prost::DecodeError> for DecodeError {
    fn from(_: prost::DecodeError) -> Self {
        Self::new("not a protobuf message of this type", 0)
    }
}
