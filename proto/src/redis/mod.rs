//! What is said to Redis and heard from it: RESP 2 and 3, the names of keys and channels, and the messages on them. All of it
//! equals what Centrifugo writes, so that nodes of both work on one Redis. Source: behaviour §10.

mod command;
mod keys;
mod message;
mod value;

pub use command::{Argument, CommandWriter, Encoded};
pub use keys::{Keys, Kind, SLOTS, consistent_index, slot, slot_of_tag};
pub use message::{ClientMessage, decode_client_message, encode_join, encode_leave};
pub use value::{Decoder, Value};
