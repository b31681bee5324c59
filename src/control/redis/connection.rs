//! A connection to Redis: where it leads, dialling, and the first words.

use super::options::{Address, Endpoint, Login, Place, Tls};
use super::sentinel;
use crate::control::socket::{self, Decode, Duplex, random};
use bytes::BytesMut;
use ringcast_proto::DecodeError;
use ringcast_proto::redis::{CommandWriter, Decoder, Value};
use rustls::pki_types::ServerName;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection on which the first words were said.
pub struct Connection {
    /// Where it leads.
    pub address: Address,
    /// The socket.
    pub stream: Box<dyn Duplex>,
    /// Bytes that came.
    pub input: Input,
}

/// Bytes that came, and what they mean.
pub type Input = socket::Input<Decoder>;

impl Decode for Decoder {
    type Message = Value;
    const CLOSED: &'static str = "Redis closed the connection";

    fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Value>, DecodeError> {
        self.decode(buffer)
    }
}

impl Connection {
    /// Connects to where the Redis is now, within `connect_timeout`. Of a cluster it is one of `places`, the nodes that are known.
    pub async fn open(endpoint: &Endpoint, places: &Places) -> io::Result<Self> {
        let attempt = async {
            match &endpoint.place {
                Place::Fixed(address) => Self::open_at(endpoint, address).await,
                Place::Sentinel(sentinels) => {
                    let master = sentinel::find_master(sentinels, endpoint).await?;
                    let mut connection = Self::open_at(endpoint, &master).await?;
                    connection.check_master().await?;
                    Ok(connection)
                }
                Place::Cluster(seeds) => {
                    let known = places.now();
                    Self::open_any(endpoint, if known.is_empty() { seeds } else { &known }).await
                }
            }
        };
        within(endpoint.connect_timeout, attempt).await
    }

    /// Connects to this server. Whoever calls this limits the time.
    pub async fn open_at(endpoint: &Endpoint, address: &Address) -> io::Result<Self> {
        let mut connection = Self::dial(address, endpoint.tls.as_ref()).await?;
        connection.greet(&endpoint.login, endpoint.force_resp2).await?;
        if endpoint.db > 0 {
            connection.ask(&[&[b"SELECT", endpoint.db.to_string().as_bytes()]]).await?;
        }
        if endpoint.readonly {
            connection.ask(&[&[b"READONLY"]]).await?;
        }
        Ok(connection)
    }

    /// Tries them in turn, each for its share of the time, from a random one on so that nodes spread.
    pub async fn open_any(endpoint: &Endpoint, addresses: &[Address]) -> io::Result<Self> {
        let share = endpoint.connect_timeout / (addresses.len().min(4) as u32).max(1);
        let mut last = io::Error::other("no address is known");
        let start = usize::from(u16::from_be_bytes(random())) % addresses.len().max(1);
        for address in addresses[start..].iter().chain(&addresses[..start]) {
            match within(share, Self::open_at(endpoint, address)).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
            }
        }
        Err(last)
    }

    /// Connects and says nothing yet.
    pub async fn dial(address: &Address, tls: Option<&Tls>) -> io::Result<Self> {
        let stream: Box<dyn Duplex> = match address {
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Address::Tcp(target) => {
                let stream = TcpStream::connect(target).await?;
                stream.set_nodelay(true)?;
                match tls {
                    None => Box::new(stream),
                    Some(tls) => Box::new(tls.connect(target, stream).await?),
                }
            }
        };
        Ok(Self { address: address.clone(), stream, input: Input::default() })
    }

    /// Version of RESP, who we are. A server that does not know `HELLO` is spoken to in RESP 2.
    pub async fn greet(&mut self, login: &Login, force_resp2: bool) -> io::Result<()> {
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

/// Fails when it takes longer.
pub async fn within<T>(limit: Duration, attempt: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl Tls {
    async fn connect(&self, target: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let host = target.rsplit_once(':').map_or(target, |(host, _)| host).trim_matches(['[', ']']);
        let name = if self.server_name.is_empty() { host } else { &self.server_name };
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(self.config.clone()).connect(name, stream).await
    }
}

/// Where a connection may lead now, as sentinels or the cluster say; nothing while that is not known or cannot change.
#[derive(Clone)]
pub struct Places(watch::Receiver<Vec<Address>>);

impl Places {
    /// What is to be said through the sender.
    pub fn channel() -> (watch::Sender<Vec<Address>>, Self) {
        let (sender, receiver) = watch::channel(Vec::new());
        (sender, Self(receiver))
    }

    /// All of them.
    pub fn now(&self) -> Vec<Address> {
        self.0.borrow().clone()
    }

    /// Ends after this time, or once there is another place.
    pub async fn wait(&mut self, time: Duration) {
        let changed = async {
            if self.0.changed().await.is_err() {
                // Nobody looks any more, or ever did.
                std::future::pending().await
            }
        };
        let _ = timeout(time, changed).await;
    }

    /// Ends once a connection to `here` leads to the wrong server.
    pub async fn moved(&mut self, here: &Address) {
        let moved = self.0.wait_for(|places| !places.is_empty() && !places.contains(here));
        if moved.await.is_err() {
            // Nobody looks any more, or ever did.
            std::future::pending().await
        }
    }
}
