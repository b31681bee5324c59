//! What a shard knows and decides, as pure state machines: bytes, messages and time go in; frames, messages and actions
//! come out. No I/O, no clock, no randomness that is not an input, no threads.
//!
//! # Driving a shard
//!
//! One turn: hand in what came (`handle_*`), then `handle_timeout` once `next_timeout` is reached, then take out
//! actions ([`Shard::take_action`]), API answers ([`Shard::take_api_answer`], [`Shard::take_outcome`]), dirty connections ([`Shard::take_dirty`], each
//! flushed once with [`Shard::take_frames`], then [`Shard::handle_written`]), signature checks ([`Shard::take_signature_check`], [`Shard::take_slow_signature_check`]),
//! key questions ([`Shard::take_key_question`]), questions to backends ([`Shard::take_proxy_question`]), acts about their streams ([`Shard::take_stream_act`]) and messages for other shards ([`Shard::outbox`]).

mod api;
pub mod auth;
pub mod broker;
mod channel;
mod client;
mod compass;
mod delivery;
mod filters;
mod frame;
mod glob;
mod hub;
mod id;
pub mod message;
pub mod metrics;
pub mod namespace;
mod node;
pub mod options;
mod outbox;
mod pending;
mod post;
pub mod proxy;
mod random;
mod registry;
mod session;
mod shard;
mod shed;
mod sparse;
mod tenure;
mod time;
mod transport;
mod users;
mod variant;
mod wheel;

pub use channel::{Encoded, Epoch, Position, Publication, Written};
pub use client::EmulationError;
pub use compass::Compass;
pub use frame::{Frame, Frames};
pub use id::{ClientId, ConnectionId, RequestId, ShardId};
pub use message::Message;
pub use options::Options;
pub use outbox::Outbox;
pub use shard::{Action, ApiAnswer, ApiCallId, Seeds, Shard};
pub use time::{Now, Time};
pub use transport::{Farewell, Framing, Headers, Pings, Transport, TransportKind, Visitor};
pub use variant::{Form, Variant};
