//! What a client says: the upgrade, the connect and the subscribe command, encoded once, and publish commands that are stamped
//! in place.

use std::ops::Range;
use std::rc::Rc;

use memchr::memmem;
use ringcast_proto::client::{
    Command, ConnectRequest, Encoding, HistoryRequest, PresenceRequest, PublishRequest, Request, SubscribeRequest,
    encode_command,
};
use ringcast_proto::websocket;

use crate::endpoint::Endpoint;
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
    /// Of all messages, both ways.
    pub encoding: Encoding,
    /// The whole HTTP request.
    pub upgrade: Rc<[u8]>,
    /// Frame that answers a ping.
    pub pong: Rc<[u8]>,
    /// Frame that says goodbye.
    pub goodbye: Rc<[u8]>,
    /// The server must deflate.
    pub compression: bool,
}

/// What one connection sends after the upgrade, as frames.
#[derive(Clone)]
pub struct Login {
    /// The connect command.
    pub connect: Rc<[u8]>,
    /// The subscribe command, if it wants to subscribe.
    pub subscribe: Option<Rc<[u8]>>,
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
    encoding: Encoding,
    message: Vec<u8>,
    /// Where the payload stands in the message.
    payload: Range<usize>,
}

impl Publish {
    /// The frame with these numbers in its payload.
    pub fn frame(&mut self, stamp: Stamp) -> Rc<[u8]> {
        payload::stamp(&mut self.message[self.payload.clone()], stamp);
        frame(self.encoding, &self.message)
    }
}

impl Session {
    /// For clients of the server at `endpoint`.
    pub fn new(endpoint: &Endpoint, encoding: Encoding) -> Self {
        let subprotocol = match encoding {
            Encoding::Json => None,
            Encoding::Protobuf => Some("centrifuge-protobuf"),
        };
        let mut upgrade = Vec::new();
        websocket::write_request(&mut upgrade, &endpoint.authority, &endpoint.target, UPGRADE_KEY, subprotocol);
        let mut goodbye = Vec::new();
        websocket::encode_masked_close(&mut goodbye, 1000, "", MASK);
        Self {
            encoding,
            upgrade: upgrade.into(),
            pong: frame(encoding, &message(encoding, &Command::default())),
            goodbye: goodbye.into(),
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
        Login {
            connect: self.command(CONNECT_ID, Request::Connect(Box::new(connect))),
            subscribe: subscription.map(|subscription| self.subscribe(subscription)),
        }
    }

    fn subscribe(&self, subscription: Subscription<'_>) -> Rc<[u8]> {
        let subscribe = SubscribeRequest {
            channel: subscription.channel.to_owned(),
            positioned: subscription.recoverable,
            recoverable: subscription.recoverable,
            recover: subscription.since.is_some(),
            offset: subscription.since.map_or(0, |since| since.offset),
            epoch: subscription.since.map_or_else(String::new, |since| since.epoch.clone()),
            ..SubscribeRequest::default()
        };
        self.command(SUBSCRIBE_ID, Request::Subscribe(Box::new(subscribe)))
    }

    /// A publish command to `channel` with a payload of `payload_bytes`.
    pub fn publish(&self, channel: &str, payload_bytes: usize) -> Publish {
        let data = payload::template(payload_bytes);
        let request =
            PublishRequest { channel: channel.to_owned(), data: data.clone().into(), ..PublishRequest::default() };
        let message = message(self.encoding, &Command { id: PUBLISH_ID, request: Some(Request::Publish(request)) });
        let at = memmem::find(&message, &data).expect("neither encoding changes the payload");
        Publish { encoding: self.encoding, message, payload: at..at + payload_bytes }
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

    fn command(&self, id: u32, request: Request) -> Rc<[u8]> {
        let request = Some(request);
        frame(self.encoding, &message(self.encoding, &Command { id, request }))
    }
}

fn message(encoding: Encoding, command: &Command) -> Vec<u8> {
    let mut message = Vec::new();
    encode_command(encoding, command, &mut message);
    message
}

/// A message as a masked frame.
fn frame(encoding: Encoding, message: &[u8]) -> Rc<[u8]> {
    let opcode = match encoding {
        Encoding::Json => websocket::Opcode::Text,
        Encoding::Protobuf => websocket::Opcode::Binary,
    };
    let mut frame = Vec::new();
    websocket::encode_masked_frame(&mut frame, opcode, message, MASK);
    frame.into()
}
