//! TLS of the ports, with the real binary and clients of rustls.

mod acme;
pub mod authority;
mod clients;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::process::Signal;
use rustls::{ClientConfig, HandshakeKind};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::http;
use crate::http2::peer::Peer;
use crate::server::{API_KEY, PATIENCE, Server, config, free_port};
use authority::{Authority, Client, VERSIONS, dial, exchange, peer_certificate};

/// A configuration whose only port has TLS.
fn secured(tls: Value) -> Value {
    let mut config = config(free_port());
    config["http_server"]["tls"] = tls;
    config
}

/// Starts and waits until the shards listen.
fn start(shards: u16, config: &Value) -> Server {
    let server = Server::spawn(shards, config);
    server.wait_for_log(PATIENCE, |log| log.contains("\"ready\"").then_some(()));
    server
}

#[track_caller]
fn publish(server: SocketAddr, client: &Arc<ClientConfig>, channel: &str, data: &Value) {
    let body = json!({"channel": channel, "data": data}).to_string();
    let request = format!(
        "POST /api/publish HTTP/1.1|Host: h|X-API-Key: {API_KEY}|Connection: close|Content-Length: {}||{body}",
        body.len()
    );
    let answer = exchange(&mut dial(server, client).expect("a handshake"), &request).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

/// Z01
#[test]
fn websocket_and_api_work_with_both_versions_on_one_and_four_shards() {
    let authority = Authority::new();
    for shards in [1, 4] {
        let server = start(shards, &secured(authority.sign().object()));
        let configs = VERSIONS.map(|version| authority.client(&[version], None));
        let clients = (0..8).map(|number| dial(server.address(), &configs[number % 2]).expect("a handshake"));
        let mut clients: Vec<_> = clients.map(|stream| Client::subscribed(stream, "chat:a")).collect();
        // From one record to several of the largest size.
        for length in [10, 20_000, 60_000] {
            let data = json!("x".repeat(length));
            publish(server.address(), &configs[length / 10 % 2], "chat:a", &data);
            for client in &mut clients {
                let message: Value = serde_json::from_str(&client.message()).expect("JSON");
                assert_eq!(message["push"]["pub"]["data"], data);
            }
        }
        server.signal(Signal::TERM);
        assert!(server.wait().status.success());
    }
}

/// Z01
#[test]
fn certificate_may_be_a_file_pem_or_base64() {
    let authority = Authority::new();
    let pair = authority.sign();
    let folder = std::env::temp_dir().join(format!("ringcast-e2e-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, pair.certificate_pem()).expect("written");
    std::fs::write(&key, pair.key_pem()).expect("written");
    let base64 = |text: String| BASE64_STANDARD.encode(text);
    for (cert, key) in [
        (cert.to_str().expect("a name").to_owned(), key.to_str().expect("a name").to_owned()),
        (base64(pair.certificate_pem()), base64(pair.key_pem())),
        (pair.certificate_pem(), base64(pair.key_pem())),
    ] {
        let server = start(1, &secured(json!({"enabled": true, "cert_pem": cert, "key_pem": key})));
        publish(server.address(), &authority.client(&VERSIONS, None), "chat:a", &json!(1));
    }
    std::fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn key_of_another_certificate_is_refused_at_start() {
    let authority = Authority::new();
    let mut tls = authority.sign().object();
    tls["key_pem"] = json!(authority.sign().key_pem());
    let ended = Server::ends_with(1, &secured(tls));
    assert!(!ended.status.success());
    let want = "http_server.tls.key_pem holds another key than that of the first certificate in cert_pem";
    assert!(ended.log.contains(want), "{}", ended.log);
}

#[test]
fn sessions_are_resumed_on_any_shard() {
    let authority = Authority::new();
    let server = start(4, &secured(authority.sign().object()));
    for version in VERSIONS {
        let client = authority.client(&[version], None);
        for number in 0..12 {
            let mut stream = dial(server.address(), &client).expect("a handshake");
            let want = if number == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(stream.conn.handshake_kind(), Some(want), "{version:?} {number}");
            assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            // The ticket comes behind the handshake.
            let answer = exchange(&mut stream, "GET /health HTTP/1.1|Host: h|Connection: close||").expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
}

/// T13
#[test]
fn http2_is_agreed_upon_where_streams_are_served() {
    let authority = Authority::new();
    for (enabled, want) in [(true, &b"h2"[..]), (false, b"http/1.1")] {
        let mut config = secured(authority.sign().object());
        config["sse"] = json!({"enabled": enabled});
        let server = start(2, &config);
        let mut client = (*authority.client(&VERSIONS, None)).clone();
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = dial(server.address(), &Arc::new(client)).expect("a handshake");
        assert_eq!(stream.conn.alpn_protocol(), Some(want));
        if !enabled {
            continue;
        }
        let mut peer = Peer::begin(stream);
        let subscribe = |number| json!({"id": 2, "subscribe": {"channel": format!("quiet:{number}")}});
        let events = |number| format!("{}\n{}", json!({"id": 1, "connect": {}}), subscribe(number));
        let streams = [1, 2, 3].map(|number| (number, peer.post("/connection/sse", &[], &events(number))));
        for (number, stream) in streams {
            assert_eq!(peer.message(stream)["id"], 1);
            assert_eq!(peer.message(stream), json!({"id": 2, "subscribe": {}}));
            let data = json!("x".repeat(40_000));
            publish(server.address(), &authority.client(&VERSIONS, None), &format!("quiet:{number}"), &data);
            assert_eq!(peer.message(stream)["push"]["pub"]["data"], data);
        }
    }
}

/// Z02
#[test]
fn client_ca_lets_in_only_whom_it_signed() {
    let authority = Authority::new();
    let (clients, strangers) = (Authority::new(), Authority::new());
    let mut tls = authority.sign().object();
    tls["client_ca_pem"] = json!(clients.pem());
    let server = start(2, &secured(tls));
    for version in VERSIONS {
        let get = |with: Option<&authority::Pair>| {
            let mut stream = dial(server.address(), &authority.client(&[version], with))?;
            exchange(&mut stream, "GET /health HTTP/1.1|Host: h|Connection: close||")
        };
        assert!(get(Some(&clients.sign())).expect("let in").starts_with("HTTP/1.1 200"));
        assert!(get(None).is_err() && get(Some(&strangers.sign())).is_err());
    }
}

/// Z04
#[test]
fn internal_port_has_its_own_tls_or_none() {
    let authority = Authority::new();
    let (outer, inner) = (authority.sign(), authority.sign());
    let client = authority.client(&VERSIONS, None);
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let internal = free_port();
    let mut own = secured(outer.object());
    own["http_server"]["internal_port"] = json!(internal.to_string());
    own["http_server"]["internal_tls"] = inner.object();
    let server = start(2, &own);
    let shown = |address| peer_certificate(&dial(address, &client).expect("a handshake"));
    assert_eq!(shown(server.address()), outer.certificate.to_vec());
    assert_eq!(shown(at(internal)), inner.certificate.to_vec());
    drop(server);

    own["http_server"].as_object_mut().expect("an object").remove("internal_tls");
    own["http_server"]["tls_external"] = json!(true);
    let server = start(2, &own);
    assert_eq!(shown(server.address()), outer.certificate.to_vec());
    assert_eq!(http::try_get(at(internal), "/health").map(|reply| reply.status), Some(200));
}

#[test]
fn reload_under_load_changes_the_certificate_and_loses_nobody() {
    let authority = Authority::new();
    let (first, second) = (authority.sign(), authority.sign());
    let mut config = secured(first.object());
    let server = start(2, &config);
    let (address, client) = (server.address(), authority.client(&VERSIONS, None));
    let mut old: Vec<_> =
        (0..4).map(|_| Client::subscribed(dial(address, &client).expect("a handshake"), "chat:a")).collect();
    let stop = AtomicBool::new(false);
    let reload = |config: &Value, said: &str| {
        std::fs::write(server.config_path(), config.to_string()).expect("written");
        server.signal(Signal::HUP);
        server.wait_for_log(PATIENCE, |log| log.contains(said).then_some(()));
    };
    let published = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                publish(address, &client, "chat:a", &json!(number));
                number += 1;
            }
            number
        });
        config["http_server"]["tls"] = second.object();
        reload(&config, "configuration successfully reloaded");
        // Resumed sessions show the certificate they began with: this client has none.
        let shown = || {
            let stream = dial(address, &authority.client(&VERSIONS, None)).expect("a handshake");
            Client::subscribed(stream, "chat:b").certificate()
        };
        while shown() != second.certificate.to_vec() {}
        config["http_server"]["tls"]["key_pem"] = json!(first.key_pem());
        reload(&config, "http_server.tls.key_pem holds another key");
        assert_eq!(shown(), second.certificate.to_vec(), "a broken file changes nothing");
        stop.store(true, Ordering::Relaxed);
        load.join().expect("no publish failed")
    });
    assert!(published > 0);
    for client in &mut old {
        for number in 0..published {
            let message: Value = serde_json::from_str(&client.message()).expect("JSON");
            assert_eq!(message["push"]["pub"]["data"], json!(number));
        }
    }
}

#[test]
fn peers_that_never_finish_their_handshake_are_closed_and_hold_up_nobody() {
    let authority = Authority::new();
    let server = start(1, &secured(authority.sign().object()));
    let socket = || {
        let socket = TcpStream::connect(server.address()).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket
    };
    let mut hello = Vec::new();
    let name = "localhost".try_into().expect("a name");
    let mut tls = rustls::ClientConnection::new(authority.client(&VERSIONS, None), name).expect("a configuration");
    tls.write_tls(&mut hello).expect("a hello");
    // Nothing, a head, half a hello, a whole one; then silence.
    let lengths = [0, 5, hello.len() / 2, hello.len()];
    let mut slow: Vec<_> = lengths
        .into_iter()
        .map(|length| {
            let mut socket = socket();
            socket.write_all(&hello[..length]).expect("written");
            socket
        })
        .collect();
    let crowd: Vec<_> = (0..200)
        .map(|_| {
            let mut socket = socket();
            socket.write_all(&hello).expect("written");
            socket
        })
        .collect();
    publish(server.address(), &authority.client(&VERSIONS, None), "chat:a", &json!(1));
    for socket in &mut slow {
        // Ends at the deadline, whatever was said before.
        socket.read_to_end(&mut Vec::new()).expect("the server closes");
    }
    drop(crowd);
}

#[test]
fn garbage_and_plain_requests_are_answered_and_closed() {
    let authority = Authority::new();
    let server = start(2, &secured(authority.sign().object()));
    let say = |bytes: &[u8]| {
        let mut socket = TcpStream::connect(server.address()).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.write_all(bytes).expect("written");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("closed without a reset");
        answer
    };
    let plain = say(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
    let want = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    assert_eq!(String::from_utf8_lossy(&plain), want);
    // No record, a record of 65,535 bytes, a broken hello: each is told by an alert (type 21).
    for garbage in [&[0xff; 600][..], &[0x16, 3, 1, 0xff, 0xff], &[0x16, 3, 1, 0, 4, 1, 0, 0, 0]] {
        assert_eq!(say(garbage).first(), Some(&21), "{garbage:?}");
    }
    // A message of 16 MiB.
    say(&[0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]);
    // In the middle of a session.
    for version in VERSIONS {
        let mut stream = dial(server.address(), &authority.client(&[version], None)).expect("a handshake");
        stream.sock.write_all(&[0x17, 3, 3, 0, 20]).expect("written");
        stream.sock.write_all(&[0; 20]).expect("written");
        let mut rest = Vec::new();
        stream.sock.read_to_end(&mut rest).expect("closed without a reset");
        assert!(!rest.is_empty(), "an alert");
    }
    publish(server.address(), &authority.client(&VERSIONS, None), "chat:a", &json!(1));
}
