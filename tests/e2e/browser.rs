//! Pages of the server in a real browser: the demo page on the development configuration, the page of the server API.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::sdk::node_folder;
use crate::server::{Server, free_port};
use crate::support;

/// Channel of the demo page.
const CHANNEL: &str = "chat:lobby";

#[test]
fn two_tabs_of_the_demo_page_chat_and_show_publications_of_the_api() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/ringcast.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut config: Value = serde_json::from_str(&text).expect("the development configuration is JSON");
    config["http_server"]["port"] = json!(free_port());
    let key = config["http_api"]["key"].as_str().expect("the development configuration has a key").to_owned();

    let server = Server::start_with(4, &config);
    let base = format!("http://{}", server.address());
    let mut script = Command::new("node");
    script
        .arg(node_folder().join("page.mjs"))
        .env("E2E_PAGE", format!("{base}/"))
        .env("E2E_API", &base)
        .env("E2E_API_KEY", key)
        .env("E2E_CHANNEL", CHANNEL)
        .env("E2E_CHROMIUM", chromium());
    let printed = support::run(&mut script, "the demo page to work");
    assert!(printed.contains("ok page"), "{printed}");
}

/// A11
#[test]
fn the_page_of_the_api_publishes() {
    let config = json!({
        "http_server": {"address": "127.0.0.1", "port": free_port()},
        "http_api": {"key": "secret"},
        "health": {"enabled": true},
        "swagger": {"enabled": true},
        "channel": {"namespaces": [{"name": "chat", "history_size": 10, "history_ttl": "60s"}]},
    });
    let server = Server::start_with(2, &config);
    let mut script = Command::new("node");
    script
        .arg(node_folder().join("swagger.mjs"))
        .env("E2E_PAGE", format!("http://{}/swagger", server.address()))
        .env("E2E_API_KEY", "secret")
        .env("E2E_CHROMIUM", chromium());
    let printed = support::run(&mut script, "the page of the API to work");
    assert!(printed.contains("ok swagger"), "{printed}");
}

/// Path of the browser, found in `PATH`.
pub fn chromium() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .flat_map(|folder| ["chromium", "chromium-browser"].map(|name| folder.join(name)))
        .find(|file| file.is_file());
    found.expect("no chromium in PATH: apt-get install chromium")
}
