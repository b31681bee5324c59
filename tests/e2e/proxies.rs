//! Proxies: the real binary asks backends over HTTP and GRPC, good ones and bad ones.

mod backend;
pub mod clients;
mod decisions;
mod grpc_backend;
pub mod script;
mod stream_backend;
mod streams;
mod tls;

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bystander::Bystander;
use crate::client::Client;
use crate::metrics::scrape_until;
use crate::server::{PATIENCE, Server, config, free_port};
use backend::{Backend, Behaviour};
use grpc_backend::GrpcBackend;
use stream_backend::StreamBackend;

/// Asks `endpoint` about RPC methods, and about publications in `asked`.
fn asking(endpoint: &str, more: Value) -> Value {
    let mut config = config(free_port());
    let mut proxy = json!({"endpoint": endpoint, "timeout": "300ms"});
    proxy.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    config["rpc"] = json!({
        "proxy": proxy,
        "without_namespace": {"proxy_enabled": true},
        "namespaces": [
            {"name": "named", "proxy_enabled": true, "proxy_name": "second"},
            {"name": "off"},
        ],
    });
    proxy["name"] = json!("second");
    config["proxies"] = json!([proxy]);
    config["channel"]["proxy"] = json!({"publish": {"endpoint": endpoint}});
    let asked = json!({
        "name": "asked", "publish_proxy_enabled": true, "allow_subscribe_for_client": true,
        "allow_subscribe_for_anonymous": true,
    });
    config["channel"]["namespaces"].as_array_mut().expect("a list").push(asked);
    config
}

fn rpc(client: &mut Client, method: &str, data: Value) -> Value {
    client.call("rpc", json!({"method": method, "data": data}))
}

/// R06, X03, X05, X12
#[test]
fn a_backend_over_http_serves_methods_and_decides_about_publications() {
    let backend = Backend::start(Behaviour::Answer(200, json!({"result": {"data": {"n": 1}}}).to_string()));
    let headers = json!({"http": {"static_headers": {"X-Key": "k", "content-type": "other"}}});
    let server = Server::start_with(2, &asking(&backend.url("/hook"), headers));
    let mut client = Client::connect(server.address());
    assert_eq!(rpc(&mut client, "sum", json!([1]))["rpc"]["data"], json!({"n": 1}));
    let (head, body) = backend.last();
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let want = json!({
        "client": client.client, "transport": "websocket", "protocol": "json", "encoding": "json", "user": "", "method": "sum",
        "data": [1],
    });
    assert_eq!(body, want);
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /hook http/1.1\r\n"), "{head}");
    for line in ["x-key: k\r\n", "content-type: application/json\r\n"] {
        assert!(head.contains(line), "{head}");
    }
    assert_eq!(rpc(&mut client, "named:sum", json!([1]))["rpc"]["data"], json!({"n": 1}));
    assert_eq!(rpc(&mut client, "off:sum", json!(1))["error"]["code"], 108);
    assert_eq!(rpc(&mut client, "unknown:sum", json!(1))["error"]["code"], 104);
    for _ in 0..20 {
        rpc(&mut client, "sum", json!([1]));
    }
    assert!(backend.connections() <= 8, "one for each of two proxies and four threads at most");

    client.subscribe("asked:a");
    let reply = client.call("publish", json!({"channel": "asked:a", "data": "mine"}));
    assert!(reply.get("publish").is_some(), "{reply}");
    assert_eq!(client.publication()["data"], json!({"n": 1}), "the backend's data");
}

/// X03, X14
#[test]
fn errors_disconnects_and_statuses_reach_the_client() {
    let backend = Backend::start(Behaviour::Answer(200, String::new()));
    let transforms = json!({"http": {"status_to_code_transforms": [
        {"status_code": 404, "to_error": {"code": 404, "message": "none", "temporary": true}},
        {"status_code": 500, "to_disconnect": {"code": 4504, "reason": "out"}},
    ]}});
    let server = Server::start_with(1, &asking(&backend.url("/"), transforms));
    let mut client = Client::connect(server.address());
    let mut answer = |status, body: Value| {
        backend.set(Behaviour::Answer(status, body.to_string()));
        rpc(&mut client, "m", json!(1))
    };
    let own = json!({"code": 1000, "message": "no"});
    assert_eq!(answer(200, json!({"result": {"data": 1}, "error": own}))["error"], own);
    assert_eq!(answer(404, json!({}))["error"], json!({"code": 404, "message": "none", "temporary": true}));
    assert_eq!(answer(201, json!({"result": {}}))["error"]["code"], 100, "only 200 is a success");
    for (status, body, code) in
        [(500, json!({}), 4504), (200, json!({"disconnect": {"code": 4001}, "error": own}), 4001)]
    {
        backend.set(Behaviour::Answer(status, body.to_string()));
        let mut client = Client::connect(server.address());
        client.send(&json!({"id": 2, "rpc": {"method": "m"}}).to_string());
        assert_eq!(client.closed().expect("a close").0, code);
    }
}

/// X03, X15
#[test]
fn binary_encoding_carries_payloads_in_base64() {
    let backend = Backend::start(Behaviour::Answer(200, json!({"result": {"b64data": "WzJd"}}).to_string()));
    let server = Server::start_with(1, &asking(&backend.url("/"), json!({"binary_encoding": true})));
    let mut client = Client::connect(server.address());
    assert_eq!(rpc(&mut client, "m", json!([1]))["rpc"]["data"], json!([2]));
    let body: Value = serde_json::from_str(&backend.last().1).expect("JSON");
    assert_eq!((&body["encoding"], &body["b64data"], body.get("data")), (&json!("binary"), &json!("WzFd"), None));
}

/// X03: whatever a backend does, its client gets the temporary error, and nobody else notices.
#[test]
fn bad_backends_hurt_nobody_else() {
    let backend = Backend::start(Behaviour::Hang);
    let other = Backend::start(Behaviour::Answer(200, json!({"result": {}}).to_string()));
    let server = Server::start_with(2, &asking(&backend.url("/"), json!({})));
    let mut bystander = Bystander::new(&server);
    let mut client = Client::connect(server.address());
    let long = json!({"result": {"data": "x".repeat(17 << 20)}}).to_string();
    for (behaviour, name) in [
        (Behaviour::Hang, "a hang"),
        (Behaviour::Close, "a close"),
        (Behaviour::Answer(200, "<html>".to_owned()), "garbage"),
        (Behaviour::Redirect(other.url("/")), "a redirect"),
        (Behaviour::Endless, "an endless body"),
        (Behaviour::Answer(200, long), "a long body"),
    ] {
        backend.set(behaviour);
        let reply = rpc(&mut client, "m", json!(1));
        assert_eq!(
            reply["error"],
            json!({"code": 100, "message": "internal server error", "temporary": true}),
            "{name}"
        );
        bystander.is_undisturbed(&server, name);
    }
    assert_eq!(other.connections(), 0, "redirects are not followed");
    assert!(server.peak_bytes() < 300 << 20, "{} bytes", server.peak_bytes());
    server.wait_for_log(PATIENCE, |log| log.contains("error proxying").then_some(()));
    backend.set(Behaviour::Answer(200, json!({"result": {}}).to_string()));
    assert!(rpc(&mut client, "m", json!(1)).get("rpc").is_some(), "it is asked again once it is well");
}

/// X11
#[test]
fn a_backend_over_grpc_serves_methods_and_decides_about_publications() {
    let backend = GrpcBackend::start();
    for compression in [false, true] {
        let more = json!({"grpc": {
            "static_metadata": {"X-Key": "k", "X-Bin": "k"}, "credentials_key": "auth", "credentials_value": "v",
            "compression": compression,
        }});
        let server = Server::start_with(2, &asking(&format!("grpc://{}", backend.address()), more));
        let mut client = Client::connect(server.address());
        assert_eq!(rpc(&mut client, "echo", json!({"a": 1}))["rpc"]["data"], json!({"a": 1}));
        let metadata = json!({"x-key": "k", "x-bin": "aw", "auth": "v"});
        assert_eq!(rpc(&mut client, "metadata", json!(1))["rpc"]["data"], metadata);
        let own = json!({"code": 1000, "message": "no", "temporary": true});
        assert_eq!(rpc(&mut client, "error", json!(1))["error"], own);
        assert_eq!(rpc(&mut client, "status", json!(1))["error"]["code"], 100);
        assert_eq!(rpc(&mut client, "hang", json!(1))["error"]["code"], 100);
        client.subscribe("asked:a");
        let reply = client.call("publish", json!({"channel": "asked:a", "data": "mine"}));
        assert!(reply.get("publish").is_some(), "{reply}");
        assert_eq!(client.publication()["tags"], json!({"by": "backend"}));
    }
}

/// X03, L10: a server without proxies gets some, and then others in another order.
#[test]
fn a_reload_changes_proxies_and_disconnects_nobody() {
    let backend = |name: &str| Backend::start(Behaviour::Answer(200, json!({"result": {"data": name}}).to_string()));
    let (one, two) = (backend("one"), backend("two"));
    let mut config = config(free_port());
    let server = Server::start_with(2, &config);
    let mut client = Client::connect(server.address());
    assert_eq!(rpc(&mut client, "one:m", json!(1))["error"]["code"], 108);
    assert!(server.threads().iter().all(|(name, _)| !name.starts_with("proxy")), "no threads without need");
    let proxy = |name: &str| json!({"name": name, "endpoint": if name == "one" { one.url("/") } else { two.url("/") }});
    let namespace = |name: &str| json!({"name": name, "proxy_enabled": true, "proxy_name": name});
    config["rpc"] = json!({"namespaces": [namespace("one"), namespace("two")]});
    for (times, order) in [["one", "two"], ["two", "one"]].into_iter().enumerate() {
        config["proxies"] = order.map(proxy).into_iter().collect();
        fs::write(server.config_path(), config.to_string()).expect("the file is ours");
        server.signal(Signal::HUP);
        let reloaded = |log: &str| log.matches("configuration successfully reloaded").count() > times;
        server.wait_for_log(PATIENCE, |log| reloaded(log).then_some(()));
        assert_eq!(rpc(&mut client, "one:m", json!(1))["rpc"]["data"], "one");
        assert_eq!(rpc(&mut client, "two:m", json!(1))["rpc"]["data"], "two");
    }
}

#[test]
fn metrics_tell_how_backends_do() {
    let backend = Backend::start(Behaviour::Answer(200, json!({"result": {}}).to_string()));
    let streams = StreamBackend::start();
    let mut config = asking(&backend.url("/"), json!({}));
    config["prometheus"] = json!({"enabled": true});
    config["client"]["concurrency"] = json!(2);
    config["channel"]["proxy"]["subscribe_stream"] = json!({"endpoint": streams.endpoint, "timeout": "300ms"});
    let fed = json!({"name": "fed", "subscribe_stream_proxy_enabled": true});
    config["channel"]["namespaces"].as_array_mut().expect("a list").push(fed);
    let server = Server::start_with(2, &config);
    let mut client = Client::connect(server.address());
    for method in ["a", "b", "named:c"] {
        rpc(&mut client, method, json!(1));
    }
    backend.set(Behaviour::Close);
    rpc(&mut client, "d", json!(1));
    client.call("subscribe", json!({"channel": "fed:a"}));
    backend.set(Behaviour::Hang);
    client.send(&json!({"id": 100, "rpc": {"method": "e"}}).to_string());
    let sample = |family: &str, name: &str, protocol: &str, kind: &str| {
        format!(r#"centrifugo_proxy_{family}{{name="{name}",protocol="{protocol}",type="{kind}"}}"#)
    };
    let inflight = sample("inflight_requests", "default", "http", "rpc");
    let samples = scrape_until(server.address(), |samples| samples.get(&inflight) == Some(&1.0));
    for (name, protocol, kind, count, errors) in [
        ("default", "http", "rpc", 3.0, 1.0),
        ("second", "http", "rpc", 1.0, 0.0),
        ("default", "grpc", "subscribe_stream", 1.0, 1.0),
    ] {
        let value = |family| samples.get(&sample(family, name, protocol, kind)).copied();
        assert_eq!(value("errors"), Some(errors), "{name} {kind}: {samples:?}");
        assert_eq!(value("duration_seconds_count"), Some(count), "{name} {kind}: {samples:?}");
        assert_eq!(value("duration_seconds_histogram_count"), Some(count), "{name} {kind}: {samples:?}");
    }
}

/// X13, L10
#[test]
fn a_reload_says_that_other_headers_need_a_restart() {
    let backend = Backend::start(Behaviour::Answer(200, json!({"result": {}}).to_string()));
    let server = Server::start_with(1, &asking(&backend.url("/"), json!({})));
    let text = fs::read_to_string(server.config_path()).expect("the file is ours");
    let mut config: Value = serde_json::from_str(&text).expect("it is JSON");
    config["rpc"]["proxy"]["http_headers"] = json!(["X-New"]);
    fs::write(server.config_path(), config.to_string()).expect("the file is ours");
    server.signal(Signal::HUP);
    server.wait_for_log(PATIENCE, |log| log.contains("http_headers or grpc_metadata reach").then_some(()));
}
