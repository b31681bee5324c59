//! Unidirectional streams of GRPC, and peers that use them badly.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use prost::Message as _;
use ringcast_proto::client::ConnectRequest;
use rustix::process::Signal;
use serde_json::{Value, json};
use tonic::Code;

use super::client::{Client, Pushes};
use super::{Started, bytes, data};
use crate::client::token;
use crate::http2::peer::{Peer, dial, frame};
use crate::proxies::clients::{ask_with_headers, heard_header};
use crate::proxies::script::Script;
use crate::server::{PATIENCE, Server};

const CONSUME: &str = "/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume";
/// Kinds of frames that floods are made of.
const PING: u8 = 6;
const RST_STREAM: u8 = 3;

const HEADERS: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

/// A connect request that subscribes.
fn subscribing(channel: &str) -> Value {
    json!({"token": token(&json!({"sub": "u", "channels": [channel]})), "name": "test", "data": data(&json!({"x": 1}))})
}

#[track_caller]
fn opened(started: &Started, connect: Value) -> (Pushes, Value) {
    let mut pushes = Client::connect(started.uni).consume(connect).expect("a stream");
    let first = pushes.push();
    assert!(first.get("connect").is_some(), "{first}");
    (pushes, first["connect"].clone())
}

/// The next publication, whatever comes before it.
#[track_caller]
fn publication(pushes: &mut Pushes) -> Value {
    loop {
        let push = pushes.push();
        if let Some(publication) = push.get("pub") {
            return publication.clone();
        }
    }
}

/// The code of the disconnect push that ends a stream.
#[track_caller]
fn farewell(pushes: &mut Pushes) -> Value {
    loop {
        let push = pushes.push();
        if let Some(disconnect) = push.get("disconnect") {
            assert_eq!(pushes.next().expect("no error"), None, "nothing comes after it");
            return disconnect["code"].clone();
        }
    }
}

fn clients(server: &Server) -> Value {
    server.api("info", &json!({}))["result"]["nodes"][0]["num_clients"].clone()
}

#[track_caller]
fn wait_for_clients(server: &Server, count: u64) {
    let started = Instant::now();
    while clients(server) != count {
        assert!(started.elapsed() < PATIENCE, "{} clients instead of {count}", clients(server));
        thread::sleep(Duration::from_millis(20));
    }
}

/// T17
#[test]
fn streams_get_what_is_published_on_one_and_on_four_shards() {
    for shards in [1, 4] {
        let started = Started::new(shards);
        let mut streams: Vec<_> = (0..12).map(|_| opened(&started, subscribing("chat:a")).0).collect();
        assert_eq!(clients(&started.server), 12);
        for number in 0..20 {
            started.server.publish("chat:a", json!({"n": number}));
        }
        for stream in &mut streams {
            for number in 0..20 {
                let publication = publication(stream);
                assert_eq!(publication["data"], data(&json!({"n": number})));
                assert_eq!(publication["offset"], (number + 1).to_string());
            }
        }
        drop(streams);
        wait_for_clients(&started.server, 0);
    }
}

/// T17
#[test]
fn connect_push_tells_what_the_client_needs() {
    let started = Started::with(2, |config| config["client"]["ping_interval"] = json!("9s"));
    let (mut pushes, connect) = opened(&started, subscribing("chat:a"));
    // As in Centrifugo, `client.ping_interval` does not matter here.
    assert_eq!(connect["ping"], 25);
    assert!(connect["client"].is_string() && connect["session"].is_string(), "{connect}");
    assert_eq!(connect["subs"]["chat:a"]["recoverable"], true, "{connect}");
    let presence = started.server.api("presence", &json!({"channel": "chat:a"}));
    let client = connect["client"].as_str().expect("checked");
    assert_eq!(presence["result"]["presence"][client]["user"], "u", "{presence}");
    started.server.api("subscribe", &json!({"channel": "chat:b", "user": "u"}));
    while pushes.push()["subscribe"].is_null() {}
    started.server.publish("chat:b", json!(1));
    assert_eq!(publication(&mut pushes)["data"], bytes("1"));
}

/// T17, S08
#[test]
fn what_was_missed_comes_with_the_connect_push() {
    for shards in [1, 4] {
        let started = Started::new(shards);
        let (pushes, connect) = opened(&started, subscribing("chat:a"));
        drop(pushes);
        wait_for_clients(&started.server, 0);
        started.server.publish("chat:a", json!("missed"));
        let mut request = subscribing("chat:a");
        request["subs"] = json!({"chat:a": {"recover": true, "epoch": connect["subs"]["chat:a"]["epoch"]}});
        let (mut pushes, connect) = opened(&started, request);
        let subscription = &connect["subs"]["chat:a"];
        assert_eq!(subscription["recovered"], true, "{connect}");
        assert_eq!(subscription["publications"][0]["data"], data(&json!("missed")), "{connect}");
        started.server.publish("chat:a", json!("next"));
        assert_eq!(publication(&mut pushes)["offset"], "2");
    }
}

#[test]
fn streams_end_with_a_push_that_says_why() {
    let started = Started::new(2);
    let wrong = json!({"token": "no token"});
    let mut refused = Client::connect(started.uni).consume(wrong).expect("a stream");
    assert_eq!(farewell(&mut refused), 3500);
    let (mut pushes, _) = opened(&started, subscribing("chat:a"));
    started.server.api("disconnect", &json!({"user": "u", "disconnect": {"code": 4111, "reason": "test"}}));
    assert_eq!(farewell(&mut pushes), 4111);
    let (mut pushes, _) = opened(&started, subscribing("chat:a"));
    started.server.signal(Signal::TERM);
    assert_eq!(farewell(&mut pushes), 3001);
    assert!(started.server.wait().status.success());
}

#[test]
fn requests_that_cannot_be_served_are_refused_with_a_status() {
    let started = Started::with(1, |config| {
        config["uni_grpc"]["max_receive_message_size"] = json!(1000);
        config["client"]["connection_limit"] = json!(1);
    });
    let code = |client: Client, connect: Value| {
        let stream = client.consume(connect).map(|mut pushes| pushes.next());
        stream.and_then(|first| first).expect_err("refused").code()
    };
    let client = || Client::connect(started.uni);
    assert_eq!(code(client(), json!({"name": "x".repeat(1000)})), Code::ResourceExhausted);
    assert_eq!(code(client().with("origin", "http://evil.example"), json!({})), Code::PermissionDenied);
    let (_pushes, _) = opened(&started, json!({}));
    assert_eq!(code(client(), json!({})), Code::Unavailable);

    let mut peer = Peer::connect(started.uni);
    for content in [&b"\0\0\0\0\x01\x7f"[..], b"\0\0\0\0\x02\n\x09", b"\0\0\0\0\x02\n", b"\x01\0\0\0\0", b""] {
        let stream = peer.post(CONSUME, &HEADERS, content);
        assert_eq!(peer.status(stream), 200, "{content:?}");
        assert!(peer.is_ended(stream), "{content:?}");
    }
    assert_eq!(clients(&started.server), 1);
}

/// Opens a stream on a connection that is written by hand.
fn raw_stream(peer: &mut Peer, token: String) -> u32 {
    let mut request = vec![0; 5];
    ConnectRequest { token, ..ConnectRequest::default() }.encode(&mut request).expect("there is room");
    request[4] = u8::try_from(request.len() - 5).expect("a short request");
    peer.post(CONSUME, &HEADERS, &request)
}

#[test]
fn client_that_does_not_read_is_closed_and_its_neighbours_go_on() {
    let started = Started::with(1, |config| config["client"]["queue_max_size"] = json!(200_000));
    let (mut reader, _) = opened(&started, subscribing("quiet:slow"));
    let mut peer = Peer::connect(started.uni);
    let stalled = raw_stream(&mut peer, token(&json!({"sub": "slow", "channels": ["quiet:slow"]})));
    peer.stall(stalled);
    let neighbour = raw_stream(&mut peer, String::new());
    wait_for_clients(&started.server, 3);
    let big = json!("x".repeat(50_000));
    for _ in 0..100 {
        started.server.publish("quiet:slow", big.clone());
        assert_eq!(publication(&mut reader)["data"], data(&big));
    }
    assert!(peer.is_reset(stalled));
    wait_for_clients(&started.server, 2);
    assert_eq!(peer.status(neighbour), 200);
}

#[test]
fn floods_leave_the_others_alone_and_hold_no_memory() {
    const GROWTH_BYTES_MAX: usize = 64 << 20;
    let started = Started::new(1);
    let (mut reader, _) = opened(&started, subscribing("quiet:flood"));
    let before = started.server.peak_bytes();
    for _ in 0..10 {
        let mut peer = Peer::connect(started.uni);
        let mut flood = Vec::new();
        for _ in 0..2000 {
            let (stream, head) = peer.request("POST", CONSUME, &HEADERS);
            flood.extend([head, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]), frame(PING, 0, 0, &[0; 8])].concat());
        }
        peer.send(&flood);
        // Requests that never get their message.
        let mut peer = Peer::connect(started.uni);
        for _ in 0..900 {
            let (stream, head) = peer.request("POST", CONSUME, &HEADERS);
            peer.send(&[head, frame(0, 0, stream, b"\0\0\0\xff\xff")].concat());
        }
    }
    started.server.publish("quiet:flood", json!(1));
    assert_eq!(publication(&mut reader)["data"], bytes("1"));
    let growth = started.server.peak_bytes() - before;
    assert!(growth < GROWTH_BYTES_MAX, "the server grew by {growth} bytes");
    wait_for_clients(&started.server, 1);
}

#[test]
fn peers_that_say_nothing_are_closed() {
    let started = Started::new(1);
    let mut silent = Peer::silent(dial(started.uni));
    let mut half = Peer::silent(dial(started.api));
    half.send(b"PRI * HTTP/2.0\r\n");
    assert_eq!(silent.rest_until_end(), Ok(()));
    assert_eq!(half.rest_until_end(), Ok(()));
}

/// X13: metadata of a stream goes along to backends.
#[test]
fn backends_hear_of_metadata() {
    for script in Script::both() {
        let started = Started::with(2, |config| ask_with_headers(config, &script));
        let client = Client::connect(started.uni).with("x-real", "real").with("x-other", "no");
        assert!(client.consume(json!({})).expect("a stream").push().get("connect").is_some());
        heard_header(&script, "uni_grpc");
    }
}

#[test]
fn while_streams_are_drained_calls_go_on_and_nobody_new_is_let_in() {
    let started = Started::with(1, |config| config["shutdown"] = json!({"drain": "20s"}));
    let api = started.client();
    let (mut stays, _) = opened(&started, subscribing("chat:a"));
    let mut others: Vec<_> = (0..19).map(|_| opened(&started, subscribing("quiet:b")).0).collect();
    let mut goes = others.pop().expect("opened");
    api.result("Publish", json!({"channel": "chat:a", "data": data(&json!("before"))}));
    assert_eq!(publication(&mut stays)["offset"], "1");
    started.server.signal(Signal::TERM);
    assert_eq!(farewell(&mut goes), 3001);
    api.result("Publish", json!({"channel": "chat:a", "data": data(&json!("still here"))}));
    assert_eq!(publication(&mut stays)["offset"], "2");
    assert!(TcpStream::connect(started.uni).is_err(), "nobody is let in any more");
    // Others need not wait that long.
    started.server.signal(Signal::TERM);
    assert_eq!(farewell(&mut stays), 3001);
    assert!(started.server.wait().status.success());
}
