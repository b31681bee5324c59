//! The metrics pages of the real server: what they say is what clients and callers did and saw.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Client;
use crate::http;
use crate::server::{PATIENCE, Server, config, free_port};

const SUBSCRIBERS: u64 = 20;
const PUBLICATIONS: u64 = 15;

fn start(shards: u16) -> Server {
    let mut config = config(free_port());
    config["prometheus"] = json!({"enabled": true, "instrument_http_handlers": true});
    Server::start_with(shards, &config)
}

/// Samples by name and labels.
pub type Samples = BTreeMap<String, f64>;

#[track_caller]
fn scrape(address: SocketAddr) -> Samples {
    let reply = http::try_get(address, "/metrics").expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let text = reply.text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), value.replace("+Inf", "inf").parse().unwrap_or_else(|_| panic!("{line}")))
    };
    samples.map(sample).collect()
}

/// The sum over all shards.
fn sum(samples: &Samples, name: &str) -> f64 {
    let of_shards = samples.range(format!("{name}{{")..).take_while(|(sample, _)| sample.starts_with(name));
    of_shards.map(|(_, value)| value).sum()
}

/// Scrapes until a sample has a value; what a write ends is there a turn later.
#[track_caller]
pub fn scrape_until(address: SocketAddr, done: impl Fn(&Samples) -> bool) -> Samples {
    let tries = PATIENCE.as_millis() / 20;
    for _ in 0..tries {
        let samples = scrape(address);
        if done(&samples) {
            return samples;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("the metrics do not say it:\n{:#?}", scrape(address));
}

#[track_caller]
fn check_totals(shards: u16) {
    let server = start(shards);
    let mut subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| Client::connect(server.address())).collect();
    subscribers.iter_mut().for_each(|subscriber| subscriber.subscribe("chat:totals"));
    for n in 0..PUBLICATIONS {
        server.publish("chat:totals", json!({"n": n}));
    }
    for subscriber in &mut subscribers {
        (0..PUBLICATIONS).for_each(|n| assert_eq!(subscriber.publication()["data"]["n"], n));
    }
    let refused = subscribers[0].call("subscribe", json!({"channel": "none:such"}));
    assert_eq!(refused["error"]["code"], 102);

    let deliveries = (SUBSCRIBERS * PUBLICATIONS) as f64;
    let counted = "ringcast_publish_to_write_seconds_count";
    let samples = scrape_until(server.address(), |samples| sum(samples, counted) >= deliveries);
    let check = |name: &str, want: u64| assert_eq!(samples.get(name), Some(&(want as f64)), "{name}");
    assert_eq!(sum(&samples, counted), deliveries);
    assert_eq!(sum(&samples, "ringcast_shard_up"), f64::from(shards));
    assert_eq!(sum(&samples, "ringcast_shard_connections"), SUBSCRIBERS as f64);
    check("centrifugo_node_num_clients", SUBSCRIBERS);
    check("centrifugo_node_num_users", 1);
    check("centrifugo_node_num_subscriptions", SUBSCRIBERS);
    check("centrifugo_node_num_channels", 1);
    let sent = |frame| {
        format!(
            r#"centrifugo_transport_messages_sent{{channel_namespace="",frame_type="{frame}",transport="websocket"}}"#
        )
    };
    check(&sent("push_publication"), SUBSCRIBERS * PUBLICATIONS);
    check(&sent("connect"), SUBSCRIBERS);
    check(&sent("subscribe"), SUBSCRIBERS + 1);
    let received = sent("subscribe").replace("_sent", "_received");
    check(&received, SUBSCRIBERS + 1);
    check(r#"centrifugo_node_messages_sent_count{channel_namespace="",type="publication"}"#, PUBLICATIONS);
    check(r#"centrifugo_node_messages_received_count{channel_namespace="",type="publication"}"#, PUBLICATIONS);
    check(r#"centrifugo_api_command_duration_seconds_count{method="publish",protocol="http"}"#, PUBLICATIONS);
    check(
        r#"centrifugo_client_command_duration_seconds_histogram_count{channel_namespace="",method="subscribe"}"#,
        SUBSCRIBERS + 1,
    );
    check(r#"centrifugo_client_num_reply_errors{channel_namespace="",code="102",method="subscribe"}"#, 1);
    check(
        r#"centrifugo_node_incoming_http_requests_total{method="POST",path="/api/publish",status="200"}"#,
        PUBLICATIONS,
    );

    let latency: Value = http::try_get(server.address(), "/metrics/latency").expect("an answer").json();
    let all = &latency["all"]["publish_to_write"];
    assert_eq!(all["count"], SUBSCRIBERS * PUBLICATIONS);
    let percentiles = ["p50", "p99", "p99.99", "max"].map(|name| all[name].as_u64());
    assert!(percentiles.is_sorted() && percentiles[0] > Some(0), "{all}");
    assert_eq!(latency["shards"].as_array().map(Vec::len), Some(shards.into()));
}

/// B01
#[test]
fn totals_are_what_was_done_with_one_shard_and_with_four() {
    check_totals(1);
    check_totals(4);
}

#[test]
fn protobuf_is_sent_to_who_asks_for_it() {
    let server = start(1);
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6";
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAccept: {accept},*/*;q=0.1\r\n\r\n");
    let reply = http::raw(server.address(), request.as_bytes()).expect("an answer");
    assert_eq!(reply.status, 200);
    // Each family begins with its name behind the length of it; the text would have `# HELP` there.
    let wanted = [&[0x0a, 27][..], b"centrifugo_node_num_clients"].concat();
    assert!(reply.body.windows(wanted.len()).any(|bytes| bytes == wanted));
    assert!(!reply.text().contains("# HELP"));
}

#[test]
fn metrics_are_not_there_unless_enabled_and_then_on_the_inner_port() {
    let server = Server::start(1);
    for path in ["/metrics", "/metrics/latency"] {
        assert_eq!(http::try_get(server.address(), path).map(|reply| reply.status), Some(404), "{path}");
    }
    let (port, inner) = (free_port(), free_port());
    let mut config = config(port);
    config["http_server"]["internal_port"] = json!(inner.to_string());
    config["prometheus"] = json!({"enabled": true, "handler_prefix": "/inner/metrics"});
    let server = Server::spawn(1, &config);
    let inside = SocketAddr::from(([127, 0, 0, 1], inner));
    server.wait_for_log(PATIENCE, |log| log.contains("ready").then_some(()));
    assert_eq!(http::try_get(inside, "/inner/metrics").map(|reply| reply.status), Some(200));
    assert_eq!(http::try_get(inside, "/metrics").map(|reply| reply.status), Some(404));
    assert_eq!(http::try_get(server.address(), "/inner/metrics").map(|reply| reply.status), Some(404));
}

#[test]
fn scrapers_that_do_not_read_hold_up_nobody() {
    let server = start(2);
    let mut client = Client::connect(server.address());
    client.subscribe("chat:stalled");
    let request = "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".repeat(300);
    let mut stalled: Vec<TcpStream> = (0..80)
        .map(|_| {
            let mut socket = TcpStream::connect(server.address()).expect("the server listens");
            socket.write_all(request.as_bytes()).expect("it fits into the buffers");
            socket
        })
        .collect();
    for n in 0..50 {
        server.publish("chat:stalled", json!({"n": n}));
        assert_eq!(client.publication()["data"]["n"], n);
    }
    // Each is served in turn: made, or refused because too many wait.
    let mut status = [0; 12];
    stalled[0].set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
    stalled[0].read_exact(&mut status).expect("an answer");
    assert!([&b"HTTP/1.1 200"[..], b"HTTP/1.1 503"].contains(&&status[..]), "{status:?}");
    drop(stalled);
    let comes_back = (0..PATIENCE.as_millis() / 20).any(|_| {
        thread::sleep(Duration::from_millis(20));
        http::try_get(server.address(), "/metrics").expect("an answer").status == 200
    });
    assert!(comes_back);
    assert_eq!(sum(&scrape(server.address()), "ringcast_shard_up"), 2.0);
}
