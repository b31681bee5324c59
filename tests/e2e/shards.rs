//! Several shards behave as one server: whoever publishes, wherever, all subscribers see the same channel.

use std::thread;

use serde_json::{Value, json};

use crate::client::Client;
use crate::server::{PATIENCE, Server, config, free_port};

/// Shards of the server here.
const SHARDS: usize = 4;

/// Connections opened at a time until every shard has some.
const STEP: usize = 8;

/// More than enough: with this many, a shard without any is a fault of the spreading.
const CONNECTIONS_MAX: usize = 400;

#[test]
fn subscribers_on_every_shard_see_one_order() {
    const PUBLISHERS: usize = 4;
    const PUBLICATIONS: usize = 100;
    let server = Server::start(SHARDS as u16);
    let mut subscribers = on_every_shard(&server);
    for subscriber in &mut subscribers {
        subscriber.subscribe("chat:order");
    }
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let server = &server;
            scope.spawn(move || publish_many(server, publisher, PUBLICATIONS));
        }
    });
    let order = take(&mut subscribers[0], PUBLISHERS * PUBLICATIONS);
    let offsets: Vec<_> = order.iter().filter_map(|publication| publication["offset"].as_u64()).collect();
    assert_eq!(offsets, (1..=(PUBLISHERS * PUBLICATIONS) as u64).collect::<Vec<_>>());
    for publisher in 0..PUBLISHERS {
        let own: Vec<_> = order.iter().filter(|p| p["data"]["publisher"] == publisher).collect();
        let numbers: Vec<_> = own.iter().filter_map(|p| p["data"]["n"].as_u64()).collect();
        assert_eq!(numbers, (0..PUBLICATIONS as u64).collect::<Vec<_>>(), "publisher {publisher}");
    }
    for subscriber in &mut subscribers[1..] {
        assert_eq!(take(subscriber, PUBLISHERS * PUBLICATIONS), order);
    }
}

/// A07, A08
#[test]
fn what_one_shard_knows_every_shard_answers() {
    let server = Server::start(SHARDS as u16);
    let mut clients = on_every_shard(&server);
    clients[0].subscribe("chat:shared");
    let count = clients.len();
    for (number, client) in clients.iter_mut().enumerate() {
        let published = client.call("publish", json!({"channel": "chat:shared", "data": {"n": number}}));
        assert!(published.get("publish").is_some(), "{published}");
        let history = client.call("history", json!({"channel": "chat:shared", "limit": 1, "reverse": true}));
        assert_eq!(history["history"]["publications"][0]["data"], json!({"n": number}));
        let stats = client.call("presence_stats", json!({"channel": "chat:shared"}));
        assert_eq!(stats["presence_stats"], json!({"num_clients": 1, "num_users": 1}));
    }
    let info = server.api("info", &json!({}));
    assert_eq!(info["result"]["nodes"][0]["num_clients"], count, "{info}");
    assert_eq!(info["result"]["nodes"][0]["num_channels"], 1, "{info}");
}

#[test]
fn few_connections_are_spread_evenly() {
    const CONNECTIONS: usize = 40;
    let server = Server::start(SHARDS as u16);
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::connect(server.address())).collect();
    let spread = server.wait_for_log(PATIENCE, |log| {
        let spread = last_spread(log)?;
        (spread.iter().sum::<usize>() == clients.len()).then_some(spread)
    });
    // The connection that asked for the health of the server may still count.
    assert!(spread.iter().all(|connections| connections.abs_diff(CONNECTIONS / SHARDS) <= 1), "{spread:?}");
}

#[test]
fn shards_run_where_they_were_put_and_the_control_plane_elsewhere() {
    let status = std::fs::read_to_string("/proc/self/status").expect("every process has one");
    let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("Linux says it").trim();
    let last = mask.rsplit([',', '-']).next().expect("no mask is empty");
    let mut config = config(free_port());
    config["shard_placement"] = json!({"cpus": last});
    let server = Server::start_with(1, &config);
    let threads = server.threads();
    let (shards, others): (Vec<_>, Vec<_>) = threads.into_iter().partition(|(name, _)| name.starts_with("shard-"));
    // The shard itself, and what glommio starts for it under its name.
    assert!(!shards.is_empty() && shards.iter().all(|(_, cpus)| cpus == last), "{shards:?}");
    let is_kept_away = |cpus: &str| mask == last || !cpus.split([',', '-']).any(|cpu| cpu == last);
    assert!(others.len() >= 3 && others.iter().all(|(_, cpus)| is_kept_away(cpus)), "{others:?}");
    assert!(server.log().contains(&format!("shards on CPUs: 0 on {last}; control plane on ")), "{}", server.log());
}

/// Opens connections until every shard has some. The server logs their number per shard when it changes.
fn on_every_shard(server: &Server) -> Vec<Client> {
    let mut clients = Vec::new();
    while clients.len() < CONNECTIONS_MAX {
        clients.extend((0..STEP).map(|_| Client::connect(server.address())));
        let spread = server.wait_for_log(PATIENCE, |log| {
            let spread = last_spread(log)?;
            (spread.iter().sum::<usize>() == clients.len()).then_some(spread)
        });
        assert_eq!(spread.len(), SHARDS);
        if spread.iter().all(|connections| *connections > 0) {
            return clients;
        }
    }
    panic!("a shard has no connection out of {CONNECTIONS_MAX}:\n{}", server.log());
}

/// The numbers of the last line about connections per shard.
fn last_spread(log: &str) -> Option<Vec<usize>> {
    let line = log.lines().rev().find(|line| line.contains("connections per shard"))?;
    let numbers = line.split_once('[')?.1.split_once(']')?.0;
    numbers.split(',').map(|number| number.trim().parse().ok()).collect()
}

/// Publishes on a connection of its own and over HTTP in turn, each acknowledged before the next.
fn publish_many(server: &Server, publisher: usize, publications: usize) {
    let mut client = Client::connect(server.address());
    for n in 0..publications {
        let data = json!({"publisher": publisher, "n": n});
        if n % 2 == 0 {
            server.publish("chat:order", data);
        } else {
            let reply = client.call("publish", json!({"channel": "chat:order", "data": data}));
            assert!(reply.get("publish").is_some(), "{reply}");
        }
    }
}

/// So many publications, without what tells who published.
fn take(client: &mut Client, count: usize) -> Vec<Value> {
    let without_info = |publication: Value| json!({"data": publication["data"], "offset": publication["offset"]});
    (0..count).map(|_| without_info(client.publication())).collect()
}
