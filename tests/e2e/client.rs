//! A WebSocket client of the JSON protocol that hides nothing: it sends what it is told, broken or not, and shows every
//! reply, push and close code.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Error, Message, WebSocket};

use crate::server::{PATIENCE, SECRET};

/// Path of the WebSocket endpoint.
const PATH: &str = "/connection/websocket";

/// An open WebSocket.
pub struct Client {
    socket: WebSocket<TcpStream>,
    id: u32,
    /// Client id from the connect reply.
    pub client: String,
    /// Messages of frames that held more than one.
    unread: VecDeque<Value>,
    /// Pushes that came while a reply was awaited.
    pushes: VecDeque<Value>,
    /// Whether pings are answered.
    pub answers_pings: bool,
}

impl Client {
    /// Opens the WebSocket and sends nothing.
    pub fn open(address: SocketAddr) -> Client {
        Client::open_at(address, PATH)
    }

    /// The same at another path.
    pub fn open_at(address: SocketAddr, path: &str) -> Client {
        Client::open_with(address, path, &[])
    }

    /// The same with more header lines.
    pub fn open_with(address: SocketAddr, path: &str, lines: &[(&'static str, &'static str)]) -> Client {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout above zero");
        stream.set_nodelay(true).expect("a TCP socket");
        let mut request = format!("ws://{address}{path}").into_client_request().expect("a valid address");
        for (name, value) in lines {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let (socket, _) = tungstenite::client::client(request, stream).expect("the server upgrades");
        Client {
            socket,
            id: 0,
            client: String::new(),
            unread: VecDeque::new(),
            pushes: VecDeque::new(),
            answers_pings: true,
        }
    }

    /// Opens and connects without a token.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Client {
        Client::connect_with(address, json!({}))
    }

    /// Opens and connects; the connect must succeed.
    #[track_caller]
    pub fn connect_with(address: SocketAddr, connect: Value) -> Client {
        let mut client = Client::open(address);
        let reply = client.call("connect", connect);
        client.client = reply["connect"]["client"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned();
        client
    }

    /// Sends a command and waits for its reply.
    #[track_caller]
    pub fn call(&mut self, command: &str, body: Value) -> Value {
        let id = self.ask(command, body);
        self.reply(id)
    }

    /// Sends a command; its id.
    pub fn ask(&mut self, command: &str, body: Value) -> u32 {
        self.id += 1;
        self.send(&json!({"id": self.id, command: body}).to_string());
        self.id
    }

    /// The reply to a command that was sent, if it comes in time.
    #[track_caller]
    pub fn reply_within(&mut self, id: u32, time: Duration) -> Option<Value> {
        self.socket.get_ref().set_read_timeout(Some(time)).expect("a timeout above zero");
        let reply = loop {
            match self.unread.pop_front() {
                Some(message) if message["id"] == id => break Some(message),
                Some(message) => self.pushes.push_back(message),
                None => match self.socket.read() {
                    Ok(Message::Text(text)) => self.take_frame(&text),
                    Ok(other) => panic!("not a text frame: {other:?}"),
                    Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break None,
                    Err(error) => panic!("{error}"),
                },
            }
        };
        self.socket.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
        reply
    }

    /// Waits for the reply to a command that was sent.
    #[track_caller]
    pub fn reply(&mut self, id: u32) -> Value {
        loop {
            let message = self.message();
            if message["id"] == id {
                return message;
            }
            self.pushes.push_back(message);
        }
    }

    /// Subscribes; it must succeed.
    #[track_caller]
    pub fn subscribe(&mut self, channel: &str) {
        let reply = self.call("subscribe", json!({"channel": channel}));
        assert!(reply.get("subscribe").is_some(), "{channel}: {reply}");
    }

    /// What comes first: a reply, which must be no error, or a close with this code.
    #[track_caller]
    pub fn first_reply(mut self) -> Result<Client, u16> {
        match self.socket.read() {
            Ok(Message::Text(text)) => {
                assert!(!text.contains("\"error\""), "{text}");
                self.id = 1;
                Ok(self)
            }
            Ok(Message::Close(Some(frame))) => Err(frame.code.into()),
            other => panic!("neither a reply nor a close: {other:?}"),
        }
    }

    /// The next text frame as it came.
    #[track_caller]
    pub fn frame(&mut self) -> String {
        match self.socket.read() {
            Ok(Message::Text(text)) => text.as_str().to_owned(),
            other => panic!("not a text frame: {other:?}"),
        }
    }

    /// The next publication.
    #[track_caller]
    pub fn publication(&mut self) -> Value {
        self.push("pub")
    }

    /// The next push of a kind.
    #[track_caller]
    pub fn push(&mut self, kind: &str) -> Value {
        loop {
            let message = self.pushes.pop_front().unwrap_or_else(|| self.message());
            if let Some(push) = message["push"].get(kind) {
                return push.clone();
            }
        }
    }

    /// The next push, whatever it is.
    #[track_caller]
    pub fn next_push(&mut self) -> Value {
        loop {
            let message = self.pushes.pop_front().unwrap_or_else(|| self.message());
            if let Some(push) = message.get("push") {
                return push.clone();
            }
        }
    }

    /// Sends a text frame.
    pub fn send(&mut self, text: &str) {
        self.send_message(Message::text(text));
    }

    /// Sends any message of the WebSocket.
    pub fn send_message(&mut self, message: Message) {
        // The server may have closed already: the close code that it sent counts, not our broken pipe.
        let _ = self.socket.send(message);
    }

    /// Sends bytes past the WebSocket.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.socket.get_mut().write_all(bytes);
    }

    /// Reads until the server closes; its code must be this one. What comes before is forgotten.
    #[track_caller]
    pub fn is_closed_with(&mut self, code: u16, after: &str) {
        match self.closed() {
            Ok((closed, _)) => assert_eq!(closed, code, "after {after}"),
            Err(error) => panic!("not closed with {code} after {after}: {error}"),
        }
    }

    /// Reads until the server closes, and gives its code and reason; an error when it closes without, or not in time.
    pub fn closed(&mut self) -> Result<(u16, String), Error> {
        loop {
            if let Message::Close(Some(frame)) = self.socket.read()? {
                return Ok((frame.code.into(), frame.reason.as_str().to_owned()));
            }
        }
    }

    /// The next message that is no ping.
    #[track_caller]
    fn message(&mut self) -> Value {
        loop {
            if let Some(message) = self.unread.pop_front() {
                return message;
            }
            match self.socket.read() {
                Ok(Message::Text(text)) => self.take_frame(&text),
                Ok(Message::Close(frame)) => panic!("closed: {frame:?}"),
                Ok(other) => panic!("not a text frame: {other:?}"),
                Err(Error::Io(error)) => panic!("nothing came: {error}"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[track_caller]
    fn take_frame(&mut self, text: &str) {
        for line in text.lines() {
            let message: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if message != json!({}) {
                self.unread.push_back(message);
            } else if self.answers_pings {
                self.send("{}");
            }
        }
    }
}

/// A JWT with HS256 and the secret of the test configurations.
pub fn token(claims: &Value) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET)
}

/// A JWT with any header and secret; the signature is always HMAC with SHA-256.
pub fn signed(header: &Value, claims: &Value, secret: &str) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let text = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{text}.{}", encode(hmac::sign(&key, text.as_bytes()).as_ref()))
}
