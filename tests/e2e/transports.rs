//! The official JavaScript client in a real browser, over each transport that it knows.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::browser::chromium;
use crate::sdk::node_folder;
use crate::server::{API_KEY, Server, config, free_port};
use crate::support;

/// The library as a page loads it.
fn client_script() -> PathBuf {
    node_folder().join("node_modules/centrifuge/dist/centrifuge.js")
}

/// Plays every transport of the list, each an object with name, transport and endpoint, on a page of the server.
#[track_caller]
pub fn check(server: &Server, page: &str, transports: &[Value], scripts: &[&Path]) {
    check_with(&[], server, page, transports, scripts);
}

/// The same in a browser that is started with more flags.
#[track_caller]
pub fn check_with(flags: &[&str], server: &Server, page: &str, transports: &[Value], scripts: &[&Path]) {
    let own = client_script();
    let scripts: Vec<&Path> = scripts.iter().copied().chain([own.as_path()]).collect();
    let mut script = Command::new("node");
    script
        .arg(node_folder().join("transports.mjs"))
        .env("E2E_PAGE", page)
        .env("E2E_API", format!("http://{}", server.api_address()))
        .env("E2E_API_KEY", API_KEY)
        .env("E2E_CHROMIUM", chromium())
        .env("E2E_TRANSPORTS", json!(transports).to_string())
        .env("E2E_SCRIPTS", json!(scripts).to_string())
        .env("E2E_FLAGS", json!(flags).to_string());
    let printed = support::run(&mut script, "the client to work in the browser");
    for transport in transports {
        let name = transport["name"].as_str().expect("a transport has a name");
        assert!(printed.lines().any(|line| line == format!("ok {name}")), "{printed}");
    }
}

/// T01, T08, T09
#[test]
fn browser_connects_and_recovers_over_every_transport() {
    let mut config = config(free_port());
    config["http_stream"] = json!({"enabled": true});
    config["sse"] = json!({"enabled": true});
    config["demo"] = json!({"enabled": true});
    for shards in [1, 4] {
        let server = Server::start_with(shards, &config);
        let address = server.address();
        let transport = |name: &str, scheme: &str| {
            json!({
                "name": name, "transport": name, "endpoint": format!("{scheme}://{address}/connection/{name}"),
                "emulation": format!("http://{address}/emulation"),
            })
        };
        let transports = [transport("websocket", "ws"), transport("http_stream", "http"), transport("sse", "http")];
        check(&server, &format!("http://{address}/"), &transports, &[]);
    }
}
