//! What the server and its service manager say to each other: sockets on the way in, news on the way out. Each does
//! nothing where there is no such manager, as in a shell.

mod notify;
mod sockets;

pub use notify::Service;
pub use sockets::Handed;
