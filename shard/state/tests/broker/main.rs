//! Channels that a broker orders: the answers recorded from the reference are those of the memory engine, and what the
//! broker's delays and failures do.

#[path = "../channels/batch.rs"]
mod batch;
#[path = "../channels/calls.rs"]
mod calls;
#[path = "../channels/connect.rs"]
mod connect;
#[path = "../channels/delivery.rs"]
mod delivery;
#[path = "../channels/delta.rs"]
mod delta;
#[path = "../channels/filter.rs"]
mod filter;
#[path = "../channels/history.rs"]
mod history;
#[path = "../channels/names.rs"]
mod names;
#[path = "../channels/presence.rs"]
mod presence;
#[path = "../channels/recovery.rs"]
mod recovery;
#[expect(dead_code, reason = "some is of use to the other tests of rooms only")]
#[path = "../channels/room.rs"]
mod room;
#[path = "../channels/server_side.rs"]
mod server_side;
mod store;
mod storm;
mod unheard;
mod waiting;

/// The rooms of these tests have one.
const HAS_BROKER: bool = true;
