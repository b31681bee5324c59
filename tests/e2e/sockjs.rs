//! SockJS from outside: each of its endpoints, sessions whose requests reach any shard, and the official client over each of its
//! transports. Source of what is wanted: the public protocol 0.3.3, protocol §16.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Client, token};
use crate::sdk::{check_sockjs, node_folder};
use crate::server::{PATIENCE, Server, config, free_port};
use crate::stream::Stream;
use crate::transports;

const PREFIX: &str = "/connection/sockjs";

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;

fn with_sockjs() -> Value {
    let mut config = config(free_port());
    config["sockjs"] = json!({"enabled": true});
    config
}

/// A session of its own name. Every request of it is a connection of its own, so that all shards get some.
struct Session {
    address: SocketAddr,
    path: String,
}

impl Session {
    fn new(address: SocketAddr) -> Session {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Session { address, path: format!("{PREFIX}/000/s{}", NEXT.fetch_add(1, Ordering::Relaxed)) }
    }

    /// Opened by polling, connected, and subscribed to a channel.
    #[track_caller]
    fn subscribed(address: SocketAddr, channel: &str) -> Session {
        let session = Session::new(address);
        assert_eq!(session.poll(), "o");
        session.subscribe(channel);
        let replies = session.poll_until(2);
        assert!(replies[1].get("subscribe").is_some(), "{replies:?}");
        session
    }

    #[track_caller]
    fn subscribe(&self, channel: &str) {
        let subscribe = json!({"id": 2, "subscribe": {"channel": channel}}).to_string();
        assert_eq!(self.send(&[CONNECT, &subscribe]), 204);
    }

    #[track_caller]
    fn post(&self, call: &str, body: &[u8]) -> Stream {
        Stream::post(self.address, &format!("{}/{call}", self.path), "", body)
    }

    #[track_caller]
    fn get(&self, call: &str) -> Stream {
        Stream::get(self.address, &format!("{}/{call}", self.path))
    }

    /// The next frame.
    #[track_caller]
    fn poll(&self) -> String {
        let mut response = self.post("xhr", b"");
        assert_eq!(response.status, 200);
        let content = response.content();
        content.strip_suffix('\n').expect("a frame ends its line").to_owned()
    }

    /// Messages of the next frames until there are so many.
    #[track_caller]
    fn poll_until(&self, count: usize) -> Vec<Value> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(messages(&self.poll()));
        }
        all
    }

    #[track_caller]
    fn send(&self, messages: &[&str]) -> u16 {
        self.post("xhr_send", json!(messages).to_string().as_bytes()).status
    }

    /// Waits until the session is not there any more.
    #[track_caller]
    fn is_forgotten(&self) {
        let started = Instant::now();
        while self.send(&[]) != 404 {
            assert!(started.elapsed() < PATIENCE, "the session is still there");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The messages in a frame, without pings.
#[track_caller]
fn messages(frame: &str) -> Vec<Value> {
    if frame == "h" {
        return Vec::new();
    }
    let array = frame.strip_prefix('a').unwrap_or_else(|| panic!("not messages: {frame}"));
    let texts: Vec<String> = serde_json::from_str(array).unwrap_or_else(|error| panic!("{error}: {frame}"));
    let values = texts.iter().map(|text| serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")));
    values.filter(|value| *value != json!({})).collect()
}

/// Data of the publications among messages.
fn data(messages: &[Value]) -> Vec<Value> {
    messages.iter().filter_map(|message| message["push"]["pub"].get("data").cloned()).collect()
}

/// T18
#[test]
fn greeting_info_and_iframe_answer_without_a_session() {
    let server = Server::start_with(1, &with_sockjs());
    let get = |path: &str| Stream::get(server.address(), &format!("{PREFIX}{path}"));
    for path in ["", "/"] {
        let mut greeting = get(path);
        assert_eq!((greeting.status, greeting.content().as_str()), (200, "Welcome to SockJS!\n"));
    }
    let mut info = get("/info");
    let info: Value = serde_json::from_str(&info.content()).expect("JSON");
    assert_eq!((&info["websocket"], &info["origins"]), (&json!(true), &json!(["*:*"])));
    assert!(info["entropy"].is_u64());
    for path in ["/iframe.html", "/iframe-0.1.2.html"] {
        let mut page = get(path);
        assert!(page.content().contains(r#"<script src="https://cdn.jsdelivr.net/npm/sockjs-client@1/"#));
        let etag = page.head.iter().find_map(|line| line.strip_prefix("etag: ")).expect("a tag").to_owned();
        let again = format!("GET {PREFIX}{path} HTTP/1.1\r\nHost: h\r\nIf-None-Match: {etag}\r\n\r\n");
        assert_eq!(Stream::request(server.address(), again.as_bytes()).status, 304);
    }
    for path in ["/IFRAME.html", "/a/b", "/a/b/c", "/a.b/c/xhr", "/a/b/xhr/"] {
        assert_eq!(get(path).status, 404, "{path}");
    }
}

#[test]
fn nothing_is_there_unless_it_is_enabled() {
    let server = Server::start(1);
    assert_eq!(Stream::get(server.address(), &format!("{PREFIX}/info")).status, 404);
}

/// T18
#[test]
fn websocket_carries_frames() {
    let mut config = with_sockjs();
    config["sockjs"]["heartbeat_delay"] = json!("1s");
    for shards in [1, 4] {
        config["http_server"]["port"] = json!(free_port());
        let server = Server::start_with(shards, &config);
        let mut client = Client::open_at(server.address(), &format!("{PREFIX}/000/abc/websocket"));
        assert_eq!(client.frame(), "o");
        client.send("");
        client.send("[]");
        client.send(&json!([CONNECT, r#"{"id":2,"subscribe":{"channel":"quiet:ws"}}"#]).to_string());
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(messages(&client.frame()));
        }
        server.publish("quiet:ws", json!("\u{2028}\"é"));
        let frame = client.frame();
        assert!(frame.contains(r"\u2028"), "{frame}");
        assert_eq!(data(&messages(&frame)), [json!("\u{2028}\"é")]);
        while client.frame() != "h" {}
        server.signal(Signal::TERM);
        while client.frame() != r#"c[3001,"shutdown"]"# {}
        client.is_closed_with(3001, "its frame");
    }
}

/// T18
#[test]
fn broken_frame_closes_its_websocket() {
    let server = Server::start_with(1, &with_sockjs());
    for broken in [r#"["a"#, "{}", "[1]", "x"] {
        let mut client = Client::open_at(server.address(), &format!("{PREFIX}/000/abc/websocket"));
        assert_eq!(client.frame(), "o");
        client.send(broken);
        assert_eq!(client.frame(), r#"c[3501,"bad request"]"#, "{broken}");
        client.is_closed_with(3501, broken);
    }
}

/// T18
#[test]
fn raw_websocket_carries_plain_messages() {
    let server = Server::start_with(4, &with_sockjs());
    let mut client = Client::open_at(server.address(), &format!("{PREFIX}/websocket"));
    let reply = client.call("connect", json!({}));
    assert!(reply["connect"]["client"].is_string(), "{reply}");
    client.subscribe("quiet:raw");
    server.publish("quiet:raw", json!(1));
    assert_eq!(client.publication()["data"], 1);
}

/// T19
#[test]
fn polls_and_sends_reach_their_session_whichever_shard_takes_them() {
    const PUBLICATIONS: usize = 40;
    for shards in [1, 4] {
        let server = Server::start_with(shards, &with_sockjs());
        let sessions: Vec<_> = (0..12).map(|_| Session::subscribed(server.address(), "quiet:poll")).collect();
        for number in 0..PUBLICATIONS {
            server.publish("quiet:poll", json!(number));
        }
        for session in &sessions {
            let numbers = data(&session.poll_until(PUBLICATIONS));
            assert_eq!(numbers, (0..PUBLICATIONS).map(Value::from).collect::<Vec<_>>());
        }
    }
}

/// T19
#[test]
fn stream_ends_at_its_limit_and_the_next_one_goes_on() {
    const PUBLICATIONS: usize = 30;
    for shards in [1, 4] {
        let server = Server::start_with(shards, &with_sockjs());
        let session = Session::new(server.address());
        let mut stream = session.post("xhr_streaming", b"");
        assert_eq!(stream.line(), Some("h".repeat(2048)));
        assert_eq!(stream.line().as_deref(), Some("o"));
        session.subscribe("quiet:stream");
        let big = "x".repeat(10_000);
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(messages(&stream.line().expect("replies")));
        }
        for number in 0..PUBLICATIONS {
            server.publish("quiet:stream", json!([number, big]));
        }
        let (mut numbers, mut streams, mut bytes) = (Vec::new(), 1, 0);
        while numbers.len() < PUBLICATIONS {
            match stream.line() {
                Some(line) => {
                    bytes += line.len();
                    numbers.extend(data(&messages(&line)).into_iter().map(|data| data[0].clone()));
                }
                None => {
                    assert!(bytes > 100_000, "ended after {bytes}");
                    (streams, bytes) = (streams + 1, 0);
                    stream = session.post("xhr_streaming", b"");
                    assert_eq!(stream.line(), Some("h".repeat(2048)));
                }
            }
        }
        assert_eq!(numbers, (0..PUBLICATIONS).map(Value::from).collect::<Vec<_>>());
        assert_eq!(streams, 3);
        server.signal(Signal::TERM);
        let last = std::iter::from_fn(|| stream.line()).last();
        assert_eq!(last.as_deref(), Some(r#"c[3001,"shutdown"]"#));
        assert!(server.wait().status.success());
    }
}

/// T20
#[test]
fn event_source_and_html_file_carry_frames() {
    for shards in [1, 4] {
        let server = Server::start_with(shards, &with_sockjs());
        let session = Session::new(server.address());
        let mut events = session.get("eventsource");
        assert!(events.head.iter().any(|line| line == "content-type: text/event-stream; charset=utf-8"));
        assert_eq!(events.chunk().as_deref(), Some(&b"\r\ndata: o\r\n\r\n"[..]));
        session.subscribe("quiet:events");
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let line = events.line().expect("replies");
            seen.extend(line.strip_prefix("data: ").map(messages).unwrap_or_default());
        }
        server.publish("quiet:events", json!("100%"));
        let line = std::iter::from_fn(|| events.line()).find(|line| line.contains("pub")).expect("a publication");
        assert!(line.contains("100%25"), "{line}");

        let session = Session::new(server.address());
        let mut page = session.get("htmlfile?c=_jp.call");
        let prelude = String::from_utf8(page.chunk().expect("a prelude")).expect("text");
        assert!(prelude.len() > 1024 && prelude.contains("parent._jp.call;"), "{prelude}");
        assert!(prelude.ends_with("\r\n\r\n<script>\np(\"o\");\n</script>\r\n"), "{prelude}");
        session.subscribe("quiet:page");
        let line = std::iter::from_fn(|| page.line()).find(|line| line.contains("connect")).expect("a reply");
        assert!(line.starts_with(r#"p("a[\"{\\\"id\\\":1"#), "{line}");
    }
}

/// T20
#[test]
fn scripts_and_forms_carry_frames() {
    for shards in [1, 4] {
        let server = Server::start_with(shards, &with_sockjs());
        let session = Session::new(server.address());
        let mut script = session.get("jsonp?c=cb");
        assert_eq!((script.status, script.content().as_str()), (200, "cb(\"o\");\r\n"));
        let form = format!("d=%5B{}%5D", "%22%7B%5C%22id%5C%22%3A1%2C%5C%22connect%5C%22%3A%7B%7D%7D%22");
        let path = format!("{}/jsonp_send", session.path);
        let form_type = "Content-Type: application/x-www-form-urlencoded\r\n";
        let mut sent = Stream::post(server.address(), &path, form_type, form.as_bytes());
        assert_eq!((sent.status, sent.content().as_str()), (200, "ok"));
        let content = session.get("jsonp?c=cb").content();
        assert!(content.starts_with(r#"cb("a[\"{\\\"id\\\":1,\\\"connect\\\":"#), "{content}");
        let plain = json!([r#"{"id":2,"subscribe":{"channel":"quiet:a"}}"#]).to_string();
        let mut sent = Stream::post(server.address(), &path, "Content-Type: text/plain\r\n", plain.as_bytes());
        assert_eq!((sent.status, sent.content().as_str()), (200, "ok"));
        assert_eq!(
            session.get("jsonp?c=cb").content(),
            "cb(\"a[\\\"{\\\\\\\"id\\\\\\\":2,\\\\\\\"subscribe\\\\\\\":{}}\\\"]\");\r\n"
        );
        for (call, status) in [("jsonp", 500), ("jsonp?c=%20", 400), ("htmlfile", 400), ("htmlfile?c=a(", 400)] {
            assert_eq!(session.get(call).status, status, "{call}");
        }
    }
}

/// T19
#[test]
fn session_has_one_reader_and_ends_with_it() {
    for shards in [1, 4] {
        let server = Server::start_with(shards, &with_sockjs());
        let session = Session::subscribed(server.address(), "quiet:one");
        let mut first = session.post("xhr_streaming", b"");
        assert_eq!(first.line(), Some("h".repeat(2048)));
        assert_eq!(session.poll(), r#"c[2010,"Another connection still open"]"#);
        server.publish("quiet:one", json!(1));
        assert_eq!(data(&messages(&first.line().expect("it goes on"))), [json!(1)]);
        drop(first);
        let interrupted = r#"c[1002,"Connection interrupted!"]"#;
        let started = Instant::now();
        while session.poll() != interrupted {
            assert!(started.elapsed() < PATIENCE, "not interrupted");
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(session.poll(), interrupted);
        assert_eq!(session.send(&[]), 404, "its client is gone");
    }
}

/// T19
#[test]
fn poll_that_is_given_up_ends_its_session() {
    let mut config = with_sockjs();
    config["sockjs"]["heartbeat_delay"] = json!("1s");
    let server = Server::start_with(4, &config);
    let session = Session::subscribed(server.address(), "quiet:gone");
    let request = format!("POST {}/xhr HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", session.path);
    let started = Instant::now();
    loop {
        let mut poll = TcpStream::connect(server.address()).expect("the server listens");
        poll.write_all(request.as_bytes()).expect("it reads");
        thread::sleep(Duration::from_millis(200));
        drop(poll);
        match session.poll().as_str() {
            r#"c[1002,"Connection interrupted!"]"# => break,
            // It came too late to be the one that reads, or its end is not known yet.
            frame => assert!(["h", r#"c[2010,"Another connection still open"]"#].contains(&frame), "{frame}"),
        }
        assert!(started.elapsed() < PATIENCE, "not interrupted");
    }
    assert_eq!(session.send(&[]), 404);
}

/// T19
#[test]
fn session_that_nobody_reads_is_forgotten() {
    let server = Server::start_with(4, &with_sockjs());
    let sessions: Vec<_> = (0..8).map(|_| Session::subscribed(server.address(), "chat:left")).collect();
    let stats = |server: &Server| server.api("presence_stats", &json!({"channel": "chat:left"}))["result"].clone();
    assert_eq!(stats(&server)["num_clients"], 8);
    sessions.iter().for_each(Session::is_forgotten);
    assert_eq!(stats(&server)["num_clients"], 0);
    assert_eq!(sessions[0].poll(), "o", "the name is free again");
}

/// T19
#[test]
fn silent_poll_gets_a_heartbeat_and_a_disconnect_is_told_again_and_again() {
    let mut config = with_sockjs();
    config["sockjs"]["heartbeat_delay"] = json!("1s");
    let server = Server::start_with(4, &config);
    let session = Session::new(server.address());
    assert_eq!(session.poll(), "o");
    let connect = json!({"id": 1, "connect": {"token": token(&json!({"sub": "ada"}))}}).to_string();
    assert_eq!(session.send(&[&connect]), 204);
    assert!(session.poll_until(1)[0].get("connect").is_some());
    assert_eq!(session.poll(), "h");
    server.api("disconnect", &json!({"user": "ada"}));
    for _ in 0..3 {
        assert_eq!(session.poll(), r#"c[3503,"force disconnect"]"#);
    }
    assert_eq!(session.send(&[]), 404);
    session.is_forgotten();
}

#[test]
fn bad_requests_are_told_so_and_disturb_no_session() {
    for shards in [1, 4] {
        let server = Server::start_with(shards, &with_sockjs());
        let session = Session::subscribed(server.address(), "quiet:bad");
        for (body, text) in [
            (&b""[..], "Payload expected."),
            (b"x", "Broken JSON encoding."),
            (b"[\"x", "Broken JSON encoding."),
            (b"[1]", "Broken JSON encoding."),
            (b"[\"\xff\"]", "Broken JSON encoding."),
        ] {
            for call in ["xhr_send", "jsonp_send"] {
                let mut refused = session.post(call, body);
                assert_eq!((refused.status, refused.content().as_str()), (400, text), "{call} {body:?}");
            }
        }
        assert_eq!(session.post("xhr_send", &vec![b'x'; 70_000]).status, 413);
        assert_eq!(Session::new(server.address()).send(&[]), 404, "a send opens nothing");
        for (call, status) in [("xhr", 405), ("xhr_send", 405), ("xhr_streaming", 405), ("websocket", 400)] {
            assert_eq!(session.get(call).status, status, "{call}");
        }
        for call in ["eventsource", "htmlfile", "jsonp"] {
            assert_eq!(session.post(call, b"").status, 405, "{call}");
        }
        server.publish("quiet:bad", json!(1));
        assert_eq!(data(&session.poll_until(1)), [json!(1)]);
        assert_eq!(session.send(&["garbage"]), 204);
        assert_eq!(session.poll(), r#"c[3501,"bad request"]"#);
    }
}

#[test]
fn request_of_another_origin_is_refused_before_a_session_exists() {
    let server = Server::start_with(4, &with_sockjs());
    let session = Session::new(server.address());
    let request = |method: &str, call: &str, origin: &str, more: &str| {
        let head = format!("{method} {}/{call} HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\n", session.path);
        Stream::request(server.address(), format!("{head}{more}Content-Length: 0\r\n\r\n").as_bytes())
    };
    let evil = "http://evil.example";
    for call in ["xhr", "xhr_streaming", "xhr_send", "jsonp_send"] {
        assert_eq!(request("POST", call, evil, "").status, 403, "{call}");
    }
    for call in ["eventsource", "htmlfile?c=a", "jsonp?c=a"] {
        assert_eq!(request("GET", call, evil, "").status, 403, "{call}");
    }
    for path in ["000/abc/websocket", "websocket"] {
        let head = format!("GET {PREFIX}/{path} HTTP/1.1\r\nHost: h\r\nOrigin: {evil}\r\nConnection: upgrade\r\n");
        let rest =
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        assert_eq!(Stream::request(server.address(), format!("{head}{rest}").as_bytes()).status, 403, "{path}");
    }
    assert_eq!(session.send(&[]), 404, "there is no session");

    let own = "http://127.0.0.1:3000";
    let preflight = request("OPTIONS", "xhr_send", own, "Access-Control-Request-Headers: content-type\r\n");
    assert_eq!(preflight.status, 204);
    for header in [
        "access-control-allow-origin: http://127.0.0.1:3000",
        "access-control-allow-credentials: true",
        "access-control-allow-headers: content-type",
        "access-control-max-age: 31536000",
    ] {
        assert!(preflight.head.iter().any(|line| line == header), "{header}: {:?}", preflight.head);
    }
    let mut opened = request("POST", "xhr", own, "");
    assert_eq!((opened.status, opened.content().as_str()), (200, "o\n"));
    assert!(opened.head.contains(&"access-control-allow-origin: http://127.0.0.1:3000".to_owned()));
}

/// A session needs no socket to stay, so that the limit of connections is what holds a flood of them.
#[test]
fn sessions_count_as_connections() {
    let mut config = with_sockjs();
    config["client"]["connection_limit"] = json!(3);
    let server = Server::start_with(4, &config);
    let sessions: Vec<_> = (0..20).map(|_| Session::new(server.address())).collect();
    let opened = sessions.iter().map(|session| session.post("xhr", b"").status);
    let opened: Vec<u16> = opened.collect();
    assert_eq!(opened.iter().filter(|status| **status == 200).count(), 3, "{opened:?}");
    assert!(opened.iter().all(|status| matches!(status, 200 | 503)), "{opened:?}");
    sessions[0].is_forgotten();
    let started = Instant::now();
    while sessions[10].post("xhr", b"").status != 200 {
        assert!(started.elapsed() < PATIENCE, "no room although sessions are forgotten");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Readers that take nothing, and sessions that read too seldom, are ended by their queues and disturb nobody.
#[test]
fn session_that_does_not_keep_up_is_closed() {
    let mut config = with_sockjs();
    config["client"]["queue_max_size"] = json!(200_000);
    for shards in [1, 4] {
        config["http_server"]["port"] = json!(free_port());
        let server = Server::start_with(shards, &config);
        let slow = Session::subscribed(server.address(), "quiet:slow");
        let deaf = Session::subscribed(server.address(), "quiet:slow");
        let _never_read = deaf.post("xhr_streaming", b"");
        let mut reader = Client::connect(server.address());
        reader.subscribe("quiet:slow");
        let big = json!("x".repeat(50_000));
        for _ in 0..400 {
            server.publish("quiet:slow", big.clone());
            assert_eq!(reader.publication()["data"], big);
        }
        for session in [&slow, &deaf] {
            session.is_forgotten();
        }
    }
}

/// T18, T19
#[test]
fn official_client_works_over_each_transport_that_node_has() {
    let mut config = with_sockjs();
    config["client"]["ping_interval"] = json!("3s");
    config["client"]["pong_timeout"] = json!("2s");
    for shards in [1, 4] {
        config["http_server"]["port"] = json!(free_port());
        let server = Server::start_with(shards, &config);
        for transport in ["websocket", "xhr-streaming", "xhr-polling"] {
            check_sockjs(&server, transport);
        }
    }
}

/// T18, T19, T20
#[test]
fn browser_connects_and_recovers_over_each_transport() {
    let script = node_folder().join("node_modules/sockjs-client/dist/sockjs.min.js");
    let mut config = with_sockjs();
    config["demo"] = json!({"enabled": true});
    for shards in [1, 4] {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let url = format!("http://{address}/sockjs.min.js");
        config["http_server"]["port"] = json!(port);
        config["sockjs"]["url"] = json!(url);
        let server = Server::start_with(shards, &config);
        let transport = |name: &str| {
            json!({
                "name": name, "transport": "sockjs", "endpoint": format!("http://{address}{PREFIX}"), "files": {&url: &script},
                "via": format!("sockjs-{name}"), "options": {"sockjsOptions": {"transports": [name]}},
            })
        };
        let transports = [
            "websocket",
            "xhr-streaming",
            "xhr-polling",
            "eventsource",
            "htmlfile",
            "jsonp-polling",
            "iframe-eventsource",
            "iframe-htmlfile",
            "iframe-xhr-polling",
        ]
        .map(transport);
        transports::check(&server, &format!("http://{address}/"), &transports, &[&script]);
    }
}
