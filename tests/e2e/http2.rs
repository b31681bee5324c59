//! HTTP/2 from outside: many streams on one connection, those who stall, and those who flood.

pub mod peer;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http;
use crate::server::{API_KEY, PATIENCE, Server, config, free_port};
use peer::{OTHER, Peer, dial, frame};

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;

/// The code of `ENHANCE_YOUR_CALM`.
const CALM: u32 = 11;

/// Payload and flags of frames that floods are made of.
const PING: u8 = 6;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;

/// A server with HTTP/2 on its outer port, and a client of it.
fn start(shards: u16, queue_bytes_max: usize) -> (Server, Peer) {
    let (inner, outer) = (free_port(), free_port());
    let mut config = config(outer);
    config["http_server"]["internal_port"] = json!(inner.to_string());
    config["http_server"]["h2c_external"] = json!(true);
    config["http_api"]["external"] = json!(true);
    config["client"]["queue_max_size"] = json!(queue_bytes_max);
    for name in ["http_stream", "sse"] {
        config[name] = json!({"enabled": true});
    }
    let server = Server::spawn(shards, &config);
    server.wait_for_log(PATIENCE, |log| log.contains("ready").then_some(()));
    let peer = Peer::connect(server.address());
    (server, peer)
}

fn subscribe(channel: &str) -> String {
    format!("{CONNECT}\n{}", json!({"id": 2, "subscribe": {"channel": channel}}))
}

/// Opens a stream of events that has subscribed.
#[track_caller]
fn subscribed(peer: &mut Peer, channel: &str) -> u32 {
    let stream = peer.post("/connection/sse", &[], &subscribe(channel));
    assert_eq!(peer.message(stream)["id"], 1);
    assert_eq!(peer.message(stream), json!({"id": 2, "subscribe": {}}));
    assert_eq!(peer.status(stream), 200);
    stream
}

/// A10
#[test]
fn wrong_keys_of_an_address_run_out_over_either_http() {
    let (server, mut peer) = start(4, 1 << 20);
    let guess = |_| http::post(server.address(), "/api/info", &[("X-API-Key", "wrong")], b"{}").status;
    assert!((0..8).map(guess).all(|status| status == 401));
    for _ in 0..2 {
        let stream = peer.post("/api/info", &[("x-api-key", "wrong")], "{}");
        assert_eq!(peer.status(stream), OTHER);
    }
    assert_eq!(guess(0), 429, "the eleventh");
    let stream = peer.post("/api/info", &[("x-api-key", API_KEY)], "{}");
    assert_eq!(peer.status(stream), 200);
}

/// T13
#[test]
fn thirty_event_streams_share_one_connection() {
    for shards in [1, 4] {
        let (server, mut peer) = start(shards, 1 << 20);
        let streams: Vec<_> = (0..30).map(|number| subscribed(&mut peer, &format!("quiet:{number}"))).collect();
        for number in 0..30 {
            server.publish(&format!("quiet:{number}"), json!(number));
        }
        for (number, stream) in streams.iter().enumerate() {
            assert_eq!(peer.message(*stream)["push"]["pub"]["data"], number);
        }
        let info = peer.post("/api/info", &[("x-api-key", API_KEY)], "{}");
        assert_eq!(peer.body(info)["result"]["nodes"][0]["num_clients"], 30);
    }
}

/// T08, T10, T13
#[test]
fn emulated_commands_share_the_connection_of_their_stream() {
    for shards in [1, 4] {
        let (server, mut peer) = start(shards, 1 << 20);
        let stream = peer.post("/connection/http_stream", &[], CONNECT);
        let reply = peer.message(stream);
        let commands = json!({"id": 2, "subscribe": {"channel": "quiet:emulated"}}).to_string();
        let (session, node) = (&reply["connect"]["session"], &reply["connect"]["node"]);
        let request = json!({"session": session, "node": node, "data": commands}).to_string();
        let emulation = peer.post("/emulation", &[], &request);
        assert_eq!(peer.status(emulation), 204);
        assert_eq!(peer.message(stream), json!({"id": 2, "subscribe": {}}));
        server.publish("quiet:emulated", json!("here"));
        assert_eq!(peer.message(stream)["push"]["pub"]["data"], "here");
        // Clients of HTTP/1.1 are served on the same port.
        assert_eq!(http::post(server.address(), "/api/info", &[("X-API-Key", API_KEY)], b"{}").status, 200);
    }
}

/// T07
#[test]
fn websocket_runs_on_a_stream() {
    for shards in [1, 4] {
        let (server, mut peer) = start(shards, 1 << 20);
        let stream = peer.websocket("/connection/websocket");
        peer.send_text(stream, CONNECT);
        assert!(peer.text(stream)["connect"]["client"].is_string());
        peer.send_text(stream, r#"{"id":2,"subscribe":{"channel":"quiet:ws"}}"#);
        assert_eq!(peer.text(stream), json!({"id": 2, "subscribe": {}}));
        server.publish("quiet:ws", json!(7));
        assert_eq!(peer.text(stream)["push"]["pub"]["data"], 7);
        assert_eq!(peer.status(stream), 200);
        let events = subscribed(&mut peer, "quiet:ws");
        server.publish("quiet:ws", json!(8));
        assert_eq!(peer.text(stream)["push"]["pub"]["data"], 8);
        assert_eq!(peer.message(events)["push"]["pub"]["data"], 8);
    }
}

/// T13
#[test]
fn stalled_stream_is_closed_and_its_neighbours_go_on() {
    let (server, mut peer) = start(1, 200_000);
    let reader = subscribed(&mut peer, "quiet:slow");
    let stalled = subscribed(&mut peer, "quiet:slow");
    peer.stall(stalled);
    let big = json!("x".repeat(50_000));
    for _ in 0..100 {
        server.publish("quiet:slow", big.clone());
        assert_eq!(peer.message(reader)["push"]["pub"]["data"], big);
    }
    let started = Instant::now();
    while clients(&server) != 1 {
        assert!(started.elapsed() < PATIENCE, "the stalled client is still there");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(peer.is_reset(stalled));
    server.publish("quiet:slow", json!("after"));
    assert_eq!(peer.message(reader)["push"]["pub"]["data"], "after");
}

fn clients(server: &Server) -> Value {
    server.api("info", &json!({}))["result"]["nodes"][0]["num_clients"].clone()
}

/// Sends the same bytes on connections of their own, each of which must be told to calm down.
#[track_caller]
fn check_flood(flood: impl Fn(&mut Peer) -> Vec<u8>) {
    const GROWTH_BYTES_MAX: usize = 48 << 20;
    let (server, mut bystander) = start(1, 1 << 20);
    let events = subscribed(&mut bystander, "quiet:flood");
    let before = server.peak_bytes();
    for _ in 0..20 {
        let mut peer = Peer::connect(server.address());
        let bytes = flood(&mut peer);
        peer.send(&bytes);
        assert_eq!(peer.goodbye(), Some(CALM));
    }
    let growth = server.peak_bytes() - before;
    assert!(growth < GROWTH_BYTES_MAX, "the server grew by {growth} bytes");
    server.publish("quiet:flood", json!(1));
    assert_eq!(bystander.message(events)["push"]["pub"]["data"], 1);
}

/// T13
#[test]
fn floods_of_what_costs_the_sender_nothing_end_their_connection() {
    check_flood(|_| frame(PING, 0, 0, &[0; 8]).repeat(5000));
    check_flood(|_| frame(SETTINGS, 0, 0, &[]).repeat(5000));
    check_flood(|peer| {
        let reset = |_| {
            let (stream, mut request) = peer.request("POST", "/connection/sse", &[]);
            request.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            request
        };
        (0..5000).flat_map(reset).collect()
    });
}

/// T13
#[test]
fn connection_without_its_preface_is_cut() {
    let (server, _) = start(1, 1 << 20);
    let begins = [&b"PRI * HTTP/2.0\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    let mut peers = begins.map(|begin| (begin, Peer::silent(dial(server.address()))));
    for (begin, peer) in &mut peers {
        peer.send(begin);
    }
    for (begin, peer) in &mut peers {
        assert_eq!(peer.rest_until_end(), Ok(()), "{}", String::from_utf8_lossy(begin));
    }
}
