//! WebTransport over a real QUIC connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use ringcast_proto::client::{Command, Reply, ReplyResult, Request};
use rustix::process::Signal;
use serde_json::{Value, json};
use wtransport::error::ConnectingError;

use crate::server::{Server, config, free_port};
use crate::session::{PATH, Session};
use crate::transports;

/// A certificate as browsers want those that they are told the hash of: ECDSA, and valid for two weeks at most.
pub struct Certificate {
    certificate: String,
    key: String,
    /// Of SHA-256, as a list in JavaScript.
    hash: String,
    /// SHA-256 of its public key, as a flag of the browser has it.
    pub spki: String,
}

impl Certificate {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let names = ["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
        let mut params = CertificateParams::new(names).expect("names");
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(3600)).into();
        params.not_after = (now + Duration::from_secs(10 * 24 * 3600)).into();
        let certificate = params.self_signed(&key).expect("a certificate");
        let sha256 = |bytes: &[u8]| ring::digest::digest(&ring::digest::SHA256, bytes);
        let hash = format!("{:?}", sha256(certificate.der()).as_ref());
        let spki = BASE64_STANDARD.encode(sha256(&key.subject_public_key_info()));
        Self { certificate: certificate.pem(), key: key.serialize_pem(), hash, spki }
    }

    /// The TLS object of a server.
    pub fn object(&self) -> Value {
        json!({"enabled": true, "cert_pem": self.certificate, "key_pem": self.key})
    }
}

/// With WebTransport, on a port of its own: health and the API are inside. Returns where it is.
fn configured(certificate: &Certificate) -> (Value, SocketAddr) {
    let port = free_port();
    let mut config = config(port);
    let http = &mut config["http_server"];
    http["internal_port"] = json!(free_port().to_string());
    http["tls_external"] = json!(true);
    http["tls"] = certificate.object();
    http["http3"] = json!({"enabled": true});
    config["webtransport"] = json!({"enabled": true});
    (config, (Ipv4Addr::LOCALHOST, port).into())
}

/// A server with WebTransport, and where that is.
fn start(shards: u16) -> (Server, SocketAddr) {
    start_with(shards, |_| {})
}

fn start_with(shards: u16, change: impl FnOnce(&mut Value)) -> (Server, SocketAddr) {
    let (mut config, address) = configured(&Certificate::new());
    change(&mut config);
    (Server::start_with(shards, &config), address)
}

#[track_caller]
fn check_protocol(shards: u16) {
    let (server, address) = start(shards);
    let mut reader = Session::connect(address);
    let reply = reader.call("subscribe", json!({"channel": "chat:a"}));
    assert_eq!(reply["subscribe"]["recoverable"], true, "{reply}");
    let epoch = reply["subscribe"]["epoch"].clone();
    let mut writer = Session::connect(address);
    let reply = writer.call("publish", json!({"channel": "chat:a", "data": {"n": 1}}));
    assert!(reply.get("publish").is_some(), "{reply}");
    assert_eq!(reader.publication(), json!({"n": 1}));
    server.publish("chat:a", json!("from the API"));
    assert_eq!(reader.publication(), "from the API");
    drop(reader);

    server.publish("chat:a", json!("missed"));
    let mut reader = Session::connect(address);
    let position = json!({"channel": "chat:a", "recover": true, "offset": 2, "epoch": epoch});
    let reply = reader.call("subscribe", position);
    assert_eq!(reply["subscribe"]["recovered"], true, "{reply}");
    assert_eq!(reply["subscribe"]["publications"][0]["data"], "missed", "{reply}");
}

/// T11
#[test]
fn client_subscribes_publishes_and_recovers_on_one_shard() {
    check_protocol(1);
}

#[test]
fn client_subscribes_publishes_and_recovers_on_four_shards() {
    check_protocol(4);
}

/// T11
#[test]
fn browser_connects_and_recovers() {
    let certificate = Certificate::new();
    // The client gives no options, so the browser is told of the certificate by the page.
    let trust = format!(
        "const Native = WebTransport;\n\
         const hash = {{ algorithm: 'sha-256', value: Uint8Array.from({}) }};\n\
         window.WebTransport = function (url) {{ return new Native(url, {{ serverCertificateHashes: [hash] }}); }};\n",
        certificate.hash
    );
    for shards in [1, 4] {
        let (config, address) = configured(&certificate);
        let server = Server::start_with(shards, &config);
        let script = server.config_path().with_file_name("trust.js");
        std::fs::write(&script, &trust).expect("the folder of the server can be written");
        let transport = json!({
            "name": "webtransport", "transport": "webtransport", "endpoint": format!("https://{address}{PATH}"),
        });
        let page = format!("http://{}/health", server.inside());
        transports::check(&server, &page, &[transport], &[&script]);
    }
}

#[test]
fn protobuf_is_chosen_by_the_query() {
    let (_server, address) = start(2);
    let mut session = Session::open(address, &format!("{PATH}?cf_protocol=protobuf"), None).expect("a session");
    let request = Some(Request::Connect(Box::default()));
    let reply = session.call_in_protobuf(&Command { id: 1, request });
    assert!(matches!(reply, Reply::Result { id: 1, result: ReplyResult::Connect(_) }), "{reply:?}");
}

#[test]
fn foreign_origins_and_other_paths_are_refused() {
    let (_server, address) = start(1);
    let refused = |path, origin| Session::open(address, path, origin).err();
    assert!(refused(PATH, Some("http://127.0.0.1:1")).is_none());
    assert!(matches!(refused(PATH, Some("http://evil.example")), Some(ConnectingError::SessionRejected)));
    assert!(matches!(refused("/connection/other", None), Some(ConnectingError::SessionRejected)));

    let mut session = Session::connect(address);
    let mut status = |path: &str, origin: &str| {
        let protocol = [(":method", "CONNECT"), (":protocol", "webtransport"), (":scheme", "https")];
        let rest = [(":authority", "127.0.0.1"), (":path", path), ("origin", origin)];
        session.request(&[&protocol[..], &rest[..]].concat())
    };
    assert_eq!(status(PATH, "http://evil.example"), "403");
    assert_eq!(status("/connection/other", "http://127.0.0.1:1"), "404");
    // One session has the connection already.
    assert_eq!(status(PATH, "http://127.0.0.1:1"), "429");
}

#[test]
fn sessions_beyond_the_limit_are_refused() {
    let (_server, address) = start_with(2, |config| config["client"]["connection_limit"] = json!(1));
    let first = Session::connect(address);
    let refused = Session::open(address, PATH, None).err();
    assert!(matches!(refused, Some(ConnectingError::SessionRejected)), "{refused:?}");
    drop(first);
    // The server learns of the end a moment later.
    while Session::open(address, PATH, None).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn message_beyond_the_limit_ends_the_session() {
    let (_server, address) = start_with(1, |config| config["webtransport"]["message_size_limit"] = json!(1000));
    let mut session = Session::connect(address);
    let fits = "x".repeat(900);
    let reply = session.call("publish", json!({"channel": "chat:a", "data": fits}));
    assert!(reply.get("publish").is_some(), "{reply}");
    session.send("x".repeat(1001).as_bytes());
    assert_eq!(session.closed(), (3000, "connection closed".to_owned()));
}

#[test]
fn broken_message_is_told_by_a_push_and_the_code_of_the_session() {
    let (_server, address) = start(1);
    let mut session = Session::connect(address);
    session.send(b"nonsense\n");
    let push = session.line().expect("a push");
    assert_eq!(push["push"]["disconnect"]["code"], 3501, "{push}");
    assert_eq!(session.line(), None);
    assert_eq!(session.closed(), (3501, "bad request".to_owned()));
}

#[test]
fn session_without_a_stream_ends() {
    let (_server, address) = start_with(1, |config| config["client"]["stale_close_delay"] = json!("60s"));
    let mut session = Session::open_without_stream(address, PATH, None).expect("a session");
    assert_eq!(session.closed(), (0, "no stream in time".to_owned()));
}

#[test]
fn session_has_one_stream() {
    let (_server, address) = start(1);
    let mut session = Session::connect(address);
    session.open_stream();
    session.send(b"{\"id\":9,\"ping\":{}}\n");
    assert_eq!(session.line(), None, "a second stream is answered by nothing but its end");
    assert_eq!(
        session.request(&[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/nothing")]),
        "404"
    );
}

#[test]
fn client_that_does_not_read_is_closed_and_others_go_on() {
    let (server, address) = start(2);
    let mut slow = Session::connect(address);
    slow.call("subscribe", json!({"channel": "quiet:a"}));
    let mut other = Session::connect(address);
    other.call("subscribe", json!({"channel": "quiet:a"}));
    let data = "x".repeat(50_000);
    for number in 0..150 {
        server.publish("quiet:a", json!({"number": number, "data": data}));
        assert_eq!(other.publication()["number"], number);
    }
    let (code, _) = slow.closed();
    assert!(code == 3008 || code == 3009, "{code}");
}

#[test]
fn sessions_are_told_of_the_shutdown() {
    let (server, address) = start(4);
    let mut session = Session::connect(address);
    server.signal(Signal::TERM);
    let push = session.line().expect("a push");
    assert_eq!(push["push"]["disconnect"], json!({"code": 3001, "reason": "shutdown"}), "{push}");
    assert_eq!(session.closed(), (3001, "shutdown".to_owned()));
    assert_eq!(server.wait().status.code(), Some(0));
}

#[test]
fn what_is_missing_for_it_is_named() {
    let (good, _) = configured(&Certificate::new());
    let check = |change: fn(&mut Value), want: &str| {
        let mut config = good.clone();
        change(&mut config);
        let ended = Server::ends_with(1, &config);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
        assert!(ended.log.contains(want), "{want}: {}", ended.log);
    };
    check(|config| config["http_server"]["tls"]["enabled"] = json!(false), "HTTP/3 requires TLS configured");
    check(
        |config| config["http_server"]["http3"]["enabled"] = json!(false),
        "can not enable webtransport without experimental HTTP/3",
    );
    check(|config| config["http_server"]["tls"]["key_pem"] = json!("/nowhere"), "http_server.tls.key_pem");
}
