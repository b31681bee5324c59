//! TLS of the server's ports: reads certificates, says what is wrong with them, and makes of them what the shards use.
//! The handshakes themselves are the shards' (`shard/runtime/src/tls`).

mod certificate;
mod client;
mod listeners;
mod pem;
mod validity;

pub use certificate::Certificate;
pub use client::{ClientTls, nobody};
pub use listeners::{Listeners, certificates, check};
pub use validity::Validity;
