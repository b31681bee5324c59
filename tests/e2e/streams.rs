//! HTTP streaming and server-sent events, both ways by the emulation endpoint or one way only, on one shard and on four.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::token;
use crate::http;
use crate::server::{PATIENCE, Server, config, free_port};
use crate::stream::Stream;

const CONNECT: &[u8] = br#"{"id":1,"connect":{}}"#;

fn streaming() -> Value {
    let mut config = config(free_port());
    for name in ["http_stream", "sse", "uni_http_stream", "uni_sse", "uni_websocket", "init"] {
        config[name] = json!({"enabled": true});
    }
    config
}

/// Connects and returns the stream with its session and node.
#[track_caller]
fn connected(address: SocketAddr, path: &str) -> (Stream, Value) {
    let mut stream = Stream::post(address, path, "", CONNECT);
    assert_eq!(stream.status, 200);
    let reply = stream.message();
    let session = json!({"session": reply["connect"]["session"], "node": reply["connect"]["node"]});
    assert!(session["session"].is_string() && session["node"].is_string(), "{reply}");
    (stream, session)
}

/// Sends commands of a session over a connection of their own.
#[track_caller]
fn emulate(address: SocketAddr, session: &Value, commands: &str) -> u16 {
    let mut request = session.clone();
    request["data"] = json!(commands);
    http::post(address, "/emulation", &[], request.to_string().as_bytes()).status
}

/// T08, T09, T10
#[test]
fn commands_reach_their_stream_whichever_shard_takes_them() {
    const CLIENTS: usize = 12;
    for shards in [1, 4] {
        let server = Server::start_with(shards, &streaming());
        let address = server.address();
        let paths = ["/connection/http_stream", "/connection/sse"];
        let mut clients: Vec<_> = (0..CLIENTS).map(|number| connected(address, paths[number % 2])).collect();
        for (_, session) in &clients {
            assert_eq!(emulate(address, session, r#"{"id":2,"subscribe":{"channel":"quiet:all"}}"#), 204);
        }
        for (stream, _) in &mut clients {
            assert_eq!(stream.message(), json!({"id": 2, "subscribe": {}}));
        }
        for number in 0..20 {
            server.publish("quiet:all", json!(number));
        }
        for (stream, _) in &mut clients {
            for number in 0..20 {
                assert_eq!(stream.message()["push"]["pub"]["data"], number);
            }
        }
    }
}

/// T08
#[test]
fn stream_recovers_what_was_missed() {
    let server = Server::start_with(4, &streaming());
    let address = server.address();
    server.publish("chat:missed", json!(1));
    let subscribe = r#"{"id":2,"subscribe":{"channel":"chat:missed"}}"#;
    let body = [CONNECT, b"\n", subscribe.as_bytes()].concat();
    let mut stream = Stream::post(address, "/connection/http_stream", "", &body);
    stream.message();
    let position = stream.message()["subscribe"].clone();
    drop(stream);
    for number in 2..5 {
        server.publish("chat:missed", json!(number));
    }
    let (offset, epoch) = (&position["offset"], &position["epoch"]);
    let again =
        json!({"id": 2, "subscribe": {"channel": "chat:missed", "recover": true, "offset": offset, "epoch": epoch}});
    let body = [CONNECT, b"\n", again.to_string().as_bytes()].concat();
    let mut stream = Stream::post(address, "/connection/sse", "", &body);
    stream.message();
    let reply = stream.message();
    let data: Vec<_> = reply["subscribe"]["publications"].as_array().expect("they are there").iter().collect();
    assert_eq!(reply["subscribe"]["recovered"], true);
    assert_eq!(data.iter().map(|publication| &publication["data"]).collect::<Vec<_>>(), [2, 3, 4]);
}

/// T14, T15, T16, S08
#[test]
fn unidirectional_streams_get_pushes_of_the_channels_they_ask_for() {
    for shards in [1, 4] {
        let server = Server::start_with(shards, &streaming());
        let address = server.address();
        server.publish("chat:uni", json!(1));
        server.publish("chat:uni", json!(2));
        let epoch = server.api("history", &json!({"channel": "chat:uni"}))["result"]["epoch"].clone();
        let hint = json!({"chat:uni": {"recover": true, "offset": 1, "epoch": epoch}});
        let connect = json!({"token": token(&json!({"sub": "ada"})), "subs": hint}).to_string();
        let query: String = connect.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let mut streams = [
            Stream::post(address, "/connection/uni_http_stream", "", connect.as_bytes()),
            Stream::post(address, "/connection/uni_sse", "", connect.as_bytes()),
            Stream::get(address, &format!("/connection/uni_sse?cf_connect={query}")),
        ];
        for stream in &mut streams {
            let push = stream.message();
            let subscription = &push["connect"]["subs"]["chat:uni"];
            assert_eq!(subscription["recovered"], true, "{push}");
            assert_eq!(subscription["publications"][0]["data"], 2, "{push}");
        }
        server.publish("chat:uni", json!(3));
        for stream in &mut streams {
            let publication = loop {
                let push = stream.message();
                if push.get("pub").is_some() {
                    break push;
                }
            };
            assert_eq!((&publication["channel"], &publication["pub"]["data"]), (&json!("chat:uni"), &json!(3)));
        }
        server.signal(Signal::TERM);
        for stream in &mut streams {
            let last = std::iter::from_fn(|| stream.next()).last();
            assert_eq!(last, Some(json!({"disconnect": {"code": 3001, "reason": "shutdown"}})));
        }
        assert!(server.wait().status.success());
    }
}

/// T22, T23
#[test]
fn refused_connect_has_the_status_or_the_code_that_was_configured() {
    let mut config = streaming();
    config["client"]["connect_code_to_unidirectional_disconnect"] =
        json!({"enabled": true, "transforms": [{"code": 109, "to": {"code": 4109, "reason": "old"}}]});
    config["uni_sse"]["connect_code_to_http_response"] = json!({
        "enabled": true, "transforms": [{"code": 109, "to": {"status_code": 419, "body": "too old"}}]
    });
    let server = Server::start_with(1, &config);
    let connect = json!({"token": token(&json!({"sub": "ada", "exp": 5}))}).to_string();
    let mut stream = Stream::post(server.address(), "/connection/uni_sse", "", connect.as_bytes());
    assert_eq!((stream.status, stream.rest().as_str()), (419, "too old"));
    let mut stream = Stream::post(server.address(), "/connection/uni_sse", "", br#"{"token":"x"}"#);
    assert_eq!((stream.status, stream.rest().as_str()), (500, "Internal Server Error"));
    let mut stream = Stream::post(server.address(), "/connection/uni_http_stream", "", connect.as_bytes());
    assert_eq!(stream.message(), json!({"disconnect": {"code": 4109, "reason": "old"}}));
    assert_eq!(stream.next(), None);
}

/// T21
#[test]
fn init_answers_whoever_asks() {
    let server = Server::start_with(1, &streaming());
    let reply = http::try_get(server.address(), "/connection/init").expect("an answer");
    assert_eq!((reply.status, reply.text().as_str()), (200, "{}"));
}

#[test]
fn request_of_another_origin_is_refused_before_a_connection_exists() {
    let mut config = streaming();
    let server = Server::start_with(1, &config);
    let refused =
        |server: &Server, path: &str| Stream::post(server.address(), path, "Origin: http://evil.example\r\n", CONNECT);
    let paths = ["http_stream", "sse", "uni_http_stream", "uni_sse"].map(|name| format!("/connection/{name}"));
    for path in &paths {
        assert_eq!(refused(&server, path).status, 403, "{path}");
    }
    assert_eq!(refused(&server, "/emulation").status, 403);
    let put = "PUT /connection/sse HTTP/1.1\r\nHost: h\r\nOrigin: http://evil.example\r\n\r\n";
    assert_eq!(Stream::request(server.address(), put.as_bytes()).status, 405);
    drop(server);

    config["client"]["http_origin_check_disabled"] = json!(true);
    config["http_server"]["port"] = json!(free_port());
    let server = Server::start_with(1, &config);
    for path in &paths {
        let stream = refused(&server, path);
        let readable = stream.head.iter().any(|line| line.starts_with("access-control-allow-origin"));
        assert_eq!((stream.status, readable), (200, false), "{path}");
    }
}

/// What is not a connect request ends a stream with its code, and a unidirectional one with its status.
#[test]
fn broken_requests_are_told_so() {
    let server = Server::start_with(1, &streaming());
    for body in [&b""[..], b"x", br#"{"id":1,"subscribe":{"channel":"c"}}"#, b"\xff"] {
        let mut stream = Stream::post(server.address(), "/connection/http_stream", "", body);
        let want = json!({"push": {"disconnect": {"code": 3501, "reason": "bad request"}}});
        assert_eq!((stream.next(), stream.next()), (Some(want), None));
    }
    for body in [&b""[..], b"x", b"[]", b"\xff"] {
        assert_eq!(Stream::post(server.address(), "/connection/uni_sse", "", body).status, 400);
    }
    let long = vec![b'x'; 70_000];
    for path in ["/connection/http_stream", "/connection/sse", "/connection/uni_sse", "/emulation"] {
        assert_eq!(Stream::post(server.address(), path, "", &long).status, 413, "{path}");
    }
    // HTTP/1.0 knows no chunks: the stream ends with its connection.
    let request = "POST /connection/http_stream HTTP/1.0\r\nContent-Length: 1\r\n\r\nx";
    let mut stream = Stream::request(server.address(), request.as_bytes());
    assert_eq!(stream.rest(), "{\"push\":{\"disconnect\":{\"code\":3501,\"reason\":\"bad request\"}}}\n");
}

/// A session is a secret: another one, an old one or one of another transport reaches nobody.
#[test]
fn session_that_is_not_right_reaches_nobody() {
    let server = Server::start_with(4, &streaming());
    let address = server.address();
    let (mut stream, session) = connected(address, "/connection/http_stream");
    let publish = r#"{"id":2,"subscribe":{"channel":"quiet:own"}}"#;
    let right = session["session"].as_str().expect("a session");
    for place in [0, 4, 9, 15, 20, 35] {
        let digit = if right.as_bytes()[place] == b'0' { "1" } else { "0" };
        let wrong =
            json!({"node": session["node"], "session": format!("{}{digit}{}", &right[..place], &right[place + 1..])});
        assert_eq!(emulate(address, &wrong, publish), 204);
    }
    let elsewhere = json!({"node": "00000000-0000-4000-8000-000000000000", "session": right});
    assert_eq!(emulate(address, &elsewhere, publish), 404);
    assert_eq!(emulate(address, &session, r#"{"id":3,"subscribe":{"channel":"quiet:own"}}"#), 204);
    assert_eq!(stream.message(), json!({"id": 3, "subscribe": {}}), "the first to reach it");
    drop(stream);
    assert_eq!(emulate(address, &session, publish), 204, "nobody is told that it is over");
}

/// The end of a client that does not read is a matter of its queue; the others get everything.
#[test]
fn slow_reader_of_a_stream_is_closed_and_disturbs_nobody() {
    let mut config = streaming();
    config["client"]["queue_max_size"] = json!(200_000);
    let server = Server::start_with(1, &config);
    let address = server.address();
    let body = [CONNECT, b"\n{\"id\":2,\"subscribe\":{\"channel\":\"quiet:slow\"}}"].concat();
    let _deaf = Stream::post(address, "/connection/http_stream", "", &body);
    let mut reader = Stream::post(address, "/connection/sse", "", &body);
    reader.message();
    reader.message();
    let big = json!("x".repeat(50_000));
    for _ in 0..400 {
        server.publish("quiet:slow", big.clone());
        assert_eq!(reader.message()["push"]["pub"]["data"], big);
    }
    let started = Instant::now();
    while server.api("info", &json!({}))["result"]["nodes"][0]["num_clients"] != 1 {
        assert!(started.elapsed() < PATIENCE, "the deaf client is still there");
        thread::sleep(Duration::from_millis(20));
    }
}
