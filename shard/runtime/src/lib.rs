//! How a shard runs: pinned executors, the turn of the loop, sockets on an io_uring of our own, queues between
//! shards. Carries bytes and time to the pure state machines of `ringcast-state` and knows no rules of its own.

mod accept;
mod backend;
pub mod balance;
mod broker;
mod call;
mod carry;
mod clock;
mod connection;
mod drain;
mod guesses;
mod handover;
mod http;
pub mod listen;
pub mod metrics;
pub mod options;
pub mod placement;
mod pool;
mod pulse;
mod relief;
pub mod ring;
mod signatures;
mod sockjs;
pub mod start;
mod table;
pub mod tls;
mod transport;
mod tries;
mod turn;
#[allow(unsafe_code)]
pub mod uring;

pub use backend::{Acts, Answers, BackendLine, News, Questions};
pub use broker::{BrokerDriver, BrokerLine};
pub use call::{CallBatch, CallLine, Caller, Outcome, Outcomes};
pub use carry::{CarryLine, Ended, Link, Outlet, RequestHead, Respond, ResponseHead};
pub use guesses::{GUESS_PAUSE, Guesses, Verdict};
pub use handover::{HandoverLine, Moved, Reading};
pub use http::forwarded::ForwardedHeaders;
pub use http::origin::AllowedOrigins;
pub use listen::Listen;
pub use options::Options;
pub use pool::{CertificateLine, HandedSockets, KeyLine, Pool};
pub use pulse::Pulse;
pub use relief::{Pressure, ReliefLine};
pub use start::StartError;
pub use transport::page::{Page, PageAnswer, PageLine, PageQuestion};

#[cfg(test)]
mod tests;
