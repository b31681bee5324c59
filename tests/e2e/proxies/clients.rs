//! What backends hear of clients, over HTTP and over GRPC.

use super::script::{Asked, Script};
use crate::client::{Client, token};
use crate::server::{Server, config, free_port};
use crate::stream::Stream;
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

/// Has a server ask `script` who connects, with the header `x-real`, or metadata of that name.
pub fn ask_with_headers(config: &mut Value, script: &Script) {
    let proxy = json!({
        "enabled": true, "endpoint": script.endpoint("connect"), "timeout": "5s",
        "http_headers": ["X-Real"], "grpc_metadata": ["X-Real"],
    });
    config["client"]["proxy"] = json!({"connect": proxy});
}

/// The backend was asked about a client of this transport, and heard its header.
#[track_caller]
pub fn heard_header(script: &Script, transport: &str) {
    let asked = script.wait_for_asked("connect");
    assert_eq!(asked.request["transport"], transport);
    assert_eq!(asked.headers.get("x-real").map(String::as_str), Some("real"), "{transport}");
    assert_eq!(asked.headers.get("x-other"), None, "{transport}");
}

/// X13, T08
#[test]
fn headers_of_streams_and_of_sockjs_go_along() {
    for script in Script::both() {
        let mut config = config(free_port());
        config["http_stream"] = json!({"enabled": true});
        config["sockjs"] = json!({"enabled": true});
        ask_with_headers(&mut config, &script);
        let server = Server::start_with(2, &config);
        let connect = json!({"id": 1, "connect": {}}).to_string();
        let lines = "X-Real: real\r\nX-Other: no\r\n";
        let mut stream = Stream::post(server.address(), "/connection/http_stream", lines, connect.as_bytes());
        assert!(stream.message().get("connect").is_some());
        heard_header(&script, "http_stream");
        let lines = [("x-real", "real"), ("x-other", "no")];
        let mut client = Client::open_with(server.address(), "/connection/sockjs/websocket", &lines);
        assert!(client.call("connect", json!({})).get("connect").is_some());
        heard_header(&script, "sockjs");
    }
}
