//! TLS of one connection: bytes of the peer in, decrypted bytes out, and the other way round. No I/O.

use rustls::server::{Acceptor, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::options::{ACME_PROTOCOL, HTTP2_PROTOCOL, Readiness, TlsOptions};
use super::record;

/// Bytes of a handshake that may wait to be looked at: more than any chain of certificates takes, and rustls' own bound for
/// one message of a handshake.
const HANDSHAKE_BYTES_MAX: usize = 64 << 10;

/// What a peer without TLS is told. Source: Go's `net/http`, word for word.
const PLAIN_HTTP: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing has been done with the peer's first message.
    Fresh,
    Handshaking,
    /// Both sides may send.
    Open,
    /// Over, but for what is in `take_records`.
    Failed,
}

/// What the bytes of the peer led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Go on.
    More,
    /// The peer will send no more.
    Ended,
    /// The certificate is not there yet: again once there is another.
    Pending,
    /// Close behind `take_records`.
    Failed,
}

/// One connection with TLS.
pub struct Session {
    tls: UnbufferedServerConnection,
    /// Gone once it has been used.
    options: Option<TlsOptions>,
    stage: Stage,
    /// Waits in the queue of handshakes.
    pub queued: bool,
    /// The peer may not have been told of the end.
    unclosed: bool,
    /// What the peer has sent of a record, or of a handshake that waits. Bound: `HANDSHAKE_BYTES_MAX`; one record later.
    stash: Vec<u8>,
    /// Records that are not application data and wait for the next write. Bound: our side of a handshake; later one
    /// answer to a change of keys, for rustls joins them, and an alert.
    records: Vec<u8>,
}

impl Session {
    /// Fails on a configuration that rustls refuses.
    pub fn new(options: TlsOptions) -> Result<Self, rustls::Error> {
        let tls = UnbufferedServerConnection::new(options.config.clone())?;
        Ok(Self {
            tls,
            options: options.on_demand.is_some().then_some(options),
            stage: Stage::Fresh,
            queued: false,
            unclosed: true,
            stash: Vec::new(),
            records: Vec::new(),
        })
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The handshake agreed on HTTP/2.
    pub fn speaks_http2(&self) -> bool {
        self.tls.alpn_protocol() == Some(HTTP2_PROTOCOL)
    }

    /// Keeps bytes of a handshake until its turn comes. None when they are too many; true when it can go on.
    pub fn keep(&mut self, bytes: &[u8]) -> Option<bool> {
        if self.stash.len() + bytes.len() > HANDSHAKE_BYTES_MAX {
            self.stage = Stage::Failed;
            return None;
        }
        self.stash.extend_from_slice(bytes);
        Some(record::is_ready(&self.stash))
    }

    /// Takes back what was kept of a handshake that has not begun.
    pub fn take_unheard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.stash)
    }

    /// Goes on with the handshake. Bytes behind it are decrypted into `plain`.
    pub fn handshake(&mut self, plain: &mut Vec<u8>) -> Heard {
        if self.stage == Stage::Fresh {
            if record::looks_like_http(&self.stash) {
                return self.refuse_http();
            }
            if let Some(heard) = self.look_up() {
                return heard;
            }
            self.stage = Stage::Handshaking;
        }
        let heard = self.receive(&mut [], plain);
        if self.stage == Stage::Handshaking && !self.tls.is_handshaking() {
            self.stage = Stage::Open;
            if self.tls.alpn_protocol() == Some(ACME_PROTOCOL) {
                // The handshake is all that the authority came for: RFC 8737, section 3.
                return Heard::Failed;
            }
        }
        heard
    }

    fn refuse_http(&mut self) -> Heard {
        self.records = PLAIN_HTTP.to_vec();
        self.fail()
    }

    fn fail(&mut self) -> Heard {
        self.stage = Stage::Failed;
        self.stash = Vec::new();
        Heard::Failed
    }

    /// Asks for the certificate that the peer wants, where it may have to be obtained first.
    fn look_up(&mut self) -> Option<Heard> {
        let on_demand = self.options.as_ref()?.on_demand.as_ref()?;
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut &self.stash[..]).ok()?;
        // What is wrong with it, rustls tells the peer in a moment.
        let accepted = match acceptor.accept() {
            Ok(Some(accepted)) => accepted,
            Ok(None) => return Some(Heard::More),
            Err(_) => return None,
        };
        match on_demand.look_up(&accepted.client_hello()) {
            Readiness::Ready => {}
            Readiness::Pending => return Some(Heard::Pending),
        }
        self.options = None;
        None
    }

    /// Bytes of the peer, decrypted into `plain`.
    pub fn receive(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Heard {
        if self.stage == Stage::Failed {
            return Heard::Failed;
        }
        if self.stash.is_empty() {
            let (used, heard) = self.take(bytes, plain);
            if heard != Heard::Failed {
                self.stash.extend_from_slice(&bytes[used..]);
            }
            return heard;
        }
        self.stash.extend_from_slice(bytes);
        let mut stash = std::mem::take(&mut self.stash);
        let (used, heard) = self.take(&mut stash, plain);
        if used < stash.len() && heard != Heard::Failed {
            stash.drain(..used);
            self.stash = stash;
        }
        heard
    }

    /// Decrypts what is whole of `bytes`; also tells how many were used up.
    fn take(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> (usize, Heard) {
        let (mut used, mut heard) = (0, Heard::More);
        if !record::is_ready(bytes) {
            return (used, heard);
        }
        loop {
            let UnbufferedStatus { mut discard, state, .. } = self.tls.process_tls_records(&mut bytes[used..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let Ok(record) = record else { return (used, self.fail()) };
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut self.records, |out| data.encode(out));
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => heard = Heard::Ended,
                // Nothing more can be made of the bytes.
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    return (used + discard, heard);
                }
                // Early data is never offered: `max_early_data_size` is 0.
                Ok(_) => return (used, self.fail()),
                Err(error) => {
                    tracing::debug!(%error, "TLS");
                    self.take_alert();
                    return (used, self.fail());
                }
            }
            used += discard;
        }
    }

    /// The alert that rustls has for the peer behind an error.
    fn take_alert(&mut self) {
        // Asked with nothing to send, rustls would look for the rest of the message and panic, for there are no bytes.
        while self.tls.wants_write() {
            match self.tls.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut self.records, |out| data.encode(out)),
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// There are records to send that are not application data.
    pub fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// Takes them; they go before everything that is sealed later.
    pub fn take_records(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.records)
    }

    /// Appends `plain` as records, behind those that wait. False if this session cannot send any more.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> bool {
        out.append(&mut self.records);
        self.records = Vec::new();
        self.write(out, record::sealed_bytes_max(plain.len()), |traffic, out| traffic.encrypt(plain, out))
    }

    /// Appends what waits and, once, the notice that we send no more.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.records);
        self.records = Vec::new();
        if std::mem::take(&mut self.unclosed) && self.stage == Stage::Open {
            self.write(out, record::sealed_bytes_max(2), |traffic, out| traffic.queue_close_notify(out));
        }
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        bytes_max: usize,
        mut write: impl FnMut(&mut WriteTraffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> bool {
        if self.stage != Stage::Open {
            return false;
        }
        loop {
            // With the stash, for rustls may remember a part of a message in it.
            match self.tls.process_tls_records(&mut self.stash).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return append(out, bytes_max, |out| match write(&mut traffic, out) {
                        Ok(written) => Ok(written),
                        Err(EncryptError::InsufficientSize(error)) => Err(Some(error.required_size)),
                        Err(EncryptError::EncryptExhausted) => Err(None),
                    });
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(out, |out| data.encode(out)),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => {}
                Ok(_) | Err(_) => return false,
            }
        }
    }
}

type WriteTraffic<'a> = rustls::unbuffered::WriteTraffic<'a, rustls::server::ServerConnectionData>;

/// Appends one chunk of rustls' own.
fn encode(out: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    append(out, 0, |out| match encode(out) {
        Ok(written) => Ok(written),
        Err(EncodeError::InsufficientSize(error)) => Err(Some(error.required_size)),
        Err(EncodeError::AlreadyEncoded) => Err(None),
    });
}

/// Appends what `write` writes, which asks for more room by the number of bytes it needs.
fn append(out: &mut Vec<u8>, room: usize, mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>) -> bool {
    let start = out.len();
    out.resize(start + room, 0);
    loop {
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return true;
            }
            Err(Some(needed)) if needed > out.len() - start => out.resize(start + needed, 0),
            Err(_) => {
                out.truncate(start);
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests;
