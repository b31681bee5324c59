//! What channels do: history, recovery, presence, deltas, filters, subscriptions of the server; and what the server API
//! and the connect command do beside. The answers are those recorded from the reference.

mod batch;
mod calls;
mod connect;
mod deflate;
mod delta;
mod filter;
mod history;
mod lag;
mod metrics;
mod names;
mod presence;
mod recovery;
#[allow(dead_code, reason = "tests of a broker use more of it")]
mod room;
mod server_side;
#[allow(dead_code, reason = "rooms hold one, and here none is used")]
#[path = "../broker/store.rs"]
mod store;

/// The rooms of these tests have none.
const HAS_BROKER: bool = false;
