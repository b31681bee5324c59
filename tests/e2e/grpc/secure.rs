//! TLS of the ports of GRPC.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::client::{Client, Pushes};
use super::{KEY, Started, bytes};
use crate::server::{PATIENCE, Server};
use crate::tls::authority::{Authority, Pair};

const GROUPS: [&str; 2] = ["grpc_api", "uni_grpc"];

/// How a client speaks that trusts an authority; `with` shows who it is.
fn trusting(authority: &Authority, with: Option<&Pair>) -> ClientTlsConfig {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    match with {
        None => tls,
        Some(pair) => tls.identity(Identity::from_pem(pair.certificate_pem(), pair.key_pem())),
    }
}

/// A server whose ports of GRPC have TLS.
fn start(tls: &Value) -> Started {
    Started::with(2, |config| GROUPS.iter().for_each(|group| config[group]["tls"] = tls.clone()))
}

fn publish() -> Value {
    json!({"channel": "quiet:a", "data": bytes("1")})
}

/// Whether a call succeeds; with TLS 1.3 the server refuses a client after that one has connected.
fn succeeds(started: &Started, tls: ClientTlsConfig) -> bool {
    let client = Client::secure(started.api, tls);
    client.is_ok_and(|client| client.with("authorization", &format!("apikey {KEY}")).call("Publish", publish()).is_ok())
}

/// Opens a unidirectional stream.
fn streaming(started: &Started, authority: &Authority) -> Pushes {
    let client = Client::secure(started.uni, trusting(authority, None)).expect("a connection");
    client.consume(json!({})).expect("a stream")
}

/// A12
#[test]
fn calls_and_streams_are_encrypted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let started = start(&authority.sign().object());
    assert!(succeeds(&started, trusting(&authority, None)));
    assert!(!succeeds(&started, trusting(&other, None)));
    let mut pushes = streaming(&started, &authority);
    assert_eq!(pushes.push()["connect"]["ping"], 25);
}

/// A12
#[test]
fn clients_without_a_certificate_are_refused_where_one_is_wanted() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let mut tls = authority.sign().object();
    tls["client_ca_pem"] = json!(clients.pem());
    let started = start(&tls);
    assert!(succeeds(&started, trusting(&authority, Some(&clients.sign()))));
    assert!(!succeeds(&started, trusting(&authority, None)));
    assert!(!succeeds(&started, trusting(&authority, Some(&authority.sign()))));
    let stranger = Client::secure(started.uni, trusting(&authority, None));
    assert!(stranger.map_or(true, |stranger| stranger.consume(json!({})).is_err()));
}

#[test]
fn reload_shows_the_new_certificate_and_loses_nobody() {
    let (first, second) = (Authority::new(), Authority::new());
    let mut started = start(&first.sign().object());
    let old = Client::secure(started.api, trusting(&first, None)).expect("a connection");
    let old = old.with("authorization", &format!("apikey {KEY}"));
    let mut pushes = streaming(&started, &first);
    pushes.push();

    GROUPS.iter().for_each(|group| started.config[group]["tls"] = second.sign().object());
    std::fs::write(started.server.config_path(), started.config.to_string()).expect("written");
    started.server.signal(Signal::HUP);
    let began = Instant::now();
    while !succeeds(&started, trusting(&second, None)) {
        assert!(began.elapsed() < PATIENCE, "the new certificate is not shown");
    }
    assert!(!succeeds(&started, trusting(&first, None)));
    old.result("Publish", publish());
    assert_eq!(started.server.api("info", &json!({}))["result"]["nodes"][0]["num_clients"], 1);
}

#[test]
fn certificate_of_another_key_is_refused_at_start() {
    let authority = Authority::new();
    let mut tls = authority.sign().object();
    tls["key_pem"] = json!(authority.sign().key_pem());
    let mut config = crate::server::config(crate::server::free_port());
    config["grpc_api"] = json!({"enabled": true, "port": crate::server::free_port(), "tls": tls});
    let ended = Server::ends_with(1, &config);
    assert!(!ended.status.success());
    assert!(ended.log.contains("grpc_api.tls.key_pem holds another key"), "{}", ended.log);
}
