//! What the kernel asks for clients that come, stay and leave: the process that lets them in, as the scenarios see it. It gives the
//! answers that a server of the protocol gives, in bytes that are made once.

use std::time::Duration;

use ringcast_proto::client::{ConnectResult, Encoding, Reply, ReplyResult, encode_reply};
use ringcast_proto::http::{Limits, parse_head};
use ringcast_proto::websocket;

use super::child::Child;
use super::greeter::{Pings, Setup};
use super::{FloorOptions, framed};
use crate::engine::{CONNECT_ID, Peer, SUBSCRIBE_ID, Session, Transport};
use crate::failure::Failure;
use crate::measure::Meter;
use crate::process::Process;

/// A process that lets clients in, on the core of the server.
pub struct Greeting {
    child: Child,
}

/// How it pings.
#[derive(Clone, Copy)]
pub struct Pinging {
    /// All clients that will come.
    pub clients: usize,
    /// Sent without a pause.
    pub together: usize,
    /// From one ping of a client to its next.
    pub interval: Duration,
}

impl Greeting {
    /// Starts it beside a server that is measured so, for clients of `session` that subscribe or do not.
    pub fn start(
        session: &Session,
        subscribes: bool,
        pinging: Option<Pinging>,
        options: &FloorOptions,
        server: &Meter,
    ) -> Result<Self, Failure> {
        if session.transport != Transport::Websocket {
            return Err(Failure::Usage("the floor of this scenario is there for WebSocket clients only".to_owned()));
        }
        let setup = setup(session, subscribes, pinging);
        let child = Child::greeter(&setup.to_block(), options.core(server));
        Ok(Self { child: child.map_err(Failure::system("starting the process that lets clients in"))? })
    }

    /// For the clients to dial.
    pub fn peer(&self) -> Peer {
        Peer::plain(self.child.address())
    }

    /// Measures it as the server is measured.
    pub fn meter(&self) -> Result<Meter, Failure> {
        Ok(Meter::of(Process::open(self.child.pid())?)?)
    }
}

fn setup(session: &Session, subscribes: bool, pinging: Option<Pinging>) -> Setup {
    let encoding = session.encoding;
    let connected = ConnectResult {
        client: "6f1b4b8c-2d0e-4b52-9d57-0c6a5f7e3a11".to_owned(),
        version: "0.0.0".to_owned(),
        ping: pinging.map_or(25, |pinging| pinging.interval.as_secs() as u32),
        pong: true,
        ..ConnectResult::default()
    };
    let result = |id, result| message(encoding, &Reply::Result { id, result });
    let connected = result(CONNECT_ID, ReplyResult::Connect(Box::new(connected)));
    let mut answers = vec![upgraded(&session.upgrade), connected];
    if subscribes {
        answers.push(result(SUBSCRIBE_ID, ReplyResult::Subscribe(Box::default())));
    }
    let mut goodbye = Vec::new();
    websocket::encode_close(&mut goodbye, 1000, "");
    let pings = pinging.map(|Pinging { clients, together, interval }| Pings {
        frame: message(encoding, &Reply::Ping),
        clients,
        together,
        interval,
    });
    Setup { answers, goodbye, pings }
}

/// The answer to an upgrade request of this tool.
fn upgraded(request: &[u8]) -> Vec<u8> {
    let head = parse_head(request, &Limits::default());
    let (head, _) = head.ok().flatten().expect("the tool sends whole requests");
    let accepted = websocket::accept(&head, websocket::Strictness::Strict).expect("and asks for an upgrade");
    let subprotocol = accepted.subprotocols.first().map(String::as_str);
    let mut answer = Vec::new();
    websocket::write_response(&mut answer, &accepted.accept_key, subprotocol, accepted.deflate);
    answer
}

/// A reply in a frame of its own.
fn message(encoding: Encoding, reply: &Reply) -> Vec<u8> {
    let mut message = Vec::new();
    encode_reply(encoding, reply, &mut message).expect("there is no JSON of others in it");
    framed(encoding, &message)
}
