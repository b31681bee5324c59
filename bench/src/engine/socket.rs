//! A nonblocking connection, plain or with TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use rustls::ClientConnection;
use socket2::SockRef;

/// Reads and writes as a socket does, whatever is underneath.
pub struct Socket {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Socket {
    /// A socket that may still be on its way, and the TLS to speak on it. What TLS has yet to send is bounded by what it is given:
    /// a login, a publication or a request of the API.
    pub fn new(tcp: TcpStream, tls: Option<ClientConnection>) -> Self {
        let tls = tls.map(|mut tls| {
            tls.set_buffer_limit(None);
            Box::new(tls)
        });
        Self { tcp, tls }
    }

    /// Whether the socket has arrived.
    pub fn has_arrived(&self) -> io::Result<bool> {
        match self.tcp.take_error()? {
            Some(error) => Err(error),
            None => Ok(self.tcp.peer_addr().is_ok()),
        }
    }

    /// Our end of the connection.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Whether a read that does not fill the buffer says that there is no more.
    pub fn tells_the_end(&self) -> bool {
        self.tls.is_none()
    }

    /// Reads what is there. 0 is the end, also one without the goodbye of TLS: the protocols above say when they are done.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { tcp, tls } = self;
        let Some(tls) = tls else {
            return tcp.read(buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            if tls.read_tls(tcp)? == 0 {
                return Ok(0);
            }
            let processed = tls.process_new_packets();
            // An alert is sent also when the certificate is refused.
            flush(tls, tcp)?;
            processed.map_err(io::Error::other)?;
        }
    }

    /// Writes as much as goes now; with TLS all of it, into its buffer.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { tcp, tls } = self;
        let Some(tls) = tls else {
            return tcp.write(bytes);
        };
        let count = tls.writer().write(bytes)?;
        flush(tls, tcp)?;
        Ok(count)
    }

    /// Says that nothing more will be written. Who is gone already need not hear it.
    pub fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        if self.flush().is_ok() {
            let _ = self.tcp.shutdown(Shutdown::Write);
        }
    }

    /// The next close is a reset, and what is unsent is lost. Fails for a socket that is gone already.
    pub fn reset(&mut self) {
        let _ = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO));
    }

    /// The socket underneath, to be watched.
    pub fn tcp(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    /// Sends what TLS still holds.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => flush(tls, &mut self.tcp),
            None => Ok(()),
        }
    }
}

/// Sends until all is sent or the socket is full.
fn flush(tls: &mut ClientConnection, tcp: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(tcp) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => drop(other?),
        }
    }
    Ok(())
}
