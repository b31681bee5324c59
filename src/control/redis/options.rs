//! Where Redis is and how it is spoken to. Source: config §4.2.

use crate::tls::ClientTls;
use rustls::ClientConfig;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How an engine uses Redis. Config keys in `engine.redis`.
#[derive(Clone)]
pub struct RedisOptions {
    /// Config key `prefix`. Default `centrifugo`.
    pub prefix: String,
    /// Each holds a part of the channels, by consistent hash of the name. Config keys `address`, `sentinel_address`,
    /// `cluster_address`. At least one.
    pub shards: Vec<Endpoint>,
    /// Config key `history_use_lists`: history in lists, without versions and reverse order.
    pub history_use_lists: bool,
    /// Life of a presence entry. Config key `presence_ttl`. Default 60 s.
    pub presence_ttl: Duration,
    /// Config key `presence_user_mapping`: Redis counts the connections of each user too.
    pub presence_user_mapping: bool,
    /// Config key `presence_hash_field_ttl`: entries expire by themselves; Redis 7.4 or newer.
    pub presence_hash_field_ttl: bool,
    /// Config key `presence_read_from_replica`: presence is read at replicas of those that have a replica client.
    pub presence_read_from_replica: bool,
}

/// One Redis.
#[derive(Clone)]
pub struct Endpoint {
    /// Where it is.
    pub place: Place,
    /// Who we are to it.
    pub login: Login,
    /// Config key `db`. Default 0.
    pub db: u32,
    /// Time to connect, all answers of the first words included. Config key `connect_timeout`. Default 1 s.
    pub connect_timeout: Duration,
    /// Time for an answer; after it the connection is given up. Config key `io_timeout`. Default 4 s.
    pub io_timeout: Duration,
    /// Config key `force_resp2`. Default off.
    pub force_resp2: bool,
    /// Config key `tls`. None by default.
    pub tls: Option<Tls>,
    /// For the sentinels, config key `sentinel_tls`. None by default.
    pub sentinel_tls: Option<Tls>,
    /// Config key `replica_client.enabled`: replicas answer what may be read there. Default off.
    pub has_replica_client: bool,
    /// Replicas of a cluster are to answer, too. Default off.
    pub readonly: bool,
}

/// How a server is known for certain, and what is said hidden from others.
#[derive(Clone)]
pub struct Tls {
    /// Whom to trust, and who we are.
    pub config: Arc<ClientConfig>,
    /// Expected instead of the host of the address; empty for that.
    pub server_name: String,
}

impl From<ClientTls> for Tls {
    fn from(tls: ClientTls) -> Self {
        Self { config: Arc::new(tls.config), server_name: tls.server_name }
    }
}

/// Where a Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Always here. One that turns out to be a node of a cluster is taken for all of it, as the reference does.
    Fixed(Address),
    /// Where sentinels say.
    Sentinel(Sentinels),
    /// Many nodes, of which these are asked first. Config key `cluster_address`, an item of it.
    Cluster(Vec<Address>),
}

/// Who knows where the master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentinels {
    /// Asked one after the other. Config key `sentinel_address`, an item of it.
    pub addresses: Vec<Address>,
    /// Config key `sentinel_master_name`.
    pub master: String,
    /// Config keys `sentinel_user`, `sentinel_password`, `sentinel_client_name`.
    pub login: Login,
}

/// An address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `host:port`.
    Tcp(String),
    /// Path of a socket.
    Unix(PathBuf),
}

/// Empty fields are not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// ACL user. Config key `user`.
    pub user: String,
    /// Config key `password`.
    pub password: String,
    /// Shown in `CLIENT LIST`. Config key `client_name`.
    pub client_name: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Fixed(address) => write!(out, "Redis at {address}"),
            Place::Sentinel(sentinels) => {
                write!(out, "Redis master {} of sentinels", sentinels.master)?;
                sentinels.addresses.iter().try_for_each(|address| write!(out, " {address}"))
            }
            Place::Cluster(seeds) => {
                out.write_str("Redis Cluster of")?;
                seeds.iter().try_for_each(|seed| write!(out, " {seed}"))
            }
        }
    }
}

impl Address {
    /// Of what Redis says about a server.
    pub fn of(host: &str, port: impl std::fmt::Display) -> Self {
        if host.contains(':') { Self::Tcp(format!("[{host}]:{port}")) } else { Self::Tcp(format!("{host}:{port}")) }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => out.write_str(address),
            Address::Unix(path) => write!(out, "{}", path.display()),
        }
    }
}
