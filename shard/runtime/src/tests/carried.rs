//! Connections that the control plane carries, seen from it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ringcast_proto::client::Encoding;
use ringcast_proto::codes::Disconnect;
use ringcast_state::{Farewell, Framing, Pings, Transport, TransportKind, Visitor};

use super::{CONNECT, PATIENCE, Server, options, state};
use crate::{Ended, Link, Outlet};

/// What an outlet was told.
#[derive(Debug, PartialEq)]
enum Told {
    Bytes(String),
    Ended(Ended),
    Paused(bool),
}

struct Recorder(Sender<Told>);

impl Outlet for Recorder {
    fn send(&self, bytes: Vec<u8>) {
        self.tell(Told::Bytes(String::from_utf8(bytes).unwrap()));
    }

    fn end(&self, why: Ended) {
        self.tell(Told::Ended(why));
    }

    fn pause(&self, paused: bool) {
        self.tell(Told::Paused(paused));
    }
}

impl Recorder {
    fn tell(&self, told: Told) {
        // Who does not look any more need not know.
        let _ = self.0.send(told);
    }
}

/// A client that writes at once, or not.
struct Client {
    link: Link,
    told: Receiver<Told>,
}

impl Client {
    fn open(server: &Server, kind: TransportKind, first: &str) -> Self {
        let (sender, told) = channel();
        let transport = Transport {
            encoding: Encoding::Json,
            framing: Framing::Lines,
            kind,
            pings: Pings::Messages,
            visitor: Visitor::UNKNOWN,
            farewell: Farewell::Push,
        };
        let line = server.pool.as_ref().unwrap().carry_line();
        Self { link: line.open(transport, Some(first.into()), Box::new(Recorder(sender))), told }
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("told in time")
    }

    /// Reads until the text has come.
    #[track_caller]
    fn read_until(&self, wanted: &str) {
        loop {
            match self.next() {
                Told::Bytes(bytes) => {
                    self.link.written();
                    if bytes.contains(wanted) {
                        return;
                    }
                }
                told => panic!("{told:?} before {wanted}"),
            }
        }
    }
}

#[test]
fn carried_client_has_the_whole_protocol() {
    let server = Server::default();
    let client = Client::open(&server, TransportKind::WebTransport, CONNECT);
    client.read_until(r#""connect":{"#);
    client.link.frame(br#"{"id":2,"subscribe":{"channel":"c"}}"#.to_vec());
    client.read_until(r#"{"id":2,"subscribe":{}}"#);
    server.publish("c", "1");
    client.read_until(r#"{"push":{"channel":"c","pub":{"data":1}}}"#);
}

#[test]
fn unidirectional_client_gets_bare_pushes() {
    let server = Server::default();
    let client = Client::open(&server, TransportKind::UniGrpc, r#"{"subs":{"c":{}}}"#);
    client.read_until(r#"{"connect":{"#);
    server.publish("c", "1");
    client.read_until("{\"channel\":\"c\",\"pub\":{\"data\":1}}\n");
}

#[test]
fn end_of_either_side_is_seen_by_the_other() {
    let mut server = Server::default();
    let gone = Client::open(&server, TransportKind::WebTransport, CONNECT);
    gone.read_until("connect");
    drop(gone.link);
    while server.pool.as_ref().unwrap().connections().iter().sum::<usize>() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let client = Client::open(&server, TransportKind::WebTransport, CONNECT);
    client.read_until("connect");
    assert!(server.stop());
    client.read_until(r#"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#);
    assert_eq!(client.next(), Told::Ended(Ended::Disconnect(Disconnect::SHUTDOWN)));
}

#[test]
fn client_beyond_the_limit_is_refused() {
    let mut options = options(1);
    options.connection_limit = 1;
    let server = Server::start(options, state());
    let first = Client::open(&server, TransportKind::WebTransport, CONNECT);
    first.read_until("connect");
    let second = Client::open(&server, TransportKind::WebTransport, CONNECT);
    assert_eq!(second.next(), Told::Ended(Ended::Refused));
}

#[test]
fn carrier_that_does_not_write_loses_its_client() {
    let server = Server::default();
    let client = Client::open(&server, TransportKind::WebTransport, CONNECT);
    assert!(matches!(client.next(), Told::Bytes(_)));
    assert_eq!(
        client.next(),
        Told::Bytes("{\"push\":{\"disconnect\":{\"code\":3009,\"reason\":\"write error\"}}}\n".into())
    );
    assert_eq!(client.next(), Told::Ended(Ended::Disconnect(Disconnect::WRITE_ERROR)));
}
