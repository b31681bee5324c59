//! TLS of a listener: certificates, who may connect, how sessions are resumed.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, ProducesTickets, ResolvesServerCert, ServerSessionMemoryCache, StoresServerSessions,
};

use crate::options::Endpoints;

/// HTTP/2 in a handshake: RFC 9113, section 3.1.
pub(crate) const HTTP2_PROTOCOL: &[u8] = b"h2";

/// Protocol of handshakes by which an authority checks a name. Source: RFC 8737.
pub const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// Sessions of TLS 1.2 without tickets that can be resumed, of the whole process; the longest unused is forgotten.
const SESSIONS_MAX: usize = 4096;

/// Tickets sent in a handshake of TLS 1.3. Source: Go's, too; each costs a client 250 bytes, and a second one serves
/// only browsers that open several connections at once.
const TICKETS_PER_HANDSHAKE: usize = 1;

/// TLS of a listener.
#[derive(Clone)]
pub struct TlsOptions {
    pub(super) config: Arc<ServerConfig>,
    pub(super) on_demand: Option<Arc<dyn OnDemand>>,
}

/// What a TLS object of the configuration comes to.
#[derive(Clone)]
pub struct Credentials {
    /// Chooses the certificate of a handshake.
    pub certificates: Arc<dyn ResolvesServerCert>,
    /// Checks certificates of clients; `None` asks for none.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
    /// How sessions are resumed.
    pub sessions: Sessions,
    /// Certificates may have to be obtained first.
    pub on_demand: Option<Arc<dyn OnDemand>>,
}

/// Where sessions are kept to be resumed; shared by all shards, touched once a handshake. A session that was opened with one
/// of these must not be resumed where other clients are trusted, so each TLS object has its own.
#[derive(Clone)]
pub struct Sessions {
    tickets: Arc<dyn ProducesTickets>,
    cache: Arc<dyn StoresServerSessions>,
}

/// Certificates that are obtained when they are asked for.
pub trait OnDemand: Send + Sync {
    /// Whether a handshake can begin now. `Pending` starts obtaining the certificate, if nobody has, and
    /// `Pool::certificates_changed` must follow. Does not wait.
    fn look_up(&self, hello: &ClientHello<'_>) -> Readiness;
}

/// Whether a handshake can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can, be it that there is no certificate and it will fail.
    Ready,
    /// There is no certificate yet.
    Pending,
}

/// Protocols that a listener offers, best first, by what it serves.
pub fn protocols(endpoints: Endpoints) -> Vec<Vec<u8>> {
    // The streams are what a browser wants HTTP/2 for: it opens six connections of HTTP/1.1 to a host, and no more.
    let has_streams =
        endpoints.http_stream || endpoints.sse || endpoints.uni_http_stream || endpoints.uni_sse || endpoints.sockjs;
    let http2 = has_streams.then(|| HTTP2_PROTOCOL.to_vec());
    http2.into_iter().chain([b"http/1.1".to_vec()]).collect()
}

impl TlsOptions {
    /// TLS 1.2 and 1.3. Cipher suites are those of rustls, all with authenticated encryption and forward secrecy, and the
    /// client's order counts: phones without AES instructions put ChaCha20 first. Measured, a
    /// delivery of 150 bytes to one of 1000 subscribers costs 4.17 µs with TLS 1.3 and 3.88 µs without TLS (`ringcast-bench fanout
    /// --rate 100`), so that there is nothing to gain by an order of our own.
    pub fn new(credentials: &Credentials, mut protocols: Vec<Vec<u8>>) -> Result<Self, rustls::Error> {
        if credentials.on_demand.is_some() {
            protocols.push(ACME_PROTOCOL.to_vec());
        }
        let clients = credentials.clients.clone().unwrap_or_else(|| Arc::new(NoClientAuth));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(credentials.certificates.clone());
        config.alpn_protocols = protocols;
        config.ticketer = credentials.sessions.tickets.clone();
        config.session_storage = credentials.sessions.cache.clone();
        config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        Ok(Self { config: Arc::new(config), on_demand: credentials.on_demand.clone() })
    }
}

impl Sessions {
    /// Fails where the system has no random numbers. Keys of tickets change every six hours, and the last ones count for
    /// as long again.
    pub fn new() -> Result<Self, rustls::Error> {
        Ok(Self { tickets: ring::Ticketer::new()?, cache: ServerSessionMemoryCache::new(SESSIONS_MAX) })
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions").field("on_demand", &self.on_demand.is_some()).finish_non_exhaustive()
    }
}
