//! Certificates by ACME (RFC 8555), config group `http_server.tls_autocert`. Behaves as Go's `autocert`, which the
//! reference uses: the first handshake for an allowed host has its certificate ordered and waits, until its head timeout
//! of 10 s; hosts of `host_whitelist` are ordered at start already. Renewed before the end, without disturbing anybody.
//!
//! One thread orders, one host after the other. The shards look certificates up in [`Store`], and answer tls-alpn-01 with
//! what they find there; http-01 has a small listener of its own.

mod cache;
mod http;
mod order;
mod store;
mod worker;

pub use store::Store;
pub use worker::{Listener, start};

/// Config group `http_server.tls_autocert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeOptions {
    /// Key `host_whitelist`: names that may have a certificate; empty, the default, for any.
    pub host_whitelist: Vec<String>,
    /// Key `cache_dir`: folder of account and certificates; empty, the default, for none: every start orders anew.
    pub cache_dir: String,
    /// Key `email`: contact of the account; empty, the default, for none.
    pub email: String,
    /// Key `server_name`: name assumed of clients that send none. Default empty.
    pub server_name: String,
    /// Key `http_addr` when `http` is set: where http-01 is answered. Default `None`: tls-alpn-01 alone.
    pub http_addr: Option<String>,
    /// Key `directory_url`, ours. Default is that of Let's Encrypt.
    pub directory_url: String,
    /// Key `directory_ca_file`, ours: PEM of the authority that the directory's own certificate must lead to. Default empty:
    /// those of the system.
    pub directory_ca_file: String,
}
