//! Which node of a cluster serves which slots, as a node tells it. Source: Redis documentation, `CLUSTER SLOTS`.

use crate::control::redis::connection::Connection;
use crate::control::redis::options::Address;
use ringcast_proto::redis::{SLOTS, Value};
use std::io;
use std::ops::RangeInclusive;

/// Slots and who serves them.
pub struct Map(pub Vec<Part>);

/// Slots that are served together.
pub struct Part {
    /// First and last.
    pub slots: RangeInclusive<u16>,
    /// Where they are written.
    pub master: Address,
    /// Where they are kept as well.
    pub replicas: Vec<Address>,
}

impl Map {
    /// Asks a node. Fails where there is no cluster.
    pub async fn ask(connection: &mut Connection) -> io::Result<Self> {
        let answer = connection.ask(&[&[b"CLUSTER", b"SLOTS"]]).await?.pop().and_then(Value::into_array);
        let parts = answer.unwrap_or_default().into_iter();
        let map = Self(parts.filter_map(|part| Part::read(part, &connection.address)).collect());
        match map.0.is_empty() {
            true => Err(io::Error::other("the node knows of nobody who serves slots")),
            false => Ok(map),
        }
    }

    /// Every node.
    pub fn addresses(&self) -> Vec<Address> {
        let mut addresses: Vec<_> =
            self.0.iter().flat_map(|part| std::iter::once(&part.master).chain(&part.replicas)).cloned().collect();
        addresses.sort_by_cached_key(ToString::to_string);
        addresses.dedup();
        addresses
    }
}

impl Part {
    /// `[first, last, master, replica, ...]`, each node `[host, port, ...]`; no host stands for the node that was asked.
    fn read(part: Value, asked: &Address) -> Option<Self> {
        let mut fields = part.into_array()?.into_iter();
        let mut slot =
            || fields.next()?.number().and_then(|slot| u16::try_from(slot).ok()).filter(|slot| *slot < SLOTS);
        let (first, last) = (slot()?, slot()?);
        let mut nodes = fields.filter_map(|node| {
            let node = node.into_array()?;
            let host = node.first().and_then(Value::text).and_then(|host| std::str::from_utf8(host).ok());
            address(host.unwrap_or(""), node.get(1)?.number()?, asked)
        });
        let master = nodes.next()?;
        Some(Self { slots: first..=last, master, replicas: nodes.collect() })
    }
}

/// Of a node as another one names it; without a host it is where that one is.
pub fn address(host: &str, port: u64, named_by: &Address) -> Option<Address> {
    match (host, named_by) {
        ("?", _) => None,
        ("", Address::Tcp(by)) => by.rsplit_once(':').map(|(host, _)| Address::Tcp(format!("{host}:{port}"))),
        ("", Address::Unix(_)) => None,
        (host, _) => Some(Address::of(host, port)),
    }
}
