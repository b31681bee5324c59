//! What the configuration asks of the machine.

use super::machine::Machine;
use crate::config::{Settings, lower};
use crate::tls;

/// Clients to be ready for when nobody says how many: a small server's.
const CONNECTIONS: u64 = 10_000;

/// Memory of an idle connection, bytes: 1.6 KB of the server with one subscription (measured, see `main.rs`), and
/// in the kernel a socket, its inode, file and directory entry (2.4, 0.8, 0.2 and 0.2 KB by /proc/slabinfo of Linux
/// 6.18), rounded up.
const CONNECTION_BYTES: u64 = 6 << 10;

/// Memory of a shard before the first client, bytes: executor, ring, receive buffers, rounded up.
const SHARD_BYTES: u64 = 16 << 20;

/// Descriptors besides those of clients: what the process opens, and a few of each shard.
const OWN_DESCRIPTORS: u64 = 64;
const SHARD_DESCRIPTORS: u64 = 8;

/// What the configuration asks of the machine.
pub struct Wants {
    /// Shards that will run.
    pub shards: usize,
    /// Clients at the same time.
    pub connections: u64,
    /// Ports to listen on.
    pub ports: Vec<u16>,
    /// Certificates of the ports: path of the TLS object, and the last second they count, Unix time.
    pub certificates: Vec<(String, u64)>,
}

impl Wants {
    /// `connections` comes before key `client.connection_limit`, which comes before a default.
    pub fn new(settings: &Settings, connections: Option<u64>, machine: &Machine) -> Self {
        let options = lower::runtime(settings);
        let limit = Some(options.connection_limit as u64).filter(|limit| *limit > 0);
        Wants {
            shards: if options.shards == 0 { machine.allowed_cpus().len() } else { options.shards },
            connections: connections.or(limit).unwrap_or(CONNECTIONS),
            ports: options.listeners.iter().map(|listener| listener.listen.port).collect(),
            certificates: certificates(settings),
        }
    }

    /// Descriptors that the server will hold.
    pub fn descriptors(&self) -> u64 {
        self.connections + OWN_DESCRIPTORS + SHARD_DESCRIPTORS * self.shards as u64
    }

    /// Memory of server and kernel with every client connected and idle, bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.connections * CONNECTION_BYTES + self.shards as u64 * SHARD_BYTES
    }
}

fn certificates(settings: &Settings) -> Vec<(String, u64)> {
    let found = tls::certificates(settings.view()).into_iter();
    found.filter_map(|(path, certificate)| Some((path, certificate.ok()?.validity.not_after))).collect()
}

/// Bytes for people.
pub fn size_text(bytes: u64) -> String {
    match bytes {
        0..0x40_0000 => format!("{} KiB", bytes >> 10),
        0x40_0000..0x1_0000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}
