//! What is said to NATS and heard from it: its core protocol, the subjects of channels, and the messages on them. Subjects and
//! messages equal what Centrifugo writes, so that nodes of both work on one NATS. Source: behaviour §10.4, the protocol of NATS.

mod message;
mod operation;
mod subject;

pub use message::{ChannelMessage, decode_channel_message, encode_join, encode_leave, encode_publication};
pub use operation::{Decoder, Operation, write_connect, write_ping, write_pong, write_publish};
pub use operation::{write_subscribe, write_unsubscribe};
pub use subject::{RawMode, Replacements, Subjects, has_wildcard};
