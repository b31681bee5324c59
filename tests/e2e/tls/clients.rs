//! Official clients and a browser over TLS, the browser over HTTP/2.

use std::process::Command;

use serde_json::{Value, json};

use super::authority::Authority;
use super::secured;
use crate::browser::chromium;
use crate::sdk::{check_tls, node_folder};
use crate::server::{API_KEY, Server, free_port};
use crate::{support, transports};

/// How many streams of events a page has.
const STREAMS: usize = 30;

/// With TLS outside, and all that a browser can use; health and API are inside.
fn with_streams(authority: &Authority) -> Value {
    let mut config = secured(authority.sign().object());
    config["http_server"]["internal_port"] = json!(free_port().to_string());
    config["http_server"]["tls_external"] = json!(true);
    config["client"]["allowed_origins"] = json!(["https://localhost:*"]);
    for name in ["http_stream", "sse", "sockjs", "demo"] {
        config[name] = json!({"enabled": true});
    }
    config
}

/// Z01
#[test]
fn go_and_python_clients_work() {
    let authority = Authority::new();
    let folder = std::env::temp_dir().join(format!("ringcast-e2e-clients-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let trusted = folder.join("authority.pem");
    std::fs::write(&trusted, authority.pem()).expect("written");
    for shards in [1, 4] {
        check_tls(&Server::start_with(shards, &with_streams(&authority)), &trusted);
    }
    std::fs::remove_dir_all(folder).expect("removed");
}

/// T07, T13, T18: what a page opens shares the connection that it came by.
#[test]
fn browser_connects_and_recovers_over_http2() {
    let script = node_folder().join("node_modules/sockjs-client/dist/sockjs.min.js");
    for shards in [1, 4] {
        let mut config = with_streams(&Authority::new());
        let address = format!("localhost:{}", config["http_server"]["port"]);
        let url = format!("https://{address}/sockjs.min.js");
        config["sockjs"]["url"] = json!(url);
        let server = Server::start_with(shards, &config);
        let own = |name: &str, scheme: &str| {
            json!({
                "name": name, "transport": name, "endpoint": format!("{scheme}://{address}/connection/{name}"),
                "emulation": format!("https://{address}/emulation"),
            })
        };
        let sockjs = |name: &str| {
            json!({
                "name": format!("sockjs {name}"), "transport": "sockjs", "endpoint": format!("https://{address}/connection/sockjs"),
                "files": {&url: &script}, "via": format!("sockjs-{name}"), "options": {"sockjsOptions": {"transports": [name]}},
            })
        };
        let of_sockjs =
            ["websocket", "xhr-streaming", "xhr-polling", "eventsource", "iframe-htmlfile", "jsonp-polling"];
        let all = [own("websocket", "wss"), own("http_stream", "https"), own("sse", "https")];
        let all: Vec<_> = all.into_iter().chain(of_sockjs.map(sockjs)).collect();
        transports::check(&server, &format!("https://{address}/"), &all, &[&script]);
    }
}

/// T13: more than the six connections that a browser opens to a host.
#[test]
fn streams_of_a_page_share_one_connection() {
    let config = with_streams(&Authority::new());
    let server = Server::start_with(4, &config);
    let mut script = Command::new("node");
    script
        .arg(node_folder().join("streams.mjs"))
        .env("E2E_PAGE", format!("https://localhost:{}/", config["http_server"]["port"]))
        .env("E2E_API", format!("http://{}", server.api_address()))
        .env("E2E_API_KEY", API_KEY)
        .env("E2E_CHROMIUM", chromium())
        .env("E2E_STREAMS", STREAMS.to_string());
    let printed = support::run(&mut script, "the streams to work in the browser");
    assert!(printed.contains("ok streams"), "{printed}");
}
