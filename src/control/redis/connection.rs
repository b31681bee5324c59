//! A connection to Redis: dialling, the first words, and waiting between attempts.

use super::options::{Address, Endpoint, Login, Place, Sentinels};
use bytes::BytesMut;
use ringcast_proto::redis::{CommandWriter, Decoder, Value};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Shortest and longest wait between two attempts.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Room that a read has at least.
const READ_BYTES: usize = 32 << 10;

/// Both directions of a socket.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection on which the first words were said.
pub struct Connection {
    /// The socket.
    pub stream: Box<dyn Duplex>,
    /// Bytes that came.
    pub input: Input,
}

/// Bytes that came, and what they mean.
#[derive(Default)]
pub struct Input {
    buffer: BytesMut,
    decoder: Decoder,
}

impl Input {
    /// Reads more. Fails when the other side has closed. Nothing is lost when it is dropped before it is ready.
    pub async fn read(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        self.buffer.reserve(READ_BYTES);
        match stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "Redis closed the connection")),
            _ => Ok(()),
        }
    }

    /// The next message, if all of it is there.
    pub fn next(&mut self) -> io::Result<Option<Value>> {
        self.decoder.decode(&mut self.buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl Connection {
    /// Connects to where the Redis is now, within `connect_timeout`.
    pub async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let attempt = async {
            let address = match &endpoint.place {
                Place::Fixed(address) => address.clone(),
                Place::Sentinel(sentinels) => find_master(sentinels, endpoint).await?,
            };
            let mut connection = Self::dial(&address).await?;
            connection.greet(&endpoint.login, endpoint.force_resp2).await?;
            if endpoint.db > 0 {
                connection.ask(&[&[b"SELECT", endpoint.db.to_string().as_bytes()]]).await?;
            }
            if matches!(endpoint.place, Place::Sentinel(_)) {
                connection.check_master().await?;
            }
            Ok(connection)
        };
        timeout(endpoint.connect_timeout, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn dial(address: &Address) -> io::Result<Self> {
        let stream: Box<dyn Duplex> = match address {
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        Ok(Self { stream, input: Input::default() })
    }

    /// Version of RESP, who we are. A server that does not know `HELLO` is spoken to in RESP 2.
    async fn greet(&mut self, login: &Login, force_resp2: bool) -> io::Result<()> {
        let user = if login.user.is_empty() { "default" } else { &login.user };
        if !force_resp2 {
            let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
            if !login.password.is_empty() {
                hello.extend([&b"AUTH"[..], user.as_bytes(), login.password.as_bytes()]);
            }
            match self.ask(&[&hello]).await {
                Ok(_) => return self.name(login).await,
                Err(error) if is_unknown(&error) => (),
                Err(error) => return Err(error),
            }
        }
        if !login.password.is_empty() {
            let mut auth: Vec<&[u8]> = vec![b"AUTH"];
            if !login.user.is_empty() {
                auth.push(user.as_bytes());
            }
            auth.push(login.password.as_bytes());
            self.ask(&[&auth]).await?;
        }
        self.name(login).await
    }

    async fn name(&mut self, login: &Login) -> io::Result<()> {
        if !login.client_name.is_empty() {
            self.ask(&[&[b"CLIENT", b"SETNAME", login.client_name.as_bytes()]]).await?;
        }
        Ok(())
    }

    /// A sentinel that lags behind names a master that is one no more.
    async fn check_master(&mut self) -> io::Result<()> {
        let role = self.ask(&[&[b"ROLE"]]).await?.pop().and_then(Value::into_array).unwrap_or_default();
        match role.first().and_then(Value::text) {
            Some(role) if role == "master" => Ok(()),
            _ => Err(io::Error::other("the server that the sentinel names is not a master")),
        }
    }

    /// Says commands and waits for their answers. Fails with the first that is an error.
    pub async fn ask(&mut self, commands: &[&[&[u8]]]) -> io::Result<Vec<Value>> {
        let mut out = Vec::new();
        let mut writer = CommandWriter::new(&mut out);
        for command in commands {
            writer.command(command);
        }
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let mut answers = Vec::with_capacity(commands.len());
        while answers.len() < commands.len() {
            match self.input.next()? {
                Some(Value::Error(text)) => return Err(io::Error::other(String::from_utf8_lossy(&text).into_owned())),
                Some(Value::Push(_)) => (),
                Some(value) => answers.push(value),
                None => self.input.read(&mut self.stream).await?,
            }
        }
        Ok(answers)
    }
}

fn is_unknown(error: &io::Error) -> bool {
    let text = error.to_string();
    text.starts_with("NOPROTO") || text.to_ascii_lowercase().contains("unknown command")
}

/// Asks one sentinel after the other, each for its share of the time.
async fn find_master(sentinels: &Sentinels, endpoint: &Endpoint) -> io::Result<Address> {
    let share = endpoint.connect_timeout / (sentinels.addresses.len() as u32 + 1);
    let mut last = io::Error::other("no sentinel is configured");
    for address in &sentinels.addresses {
        match timeout(share, ask_sentinel(address, sentinels, endpoint)).await {
            Ok(Ok(master)) => return Ok(master),
            Ok(Err(error)) => last = io::Error::new(error.kind(), format!("sentinel {address}: {error}")),
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("sentinel {address} does not answer")),
        }
    }
    Err(last)
}

async fn ask_sentinel(address: &str, sentinels: &Sentinels, endpoint: &Endpoint) -> io::Result<Address> {
    let mut connection = Connection::dial(&Address::Tcp(address.to_owned())).await?;
    connection.greet(&sentinels.login, endpoint.force_resp2).await?;
    let question: &[&[u8]] = &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", sentinels.master.as_bytes()];
    let answer = connection.ask(&[question]).await?.pop().and_then(Value::into_array).unwrap_or_default();
    let text = |index: usize| answer.get(index).and_then(Value::text).and_then(|text| std::str::from_utf8(text).ok());
    match (text(0), text(1)) {
        (Some(host), Some(port)) if host.contains(':') => Ok(Address::Tcp(format!("[{host}]:{port}"))),
        (Some(host), Some(port)) => Ok(Address::Tcp(format!("{host}:{port}"))),
        _ => Err(io::Error::other(format!("it knows no master {}", sentinels.master))),
    }
}

/// Waits longer after each attempt that failed, and not as long as others do.
#[derive(Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Time to wait now: half of the longest for certain, the other half at random, so that nodes do not all come at once.
    pub fn next(&mut self, random: u8) -> Duration {
        let longest = WAIT_MIN.saturating_mul(1 << self.failures.min(10)).min(WAIT_MAX);
        self.failures += 1;
        longest / 2 + longest * u32::from(random) / 512
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}
