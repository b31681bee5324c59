//! Subscription streams: a backend feeds one client's subscription.

use super::stream_backend::{Opened, StreamBackend};
use crate::bystander::Bystander;
use crate::client::{Client, token};
use crate::server::{PATIENCE, Server, config, free_port};
use ringcast_proto::proxy::{Disconnect, Error, SubscribeResponse, SubscribeResult};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A server that asks for a stream for channels in `fed`, and for one in both directions for `both`.
fn server(backend: &StreamBackend) -> Server {
    let mut config = config(free_port());
    config["channel"]["proxy"] = json!({"subscribe_stream": {"endpoint": backend.endpoint, "timeout": "500ms", "include_connection_meta": true}});
    for (name, is_bidirectional) in [("fed", false), ("both", true)] {
        let namespace = json!({
            "name": name, "subscribe_stream_proxy_enabled": true,
            "subscribe_stream_proxy_bidirectional": is_bidirectional, "presence": true,
        });
        config["channel"]["namespaces"].as_array_mut().expect("a list").push(namespace);
    }
    Server::start_with(2, &config)
}

/// Has a client subscribe, and the backend accept.
#[track_caller]
fn subscribe(backend: &StreamBackend, client: &mut Client, channel: &str) -> Opened {
    client.send(&json!({"id": 100, "subscribe": {"channel": channel}}).to_string());
    let opened = backend.opened();
    opened.accept(SubscribeResult::default());
    assert!(client.reply(100).get("subscribe").is_some());
    opened
}

#[track_caller]
fn wait_for(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// S06, X07
#[test]
fn a_stream_of_a_backend_feeds_the_subscription_of_one_client() {
    let backend = StreamBackend::start();
    let server = server(&backend);
    let connect = json!({"token": token(&json!({"sub": "ada", "meta": {"m": 1}}))});
    let mut client = Client::connect_with(server.address(), connect);
    client.send(&json!({"id": 100, "subscribe": {"channel": "fed:a", "data": {"x": 1}}}).to_string());
    let opened = backend.opened();
    let request = &opened.request;
    assert_eq!(opened.method, "SubscribeUnidirectional");
    assert_eq!(
        (&*request.client, &*request.user, &*request.channel, &*request.transport, &*request.protocol),
        (&*client.client, "ada", "fed:a", "websocket", "json")
    );
    assert_eq!((&request.data[..], &request.meta[..]), (&br#"{"x":1}"#[..], &br#"{"m":1}"#[..]));
    opened.accept(SubscribeResult { data: "[1]".into(), info: "[2]".into(), ..Default::default() });
    // Behind the answer, and before the client has it.
    opened.publish(r#"{"n":1}"#);
    assert_eq!(client.reply(100)["subscribe"]["data"], json!([1]));
    assert_eq!(client.publication(), json!({"data": {"n": 1}, "tags": {"by": "backend"}}));
    let presence = client.call("presence", json!({"channel": "fed:a"}));
    assert_eq!(presence["error"]["code"], 103, "who may is up to the namespace");

    let mut other = Client::connect(server.address());
    let others = subscribe(&backend, &mut other, "fed:a");
    others.publish("3");
    assert_eq!(other.publication()["data"], json!(3), "its own stream only");
    server.publish("fed:a", json!("all"));
    for client in [&mut client, &mut other] {
        assert_eq!(client.publication()["data"], "all", "an ordinary publication reaches all");
        let reply = client.call("publish", json!({"channel": "fed:a", "data": 1}));
        assert_eq!(reply["error"]["code"], 108, "nothing goes up");
    }

    client.call("unsubscribe", json!({"channel": "fed:a"}));
    opened.is_cancelled();
    assert!(others.is_open());
    drop(other);
    others.is_cancelled();
    let again = subscribe(&backend, &mut client, "fed:a");
    server.api("unsubscribe", &json!({"user": "ada", "channel": "fed:a"}));
    again.is_cancelled();
}

/// S06, X07
#[test]
fn the_end_of_a_stream_is_the_end_of_the_subscription() {
    let backend = StreamBackend::start();
    let server = server(&backend);
    let mut client = Client::connect(server.address());
    let long = vec![b'x'; (4 << 20) + 1];
    type End = Box<dyn FnOnce(Opened)>;
    let say = |message: Vec<u8>| -> End {
        Box::new(move |opened| {
            opened.say(&message);
            opened.is_cancelled();
        })
    };
    let ends: [(&str, u64, End); 5] = [
        ("an end", 2000, Box::new(|opened| opened.end("0"))),
        ("a status", 2500, Box::new(|opened| opened.end("13"))),
        ("an end without status", 2500, Box::new(drop)),
        ("garbage", 2500, say(vec![0x0a, 0xff])),
        ("a long message", 2500, say(long)),
    ];
    for (name, code, end) in ends {
        let opened = subscribe(&backend, &mut client, "fed:a");
        opened.publish("1");
        end(opened);
        assert_eq!(client.publication()["data"], 1, "{name}: what was said before comes before");
        assert_eq!(client.push("unsubscribe")["code"], code, "{name}");
    }
}

/// S07, X07
#[test]
fn publications_of_the_client_go_up_a_stream_in_both_directions() {
    let backend = StreamBackend::start();
    let server = server(&backend);
    let mut client = Client::connect(server.address());
    let publish =
        |client: &mut Client, n: usize| client.call("publish", json!({"channel": "both:a", "data": {"n": n}}));
    assert_eq!(publish(&mut client, 0)["error"]["code"], 108, "not subscribed");
    let opened = subscribe(&backend, &mut client, "both:a");
    assert_eq!(opened.method, "SubscribeBidirectional");
    for n in 0..100 {
        assert!(publish(&mut client, n).get("publish").is_some());
        assert_eq!(opened.heard(), format!(r#"{{"n":{n}}}"#));
    }
    opened.publish("2");
    assert_eq!(client.publication()["data"], 2, "what went up came not down");
    opened.end("0");
    assert_eq!(client.push("unsubscribe")["code"], 2000);
    assert_eq!(publish(&mut client, 0)["error"]["code"], 108);
}

/// X07: whatever a backend does before it accepts, the client gets the right answer, and nobody else notices.
#[test]
fn backends_that_open_no_stream_hurt_nobody_else() {
    let backend = StreamBackend::start();
    let server = server(&backend);
    let mut bystander = Bystander::new(&server);
    let mut client = Client::connect(server.address());
    type Act = fn(&Opened);
    let acts: [(&str, u64, Act); 4] = [
        ("silence", 100, |_| {}),
        ("a publication first", 100, |opened| assert!(opened.publish("1"))),
        ("garbage", 100, |opened| assert!(opened.say(b"\x0a\xff"))),
        ("an error", 1000, |opened| {
            let error = Some(Error { code: 1000, message: "no".to_owned(), temporary: false });
            opened.reply(SubscribeResponse { error, ..Default::default() });
        }),
    ];
    for channel in ["fed:a", "both:a"] {
        for (name, code, act) in acts {
            client.send(&json!({"id": 100, "subscribe": {"channel": channel}}).to_string());
            let opened = backend.opened();
            act(&opened);
            assert_eq!(client.reply(100)["error"]["code"], code, "{name}");
            opened.is_cancelled();
            bystander.is_undisturbed(&server, name);
        }
        client.send(&json!({"id": 100, "subscribe": {"channel": channel}}).to_string());
        drop(backend.opened());
        assert_eq!(client.reply(100)["error"]["code"], 100, "an end");
    }
    client.send(&json!({"id": 100, "subscribe": {"channel": "fed:a"}}).to_string());
    let opened = backend.opened();
    opened.reply(SubscribeResponse {
        disconnect: Some(Disconnect { code: 4501, reason: "out".to_owned() }),
        ..Default::default()
    });
    client.is_closed_with(4501, "a disconnect of the backend");
    opened.is_cancelled();
    server.wait_for_log(PATIENCE, |log| log.contains("error proxying").then_some(()));
}

/// X07: a backend is no faster than its client; what it says beyond waits with it.
#[test]
fn a_flood_waits_at_the_backend_and_loses_nothing() {
    const BYTES: usize = 32 << 10;
    let backend = StreamBackend::start();
    let server = server(&backend);
    let mut bystander = Bystander::new(&server);
    let mut client = Client::connect(server.address());
    let opened = subscribe(&backend, &mut client, "fed:a");
    let said = Arc::new(AtomicUsize::new(0));
    let (count, pad) = (said.clone(), "x".repeat(BYTES));
    let flood = thread::spawn(move || {
        while opened.publish(&json!([count.load(Ordering::Relaxed), pad]).to_string()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut before = usize::MAX;
    wait_for("the backend is held back", || {
        thread::sleep(Duration::from_millis(200));
        before == std::mem::replace(&mut before, said.load(Ordering::Relaxed))
    });
    assert!(before > 0 && before < (16 << 20) / BYTES, "{before} publications are on their way");
    bystander.is_undisturbed(&server, "a flood");
    // Another stream of the same connection to the backend.
    let mut other = Client::connect(server.address());
    let others = subscribe(&backend, &mut other, "fed:a");
    others.publish("1");
    assert_eq!(other.publication()["data"], 1);
    for n in 0..2 * before {
        assert_eq!(client.publication()["data"][0], json!(n));
    }
    drop(client);
    flood.join().expect("it was cancelled");
    assert!(server.peak_bytes() < 200 << 20, "{} bytes", server.peak_bytes());
}

/// X07: a client that publishes to a backend which does not read is told so.
#[test]
fn publications_that_a_backend_does_not_take_fail() {
    let backend = StreamBackend::start();
    let server = server(&backend);
    let mut client = Client::connect(server.address());
    let opened = subscribe(&backend, &mut client, "both:a");
    let pad = "x".repeat(32 << 10);
    let publish = |client: &mut Client| client.call("publish", json!({"channel": "both:a", "data": pad}));
    opened.set_deaf(true);
    let mut reply = Value::Null;
    wait_for("a publication fails", || {
        reply = publish(&mut client);
        reply.get("publish").is_none()
    });
    assert_eq!(reply["error"]["code"], 100);
    client.call("unsubscribe", json!({"channel": "both:a"}));
    // What HTTP/2 has taken goes first.
    opened.set_deaf(false);
    opened.is_cancelled();
}
