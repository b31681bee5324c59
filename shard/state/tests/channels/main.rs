//! What channels do: history, recovery, presence, deltas, filters, subscriptions of the server. The answers are those
//! recorded from the reference.

mod delta;
mod filter;
mod history;
mod lag;
mod names;
mod presence;
mod recovery;
mod room;
mod server_side;
