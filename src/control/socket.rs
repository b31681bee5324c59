//! A connection to a broker: what comes, what is to go, and waiting between attempts.

use bytes::BytesMut;
use ring::rand::{SecureRandom as _, SystemRandom};
use ringcast_proto::DecodeError;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Room that a read has at least.
const READ_BYTES: usize = 32 << 10;

/// Room for what is to go that stays once all of it is gone: many subscriptions at once take more.
const KEPT_BYTES: usize = 1 << 20;

/// Shortest and longest wait between two attempts. Once the broker is back, subscribers are level within 1.5 s.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Both directions of a socket.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Understands what comes.
pub trait Decode {
    /// What comes.
    type Message;
    /// What is said when the other side has closed.
    const CLOSED: &'static str;

    /// The next message, once all of it is there; its bytes are taken from the buffer.
    fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Self::Message>, DecodeError>;
}

/// Bytes that came, and what they mean.
#[derive(Default)]
pub struct Input<D> {
    buffer: BytesMut,
    decoder: D,
}

impl<D: Decode> Input<D> {
    /// Reads more. Fails when the other side has closed. Nothing is lost when it is dropped before it is ready.
    pub async fn read(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        self.buffer.reserve(READ_BYTES);
        match stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, D::CLOSED)),
            _ => Ok(()),
        }
    }

    /// The next message, if all of it is there.
    pub fn next(&mut self) -> io::Result<Option<D::Message>> {
        self.decoder.next(&mut self.buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Bytes that are to go.
#[derive(Default)]
pub struct Outgoing {
    /// To be added to.
    pub bytes: Vec<u8>,
    sent: usize,
    /// The socket may keep some of what was written for itself.
    is_kept: bool,
}

impl Outgoing {
    /// Bytes that were added since all was gone.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to do for `write`.
    pub fn is_gone(&self) -> bool {
        self.bytes.is_empty() && !self.is_kept
    }

    /// Writes some. Nothing is lost or written twice when it is dropped before it is ready.
    pub async fn write(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if self.sent < self.bytes.len() {
            self.sent += stream.write(&self.bytes[self.sent..]).await?;
            self.is_kept = true;
            if self.sent < self.bytes.len() {
                return Ok(());
            }
            self.sent = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
        }
        stream.flush().await?;
        self.is_kept = false;
        Ok(())
    }
}

/// Waits longer after each attempt that failed, and not as long as others do.
#[derive(Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Time to wait now: half of the longest for certain, the other half at random, so that nodes do not all come at once.
    pub fn next(&mut self) -> Duration {
        let longest = WAIT_MIN.saturating_mul(1 << self.failures.min(10)).min(WAIT_MAX);
        self.failures += 1;
        let [chance] = random();
        longest / 2 + longest * u32::from(chance) / 512
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Some bytes that others cannot foresee.
pub fn random<const COUNT: usize>() -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    bytes
}
