//! A WebTransport client: a session with its one stream, and whatever a test wants to do with either.

use std::future::Future;
use std::net::SocketAddr;

use ringcast_proto::client::{Command, Encoding, Reply, decode_replies, encode_command};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use wtransport::endpoint::ConnectOptions;
use wtransport::error::{ConnectingError, ConnectionError};
use wtransport::proto::frame::Frame;
use wtransport::proto::headers::Headers;
use wtransport::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};

use crate::server::PATIENCE;

/// An open session.
pub struct Session {
    runtime: Runtime,
    connection: Connection,
    /// The last one is in use.
    streams: Vec<(SendStream, RecvStream)>,
    /// Bytes of messages that are not whole, or not asked for yet.
    unread: Vec<u8>,
    id: u32,
}

impl Session {
    /// Opens a session at a path with its query, as a page of an origin does, or as a program without one; and its stream.
    pub fn open(address: SocketAddr, path: &str, origin: Option<&str>) -> Result<Session, ConnectingError> {
        let mut session = Session::open_without_stream(address, path, origin)?;
        session.open_stream();
        Ok(session)
    }

    /// Opens a session and no stream.
    pub fn open_without_stream(
        address: SocketAddr,
        path: &str,
        origin: Option<&str>,
    ) -> Result<Session, ConnectingError> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let options = ConnectOptions::builder(format!("https://{address}{path}"));
        let options = match origin {
            Some(origin) => options.add_header("origin", origin),
            None => options,
        };
        let connection = runtime.block_on(async {
            let config = ClientConfig::builder().with_bind_default().with_no_cert_validation();
            let endpoint = Endpoint::client(config.build()).expect("a free port");
            in_time(endpoint.connect(options.build())).await
        })?;
        Ok(Session { runtime, connection, streams: Vec::new(), unread: Vec::new(), id: 0 })
    }

    /// Opens one more stream, which is the one used from now on.
    pub fn open_stream(&mut self) {
        let Session { runtime, connection, streams, .. } = self;
        let opened = runtime.block_on(async { connection.open_bi().await.expect("room for a stream").await });
        streams.push(opened.expect("a stream"));
    }

    /// Opens a session and connects without a token.
    pub fn connect(address: SocketAddr) -> Session {
        let mut session = Session::open(address, PATH, None).expect("a session");
        let reply = session.call("connect", json!({}));
        assert!(reply["connect"]["client"].is_string(), "{reply}");
        session
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        let (output, _) = self.streams.last_mut().expect("a stream");
        // Whoever closed has stopped reading, and tells why.
        let _ = self.runtime.block_on(in_time(output.write_all(bytes)));
    }

    /// The next line; `None` at the end of the stream.
    pub fn line(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let message: Value = serde_json::from_slice(&line).expect("a line is JSON");
                if message != json!({}) {
                    return Some(message);
                }
                self.send(b"{}\n");
            } else if !self.read() {
                return None;
            }
        }
    }

    /// Sends a command and waits for its reply; pushes before it are forgotten.
    #[track_caller]
    pub fn call(&mut self, command: &str, body: Value) -> Value {
        self.id += 1;
        let id = self.id;
        self.send(format!("{}\n", json!({"id": id, command: body})).as_bytes());
        loop {
            let message = self.line().expect("a reply before the end");
            if message["id"] == id {
                return message;
            }
        }
    }

    /// The data of the next publication.
    #[track_caller]
    pub fn publication(&mut self) -> Value {
        loop {
            let message = self.line().expect("a publication before the end");
            if let Some(publication) = message["push"].get("pub") {
                return publication["data"].clone();
            }
        }
    }

    /// Sends a command of Protobuf and waits for the reply.
    #[track_caller]
    pub fn call_in_protobuf(&mut self, command: &Command) -> Reply {
        let mut bytes = Vec::new();
        encode_command(Encoding::Protobuf, command, &mut bytes);
        self.send(&bytes);
        loop {
            if let Some(Ok(reply)) = decode_replies(Encoding::Protobuf, &self.unread).next() {
                self.unread.clear();
                return reply;
            }
            assert!(self.read(), "a reply before the end");
        }
    }

    /// Waits until the server has ended the session: code and reason.
    #[track_caller]
    pub fn closed(&mut self) -> (u64, String) {
        match self.runtime.block_on(in_time(self.connection.accept_uni())).err() {
            Some(ConnectionError::ApplicationClosed(close)) => {
                (close.code().into_inner(), String::from_utf8_lossy(close.reason()).into_owned())
            }
            other => panic!("not closed by the server: {other:?}"),
        }
    }

    /// Asks for something else over the same connection: the status of the answer.
    #[track_caller]
    pub fn request(&mut self, fields: &[(&str, &str)]) -> String {
        let fields: Headers = fields.iter().copied().collect();
        let connection = self.connection.quic_connection();
        self.runtime.block_on(async {
            let (mut output, mut input) = connection.open_bi().await.expect("room for a stream");
            let mut bytes = Vec::new();
            fields.generate_frame().write(&mut bytes).expect("memory has room");
            output.write_all(&bytes).await.expect("sent");
            let answer = in_time(input.read_to_end(1 << 20)).await.expect("a whole answer");
            let head = Frame::read(&mut answer.as_slice()).expect("a frame").expect("a whole frame");
            let head = Headers::with_frame(&head).expect("readable fields");
            head.get(":status").expect("a status").to_owned()
        })
    }

    /// False at the end of the stream.
    fn read(&mut self) -> bool {
        let (_, input) = self.streams.last_mut().expect("a stream");
        let mut bytes = vec![0; 64 << 10];
        let read = self.runtime.block_on(in_time(input.read(&mut bytes)));
        let length = read.ok().flatten().unwrap_or(0);
        self.unread.extend_from_slice(&bytes[..length]);
        length > 0
    }
}

/// Path of the endpoint.
pub const PATH: &str = "/connection/webtransport";

/// What comes of it, unless that takes too long.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("done in time")
}
