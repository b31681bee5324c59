//! What a client says: the upgrade, the connect and the subscribe command, encoded once, and publish commands that are stamped
//! in place.

use std::ops::Range;
use std::rc::Rc;

use memchr::memmem;
use ringcast_proto::client::{
    Command, ConnectRequest, EmulationRequest, Encoding, HistoryRequest, PresenceRequest, PublishRequest, Request,
    RpcRequest, SubscribeRequest, encode_command, encode_emulation_request,
};
use ringcast_proto::websocket;
use serde_json::Value;

use super::transport::Transport;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::options::Common;
use crate::payload::{self, Stamp};

/// Key that masks every frame: nothing here passes a proxy that it would have to protect.
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

/// Key of every upgrade request; the server's answers are checked against it.
pub const UPGRADE_KEY: [u8; 16] = *b"ringcast-bench-1";

/// Id of the connect command.
pub const CONNECT_ID: u32 = 1;

/// Id of the subscribe command.
pub const SUBSCRIBE_ID: u32 = 2;

/// Id of every publish command: a client waits for the answer before it sends the next.
pub const PUBLISH_ID: u32 = 3;

/// Id of every command that asks for something; one at a time, too.
pub const ASK_ID: u32 = 4;

/// What all connections to a server have in common.
#[derive(Clone)]
pub struct Session {
    pub transport: Transport,
    /// Of all messages, both ways.
    pub encoding: Encoding,
    /// The whole HTTP request of a WebSocket.
    pub upgrade: Rc<[u8]>,
    /// Answers a ping; as commands are, see [`Self::errand`].
    pub pong: Rc<[u8]>,
    /// Frame that says goodbye on a WebSocket.
    pub goodbye: Rc<[u8]>,
    /// Host and target of the streams.
    authority: String,
    target: String,
    /// Target of what clients of streams say.
    emulation: String,
    /// The server must deflate.
    pub compression: bool,
}

/// What one connection sends at first.
#[derive(Clone)]
pub struct Login {
    /// The connect command as a frame, behind the upgrade; or the whole request of a stream.
    pub first: Rc<[u8]>,
    pub subscribe: Subscribe,
}

/// How a client subscribes.
#[derive(Clone)]
pub enum Subscribe {
    No,
    /// With a command behind the answer to the connect command.
    Then(Rc<[u8]>),
    /// With a command in the same request.
    Along,
    /// By asking for it in the connect request, where there are no commands.
    Hinted,
}

/// Where a server keeps the connection of a stream.
pub struct Whereabouts {
    pub session: String,
    pub node: String,
}

/// What a client subscribes to.
#[derive(Clone, Copy)]
pub struct Subscription<'a> {
    pub channel: &'a str,
    /// Ask for a recoverable subscription with a position.
    pub recoverable: bool,
    /// Ask for everything after this position; for recoverable ones.
    pub since: Option<&'a Position>,
}

/// Place in a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    pub offset: u64,
    pub epoch: String,
}

/// A publish command, to be stamped and sent again and again.
pub struct Publish {
    transport: Transport,
    encoding: Encoding,
    message: Vec<u8>,
    /// Where the payload stands in the message.
    payload: Range<usize>,
}

impl Publish {
    /// The command with these numbers in its payload.
    pub fn frame(&mut self, stamp: Stamp) -> Rc<[u8]> {
        payload::stamp(&mut self.message[self.payload.clone()], stamp);
        carried(self.transport, self.encoding, &self.message)
    }
}

impl Session {
    /// For clients of the server on the command line.
    pub fn new(common: &Common) -> Result<Self, Failure> {
        let (transport, encoding) = (common.transport, common.protocol.encoding());
        if encoding == Encoding::Protobuf && !transport.is_binary() {
            return Err(Failure::Usage("this transport carries JSON only: leave --protocol out".to_owned()));
        }
        Ok(Self::of(transport, encoding, &common.endpoint()?, &common.emulation))
    }

    /// For clients of a process of this tool itself, which only receive frames.
    pub fn bare(common: &Common) -> Result<Self, Failure> {
        Ok(Self::of(Transport::Websocket, common.protocol.encoding(), &common.endpoint()?, ""))
    }

    fn of(transport: Transport, encoding: Encoding, endpoint: &Endpoint, emulation: &str) -> Self {
        let subprotocol = match encoding {
            Encoding::Json => None,
            Encoding::Protobuf => Some("centrifuge-protobuf"),
        };
        let mut upgrade = Vec::new();
        websocket::write_request(&mut upgrade, &endpoint.authority, &endpoint.target, UPGRADE_KEY, subprotocol);
        let mut goodbye = Vec::new();
        websocket::encode_masked_close(&mut goodbye, 1000, "", MASK);
        Self {
            transport,
            encoding,
            upgrade: upgrade.into(),
            pong: carried(transport, encoding, &message(encoding, &Command::default())),
            goodbye: goodbye.into(),
            authority: endpoint.authority.clone(),
            target: endpoint.target.clone(),
            emulation: emulation.to_owned(),
            compression: false,
        }
    }

    /// For clients that want to have messages deflated.
    pub fn with_compression(self) -> Self {
        let mut upgrade = self.upgrade.to_vec();
        websocket::offer_deflate(&mut upgrade);
        Self { upgrade: upgrade.into(), compression: true, ..self }
    }

    /// A login with a token (empty for none) and a subscription.
    pub fn login(&self, token: &str, subscription: Option<Subscription<'_>>) -> Login {
        let connect =
            ConnectRequest { token: token.to_owned(), name: "ringcast-bench".to_owned(), ..ConnectRequest::default() };
        let subscribe = subscription.map(Self::subscribe);
        if self.transport.is_uni() {
            return self.uni_login(connect, subscribe);
        }
        let connect = self.message(CONNECT_ID, Request::Connect(Box::new(connect)));
        let subscribe = subscribe.map(|request| self.message(SUBSCRIBE_ID, Request::Subscribe(Box::new(request))));
        if self.transport.is_stream() {
            let along = if subscribe.is_some() { Subscribe::Along } else { Subscribe::No };
            let newline: &[u8] = if self.encoding == Encoding::Json && subscribe.is_some() { b"\n" } else { b"" };
            let commands = [&connect, newline, subscribe.as_deref().unwrap_or_default()].concat();
            return Login { first: self.request(&commands), subscribe: along };
        }
        let then = subscribe.map(|message| Subscribe::Then(self.carried(&message)));
        Login { first: self.carried(&connect), subscribe: then.unwrap_or(Subscribe::No) }
    }

    /// A connect request that is no command.
    fn uni_login(&self, mut connect: ConnectRequest, subscribe: Option<SubscribeRequest>) -> Login {
        let hinted = if subscribe.is_some() { Subscribe::Hinted } else { Subscribe::No };
        connect.subs = subscribe.into_iter().map(|request| (request.channel.clone(), request)).collect();
        let command = self.message(CONNECT_ID, Request::Connect(Box::new(connect)));
        let command: Value = serde_json::from_slice(&command).expect("commands without Protobuf are JSON");
        let connect = command["connect"].to_string().into_bytes();
        let first = if self.transport.is_stream() { self.request(&connect) } else { self.carried(&connect) };
        Login { first, subscribe: hinted }
    }

    /// A request that opens a stream, as browsers make it: events by GET.
    fn request(&self, body: &[u8]) -> Rc<[u8]> {
        let Self { authority, target, .. } = self;
        if !self.transport.is_events() {
            return post(authority, target, self.encoding, body).into();
        }
        let separator = if target.contains('?') { '&' } else { '?' };
        let commands = percent_encoded(body);
        format!("GET {target}{separator}cf_connect={commands} HTTP/1.1\r\nHost: {authority}\r\nAccept: text/event-stream\r\n\r\n")
            .into_bytes()
            .into()
    }

    /// A request that brings commands of a stream's client to the server.
    pub fn errand(&self, from: &Whereabouts, commands: &[u8]) -> Vec<u8> {
        let Whereabouts { session, node } = from;
        let data = commands.to_vec().into();
        let request = EmulationRequest { node: node.clone(), session: session.clone(), data };
        let mut body = Vec::new();
        encode_emulation_request(self.encoding, &request, &mut body);
        post(&self.authority, &self.emulation, self.encoding, &body)
    }

    fn subscribe(subscription: Subscription<'_>) -> SubscribeRequest {
        SubscribeRequest {
            channel: subscription.channel.to_owned(),
            positioned: subscription.recoverable,
            recoverable: subscription.recoverable,
            recover: subscription.since.is_some(),
            offset: subscription.since.map_or(0, |since| since.offset),
            epoch: subscription.since.map_or_else(String::new, |since| since.epoch.clone()),
            ..SubscribeRequest::default()
        }
    }

    /// A publish command to `channel` with a payload of `payload_bytes`.
    pub fn publish(&self, channel: &str, payload_bytes: usize) -> Publish {
        let data = payload::template(payload_bytes);
        let request =
            PublishRequest { channel: channel.to_owned(), data: data.clone().into(), ..PublishRequest::default() };
        let message = message(self.encoding, &Command { id: PUBLISH_ID, request: Some(Request::Publish(request)) });
        let at = memmem::find(&message, &data).expect("neither encoding changes the payload");
        Publish { transport: self.transport, encoding: self.encoding, message, payload: at..at + payload_bytes }
    }

    /// A history command: the newest publications, newest first.
    pub fn history(&self, channel: &str, limit: i32) -> Rc<[u8]> {
        let request = HistoryRequest { channel: channel.to_owned(), limit, reverse: true, ..HistoryRequest::default() };
        self.command(ASK_ID, Request::History(request))
    }

    /// A presence command.
    pub fn presence(&self, channel: &str) -> Rc<[u8]> {
        self.command(ASK_ID, Request::Presence(PresenceRequest { channel: channel.to_owned() }))
    }

    /// An RPC command with a payload of `payload_bytes`.
    pub fn rpc(&self, method: &str, payload_bytes: usize) -> Rc<[u8]> {
        let data = payload::template(payload_bytes).into();
        self.command(ASK_ID, Request::Rpc(RpcRequest { method: method.to_owned(), data }))
    }

    fn command(&self, id: u32, request: Request) -> Rc<[u8]> {
        self.carried(&self.message(id, request))
    }

    fn message(&self, id: u32, request: Request) -> Vec<u8> {
        message(self.encoding, &Command { id, request: Some(request) })
    }

    fn carried(&self, message: &[u8]) -> Rc<[u8]> {
        carried(self.transport, self.encoding, message)
    }
}

fn message(encoding: Encoding, command: &Command) -> Vec<u8> {
    let mut message = Vec::new();
    encode_command(encoding, command, &mut message);
    message
}

/// A message as a masked frame; of streams, whose requests are made for each client, as it is.
fn carried(transport: Transport, encoding: Encoding, message: &[u8]) -> Rc<[u8]> {
    if transport.is_stream() {
        return message.into();
    }
    let opcode = match encoding {
        Encoding::Json => websocket::Opcode::Text,
        Encoding::Protobuf => websocket::Opcode::Binary,
    };
    masked(opcode, message)
}

/// The answer to a ping frame.
pub fn native_pong(payload: &[u8]) -> Rc<[u8]> {
    masked(websocket::Opcode::Pong, payload)
}

fn masked(opcode: websocket::Opcode, payload: &[u8]) -> Rc<[u8]> {
    let mut frame = Vec::new();
    websocket::encode_masked_frame(&mut frame, opcode, payload, MASK);
    frame.into()
}

fn post(authority: &str, target: &str, encoding: Encoding, body: &[u8]) -> Vec<u8> {
    let content_type = match encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/octet-stream",
    };
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn percent_encoded(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(*byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringcast_proto::client::decode_emulation_request;

    fn session(transport: Transport, encoding: Encoding) -> Session {
        let endpoint = Endpoint::resolve("http://127.0.0.1:8000/stream", "http").expect("the address is well formed");
        Session::of(transport, encoding, &endpoint, "/emulation")
    }

    const CHANNEL: Subscription<'_> = Subscription { channel: "a b", recoverable: false, since: None };

    /// Request line and body of what a client with a subscription says first.
    #[track_caller]
    fn check(transport: Transport, line: &str, body: &str) {
        let login = session(transport, Encoding::Json).login("", Some(CHANNEL));
        let first = String::from_utf8(login.first.to_vec()).expect("a request in JSON is text");
        let (head, rest) = first.split_once("\r\n\r\n").expect("a head ends");
        assert_eq!((head.lines().next(), rest), (Some(line), body), "{transport:?}");
    }

    #[test]
    fn streams_are_opened_by_requests_that_carry_what_the_client_wants() {
        let commands = concat!(
            r#"{"id":1,"connect":{"name":"ringcast-bench"}}"#,
            "\n",
            r#"{"id":2,"subscribe":{"channel":"a b"}}"#
        );
        check(Transport::HttpStream, "POST /stream HTTP/1.1", commands);
        let connect = r#"{"name":"ringcast-bench","subs":{"a b":{"channel":"a b"}}}"#;
        check(Transport::UniHttpStream, "POST /stream HTTP/1.1", connect);
        let connect = "%7B%22name%22%3A%22ringcast%2Dbench%22%2C%22subs%22%3A%7B%22a%20b%22%3A%7B%22channel%22%3A%22a%20b%22%7D%7D%7D";
        check(Transport::UniSse, &format!("GET /stream?cf_connect={connect} HTTP/1.1"), "");
    }

    #[test]
    fn commands_of_a_stream_go_with_its_whereabouts() {
        let from = Whereabouts { session: "s".to_owned(), node: "n".to_owned() };
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let session = session(Transport::HttpStream, encoding);
            let errand = session.errand(&from, &session.pong);
            let at = memmem::find(&errand, b"\r\n\r\n").expect("a head ends");
            assert!(errand.starts_with(b"POST /emulation HTTP/1.1\r\n"));
            let got = decode_emulation_request(encoding, &errand[at + 4..]).expect("a request");
            assert_eq!((got.session.as_str(), got.node.as_str(), &*got.data), ("s", "n", &*session.pong));
        }
    }
}
