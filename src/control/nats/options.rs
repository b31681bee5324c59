//! Where NATS is and how it is spoken to. Source: config §4.

use crate::tls::ClientTls;
use ringcast_proto::nats::Subjects;
use std::fmt;
use std::time::Duration;

/// Config group `broker.nats`.
#[derive(Clone)]
pub struct NatsOptions {
    /// Config key `url`: servers of one cluster. At least one.
    pub servers: Vec<Server>,
    /// Config keys `prefix`, `raw_mode`, `allow_wildcards`.
    pub subjects: Subjects,
    /// Time to connect, the first words included. Config key `dial_timeout`. Default 1 s.
    pub dial_timeout: Duration,
    /// Time until the server has carried out what was sent; after it the connection is given up. Config key `write_timeout`.
    /// Default 1 s.
    pub write_timeout: Duration,
    /// Config group `tls`, where it is enabled.
    pub tls: Option<ClientTls>,
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Name or address; one of IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// `tls://`: TLS even where it is not configured.
    pub tls: bool,
    /// `user:password@`, or `token@` as a user without password.
    pub login: Option<(String, Option<String>)>,
}

impl fmt::Display for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(out, "[{}]:{}", self.host, self.port),
            false => write!(out, "{}:{}", self.host, self.port),
        }
    }
}
