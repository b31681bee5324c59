//! What backends hear of clients, over HTTP and over GRPC.

use super::script::{Asked, Script};
use crate::client::{Client, token};
use crate::server::{Server, config, free_port};
use serde_json::{Value, json};

const PATH: &str = "/connection/websocket";

/// A server that asks about RPC methods with these options of the proxy.
fn server(script: &Script, more: &Value) -> Server {
    let mut config = config(free_port());
    let mut proxy = json!({"endpoint": script.endpoint("rpc")});
    proxy.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    config["rpc"] = json!({"proxy": proxy, "without_namespace": {"proxy_enabled": true}});
    Server::start_with(2, &config)
}

/// What the backend hears of a call.
#[track_caller]
fn asked(script: &Script, client: &mut Client) -> Asked {
    let reply = client.call("rpc", json!({"method": "m", "data": 1}));
    assert!(reply.get("rpc").is_some(), "{reply}");
    script.take_asked().pop().expect("it was asked")
}

/// X13
#[test]
fn listed_headers_go_along_and_real_ones_beat_emulated_and_static_ones() {
    for script in Script::both() {
        let fixed = json!({"X-Real": "static", "X-Emulated": "static", "X-Static": "static"});
        let proxy = json!({
            "http_headers": ["X-Real", "Cookie", "Content-Length"], "emulated_headers": ["X-Real", "X-Emulated"],
            "http": {"static_headers": fixed}, "grpc": {"static_metadata": fixed},
        });
        let server = server(&script, &proxy);
        let lines = [("x-real", "real"), ("cookie", "a=1"), ("x-other", "no"), ("x-emulated", "not listed")];
        let mut client = Client::open_with(server.address(), PATH, &lines);
        let emulated = json!({"X-REAL": "emulated", "x-Emulated": "emulated", "Cookie": "no", "x-static": "no"});
        client.call("connect", json!({"headers": emulated}));
        let headers = asked(&script, &mut client).headers;
        let header = |name: &str| headers.get(name).map(String::as_str);
        assert_eq!((header("x-real"), header("cookie")), (Some("real"), Some("a=1")));
        assert_eq!((header("x-emulated"), header("x-static")), (Some("emulated"), Some("static")));
        assert_eq!(header("x-other"), None);
    }
}

/// X15
#[test]
fn meta_goes_along_where_it_is_asked_for() {
    for script in Script::both() {
        for is_included in [true, false] {
            let server = server(&script, &json!({"include_connection_meta": is_included}));
            let token = |meta: Value| token(&json!({"sub": "ada", "meta": meta}));
            let mut client = Client::connect_with(server.address(), json!({"token": token(json!({"m": 1}))}));
            let request = asked(&script, &mut client).request;
            assert_eq!(request["user"], "ada");
            assert_eq!(request.get("meta"), is_included.then(|| json!({"m": 1})).as_ref());
            client.call("refresh", json!({"token": token(json!({"m": 2}))}));
            let request = asked(&script, &mut client).request;
            assert_eq!(request.get("meta"), is_included.then(|| json!({"m": 2})).as_ref());
        }
    }
}
