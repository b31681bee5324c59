//! Broken, hostile and forbidden input: the protocol's own answer to the sender, and nothing at all to anybody else.

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::bystander::Bystander;
use crate::client::{Client, signed, token};
use crate::http;
use crate::server::{API_KEY, PATIENCE, SECRET, Server, config, free_port};

/// Close codes of RFC 6455, section 7.4.1. The reference takes invalid UTF-8, and drops a connection that announces a
/// length over 2^63 without a code; here both get theirs.
const PROTOCOL_ERROR: u16 = 1002;
const INVALID_PAYLOAD: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// Close codes of the protocol ("Client protocol codes" in Centrifugo's documentation).
const INVALID_TOKEN: u16 = 3500;
const BAD_REQUEST: u16 = 3501;
const STALE: u16 = 3502;
const NOT_AVAILABLE: u16 = 3508;
const SLOW: u16 = 3008;
const NO_PONG: u16 = 3012;

#[test]
fn broken_commands_close_only_their_sender() {
    let long = "x".repeat(300);
    let deep = format!(r#"{{"id":2,"publish":{{"channel":"chat:a","data":{}}}}}"#, "[".repeat(20_000));
    let cases: &[(&str, u16)] = &[
        ("", BAD_REQUEST),
        ("garbage", BAD_REQUEST),
        ("{", BAD_REQUEST),
        ("[]", BAD_REQUEST),
        ("null", BAD_REQUEST),
        ("\u{0}\u{1}\u{2}", BAD_REQUEST),
        (r#"{"id":2}"#, BAD_REQUEST),
        (r#"{"id":2,"nothing":{}}"#, BAD_REQUEST),
        (r#"{"id":2,"ping":{}}"#, BAD_REQUEST),
        (r#"{"id":-2,"presence":{"channel":"chat:a"}}"#, BAD_REQUEST),
        (r#"{"id":"2","presence":{"channel":"chat:a"}}"#, BAD_REQUEST),
        (r#"{"id":2,"subscribe":{"channel":""}}"#, BAD_REQUEST),
        (r#"{"id":2,"subscribe":{"channel":7}}"#, BAD_REQUEST),
        (r#"{"id":2,"subscribe":"chat:a"}"#, BAD_REQUEST),
        (r#"{"id":2,"subscribe":{"channel":"chat:a","delta":"other"}}"#, BAD_REQUEST),
        (r#"{"id":2,"publish":{"channel":"chat:a","data":{"a":}}}"#, BAD_REQUEST),
        (r#"{"id":2,"connect":{}}"#, BAD_REQUEST),
        (
            "{\"id\":2,\"presence\":{\"channel\":\"chat:a\"}}\n\n{\"id\":3,\"presence\":{\"channel\":\"chat:a\"}}",
            BAD_REQUEST,
        ),
        (r#"{"id":2,"send":{"data":{}}}"#, NOT_AVAILABLE),
        ("{}", BAD_REQUEST),
        (&deep, BAD_REQUEST),
        (&long, BAD_REQUEST),
    ];
    let server = Server::start(4);
    let mut bystander = Bystander::new(&server);
    for (text, code) in cases {
        let mut client = Client::connect(server.address());
        client.send(text);
        client.is_closed_with(*code, shortened(text));
        bystander.is_undisturbed(&server, shortened(text));
    }
}

#[test]
fn nothing_but_connect_is_taken_before_connect() {
    let server = Server::start(2);
    for command in ["subscribe", "publish", "presence", "history", "rpc", "refresh", "send"] {
        let mut client = Client::open(server.address());
        client.send(&json!({"id": 1, command: {"channel": "chat:a"}}).to_string());
        client.is_closed_with(BAD_REQUEST, command);
    }
}

/// R01
#[test]
fn broken_frames_close_only_their_sender() {
    let header = |opcode| FrameHeader { opcode, ..FrameHeader::default() };
    let fragment = FrameHeader { is_final: false, ..header(OpCode::Data(Data::Text)) };
    let cases: Vec<(&str, Message, u16)> = vec![
        ("a reserved bit", frame(FrameHeader { rsv1: true, ..header(OpCode::Data(Data::Text)) }, "{}"), PROTOCOL_ERROR),
        ("a reserved opcode", frame(header(OpCode::Data(Data::Reserved(3))), "{}"), PROTOCOL_ERROR),
        ("a continuation of nothing", frame(header(OpCode::Data(Data::Continue)), "{}"), PROTOCOL_ERROR),
        ("a message over the limit", Message::text("x".repeat(70_000)), TOO_BIG),
        ("a fragmented message over the limit", frame(fragment, &"x".repeat(70_000)), TOO_BIG),
        ("binary garbage", Message::binary(vec![0xff; 40]), BAD_REQUEST),
        (
            "invalid UTF-8",
            frame_of_bytes(header(OpCode::Data(Data::Text)), b"{\"id\":2,\"rpc\":{\"method\":\"\xff\"}}"),
            INVALID_PAYLOAD,
        ),
    ];
    let server = Server::start(4);
    let mut bystander = Bystander::new(&server);
    for (name, message, code) in cases {
        let mut client = Client::connect(server.address());
        client.send_message(message);
        client.is_closed_with(code, name);
        bystander.is_undisturbed(&server, name);
    }
}

#[test]
fn frames_that_no_client_may_send_close_only_their_sender() {
    let long_ping: Vec<u8> = [&[0x89, 0xfe, 0, 126, 0, 0, 0, 0][..], &[b'x'; 126]].concat();
    let cases: &[(&str, &[u8], u16)] = &[
        ("an unmasked frame", b"\x81\x02{}", PROTOCOL_ERROR),
        ("a ping over 125 bytes", &long_ping, PROTOCOL_ERROR),
        ("a fragmented ping", b"\x09\x80\x00\x00\x00\x00", PROTOCOL_ERROR),
        ("a length over 2^63", b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", PROTOCOL_ERROR),
    ];
    let server = Server::start(4);
    let mut bystander = Bystander::new(&server);
    for (name, bytes, code) in cases {
        let mut client = Client::connect(server.address());
        client.send_raw(bytes);
        client.is_closed_with(*code, name);
        bystander.is_undisturbed(&server, name);
    }
}

/// R10
#[test]
fn forbidden_commands_get_their_error_and_the_connection_lives() {
    let long = format!("chat:{}", "a".repeat(300));
    let cases: &[(&str, Value, u32)] = &[
        ("subscribe", json!({"channel": "nowhere:a"}), 102),
        ("subscribe", json!({"channel": long}), 107),
        ("subscribe", json!({"channel": "chat:\u{e9}"}), 107),
        ("subscribe", json!({"channel": "private:a"}), 103),
        ("subscribe", json!({"channel": "chat:twice"}), 105),
        ("subscribe", json!({"channel": "chat:a", "tf": {"key": "a", "cmp": "eq", "val": "b"}}), 107),
        ("publish", json!({"channel": "nowhere:a", "data": {}}), 102),
        ("publish", json!({"channel": "private:a", "data": {}}), 103),
        ("publish", json!({"channel": "quiet:a", "data": {}}), 103),
        ("presence", json!({"channel": "quiet:a"}), 108),
        ("presence_stats", json!({"channel": "nowhere:a"}), 102),
        ("history", json!({"channel": "quiet:a"}), 108),
        ("history", json!({"channel": "chat:a", "since": {"offset": 1, "epoch": "other"}, "limit": 1}), 112),
        ("history", json!({"channel": "chat:a", "since": {"offset": 0}, "limit": 1, "reverse": true}), 107),
        ("rpc", json!({"method": "nothing"}), 108),
        ("sub_refresh", json!({"channel": "chat:a", "token": "x"}), 103),
    ];
    let server = Server::start(4);
    let mut client = Client::connect(server.address());
    client.subscribe("chat:twice");
    for (command, body, code) in cases {
        let reply = client.call(command, body.clone());
        assert_eq!(reply["error"]["code"], *code, "{command} {body}: {reply}");
    }
    server.publish("chat:twice", json!({"still": "here"}));
    assert_eq!(client.publication()["data"], json!({"still": "here"}));
}

#[test]
fn wrong_connection_tokens_are_refused() {
    let claims = json!({"sub": "ada"});
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let good = token(&claims);
    let unsigned = format!("{}.", good.rsplit_once('.').expect("three parts").0);
    let cases = [
        ("garbage", "garbage".to_owned()),
        ("two dots", "..".to_owned()),
        ("signed with another secret", signed(&header, &claims, "another")),
        ("no signature", unsigned),
        ("algorithm none", signed(&json!({"alg": "none"}), &claims, SECRET)),
        ("an algorithm without a key", signed(&json!({"alg": "RS256"}), &claims, SECRET)),
        ("claims that are no object", token(&json!(["ada"]))),
        ("a user that is no text", token(&json!({"sub": 7}))),
        ("a very long token", "a".repeat(60_000)),
    ];
    let server = Server::start(2);
    let mut bystander = Bystander::new(&server);
    for (name, token) in cases {
        let mut client = Client::open(server.address());
        client.send(&json!({"id": 1, "connect": {"token": token}}).to_string());
        client.is_closed_with(INVALID_TOKEN, name);
        bystander.is_undisturbed(&server, name);
    }
    for (name, claims) in [("expired", json!({"exp": 1})), ("not valid yet", json!({"nbf": 4_000_000_000_u64}))] {
        let mut client = Client::open(server.address());
        let reply = client.call("connect", json!({"token": token(&claims)}));
        assert_eq!(reply["error"]["code"], 109, "{name}: {reply}");
    }
}

#[test]
fn wrong_subscription_tokens_are_refused() {
    let closing = [
        ("another channel", json!({"sub": "ada", "channel": "private:other"})),
        ("another user", json!({"sub": "bob", "channel": "private:a"})),
    ];
    let right = json!({"sub": "ada", "channel": "private:a"});
    let expired = json!({"sub": "ada", "channel": "private:a", "exp": 1});
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let answered = [
        ("garbage", "garbage".to_owned(), 103),
        ("signed with another secret", signed(&header, &right, "another"), 103),
        ("no channel", token(&json!({"sub": "ada"})), 103),
        ("expired", token(&expired), 109),
    ];
    let server = Server::start(2);
    let ada = || Client::connect_with(server.address(), json!({"token": token(&json!({"sub": "ada"}))}));
    for (name, claims) in closing {
        let mut client = ada();
        client.send(&json!({"id": 9, "subscribe": {"channel": "private:a", "token": token(&claims)}}).to_string());
        client.is_closed_with(INVALID_TOKEN, name);
    }
    let mut client = ada();
    for (name, token, code) in answered {
        let reply = client.call("subscribe", json!({"channel": "private:a", "token": token}));
        assert_eq!(reply["error"]["code"], code, "{name}: {reply}");
    }
}

/// R03
#[test]
fn clients_that_fall_silent_are_closed() {
    let mut options = config(free_port());
    options["client"]["stale_close_delay"] = json!("1s");
    options["client"]["ping_interval"] = json!("2s");
    options["client"]["pong_timeout"] = json!("1s");
    let server = Server::start_with(2, &options);
    let mut silent = Client::open(server.address());
    let mut deaf = Client::connect(server.address());
    deaf.answers_pings = false;
    silent.is_closed_with(STALE, "silence");
    deaf.is_closed_with(NO_PONG, "a ping");
}

/// R19
#[test]
fn a_client_that_does_not_read_is_closed_and_nobody_waits_for_it() {
    let mut options = config(free_port());
    options["client"]["queue_max_size"] = json!(100_000);
    let server = Server::start_with(2, &options);
    let mut bystander = Bystander::new(&server);
    let mut slow = Client::connect(server.address());
    slow.subscribe("chat:flood");
    let data = json!("x".repeat(60_000));
    // The buffers of both sockets fill first, then the queue; once the server gives the client up, it has left the channel.
    let mut published = 0;
    while server.api("presence_stats", &json!({"channel": "chat:flood"}))["result"]["num_clients"] == 1 {
        assert!(published < 2000, "not closed after {published} publications");
        for _ in 0..10 {
            server.publish("chat:flood", data.clone());
        }
        published += 10;
    }
    slow.is_closed_with(SLOW, "a flood");
    bystander.is_undisturbed(&server, "a flood");
}

/// A01, A10
#[test]
fn broken_api_requests_get_their_error() {
    let key = format!("X-API-Key: {API_KEY}\r\n");
    let cases: &[(&str, String, u16)] = &[
        ("no key", post("publish", "", "{}"), 401),
        ("a wrong key", post("publish", "X-API-Key: other\r\n", "{}"), 401),
        ("a wrong scheme", post("publish", &format!("Authorization: bearer {API_KEY}\r\n"), "{}"), 401),
        ("no JSON", post("publish", &key, "garbage"), 400),
        ("an empty body", post("publish", &key, ""), 400),
        ("a list", post("publish", &key, r#"["chat:a",{}]"#), 400),
        ("half an object", post("publish", &key, r#"{"channel":"chat:a""#), 400),
        ("a channel that is no text", post("publish", &key, r#"{"channel":7,"data":{}}"#), 400),
        ("an unknown method", post("nothing", &key, "{}"), 404),
        ("GET", "GET /api/publish HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(), 405),
        ("an unknown path", "GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(), 404),
        ("no upgrade", "GET /connection/websocket HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(), 400),
        ("a foreign origin", upgrade("Origin: http://evil.example\r\n"), 403),
        ("no HTTP", "garbage\r\n\r\n".to_owned(), 400),
        ("no version", "GET /health\r\n\r\n".to_owned(), 400),
        ("two lengths", post("publish", &format!("{key}Content-Length: 1\r\n"), "{}"), 400),
        (
            "a length that is no number",
            "POST /api/publish HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".to_owned(),
            400,
        ),
    ];
    let server = Server::start(4);
    let mut bystander = Bystander::new(&server);
    for (name, request, status) in cases {
        let reply = http::raw(server.address(), request.as_bytes());
        assert_eq!(reply.map(|reply| reply.status), Some(*status), "{name}");
        bystander.is_undisturbed(&server, name);
    }
}

/// A10. The reference answers each of them alike, as here with `wrong_key_limit` -1: a 0 in a file stands for the default.
#[test]
fn wrong_keys_run_out_and_the_right_one_passes() {
    let server = Server::start(4);
    let mut bystander = Bystander::new(&server);
    let guess = |server: &Server| http::post(server.address(), "/api/info", &[("X-API-Key", "other")], b"{}").status;
    for number in 0..13 {
        assert_eq!(guess(&server), if number < 10 { 401 } else { 429 }, "guess {number}");
    }
    bystander.is_undisturbed(&server, "wrong keys");
    server.wait_for_log(PATIENCE, |log| log.contains("too many wrong API keys").then_some(()));

    let mut options = config(free_port());
    options["http_api"]["wrong_key_limit"] = json!(-1);
    let unlimited = Server::start_with(1, &options);
    assert!((0..13).all(|_| guess(&unlimited) == 401));
}

#[test]
fn a_body_that_cannot_be_read_is_refused() {
    let server = Server::start(2);
    let mut bystander = Bystander::new(&server);
    let head = format!("POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {API_KEY}\r\n");
    for chunk in ["zz\r\n", "-1\r\n", "fffffffffffffffff\r\n", "2\r\n{}zz"] {
        let request = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}");
        let status = http::raw(server.address(), request.as_bytes()).map(|reply| reply.status);
        // The reference calls it its own error.
        assert!(matches!(status, Some(400 | 500)), "{chunk:?}: {status:?}");
        bystander.is_undisturbed(&server, chunk);
    }
}

#[test]
fn a_body_over_the_limit_is_refused() {
    const LIMIT: usize = 1000;
    let mut options = config(free_port());
    options["http_api"]["body_size_limit"] = json!(LIMIT);
    let server = Server::start_with(2, &options);
    let mut bystander = Bystander::new(&server);
    let key = format!("X-API-Key: {API_KEY}\r\n");
    let body = format!(r#"{{"channel":"chat:a","data":"{}"}}"#, "x".repeat(LIMIT));
    let chunked = format!(
        "POST /api/publish HTTP/1.1\r\nHost: a\r\n{key}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for request in [post("publish", &key, &body), chunked] {
        let reply = http::raw(server.address(), request.as_bytes());
        assert_eq!(reply.map(|reply| reply.status), Some(413), "{}", shortened(&request));
        bystander.is_undisturbed(&server, "a body over the limit");
    }
}

#[test]
fn a_header_without_end_is_refused() {
    let server = Server::start(2);
    let mut bystander = Bystander::new(&server);
    let request = format!("GET /health HTTP/1.1\r\nHost: a\r\nX-Long: {}", "x".repeat(4 << 20));
    let reply = http::raw(server.address(), request.as_bytes());
    assert_eq!(reply.map(|reply| reply.status), Some(431));
    bystander.is_undisturbed(&server, "a header without end");
}

/// A05, A07
#[test]
fn api_methods_name_what_is_wrong() {
    let cases: &[(&str, Value, u32)] = &[
        ("publish", json!({"data": {}}), 107),
        ("publish", json!({"channel": "chat:a"}), 107),
        ("publish", json!({"channel": "nowhere:a", "data": {}}), 102),
        ("publish", json!({"channel": "chat:a", "b64data": "***"}), 107),
        ("broadcast", json!({"channels": [], "data": {}}), 107),
        ("subscribe", json!({"user": "ada"}), 107),
        ("presence", json!({}), 107),
        ("presence", json!({"channel": "quiet:a"}), 108),
        ("presence_stats", json!({"channel": "nowhere:a"}), 102),
        ("history", json!({"channel": "quiet:a"}), 108),
        ("history", json!({"channel": "chat:a", "since": {"offset": 1, "epoch": "other"}, "limit": 1}), 112),
        ("history_remove", json!({"channel": "quiet:a"}), 108),
    ];
    let server = Server::start(4);
    for (method, body, code) in cases {
        let reply = server.api(method, body);
        assert_eq!(reply["error"]["code"], *code, "{method} {body}: {reply}");
    }
}

#[test]
fn half_requests_publish_nothing_and_block_nobody() {
    use std::io::Write;
    let server = Server::start(1);
    let mut bystander = Bystander::new(&server);
    let whole = post("publish", &format!("X-API-Key: {API_KEY}\r\n"), r#"{"channel":"chat:half","data":{}}"#);
    let halves: Vec<_> = (1..whole.len())
        .step_by(7)
        .map(|length| {
            let mut stream = std::net::TcpStream::connect(server.address()).expect("the server listens");
            stream.write_all(&whole.as_bytes()[..length]).expect("the server reads");
            stream
        })
        .collect();
    bystander.is_undisturbed(&server, "half requests, open");
    drop(halves);
    bystander.is_undisturbed(&server, "half requests, closed");
    let history = server.api("history", &json!({"channel": "chat:half", "limit": -1}));
    assert_eq!(history["result"]["publications"], json!([]), "{history}");
}

fn post(method: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /api/{method} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn upgrade(headers: &str) -> String {
    format!(
        "GET /connection/websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

fn frame(header: FrameHeader, text: &str) -> Message {
    frame_of_bytes(header, text.as_bytes())
}

fn frame_of_bytes(header: FrameHeader, payload: &[u8]) -> Message {
    Message::Frame(Frame::from_payload(header, payload.to_vec().into()))
}

/// The start of a long input, enough to know it.
fn shortened(text: &str) -> &str {
    text.get(..80).unwrap_or(text)
}
