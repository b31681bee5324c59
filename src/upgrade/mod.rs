//! Restart without downtime: a running server starts the program anew and hands over what it has.
//!
//! What is to be kept: no connect is refused, and a channel has *one* history, whichever process a client asks. So there is
//! one moment in which the right to order channels passes on, and the order of steps is made for it:
//!
//! 1. The old process starts the program, from the file that is there now, with its own arguments and environment and a pair
//!    of sockets as standard input. It sends copies of its listening sockets through it. Until step 4 the new one does not touch
//!    them; it reads the configuration, starts its shards, and says that it is ready. The old one serves as ever.
//! 2. The old one *holds*: it accepts nobody (who connects waits in the sockets, which both have), and requests over HTTP/1
//!    that have not begun stay unread. Those that have begun are answered.
//! 3. Each home stops to act and writes its channels down: epochs, offsets, publications, results of idempotent publishes. What
//!    it is asked meanwhile waits. They go through the pair of sockets in pieces; each shard of the new process takes those
//!    whose home it is, for neither the number of shards nor the seed of the hash is the same.
//! 4. The old one says *commit*, the new one accepts and answers that it serves. Only now the old one has lost the channels:
//!    what would change one there fails with error 100 from here on. It passes on the connections that it holds, with what it
//!    had read of them, and closes its clients with 3001: they come back to the new one, and recover.
//!
//! When anything fails or takes too long before the answer of step 4, the old process kills the new one, lets its homes act
//! again, beginning with what waited, accepts, and goes on; the reason is in the log. So a publication is acknowledged only by
//! the process that has its channel, and whatever was acknowledged before step 3 is in what is written down.
//!
//! Exactly the sockets go over that the old one had: with SO_REUSEPORT the kernel gives each connection to one of them, and
//! what waits in a socket would be reset with it. Where the new process has fewer shards some of them serve several.
//!
//! With the memory engine the clients all go at once, whatever `shutdown.drain` says: the old process does not hear any more of
//! what is published. With a broker both processes are nodes of it, no channel is written down, and `shutdown.drain` holds.

mod predecessor;
mod program;
mod report;
mod successor;
mod wire;

pub use predecessor::Predecessor;
pub use program::Program;
pub use report::{Report, tell};
pub use successor::{Event, Upgrade};

use ringcast_runtime::Listen;
use ringcast_runtime::options::ListenerOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;

/// Version in which channels are written; another one means that histories begin anew.
const CHANNELS_VERSION: u8 = 1;

/// Bytes of the name of a port.
const NAME_BYTES_MAX: usize = 200;

/// Names a port for both processes: by what is configured, for the two may be configured differently.
pub fn name(listen: &Listen) -> String {
    cut(format!("tcp {}:{}", listen.address, listen.port))
}

/// Names the ports of the shards. Two with whatever number the system gives are different ones.
pub fn names(listeners: &[ListenerOptions]) -> Vec<String> {
    let numbered = listeners.iter().enumerate();
    let of_one = |(index, listener): (usize, &ListenerOptions)| match listener.listen.port {
        0 => cut(format!("tcp {index} {}:0", listener.listen.address)),
        _ => name(&listener.listen),
    };
    numbered.map(of_one).collect()
}

/// Whether a socket of this name listens for TCP.
pub fn is_tcp(name: &str) -> bool {
    name.starts_with("tcp ")
}

fn cut(name: String) -> String {
    name.chars().take(NAME_BYTES_MAX / 4).collect()
}

/// Each socket once: shards may accept from the same one.
pub fn distinct(sockets: Vec<(String, OwnedFd)>) -> Vec<(String, OwnedFd)> {
    let mut seen = Vec::new();
    let mut is_new = |socket: &OwnedFd| {
        let inode =
            socket.try_clone().and_then(|copy| std::fs::File::from(copy).metadata()).map(|file| file.ino()).ok();
        let is_new = inode.is_none() || !seen.contains(&inode);
        seen.push(inode);
        is_new
    };
    sockets.into_iter().filter(|(_, socket)| is_new(socket)).collect()
}
