//! What backends decide about connections and subscriptions, over HTTP and over GRPC.

use super::script::Script;
use crate::client::{Client, token};
use crate::sdk::check_proxied;
use crate::server::{Server, config, free_port};
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A server that asks about everything. What expires is asked about soon; zero would stand for the default of 25 s.
fn server(script: &Script) -> Server {
    let mut config = config(free_port());
    let proxy = |event: &str| json!({"enabled": true, "endpoint": script.endpoint(event), "timeout": "5s", "include_connection_meta": true});
    config["client"]["proxy"] = json!({"connect": proxy("connect"), "refresh": proxy("refresh")});
    config["client"]["expired_close_delay"] = json!("100ms");
    config["client"]["expired_sub_close_delay"] = json!("100ms");
    config["client"]["presence_update_interval"] = json!("1s");
    let proxy = |event: &str| json!({"endpoint": script.endpoint(event), "timeout": "5s"});
    config["channel"]["proxy"] = json!({"subscribe": proxy("subscribe"), "sub_refresh": proxy("sub_refresh")});
    let asked = json!({
        "name": "asked", "presence": true, "subscribe_proxy_enabled": true, "sub_refresh_proxy_enabled": true,
    });
    config["channel"]["namespaces"].as_array_mut().expect("a list").push(asked);
    Server::start_with(2, &config)
}

fn in_seconds(seconds: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    (now + Duration::from_secs(seconds)).as_secs()
}

/// X01
#[test]
fn a_backend_says_who_connects_and_what_it_subscribes_to() {
    for script in Script::both() {
        let server = server(&script);
        let result = json!({
            "user": "ada", "info": {"n": 1}, "data": {"hello": 1}, "channels": ["chat:a"],
            "subs": {"chat:b": {"data": [1], "info": [2]}},
        });
        script.answer("connect", json!({"result": result}));
        let mut client = Client::open(server.address());
        let reply = client.call("connect", json!({"name": "n", "version": "v", "data": {"x": 1}}));
        assert_eq!(reply["connect"]["data"], json!({"hello": 1}), "{reply}");
        let mut subs: Vec<_> = reply["connect"]["subs"].as_object().expect("subscriptions").keys().collect();
        subs.sort();
        assert_eq!(subs, ["chat:a", "chat:b"]);
        assert_eq!(reply["connect"]["subs"]["chat:b"]["data"], json!([1]));
        let request = script.take_asked().pop().expect("it was asked").request;
        let want = json!({
            "client": reply["connect"]["client"], "transport": "websocket", "protocol": "json", "encoding": "json",
            "data": {"x": 1}, "name": "n", "version": "v",
        });
        assert_eq!(request, want);
        let presence = client.call("presence", json!({"channel": "chat:b"}));
        let info = &presence["presence"]["presence"][reply["connect"]["client"].as_str().expect("an id")];
        assert_eq!(
            (&info["user"], &info["conn_info"], &info["chan_info"]),
            (&json!("ada"), &json!({"n": 1}), &json!([2]))
        );
    }
}

/// X01
#[test]
fn a_backend_may_refuse_a_connection_and_is_not_asked_about_tokens() {
    for script in Script::both() {
        let server = server(&script);
        script.answer("connect", json!({"error": {"code": 1000, "message": "no"}}));
        let reply = Client::open(server.address()).call("connect", json!({}));
        assert_eq!(reply["error"], json!({"code": 1000, "message": "no"}));
        script.answer("connect", json!({"disconnect": {"code": 4501, "reason": "out"}}));
        let mut client = Client::open(server.address());
        client.send(&json!({"id": 1, "connect": {}}).to_string());
        client.is_closed_with(4501, "a disconnect of the backend");
        script.take_asked();
        Client::connect_with(server.address(), json!({"token": token(&json!({"sub": "ada"}))}));
        assert!(script.take_asked().is_empty(), "a token is enough");
    }
}

/// X04
#[test]
fn a_backend_decides_about_subscriptions() {
    for script in Script::both() {
        let server = server(&script);
        let mut client = Client::connect_with(server.address(), json!({"token": token(&json!({"sub": "ada"}))}));
        script.answer("subscribe", json!({"result": {"data": {"d": 1}, "info": {"i": 1}}}));
        let reply = client.call("subscribe", json!({"channel": "asked:a", "data": {"from": "client"}}));
        assert_eq!(reply["subscribe"]["data"], json!({"d": 1}), "{reply}");
        let request = script.take_asked().pop().expect("it was asked").request;
        let want = json!({
            "client": client.client, "transport": "websocket", "protocol": "json", "encoding": "json", "user": "ada",
            "channel": "asked:a", "data": {"from": "client"},
        });
        assert_eq!(request, want);
        script.answer("subscribe", json!({"error": {"code": 1000, "message": "no"}}));
        let reply = client.call("subscribe", json!({"channel": "asked:b"}));
        assert_eq!(reply["error"], json!({"code": 1000, "message": "no"}));
        script.answer("subscribe", json!({"disconnect": {"code": 4502, "reason": "out"}}));
        client.send(&json!({"id": 100, "subscribe": {"channel": "asked:c"}}).to_string());
        client.is_closed_with(4502, "a disconnect of the backend");
    }
}

/// X02
#[test]
fn a_backend_decides_whether_a_connection_goes_on() {
    for script in Script::both() {
        let server = server(&script);
        script.answer("connect", json!({"result": {"user": "ada", "expire_at": in_seconds(3), "meta": {"m": 1}}}));
        // The first answer lets it go on for a while, the second does not.
        script.answer("refresh", json!({"result": {"expire_at": in_seconds(6)}}));
        let mut client = Client::open(server.address());
        let reply = client.call("connect", json!({}));
        assert!(reply["connect"].get("expires").is_none(), "the server refreshes it, not the client: {reply}");
        let asked = script.wait_for_asked("refresh");
        assert_eq!((&asked.request["user"], &asked.request["meta"]), (&json!("ada"), &json!({"m": 1})));
        script.answer("refresh", json!({"result": {"expired": true}}));
        client.is_closed_with(3005, "the backend did not go on");
    }
}

/// X06
#[test]
fn a_backend_decides_whether_a_subscription_goes_on() {
    for script in Script::both() {
        let server = server(&script);
        let mut client = Client::connect_with(server.address(), json!({"token": token(&json!({"sub": "ada"}))}));
        script.answer("subscribe", json!({"result": {"expire_at": in_seconds(3)}}));
        script.answer("sub_refresh", json!({"result": {"expire_at": in_seconds(6)}}));
        let reply = client.call("subscribe", json!({"channel": "asked:a"}));
        assert!(reply["subscribe"].get("expires").is_none(), "the server refreshes it, not the client: {reply}");
        let asked = script.wait_for_asked("sub_refresh");
        assert_eq!((&asked.request["user"], &asked.request["channel"]), (&json!("ada"), &json!("asked:a")));
        script.answer("sub_refresh", json!({"result": {"expired": true}}));
        assert_eq!(client.push("unsubscribe")["code"], 2501);
    }
}

/// X01, X03, X04, X05, R06: the official client of JavaScript.
#[test]
fn backends_decide_about_the_javascript_client() {
    for script in Script::both() {
        let mut config = config(free_port());
        let proxy = |event: &str| json!({"enabled": true, "endpoint": script.endpoint(event), "timeout": "5s"});
        config["client"]["proxy"] = json!({"connect": proxy("connect")});
        let proxy = |event: &str| json!({"endpoint": script.endpoint(event), "timeout": "5s"});
        config["channel"]["proxy"] = json!({"subscribe": proxy("subscribe"), "publish": proxy("publish")});
        config["rpc"] = json!({"proxy": proxy("rpc"), "without_namespace": {"proxy_enabled": true}});
        let asked = json!({"name": "asked", "subscribe_proxy_enabled": true, "publish_proxy_enabled": true});
        config["channel"]["namespaces"].as_array_mut().expect("a list").push(asked);
        script.answer("connect", json!({"result": {"user": "ada", "data": {"hello": 1}}}));
        script.answer("subscribe", json!({"result": {"data": {"welcome": 1}}}));
        script.answer("publish", json!({"result": {"data": {"changed": 1}, "tags": {"by": "backend"}}}));
        script.answer("rpc", json!({"result": {"data": {"sum": 3}}}));
        check_proxied(&Server::start_with(2, &config));
        let asked: Vec<_> =
            script.take_asked().into_iter().map(|asked| (asked.event, asked.request["data"].clone())).collect();
        for (event, data) in
            [("connect", json!({"from": "client"})), ("publish", json!({"n": 1})), ("rpc", json!([1, 2]))]
        {
            assert!(asked.contains(&(event.to_owned(), data)), "{event}: {asked:?}");
        }
    }
}
