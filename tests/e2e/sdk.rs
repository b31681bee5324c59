//! The official clients against the server. One script per language runs named scenarios; here stands which ones, and
//! against how many shards.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cut::Relay;
use serde_json::json;

use crate::server::{API_KEY, SECRET, Server, config, free_port};
use crate::support;

/// Every scenario that each script knows.
const ALL: &[&str] = &[
    "connect_anonymous",
    "connect_token",
    "connect_wrong_token",
    "receive",
    "publish",
    "recover",
    "recover_too_late",
    "history",
    "presence",
    "join_leave",
    "rpc_error",
    "unknown_channel",
    "permission_denied",
    "subscription_token",
    "unsubscribe",
    "disconnect_terminal",
    "disconnect_reconnect",
    "connect_expired_token",
    "token_refresh",
    "server_side_subscription",
    "api_subscribe",
    "delta",
    "tags_filter",
    "spread",
];

/// The main path, for the numbers of shards where nothing else differs.
const SMOKE: &[&str] = &["connect_token", "receive", "publish", "recover", "history", "presence", "spread"];

/// Encodings of the client protocol.
const PROTOCOLS: &[&str] = &["json", "protobuf"];

#[test]
fn javascript_client_works_on_four_shards() {
    check(javascript(), 4, ALL);
}

#[test]
fn javascript_client_works_on_one_and_two_shards() {
    check(javascript(), 1, SMOKE);
    check(javascript(), 2, SMOKE);
}

#[test]
fn go_client_works_on_four_shards() {
    check(go(), 4, ALL);
}

#[test]
fn go_client_works_on_one_and_two_shards() {
    check(go(), 1, SMOKE);
    check(go(), 2, SMOKE);
}

#[test]
fn python_client_works_on_four_shards() {
    check(python(), 4, ALL);
}

#[test]
fn python_server_library_works_on_one_and_four_shards() {
    check(python(), 1, &["server_api"]);
    check(python(), 4, &["server_api"]);
}

#[test]
fn python_client_works_on_one_and_two_shards() {
    check(python(), 1, SMOKE);
    check(python(), 2, SMOKE);
}

/// T05: the JavaScript client offers to deflate, and does with long messages.
#[test]
fn javascript_client_works_deflated() {
    let mut config = config(free_port());
    config["websocket"] = json!({"compression": true});
    check_on(&Server::start_with(4, &config), javascript(), ALL);
}

/// A program that takes names of scenarios as arguments and the rest from its environment.
struct Script {
    program: PathBuf,
    arguments: Vec<PathBuf>,
}

#[track_caller]
fn check(script: Script, shards: u16, scenarios: &[&str]) {
    check_on(&Server::start(shards), script, scenarios);
}

#[track_caller]
fn check_on(server: &Server, script: Script, scenarios: &[&str]) {
    for protocol in PROTOCOLS {
        let relay = Relay::start(server.address());
        let url = format!("ws://{}/connection/websocket", relay.address);
        play(&script, server, &relay, scenarios, &[("E2E_URL", &url), ("E2E_PROTOCOL", protocol)]);
    }
}

/// The main path of the Go and Python clients over TLS. Both take the authorities they trust from the environment.
#[track_caller]
pub fn check_tls(server: &Server, authority: &Path) {
    let relay = Relay::start(server.address());
    let url = format!("wss://localhost:{}/connection/websocket", relay.address.port());
    let authority = authority.to_str().expect("a name");
    for script in [go(), python()] {
        let how = [("E2E_URL", url.as_str()), ("E2E_PROTOCOL", "protobuf"), ("SSL_CERT_FILE", authority)];
        play(&script, server, &relay, SMOKE, &how);
    }
}

/// The JavaScript client where backends decide; see the scenario for what they are to say.
#[track_caller]
pub fn check_proxied(server: &Server) {
    check_on(server, javascript(), &["proxied"]);
}

/// The main path of the JavaScript client over one of the transports of SockJS.
#[track_caller]
pub fn check_sockjs(server: &Server, transport: &str) {
    let relay = Relay::start(server.address());
    let url = format!("http://{}/connection/sockjs", relay.address);
    play(&javascript(), server, &relay, SMOKE, &[("E2E_URL", &url), ("E2E_SOCKJS", transport)]);
}

/// Runs scenarios; `how` is the rest of their environment.
#[track_caller]
fn play(script: &Script, server: &Server, relay: &Relay, scenarios: &[&str], how: &[(&str, &str)]) {
    let output = Command::new(&script.program)
        .args(&script.arguments)
        .args(scenarios)
        .env("E2E_API", format!("http://{}", server.api_address()))
        .env("E2E_CONTROL", format!("http://{}", relay.control))
        .env("E2E_API_KEY", API_KEY)
        .env("E2E_SECRET", SECRET)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(how.iter().copied())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", script.program.display()));
    let printed = String::from_utf8_lossy(&output.stdout);
    let passed = |name: &&&str| printed.lines().any(|line| line == format!("ok {name}"));
    let failed: Vec<_> = scenarios.iter().filter(|name| !passed(name)).collect();
    assert!(
        failed.is_empty() && output.status.success(),
        "{how:?}: {failed:?}\n{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn javascript() -> Script {
    let script = node_folder().join("scenarios.mjs");
    Script { program: PathBuf::from("node"), arguments: vec![script] }
}

/// Folder with the packages of `tests/e2e/js` and a copy of its scripts beside them.
pub fn node_folder() -> PathBuf {
    let source = support::tests_folder().join("e2e/js");
    let files = [
        "package.json",
        "package-lock.json",
        "scenarios.mjs",
        "page.mjs",
        "swagger.mjs",
        "transports.mjs",
        "streams.mjs",
        "deflate.mjs",
    ]
    .map(|name| source.join(name));
    support::installed("e2e-js", &files, |folder| {
        let version = support::run(Command::new("node").arg("--version"), "apt-get install nodejs npm");
        let major = version.trim().trim_start_matches('v').split('.').next();
        let major: u32 = major.and_then(|number| number.parse().ok()).unwrap_or(0);
        assert!(major >= 18, "Node 18 or newer is needed, here is {version}");
        copy(&files, folder);
        let mut install = Command::new("npm");
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder);
        support::run(&mut install, "apt-get install npm, access to the npm registry");
    })
}

fn go() -> Script {
    let source = support::tests_folder().join("e2e/go");
    let files = ["go.mod", "go.sum", "main.go", "scenarios.go"].map(|name| source.join(name));
    let folder = support::installed("e2e-go", &files, |folder| {
        let mut build = Command::new("go");
        build.args(["build", "-o"]).arg(folder.join("scenarios")).arg(".").current_dir(&source);
        support::run(&mut build, "Go 1.25 or newer (https://go.dev/dl), access to the Go module proxy");
    });
    Script { program: folder.join("scenarios"), arguments: Vec::new() }
}

fn python() -> Script {
    let source = support::tests_folder().join("e2e/python");
    let program = support::python("venv-e2e", &source.join("requirements.txt"));
    Script { program, arguments: vec![source.join("scenarios.py")] }
}

fn copy(files: &[PathBuf], folder: &Path) {
    for file in files {
        let name = file.file_name().expect("the list holds files");
        std::fs::copy(file, folder.join(name)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}
