//! Requests that the control plane carries, seen from it.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::{PATIENCE, Server, options, state};
use crate::{Ended, Link, Outlet, RequestHead, Respond, ResponseHead};

/// What an outlet was told.
#[derive(Debug, PartialEq)]
enum Told {
    Begun(u16, String),
    Bytes(String),
    Finished,
    Ended(Ended),
    Ready,
}

struct Recorder(Sender<Told>);

impl Recorder {
    fn tell(&self, told: Told) {
        // Who does not look any more need not know.
        let _ = self.0.send(told);
    }
}

impl Outlet for Recorder {
    fn send(&self, bytes: Vec<u8>) {
        self.tell(Told::Bytes(String::from_utf8(bytes).unwrap()));
    }

    fn end(&self, why: Ended) {
        self.tell(Told::Ended(why));
    }

    fn pause(&self, _: bool) {}

    fn ready(&self) {
        self.tell(Told::Ready);
    }
}

impl Respond for Recorder {
    fn begin(&self, head: ResponseHead, content: Vec<u8>) {
        self.tell(Told::Begun(head.status, String::from_utf8(content).unwrap()));
    }

    fn finish(&self) {
        self.tell(Told::Finished);
    }
}

/// A request, and the response so far.
struct Request {
    link: Link,
    told: Receiver<Told>,
}

impl Request {
    fn open(server: &Server, method: &str, target: &str) -> Self {
        let (sender, told) = channel();
        let head = RequestHead {
            method: method.into(),
            target: target.into(),
            authority: "h".into(),
            headers: vec![("x-one".into(), b"1".to_vec())],
            peer: None,
        };
        let line = server.pool.as_ref().unwrap().carry_line();
        Self { link: line.request(0, head, Box::new(Recorder(sender))), told }
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("told in time")
    }
}

#[test]
fn carried_request_is_served_like_others() {
    let server = Server::default();
    let health = Request::open(&server, "GET", "/health");
    assert_eq!([health.next(), health.next()], [Told::Begun(200, "{}".into()), Told::Finished]);
    let nothing = Request::open(&server, "GET", "/nothing");
    assert_eq!(nothing.next(), Told::Begun(404, "404 page not found\n".into()));
    let old = Request::open(&server, "GET", "nothing");
    assert_eq!(old.next(), Told::Begun(400, "Bad Request\n".into()));
}

#[test]
fn body_of_a_carried_request_comes_in_parts() {
    let server = Server::default();
    let info = Request::open(&server, "POST", "/api/publish");
    info.link.body(br#"{"channel":"c","#.to_vec(), false);
    assert_eq!(info.next(), Told::Ready);
    info.link.body(br#""data":1}"#.to_vec(), true);
    assert_eq!([info.next(), info.next()], [Told::Ready, Told::Begun(200, r#"{"result":{}}"#.into())]);
    assert_eq!(info.next(), Told::Finished);
}

#[test]
fn carried_body_beyond_the_limit_is_refused_before_its_end() {
    let mut options = options(1);
    options.http_api.body_size_limit = 10;
    let server = Server::start(options, state());
    let info = Request::open(&server, "POST", "/api/info");
    info.link.body(vec![b' '; 11], false);
    assert_eq!(info.next(), Told::Ready);
    assert_eq!(info.next(), Told::Begun(413, "Request Entity Too Large\n".into()));
}

#[test]
fn request_that_is_not_whole_does_not_hold_up_the_end() {
    let mut server = Server::default();
    let info = Request::open(&server, "POST", "/api/info");
    info.link.body(b"{".to_vec(), false);
    assert_eq!(info.next(), Told::Ready);
    assert!(server.stop());
    assert_eq!(info.next(), Told::Ended(Ended::Lost));
}
