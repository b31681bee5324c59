//! Requests over HTTP/3 from outside: every endpoint, those who stall, and those who flood.

pub mod peer;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use quinn::ConnectionError;
use rustix::process::Signal;
use rustls::version::TLS13;
use serde_json::{Value, json};

use crate::proxies::clients::{ask_with_headers, heard_header};
use crate::proxies::script::Script;
use crate::server::{API_KEY, PATIENCE, Server, config, free_port};
use crate::tls::authority::{Authority, dial, exchange};
use crate::transports;
use crate::webtransport::Certificate;
use peer::{Call, End, Peer, frame, head};

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;

/// Codes of HTTP/3. Source: RFC 9114 §8.1.
const EXCESSIVE_LOAD: u64 = 0x107;
const REQUEST_REJECTED: u64 = 0x10b;
const MESSAGE_ERROR: u64 = 0x10e;
const FRAME_UNEXPECTED: u64 = 0x105;

/// A server whose only port has TLS and HTTP/3, with all that can be served there.
struct Site {
    server: Server,
    authority: Authority,
}

impl Site {
    fn start(shards: u16) -> Site {
        Site::start_with(shards, |_| {})
    }

    fn start_with(shards: u16, change: impl FnOnce(&mut Value)) -> Site {
        let authority = Authority::new();
        let mut config = config(free_port());
        config["http_server"]["tls"] = authority.sign().object();
        config["http_server"]["http3"] = json!({"enabled": true});
        for name in ["http_stream", "sse", "uni_http_stream", "uni_sse", "init", "sockjs", "prometheus"] {
            config[name] = json!({"enabled": true});
        }
        change(&mut config);
        let server = Server::spawn(shards, &config);
        server.wait_for_log(PATIENCE, |log| log.contains("\"ready\"").then_some(()));
        Site { server, authority }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    #[track_caller]
    fn connect(&self) -> Peer {
        Peer::connect(self.address(), &self.authority)
    }
}

/// A stream that has connected and subscribed.
#[track_caller]
fn subscribed(peer: &mut Peer, path: &str, channel: &str) -> Call {
    let body = format!("{CONNECT}\n{}", json!({"id": 2, "subscribe": {"channel": channel}}));
    let mut stream = peer.post(path, &body);
    assert_eq!(peer.status(&mut stream), 200);
    assert_eq!(peer.message(&mut stream)["id"], 1);
    assert_eq!(peer.message(&mut stream), json!({"id": 2, "subscribe": {}}));
    stream
}

fn clients(peer: &mut Peer) -> u64 {
    peer.api("info", &json!({}))["result"]["nodes"][0]["num_clients"].as_u64().expect("a number")
}

#[track_caller]
fn wait_for_clients(peer: &mut Peer, wanted: u64) {
    let started = Instant::now();
    while clients(peer) != wanted {
        assert!(started.elapsed() < PATIENCE, "not {wanted} clients");
        thread::sleep(Duration::from_millis(20));
    }
}

/// T12
#[test]
fn streams_and_emulated_commands_share_one_connection() {
    for shards in [1, 4] {
        let site = Site::start(shards);
        let mut peer = site.connect();
        let paths = ["/connection/http_stream", "/connection/sse"];
        let mut streams = Vec::new();
        for number in 0..30 {
            let mut stream = peer.post(paths[number % 2], CONNECT);
            let reply = peer.message(&mut stream);
            let commands = json!({"id": 2, "subscribe": {"channel": "quiet:all"}}).to_string();
            let (session, node) = (&reply["connect"]["session"], &reply["connect"]["node"]);
            let request = json!({"session": session, "node": node, "data": commands}).to_string();
            let mut emulation = peer.post("/emulation", &request);
            assert_eq!(peer.status(&mut emulation), 204);
            assert_eq!(peer.message(&mut stream), json!({"id": 2, "subscribe": {}}));
            streams.push(stream);
        }
        for number in 0..20 {
            peer.publish("quiet:all", json!(number));
        }
        for stream in &mut streams {
            for number in 0..20 {
                assert_eq!(peer.message(stream)["push"]["pub"]["data"], number);
            }
        }
        assert_eq!(clients(&mut peer), 30);
        let kind = peer.header(&mut streams[1], "content-type");
        assert_eq!(kind.as_deref(), Some("text/event-stream; charset=utf-8"));
    }
}

/// T12
#[test]
fn unidirectional_streams_are_served() {
    for shards in [1, 4] {
        let site = Site::start(shards);
        let mut peer = site.connect();
        let subs = r#"{"subs":{"quiet:uni":{}}}"#;
        let query = subs.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        let mut streams = [
            peer.post("/connection/uni_http_stream", subs),
            peer.post("/connection/uni_sse", subs),
            peer.request("GET", &format!("/connection/uni_sse?cf_connect={query}"), &[], b""),
        ];
        for stream in &mut streams {
            let connect = peer.message(stream);
            assert!(connect["connect"]["client"].is_string(), "{connect}");
            assert!(connect["connect"]["subs"]["quiet:uni"].is_object(), "{connect}");
        }
        peer.publish("quiet:uni", json!("here"));
        for stream in &mut streams {
            assert_eq!(peer.message(stream)["pub"]["data"], "here");
        }
    }
}

/// T12
#[test]
fn event_stream_of_the_query_and_protobuf_are_served() {
    let site = Site::start(2);
    let mut peer = site.connect();
    let query = CONNECT.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
    let mut events = peer.request("GET", &format!("/connection/sse?cf_connect={query}"), &[], b"");
    assert!(peer.message(&mut events)["connect"]["client"].is_string());
    let connect = [3, 8, 1, 34, 0];
    let binary = [("content-type", "application/octet-stream")];
    let mut stream = peer.request("POST", "/connection/http_stream", &binary, &connect[..3]);
    assert_eq!(peer.status(&mut stream), 200);
    assert_eq!(peer.header(&mut stream, "content-type").as_deref(), Some("application/octet-stream"));
}

/// T12
#[test]
fn health_pages_and_api_are_served() {
    let site = Site::start(4);
    let mut peer = site.connect();
    let mut health = peer.request("GET", "/health", &[], b"");
    assert_eq!((peer.status(&mut health), peer.body(&mut health)), (200, b"{}".to_vec()));
    let mut metrics = peer.request("GET", "/metrics", &[], b"");
    assert_eq!(peer.status(&mut metrics), 200);
    assert!(peer.body(&mut metrics).starts_with(b"# HELP"));
    let mut only_head = peer.request("HEAD", "/metrics", &[], b"");
    assert_eq!(peer.status(&mut only_head), 200);
    assert_eq!(peer.body(&mut only_head), b"");
    peer.publish("chat:a", json!("x".repeat(300_000)));
    let history = peer.api("history", &json!({"channel": "chat:a", "limit": 10}));
    let data = history["result"]["publications"][0]["data"].as_str().expect("a text");
    assert_eq!(data.len(), 300_000);
    let mut refused = peer.post("/api/info", "{}");
    assert_eq!(peer.status(&mut refused), 401);
}

/// T12
#[test]
fn sockjs_is_served() {
    for shards in [1, 4] {
        let site = Site::start(shards);
        let mut peer = site.connect();
        let base = "/connection/sockjs/000/session-of-h3";
        let mut opened = peer.post(&format!("{base}/xhr"), "");
        assert_eq!(peer.body(&mut opened), b"o\n");
        let message = json!([CONNECT]).to_string();
        let mut sent = peer.post(&format!("{base}/xhr_send"), &message);
        assert_eq!(peer.status(&mut sent), 204);
        let mut polled = peer.post(&format!("{base}/xhr"), "");
        let frame = String::from_utf8(peer.body(&mut polled)).expect("text");
        assert!(frame.starts_with("a[") && frame.contains("connect"), "{frame}");

        let mut events = peer.request("GET", "/connection/sockjs/000/events-of-h3/eventsource", &[], b"");
        assert_eq!(peer.status(&mut events), 200);
        let subscribe = json!({"id": 2, "subscribe": {"channel": "quiet:s"}}).to_string();
        let messages = json!([CONNECT, subscribe]).to_string();
        let mut sent = peer.post("/connection/sockjs/000/events-of-h3/xhr_send", &messages);
        assert_eq!(peer.status(&mut sent), 204);
        for number in 0..3 {
            peer.publish("quiet:s", json!(format!("number {number}")));
        }
        let mut text = String::new();
        while !text.contains("number 2") {
            text.push_str(&peer.some(&mut events));
        }
        assert!(text.contains("data: o\r\n"), "{text}");
    }
}

/// T12
#[test]
fn requests_are_refused_as_over_other_versions() {
    let site = Site::start_with(1, |config| {
        config["http_stream"]["max_request_body_size"] = json!(1000);
        config["uni_sse"]["connect_code_to_http_response"] =
            json!({"enabled": true, "transforms": [{"code": 3500, "to": {"status_code": 418, "body": "no"}}]});
    });
    let mut peer = site.connect();
    let long = "x".repeat(1001);
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let foreign: Headers = &[("origin", "http://evil.example")];
    let own: Headers = &[("origin", "http://127.0.0.1:1")];
    let cases: [(&str, &str, Headers, &str, u16); 13] = [
        ("GET", "/nothing", &[], "", 404),
        ("GET", "/connection/http_stream", &[], "", 405),
        ("GET", "/connection/http_stream", foreign, "", 405),
        ("POST", "/connection/http_stream", foreign, CONNECT, 403),
        ("POST", "/connection/sse", foreign, CONNECT, 403),
        ("POST", "/emulation", foreign, "{}", 403),
        ("POST", "/emulation", &[], "nonsense", 400),
        ("POST", "/connection/http_stream", &[], &long, 413),
        ("OPTIONS", "/connection/http_stream", own, "", 204),
        ("GET", "//health", &[], "", 307),
        ("GET", "/connection/websocket", &[], "", 400),
        ("CONNECT", "/connection/websocket", &[(":protocol", "websocket")], "", 501),
        ("POST", "/connection/uni_sse", &[], r#"{"token":"bad"}"#, 418),
    ];
    for (method, path, headers, body, want) in cases {
        let mut call = peer.request(method, path, headers, body.as_bytes());
        assert_eq!(peer.status(&mut call), want, "{method} {path} {headers:?}");
        assert_eq!(peer.header(&mut call, "alt-svc"), None, "{path}");
    }
    // Before its body has come.
    let mut long = peer.begin(&head("POST", "/connection/http_stream", &[("content-length", "9999999")]));
    assert_eq!(peer.status(&mut long), 413);
    let mut preflight = peer.request("OPTIONS", "/emulation", own, b"");
    let allowed = peer.header(&mut preflight, "access-control-allow-origin");
    assert_eq!(allowed.as_deref(), Some("http://127.0.0.1:1"));
    let mut greeted = peer.request("POST", "/connection/http_stream", own, CONNECT.as_bytes());
    let allowed = peer.header(&mut greeted, "access-control-allow-origin");
    assert_eq!(allowed.as_deref(), Some("http://127.0.0.1:1"));
}

/// T12
#[test]
fn responses_of_the_port_say_where_http3_is() {
    let site = Site::start(1);
    let config = site.authority.client(&[&TLS13], None);
    let want = format!("Alt-Svc: h3=\":{}\"; ma=2592000\r\n", site.address().port());
    for request in [
        "GET /health HTTP/1.1|Host: h|Connection: close||".to_owned(),
        "GET /metrics HTTP/1.1|Host: h|Connection: close||".to_owned(),
        "GET /nothing HTTP/1.1|Host: h|Connection: close||".to_owned(),
        format!("POST /api/info HTTP/1.1|Host: h|X-API-Key: {API_KEY}|Content-Length: 2|Connection: close||{{}}"),
        "POST /emulation HTTP/1.1|Host: h|Content-Length: 2|Connection: close||{}".to_owned(),
        "POST /connection/sockjs/1/alt/xhr HTTP/1.1|Host: h|Content-Length: 0|Connection: close||".to_owned(),
        "POST /connection/http_stream HTTP/1.1|Host: h|Content-Length: 1|Connection: close||x".to_owned(),
        "POST /connection/uni_sse HTTP/1.1|Host: h|Content-Length: 14|Connection: close||{\"token\":\"bad\"}"
            .to_owned(),
    ] {
        let answer = exchange(&mut dial(site.address(), &config).expect("a handshake"), &request).expect("an answer");
        let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
        assert_eq!(format!("{head}\r\n").matches(&want).count(), 1, "{request}: {answer}");
    }
}

/// T12
#[test]
fn browser_streams_over_http3() {
    let certificate = Certificate::new();
    for shards in [1, 4] {
        let mut config = config(free_port());
        let port = config["http_server"]["port"].clone();
        config["http_server"]["internal_port"] = json!(free_port().to_string());
        config["http_server"]["tls_external"] = json!(true);
        config["http_server"]["tls"] = certificate.object();
        config["http_server"]["http3"] = json!({"enabled": true});
        config["client"]["allowed_origins"] = json!(["https://127.0.0.1:*"]);
        for name in ["http_stream", "sse", "init"] {
            config[name] = json!({"enabled": true});
        }
        let server = Server::start_with(shards, &config);
        let origin = format!("127.0.0.1:{port}");
        let transport = |name: &str| {
            json!({
                "name": name, "transport": name, "endpoint": format!("https://{origin}/connection/{name}"),
                "emulation": format!("https://{origin}/emulation"), "protocol": "h3",
            })
        };
        let page = format!("https://{origin}/connection/init");
        let force = format!("--origin-to-force-quic-on={origin}");
        let trust = format!("--ignore-certificate-errors-spki-list={}", certificate.spki);
        let both = [transport("http_stream"), transport("sse")];
        transports::check_with(&[&force, &trust], &server, &page, &both, &[]);
    }
}

/// T12
#[test]
fn client_that_goes_away_is_gone_at_once() {
    for shards in [1, 4] {
        let site = Site::start(shards);
        let mut peer = site.connect();
        let mut other = site.connect();
        let mut left = subscribed(&mut other, "/connection/sse", "quiet:a");
        let _lost = subscribed(&mut other, "/connection/http_stream", "quiet:a");
        wait_for_clients(&mut peer, 2);
        other.give_up(&mut left);
        wait_for_clients(&mut peer, 1);
        other.close();
        wait_for_clients(&mut peer, 0);
    }
}

/// T12
#[test]
fn stalled_stream_is_closed_and_its_neighbours_go_on() {
    let site = Site::start_with(2, |config| config["client"]["queue_max_size"] = json!(200_000));
    let mut peer = site.connect();
    let mut reader = subscribed(&mut peer, "/connection/sse", "quiet:slow");
    let mut stalled = subscribed(&mut peer, "/connection/http_stream", "quiet:slow");
    let big = json!("x".repeat(50_000));
    for _ in 0..60 {
        peer.publish("quiet:slow", big.clone());
        assert_eq!(peer.message(&mut reader)["push"]["pub"]["data"], big);
    }
    wait_for_clients(&mut peer, 1);
    // Its last bytes have a second.
    thread::sleep(Duration::from_secs(2));
    assert!(matches!(peer.end(&mut stalled), End::Reset(_)));
    peer.publish("quiet:slow", json!("after"));
    assert_eq!(peer.message(&mut reader)["push"]["pub"]["data"], "after");
}

/// T12
#[test]
fn streams_are_told_of_the_shutdown() {
    let site = Site::start(4);
    let mut peer = site.connect();
    let mut streams: Vec<_> = (0..8).map(|_| subscribed(&mut peer, "/connection/sse", "quiet:a")).collect();
    site.server.signal(Signal::TERM);
    for stream in &mut streams {
        let push = peer.message(stream);
        assert_eq!(push["push"]["disconnect"], json!({"code": 3001, "reason": "shutdown"}), "{push}");
        assert_eq!(peer.end(stream), End::Whole);
    }
    assert_eq!(site.server.wait().status.code(), Some(0));
}

/// T12
#[test]
fn while_streams_are_drained_others_go_on_and_nobody_new_is_let_in() {
    let site = Site::start_with(1, |config| config["shutdown"] = json!({"drain": "30s"}));
    let mut peer = site.connect();
    let mut streams: Vec<_> = (0..30).map(|_| subscribed(&mut peer, "/connection/sse", "quiet:a")).collect();
    site.server.signal(Signal::TERM);
    let goodbye = json!({"code": 3001, "reason": "shutdown"});
    let mut newest = streams.pop().expect("connected");
    assert_eq!(peer.message(&mut newest)["push"]["disconnect"], goodbye);
    peer.publish("quiet:a", json!("still here"));
    assert_eq!(peer.message(&mut streams[0])["push"]["pub"]["data"], "still here");
    let refused = Peer::try_connect(site.address(), &site.authority).err();
    assert!(matches!(refused, Some(ConnectionError::ConnectionClosed(_))), "{refused:?}");
    // Others need not wait that long.
    site.server.signal(Signal::TERM);
    for stream in &mut streams {
        while peer.message(stream)["push"]["disconnect"] != goodbye {}
        assert_eq!(peer.end(stream), End::Whole);
    }
    assert_eq!(site.server.wait().status.code(), Some(0));
}

/// T12
#[test]
fn broken_requests_end_their_stream_or_the_connection() {
    let site = Site::start(1);
    let mut peer = site.connect();
    let mut long = peer.request("GET", "/health", &[("x-long", &"~".repeat(70_000))], b"");
    assert_eq!(peer.status(&mut long), 431);
    let mut short = peer.request("POST", "/emulation", &[("content-length", "3")], b"{}");
    assert_eq!(peer.end(&mut short), End::Reset(MESSAGE_ERROR));
    let mut old = peer.request("GET", "/health", &[("transfer-encoding", "chunked")], b"");
    assert_eq!(peer.end(&mut old), End::Reset(MESSAGE_ERROR));
    let mut unknown = head("POST", "/emulation", &[]);
    unknown.extend([frame(0x21, b"means nothing"), frame(0, b"{}"), frame(1, b"\0\0")].concat());
    let mut served = peer.begin(&unknown);
    peer.finish(&mut served);
    assert_eq!(peer.status(&mut served), 400);
    let _settings = peer.begin(&[head("POST", "/emulation", &[]), frame(4, b"")].concat());
    assert_eq!(peer.closed(), FRAME_UNEXPECTED);
}

/// A10
#[test]
fn wrong_keys_of_an_address_run_out_on_all_connections() {
    let site = Site::start(4);
    for number in 0..13 {
        let mut peer = site.connect();
        let mut guess = peer.request("POST", "/api/info", &[("x-api-key", "wrong")], b"{}");
        assert_eq!(peer.status(&mut guess), if number < 10 { 401 } else { 429 }, "guess {number}");
    }
    let mut peer = site.connect();
    assert_eq!(clients(&mut peer), 0, "the right key passes");
}

/// T12
#[test]
fn bodies_of_a_connection_are_bounded_together() {
    let site = Site::start_with(1, |config| config["http_api"]["body_size_limit"] = json!(100_000));
    let mut peer = site.connect();
    let key = [("x-api-key", API_KEY)];
    let mut calls: Vec<_> = (0..20).map(|_| peer.begin(&head("POST", "/api/info", &key))).collect();
    let part = frame(0, &[b' '; 80_000]);
    let mut refused = 0;
    for call in &mut calls {
        refused += usize::from(!peer.send(call, &part) || peer.is_reset(call) == Some(REQUEST_REJECTED));
    }
    assert!((1..20).contains(&refused), "{refused} refused");
    drop(calls);
    assert_eq!(clients(&mut peer), 0, "the connection is of use again");
}

/// T12
#[test]
fn flood_of_requests_that_are_given_up_ends_the_connection() {
    const GROWTH_BYTES_MAX: usize = 48 << 20;
    let site = Site::start(1);
    let mut bystander = site.connect();
    let mut events = subscribed(&mut bystander, "/connection/sse", "quiet:flood");
    let before = site.server.peak_bytes();
    for _ in 0..5 {
        let mut peer = site.connect();
        let request = head("POST", "/connection/sse", &[]);
        assert_eq!(peer.flood(&request), EXCESSIVE_LOAD);
    }
    let growth = site.server.peak_bytes() - before;
    assert!(growth < GROWTH_BYTES_MAX, "the server grew by {growth} bytes");
    bystander.publish("quiet:flood", json!(1));
    assert_eq!(bystander.message(&mut events)["push"]["pub"]["data"], 1);
    wait_for_clients(&mut bystander, 1);
}

/// X13, T12
#[test]
fn backends_hear_of_headers() {
    for script in Script::both() {
        let site = Site::start_with(2, |config| ask_with_headers(config, &script));
        let mut peer = site.connect();
        let headers = [("x-real", "real"), ("x-other", "no")];
        let mut stream = peer.request("POST", "/connection/http_stream", &headers, CONNECT.as_bytes());
        assert!(peer.message(&mut stream).get("connect").is_some());
        heard_header(&script, "http_stream");
    }
}
