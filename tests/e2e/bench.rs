//! The load tool of this workspace against the server: its clients connect, receive and answer pings over every transport that
//! it speaks, plain and with TLS. Nothing is timed.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::server::{API_KEY, Server, config, free_port};
use crate::support;
use crate::tls::{self, authority::Authority};

/// Transports with the scheme of their address.
const TRANSPORTS: [(&str, &str); 7] = [
    ("websocket", "ws"),
    ("http_stream", "http"),
    ("http_stream --protocol protobuf", "http"),
    ("sse", "http"),
    ("uni_websocket", "ws"),
    ("uni_http_stream", "http"),
    ("uni_sse", "http"),
];

/// Every transport served; who does not answer a ping within half a second is cut.
fn settings() -> Value {
    let mut config = config(free_port());
    for transport in ["http_stream", "sse", "uni_websocket", "uni_http_stream", "uni_sse"] {
        config[transport] = json!({"enabled": true});
    }
    config["websocket"] = json!({"compression": true});
    config["client"]["ping_interval"] = json!("1s");
    config["client"]["pong_timeout"] = json!("500ms");
    config
}

/// Runs a scenario. `more` is what follows: how to trust the server.
fn run(server: &Server, (transport, scheme): (&str, &str), scenario: &str, more: &[&str]) -> Output {
    let tool = support::binary().with_file_name("ringcast-bench");
    assert!(tool.exists(), "{} is not there: cargo build -p ringcast-bench", tool.display());
    let address = server.address();
    let secure = if more.is_empty() { "" } else { "s" };
    let endpoint = transport.split(' ').next().unwrap_or(transport);
    Command::new(tool)
        .args(scenario.split(' '))
        .args(format!("--json --api-key {API_KEY} --transport {transport}").split(' '))
        .args(["--url", &format!("{scheme}{secure}://127.0.0.1:{}/connection/{endpoint}", address.port())])
        .args(["--api", &format!("http{secure}://127.0.0.1:{}/api", address.port())])
        .args(more)
        .output()
        .expect("the tool runs")
}

#[track_caller]
fn check(server: &Server, transport: (&str, &str), scenario: &str, more: &[&str]) -> Value {
    let output = run(server, transport, scenario, more);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{transport:?} {scenario}: {report} {said}");
    report
}

/// Deliveries, pings, and clients that come and go.
#[track_caller]
fn check_all(server: &Server, transport: (&str, &str), more: &[&str]) {
    let fanout = "fanout --channel quiet:a --subscribers 5 --publications 40 --windows 2 --outstanding 2 --batch 4";
    let report = check(server, transport, fanout, more);
    assert_eq!(report["deliveries"], 5 * 280, "{transport:?}: {report}");
    let latency = "latency --rate 500 --channel-prefix quiet:b --subscribers 5 --publications 40 --windows 1";
    check(server, transport, latency, more);
    let idle = "idle --channel-prefix quiet:own- --connections 9 --subscribe-own --hold 2";
    let report = check(server, transport, idle, more);
    assert!(report["pings"].as_u64() >= Some(9), "{transport:?}: {report}");
    check(server, transport, "connect --channel-prefix quiet:own- --count 20 --windows 1", more);
}

#[test]
fn clients_of_the_load_tool_speak_every_transport() {
    for shards in [1, 4] {
        let server = Server::start_with(shards, &settings());
        TRANSPORTS.into_iter().for_each(|transport| check_all(&server, transport, &[]));
    }
}

#[test]
fn clients_of_the_load_tool_speak_tls_with_a_server_that_they_trust() {
    let authority = Authority::new();
    let mut config = settings();
    config["http_server"]["tls"] = authority.sign().object();
    let server = tls::start(1, &config);
    let file = server.config_path().with_file_name("authority.pem");
    std::fs::write(&file, authority.pem()).expect("written");
    for transport in TRANSPORTS {
        check_all(&server, transport, &["--ca", path(&file)]);
    }
    check_all(&server, TRANSPORTS[0], &["--insecure"]);

    std::fs::write(&file, Authority::new().pem()).expect("written");
    let refused = run(&server, TRANSPORTS[0], "fanout --channel quiet:a --subscribers 1", &["--ca", path(&file)]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("certificate"), "{refused:?}");
}

#[test]
fn clients_of_the_load_tool_have_messages_deflated() {
    let server = Server::start_with(1, &settings());
    let fanout = "fanout --compression --channel quiet:a --subscribers 5 --publications 40 --windows 2";
    assert_eq!(check(&server, TRANSPORTS[0], fanout, &[])["deliveries"], 5 * 280);
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a path of letters")
}

/// The backend is the tool's own.
#[test]
fn clients_whose_server_asks_a_backend_are_measured() {
    let backend = format!("127.0.0.1:{}", free_port());
    let mut config = settings();
    let proxy = |path: &str| json!({"enabled": true, "endpoint": format!("http://{backend}/{path}")});
    config["client"]["proxy"] = json!({"connect": proxy("connect")});
    config["rpc"] =
        json!({"proxy": {"endpoint": format!("http://{backend}/rpc")}, "without_namespace": {"proxy_enabled": true}});
    config["channel"]["without_namespace"] = json!({"allow_subscribe_for_client": true});
    let server = Server::start_with(2, &config);
    let backend = format!("--backend {backend}");
    for protocol in ["websocket", "http_stream --protocol protobuf"] {
        let transport = TRANSPORTS.into_iter().find(|(name, _)| *name == protocol).expect("it is in the list");
        let scenario = format!("proxy-connect --count 20 --windows 2 {backend}");
        let report = check(&server, transport, &scenario, &[]);
        assert!(report["backend_requests"].as_u64() >= Some(40), "{report}");
        let scenario = format!("proxy-rpc --clients 3 --publications 20 --windows 2 {backend}");
        let report = check(&server, transport, &scenario, &[]);
        assert!(report["backend_requests"].as_u64() >= Some(120), "{report}");
    }
}
