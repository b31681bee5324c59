//! A connection to NATS: dialling, the first words, which server comes next, and waiting between attempts.

use super::options::{NatsOptions, Server};
use crate::control::socket::{self, Backoff, Decode, Duplex, random};
use crate::tls::ClientTls;
use bytes::BytesMut;
use ringcast_proto::DecodeError;
use ringcast_proto::nats::{Decoder, Operation, write_connect, write_ping};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Servers that are learned of from others; further ones are not looked at.
const LEARNED_MAX: usize = 64;

/// A connection on which the first words were said.
pub struct Connection {
    /// The socket.
    pub stream: Box<dyn Duplex>,
    /// Bytes that came.
    pub input: Input,
    /// What the server said about itself.
    pub info: Info,
    /// Where it leads.
    pub server: Server,
}

/// Bytes that came, and what they mean.
pub type Input = socket::Input<Decoder>;

impl Decode for Decoder {
    type Message = Operation;
    const CLOSED: &'static str = "NATS closed the connection";

    fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Operation>, DecodeError> {
        self.decode(buffer)
    }
}

/// The next operation that is no error.
async fn wait(input: &mut Input, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Operation> {
    loop {
        match input.next()? {
            Some(Operation::Error(text)) => return Err(refused(&text)),
            Some(operation) => return Ok(operation),
            None => input.read(stream).await?,
        }
    }
}

/// The server does not like what we do.
pub fn refused(text: &[u8]) -> io::Error {
    io::Error::other(format!("NATS says: {}", String::from_utf8_lossy(text)))
}

/// What a server says about itself.
#[derive(Clone, Debug, Default)]
pub struct Info {
    /// Longest payload that it takes.
    pub max_payload: usize,
    /// Other servers of its cluster.
    pub connect_urls: Vec<String>,
    tls: bool,
    tls_possible: bool,
}

impl Info {
    /// Reads it; what is missing has its default.
    pub fn read(text: &[u8]) -> io::Result<Self> {
        let value: Value =
            serde_json::from_slice(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let urls = value["connect_urls"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let is_on = |name: &str| value[name].as_bool().unwrap_or(false);
        Ok(Self {
            max_payload: value["max_payload"].as_u64().map_or(1 << 20, |max| max as usize),
            connect_urls: urls.map(str::to_owned).collect(),
            tls: is_on("tls_required"),
            tls_possible: is_on("tls_available"),
        })
    }
}

impl Connection {
    async fn open(server: &Server, options: &NatsOptions, name: &str) -> io::Result<Self> {
        let attempt = async {
            let socket = TcpStream::connect((server.host.as_str(), server.port)).await?;
            socket.set_nodelay(true)?;
            let (mut stream, mut input): (Box<dyn Duplex>, _) = (Box::new(socket), Input::default());
            let Operation::Info(text) = wait(&mut input, &mut stream).await? else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the server is not NATS: it does not say INFO first",
                ));
            };
            let info = Info::read(&text)?;
            if let Some(tls) = tls(server, options, &info)? {
                stream = Box::new(secure(stream, &tls, &server.host).await?);
            }
            stream.write_all(&greeting(server, name)).await?;
            stream.flush().await?;
            let mut info = info;
            loop {
                match wait(&mut input, &mut stream).await? {
                    Operation::Pong => break,
                    Operation::Info(text) => info = Info::read(&text)?,
                    _ => (),
                }
            }
            Ok(Self { stream, input, info, server: server.clone() })
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer within dial_timeout");
        timeout(options.dial_timeout, attempt).await.unwrap_or_else(|_| Err(late()))
    }
}

/// With whom the connection is to be secured, if at all. A server that wants TLS gets it.
fn tls(server: &Server, options: &NatsOptions, info: &Info) -> io::Result<Option<ClientTls>> {
    let wanted = server.tls || options.tls.is_some();
    if wanted && !info.tls && !info.tls_possible {
        return Err(io::Error::other("the server has no TLS: switch broker.nats.tls off, or TLS in NATS on"));
    }
    if !wanted && !info.tls {
        return Ok(None);
    }
    options.tls.clone().map_or_else(ClientTls::system, Ok).map(Some).map_err(io::Error::other)
}

async fn secure(stream: Box<dyn Duplex>, tls: &ClientTls, host: &str) -> io::Result<impl Duplex + use<>> {
    let name = if tls.server_name.is_empty() { host } else { &tls.server_name };
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(tls.config.clone())).connect(name, stream).await
}

fn greeting(server: &Server, name: &str) -> Vec<u8> {
    let mut options = json!({
        "verbose": false, "pedantic": false, "echo": true, "protocol": 1, "headers": false,
        "lang": "ringcast", "version": env!("CARGO_PKG_VERSION"), "name": name,
    });
    match &server.login {
        Some((token, None)) => options["auth_token"] = token.as_str().into(),
        Some((user, Some(password))) => {
            options["user"] = user.as_str().into();
            options["pass"] = password.as_str().into();
        }
        None => (),
    }
    let mut out = Vec::new();
    write_connect(&options.to_string(), &mut out);
    write_ping(&mut out);
    out
}

/// Servers that may be tried, and the wait between attempts.
pub struct Dialler {
    options: NatsOptions,
    /// How the server shows us to its operator.
    name: String,
    learned: Vec<Server>,
    next: usize,
    backoff: Backoff,
}

impl Dialler {
    /// Begins with any of the servers, so that nodes spread over them.
    pub fn new(options: NatsOptions, name: String) -> Self {
        let [next] = random::<1>().map(usize::from);
        Self { options, name, learned: Vec::new(), next, backoff: Backoff::default() }
    }

    /// Tries each server once, in turn. Fails as the last of them did.
    pub async fn open(&mut self) -> io::Result<Connection> {
        let servers: Vec<_> = self.options.servers.iter().chain(&self.learned).cloned().collect();
        let mut last = io::Error::other("no server is configured");
        for _ in 0..servers.len() {
            let server = &servers[self.next % servers.len()];
            self.next = self.next.wrapping_add(1);
            match Connection::open(server, &self.options, &self.name).await {
                Ok(connection) => {
                    self.learn(&connection.info);
                    return Ok(connection);
                }
                Err(error) => last = io::Error::new(error.kind(), format!("{server}: {error}")),
            }
        }
        Err(last)
    }

    /// Notes other servers of the cluster. They are spoken to as the first that is configured.
    pub fn learn(&mut self, info: &Info) {
        let first = self.options.servers.first().cloned().unwrap_or_default();
        for url in &info.connect_urls {
            let Some((host, port)) = url.rsplit_once(':') else { continue };
            let Ok(port) = port.parse() else { continue };
            let server = Server { host: host.trim_matches(['[', ']']).to_owned(), port, ..first.clone() };
            let is_known = |known: &Server| known.host == server.host && known.port == server.port;
            let known = self.options.servers.iter().chain(&self.learned).any(is_known);
            if !known && self.learned.len() < LEARNED_MAX {
                self.learned.push(server);
            }
        }
    }

    /// Time to wait now.
    pub fn wait(&mut self) -> Duration {
        self.backoff.next()
    }

    /// It worked for a while.
    pub fn worked(&mut self) {
        self.backoff.reset();
    }
}
