//! Compressed WebSocket messages, with the package `ws` and what it does not send.

use std::process::Command;

use serde_json::json;

use crate::sdk;
use crate::server::{API_KEY, Server, config, free_port};

/// What a server may grow by while it refuses bombs that inflate to 60 MB each.
const GROWTH_BYTES_MAX: usize = 16 << 20;

/// A server that accepts the extension.
fn server(shards: u16) -> Server {
    let mut config = config(free_port());
    config["websocket"] = json!({"compression": true});
    config["client"]["queue_max_size"] = json!(8 << 20);
    Server::start_with(shards, &config)
}

/// Runs scenarios of `js/deflate.mjs`.
#[track_caller]
fn check(server: &Server, scenarios: &[&str]) {
    let output = Command::new("node")
        .arg(sdk::node_folder().join("deflate.mjs"))
        .args(scenarios)
        .env("E2E_URL", format!("ws://{}/connection/websocket", server.address()))
        .env("E2E_API", format!("http://{}", server.address()))
        .env("E2E_API_KEY", API_KEY)
        .output()
        .expect("node is installed");
    let printed = String::from_utf8_lossy(&output.stdout);
    let passed = scenarios.iter().all(|name| printed.lines().any(|line| line == format!("ok {name}")));
    assert!(passed && output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
}

/// T01, T05, T24
#[test]
fn compressed_and_plain_subscribers_get_equal_messages() {
    for shards in [1, 4] {
        check(&server(shards), &["answers_offers", "same_messages", "takes_deflated"]);
    }
}

/// T06
#[test]
fn bombs_are_refused_without_taking_memory() {
    for shards in [1, 4] {
        let server = server(shards);
        check(&server, &["takes_deflated"]);
        let before = server.peak_bytes();
        check(&server, &["bombs"]);
        let growth = server.peak_bytes() - before;
        assert!(growth < GROWTH_BYTES_MAX, "grew by {growth} bytes");
    }
}

/// T06. The limit is the one that the reference has without the key: ten times `message_size_limit`.
#[test]
fn configured_limit_of_inflated_messages_has_no_proportion() {
    let mut config = config(free_port());
    config["websocket"] = json!({"compression": true, "decompressed_message_size_limit": 655_360});
    config["client"]["queue_max_size"] = json!(8 << 20);
    check(&Server::start_with(1, &config), &["limit"]);
}

#[test]
fn broken_compression_closes_with_its_code() {
    check(&server(4), &["broken"]);
}

#[test]
fn compression_is_off_by_default() {
    check(&Server::start(1), &["not_negotiated"]);
}
