//! What channels do: history, recovery, presence, deltas, filters, subscriptions of the server; and what the server API
//! and the connect command do beside. The answers are those recorded from the reference.

mod batch;
mod calls;
mod connect;
mod deflate;
mod delivery;
mod delta;
mod filter;
mod history;
mod lag;
mod metrics;
mod names;
mod presence;
mod recovery;
#[expect(dead_code, reason = "some is of use to the tests of brokers only")]
mod room;
mod server_side;
mod shed;
#[expect(dead_code, reason = "some is of use to the tests of brokers only")]
#[path = "../broker/store.rs"]
mod store;

/// The rooms of these tests have none.
const HAS_BROKER: bool = false;
