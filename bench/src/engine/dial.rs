//! Opens sockets: to whom, from which of our addresses, with or without TLS.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::sync::Arc;

use mio::net::TcpStream;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Protocol, Socket, Type};

use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::options::Common;
use crate::tls;

/// Who is dialed.
#[derive(Clone)]
pub struct Peer {
    address: SocketAddr,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Peer {
    /// The server at an address of the command line.
    pub fn new(endpoint: &Endpoint, common: &Common) -> Result<Self, Failure> {
        let tls = endpoint.tls.then(|| tls::client(common, &endpoint.host)).transpose()?;
        Ok(Self { address: endpoint.address, tls })
    }

    /// One that speaks no TLS.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }
}

/// Our own addresses, used in turn: each has about 28,000 ports for one address of a server.
pub struct Dialer {
    sources: Vec<IpAddr>,
    next: usize,
}

impl Dialer {
    /// Without addresses the system chooses.
    pub fn new(sources: Vec<IpAddr>) -> Self {
        Self { sources, next: 0 }
    }

    /// A nonblocking socket on its way, without Nagle's delay.
    pub fn dial(&mut self, peer: &Peer) -> io::Result<(TcpStream, Option<ClientConnection>)> {
        let socket = Socket::new(Domain::for_address(peer.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = self.sources.get(self.next) {
            self.next = (self.next + 1) % self.sources.len();
            // The port is chosen when the peer is known: it need only be free for that peer.
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::new(*source, 0).into())?;
        }
        match socket.connect(&peer.address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(error),
            _ => {}
        }
        let tls = peer.tls.clone().map(|(config, name)| ClientConnection::new(config, name));
        let tls = tls.transpose().map_err(io::Error::other)?;
        Ok((TcpStream::from_std(StdStream::from(socket)), tls))
    }
}
