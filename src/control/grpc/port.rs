//! One port that speaks GRPC: accepts, shakes hands, and gives each request of HTTP/2 to the service that has the port.

use super::GrpcError;
use super::connection::{Peer, speak, until};
use super::message::Request;
use crate::tls::Certificate;
use crate::upgrade;
use ringcast_runtime::Listen;
use ringcast_runtime::listen::listen_alone;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tracing::debug;

/// Connections at a time; further ones wait in the kernel until one ends.
const CONNECTIONS_MAX: usize = 65_536;

/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause when the system has no descriptor for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The limit that stands for none. Source: grpc-go.
const MESSAGE_SIZE_LIMIT: usize = 4 << 20;

/// What `grpc_api` and `uni_grpc` have in common.
#[derive(Clone, Debug)]
pub struct PortOptions {
    /// Keys `.address`, default all, and `.port`, default 10000 and 11000.
    pub listen: Listen,
    /// Key `.tls`, if it is enabled.
    pub tls: Option<Certificate>,
    /// Key `.max_receive_message_size`: bytes of a request; 0, the default, for 4 MiB.
    pub max_receive_message_size: usize,
}

impl PortOptions {
    /// Bytes of a request.
    pub fn message_size_limit(&self) -> usize {
        if self.max_receive_message_size == 0 { MESSAGE_SIZE_LIMIT } else { self.max_receive_message_size }
    }
}

/// An open port.
pub struct Port {
    address: SocketAddr,
    /// By which another process finds it.
    name: String,
    /// A copy of the socket for it, until the port is closed.
    spare: Option<net::TcpListener>,
    tls: Option<watch::Sender<TlsAcceptor>>,
    closed: watch::Sender<bool>,
    /// A permit for each further connection.
    room: Arc<Semaphore>,
}

/// What a connection needs of its port.
#[derive(Clone)]
struct Context {
    tls: Option<watch::Receiver<TlsAcceptor>>,
    closed: watch::Receiver<bool>,
    limit: Option<Duration>,
}

impl Port {
    /// Binds, unless `take` has a socket of this port, and has the workers answer the requests of the connections that they get in turn: threads, and what answers on
    /// each. A request has `limit` for all of it.
    pub fn open<S, F>(
        options: &PortOptions,
        limit: Option<Duration>,
        workers: Vec<(Handle, S)>,
        take: &mut dyn FnMut(&str) -> Option<OwnedFd>,
    ) -> Result<Self, GrpcError>
    where
        S: Fn(Request) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = http::Response<Body>> + Send + 'static,
    {
        let name = upgrade::name(&options.listen);
        let listener = match take(&name) {
            Some(socket) => socket.into(),
            None => listen_alone(&options.listen).map_err(GrpcError::Listen)?,
        };
        let spare = Some(listener.try_clone()?);
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let tls = options.tls.as_ref().map(|certificate| acceptor(certificate).map(|tls| watch::channel(tls).0));
        let (tls, closed) = (tls.transpose()?, watch::Sender::new(false));
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let context = Context { tls: tls.as_ref().map(watch::Sender::subscribe), closed: closed.subscribe(), limit };
        let (first, _) = &workers[0];
        let listener = {
            let _inside = first.enter();
            TcpListener::from_std(listener)?
        };
        first.clone().spawn(accept(listener, context, room.clone(), workers));
        Ok(Self { address, name, spare, tls, closed, room })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For the log.
    pub fn security(&self) -> &'static str {
        if self.tls.is_some() { " with TLS" } else { "" }
    }

    /// Shows another certificate to those who connect from now on; nothing without TLS.
    pub fn set_certificate(&self, certificate: &Certificate) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            tls.send_replace(acceptor(certificate)?);
        }
        Ok(())
    }

    /// The socket that another process may go on with, and its name; none once it is closed.
    pub fn socket(&self) -> io::Result<Option<(String, OwnedFd)>> {
        let copy = self.spare.as_ref().map(|socket| Ok((self.name.clone(), socket.try_clone()?.into())));
        copy.transpose()
    }

    /// Accepts no more connections, and on those that are open no more requests.
    pub fn close(&mut self) {
        self.spare = None;
        self.closed.send_replace(true);
    }

    /// Waits until no connection is open.
    pub async fn ended(&self) {
        let all = u32::try_from(CONNECTIONS_MAX).expect("fits");
        let _ = self.room.acquire_many(all).await;
    }
}

async fn accept<S, F>(listener: TcpListener, context: Context, room: Arc<Semaphore>, workers: Vec<(Handle, S)>)
where
    S: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = http::Response<Body>> + Send + 'static,
{
    let mut closed = context.closed.clone();
    let accepting = async {
        for (thread, serve) in workers.iter().cycle() {
            let permit = room.clone().acquire_owned().await.expect("never closed");
            match listener.accept().await.and_then(|(socket, _)| socket.into_std()) {
                Ok(socket) => {
                    thread.spawn(connection(socket, context.clone(), serve.clone(), permit));
                }
                Err(error) => {
                    debug!(%error, "a connection of GRPC cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = until(&mut closed) => {}
    }
}

async fn connection<S, F>(socket: net::TcpStream, context: Context, serve: S, _open: OwnedSemaphorePermit)
where
    S: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = http::Response<Body>> + Send + 'static,
{
    let peer = Peer(socket.peer_addr().ok().map(|address| address.ip()));
    let Ok(socket) = TcpStream::from_std(socket) else { return };
    let Some(tls) = context.tls else { return speak(socket, peer, context.closed, context.limit, serve).await };
    let handshake = tls.borrow().accept(socket);
    match timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => speak(stream, peer, context.closed, context.limit, serve).await,
        Ok(Err(error)) => debug!(%error, "TLS handshake of GRPC failed"),
        Err(_) => {}
    }
}

fn acceptor(certificate: &Certificate) -> io::Result<TlsAcceptor> {
    let clients =
        certificate.verifier().map_err(io::Error::other)?.unwrap_or_else(WebPkiClientVerifier::no_client_auth);
    let shown = SingleCertAndKey::from(certificate.certified.clone());
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let tls = tls.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut tls = tls.with_client_cert_verifier(clients).with_cert_resolver(Arc::new(shown));
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}
