//! HTTP/3 on the external port: QUIC connections, on a thread of their own. Carries requests and WebTransport sessions to the shards,
//! which serve them.

mod connection;
mod exchange;
mod lobby;
mod peer;
mod qpack;
mod request;
mod static_table;
mod wire;

pub use connection::answer;
pub use lobby::{Lobby, Seat, Streams};
pub use request::Request;
pub use wire::{close_session, code, discard, response};

use super::webtransport::{self, WebTransportOptions};
use crate::tls::Certificate;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use ringcast_runtime::{AllowedOrigins, CarryLine, ForwardedHeaders};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{self, Runtime};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, info};

/// The name of the protocol in TLS. The reference offers none, and no browser connects to it.
const ALPN: &[u8] = b"h3";

/// Connections at a time; more are refused. A client needs one.
const CONNECTIONS_MAX: usize = 65_536;

/// Handshakes at a time; more are refused.
const HANDSHAKES_MAX: usize = 1024;

/// With more handshakes than these, a client has to prove its address first.
const HANDSHAKES_UNPROVED: usize = 64;

/// Time for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Silence after which a peer is given up. Clients have limits of their own, about the same.
const IDLE_TIMEOUT_MS: u32 = 30_000;

/// A little more than the usual `client.ping_interval`: whoever has longer pings, or none, needs these.
const KEEP_ALIVE: Duration = Duration::from_secs(27);

/// What a client may send before it is read: per stream, and altogether.
const RECEIVE_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// What a client may leave unacknowledged. More waits in the shard, where `client.queue_max_size` counts it.
const SEND_WINDOW: u64 = 256 << 10;

/// Streams of a client at a time: requests, and the stream of a session.
const STREAMS_MAX: u32 = 100;

/// Control, two of QPACK, and some that mean nothing.
const UNIDIRECTIONAL_STREAMS_MAX: u32 = 8;

/// Datagrams are not read. The newest are kept, and a browser wants to hear that there is room.
const DATAGRAMS_BYTES_MAX: usize = 4 << 10;

/// How long sessions and streams have to say goodbye when the server stops, and connections to be closed after that.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);

/// What HTTP/3 needs to know.
pub struct Http3Options {
    /// Of the external port, config group `http_server.tls`.
    pub certificate: Certificate,
    /// Index of the external port among the listeners of the shards.
    pub listener: usize,
    /// Key `http_api.body_size_limit`: the largest body that is read.
    pub body_size_limit: usize,
    /// Config group `webtransport`, if it is enabled.
    pub webtransport: Option<WebTransportOptions>,
    /// Key `client.allowed_origins`.
    pub allowed_origins: Vec<String>,
    /// Key `client.user_id_http_header`, in lower case; empty for none.
    pub user_id_http_header: String,
    /// Keys `http_headers` of the proxies.
    pub forwarded_headers: ForwardedHeaders,
}

/// The running thread.
pub struct Http3 {
    endpoint: Endpoint,
    site: Arc<Site>,
    /// A copy of the socket for another process.
    spare: UdpSocket,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// What all connections share.
pub struct Site {
    /// As configured.
    pub options: Http3Options,
    /// `client.allowed_origins`, ready to match.
    pub origins: AllowedOrigins,
    /// Opens clients and requests on the shards.
    pub line: CarryLine,
    /// Open sessions and requests.
    open: watch::Sender<usize>,
    /// Nobody is let in any more.
    is_closed: AtomicBool,
}

/// Counts a session or request while it is open.
pub struct Open<'a>(&'a watch::Sender<usize>);

impl Site {
    /// One more is open.
    pub fn open(&self) -> Open<'_> {
        self.open.send_modify(|open| *open += 1);
        Open(&self.open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Http3 {
    /// Serves from now on, on a socket that `take` gives or that it binds.
    pub fn start(
        options: Http3Options,
        address: SocketAddr,
        line: CarryLine,
        take: &mut dyn FnMut(&str) -> Option<OwnedFd>,
    ) -> io::Result<Self> {
        let server = server_config(&options.certificate)?;
        let socket = match take(&name(address)) {
            Some(socket) => socket.into(),
            None => UdpSocket::bind(address)?,
        };
        let spare = socket.try_clone()?;
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let endpoint = {
            let _inside = runtime.enter();
            Endpoint::new(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime))?
        };
        let origins = AllowedOrigins::new(&options.allowed_origins);
        info!("serving on {address} with HTTP/3 (experimental)");
        let site =
            Arc::new(Site { options, origins, line, open: watch::Sender::new(0), is_closed: AtomicBool::new(false) });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("http3".to_owned());
        let (accepting, serving) = (endpoint.clone(), site.clone());
        let thread = thread.spawn(move || run(&runtime, &accepting, &serving, stopped))?;
        Ok(Self { endpoint, site, spare, stop, thread })
    }

    /// The socket that another process may go on with, and its name.
    ///
    /// As long as both read from it, each loses packets of the other's connections: those of the old process are reset, and new
    /// ones begin with a packet that is sent again.
    pub fn socket(&self) -> io::Result<(String, OwnedFd)> {
        Ok((name(self.spare.local_addr()?), self.spare.try_clone()?.into()))
    }

    /// Shows another certificate to those who connect from now on.
    pub fn set_certificate(&self, certificate: &Certificate) -> io::Result<()> {
        self.endpoint.set_server_config(Some(server_config(certificate)?));
        Ok(())
    }

    /// Lets nobody in any more. What goes on, goes on.
    pub fn close(&self) {
        self.site.is_closed.store(true, Ordering::Relaxed);
    }

    /// Does not hear any more who is new, for another process hears them, too.
    pub fn leave(&self) {
        self.endpoint.set_server_config(None);
    }

    /// Ends it: once the shards have said goodbye to their clients, sessions and streams get the time to pass it on.
    pub fn stop(self) {
        let _ = self.stop.send(());
        // The thread waits until nobody uses it.
        drop(self.endpoint);
        let _ = self.thread.join();
    }
}

fn name(address: SocketAddr) -> String {
    format!("udp {address}")
}

fn run(runtime: &Runtime, endpoint: &Endpoint, site: &Arc<Site>, stopped: oneshot::Receiver<()>) {
    runtime.block_on(async {
        tokio::select! {
            () = accept(endpoint, site) => {}
            _ = stopped => {}
        }
        endpoint.set_server_config(None);
        let mut left = site.open.subscribe();
        let _ = timeout(STOP_PATIENCE, left.wait_for(|open| *open == 0)).await;
        endpoint.close(code::NO_ERROR, b"shutdown");
        let _ = timeout(CLOSE_PATIENCE, endpoint.wait_idle()).await;
    });
}

async fn accept(endpoint: &Endpoint, site: &Arc<Site>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = endpoint.accept().await {
        // Refused rather than not heard, so that the client tries elsewhere at once.
        if site.is_closed.load(Ordering::Relaxed) || endpoint.open_connections() >= CONNECTIONS_MAX {
            incoming.refuse();
            continue;
        }
        let running = HANDSHAKES_MAX - handshakes.available_permits();
        if running >= HANDSHAKES_UNPROVED && !incoming.remote_address_validated() {
            // Refused where a proof was asked for already, which is looked at above.
            let _ = incoming.retry();
            continue;
        }
        match handshakes.clone().try_acquire_owned() {
            Err(_) => incoming.refuse(),
            Ok(permit) => {
                let site = site.clone();
                tokio::spawn(async move {
                    if let Some(connection) = shake_hands(incoming).await {
                        drop(permit);
                        connection::serve(connection, site).await;
                    }
                });
            }
        }
    }
}

async fn shake_hands(incoming: Incoming) -> Option<quinn::Connection> {
    let address = incoming.remote_address();
    let connection = match timeout(HANDSHAKE_TIMEOUT, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            debug!(%address, %error, "QUIC handshake failed");
            return None;
        }
        Err(_) => return None,
    };
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    let is_http3 = data.protocol.as_deref() == Some(ALPN);
    if !is_http3 {
        connection.close(code::NO_ERROR, b"no HTTP/3");
    }
    is_http3.then_some(connection)
}

fn server_config(certificate: &Certificate) -> io::Result<ServerConfig> {
    let clients =
        certificate.verifier().map_err(io::Error::other)?.unwrap_or_else(WebPkiClientVerifier::no_client_auth);
    let shown = SingleCertAndKey::from(certificate.certified.clone());
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let tls = tls.with_protocol_versions(&[&TLS13]).map_err(io::Error::other)?;
    let mut tls = tls.with_client_cert_verifier(clients).with_cert_resolver(Arc::new(shown));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // Early data can be sent again by anyone who has seen it.
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(RECEIVE_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .max_concurrent_bidi_streams(STREAMS_MAX.into())
        .max_concurrent_uni_streams(UNIDIRECTIONAL_STREAMS_MAX.into())
        .datagram_receive_buffer_size(Some(DATAGRAMS_BYTES_MAX));
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport)).max_incoming(HANDSHAKES_MAX);
    Ok(config)
}
