//! What a client says to get in: the upgrade, the connect command and the subscribe command, encoded once.

use std::rc::Rc;

use ringcast_proto::client::{Command, ConnectRequest, Encoding, Request, SubscribeRequest, encode_command};
use ringcast_proto::websocket;

use crate::endpoint::Endpoint;

/// Key that masks every frame: nothing here passes a proxy that it would have to protect.
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

/// Key of every upgrade request; the server's answers are checked against it.
pub const UPGRADE_KEY: [u8; 16] = *b"ringcast-bench-1";

/// Id of the connect command.
pub const CONNECT_ID: u32 = 1;

/// Id of the subscribe command.
pub const SUBSCRIBE_ID: u32 = 2;

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
        Self { encoding, upgrade: upgrade.into(), pong: frame(encoding, &Command::default()), goodbye: goodbye.into() }
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
            ..SubscribeRequest::default()
        };
        self.command(SUBSCRIBE_ID, Request::Subscribe(Box::new(subscribe)))
    }

    fn command(&self, id: u32, request: Request) -> Rc<[u8]> {
        let request = Some(request);
        frame(self.encoding, &Command { id, request })
    }
}

/// A command as a masked frame.
fn frame(encoding: Encoding, command: &Command) -> Rc<[u8]> {
    let mut message = Vec::new();
    encode_command(encoding, command, &mut message);
    let opcode = match encoding {
        Encoding::Json => websocket::Opcode::Text,
        Encoding::Protobuf => websocket::Opcode::Binary,
    };
    let mut frame = Vec::new();
    websocket::encode_masked_frame(&mut frame, opcode, &message, MASK);
    frame.into()
}
