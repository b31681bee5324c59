//! Nodes that Redis joins, with what becomes of Redis.

pub mod servers;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, token};
use crate::server::{PATIENCE, Server, config, free_port};
use servers::Redis;

fn node(parts: Value) -> Server {
    let mut config = config(free_port());
    let root = config.as_object_mut().expect("an object");
    root.extend(parts.as_object().expect("an object").clone());
    Server::start_with(2, &config)
}

/// A subscriber of `chat:1` that recovers, and checks that what it is told follows what it was told before.
struct Follower {
    client: Client,
    offset: u64,
    epoch: String,
    /// It was told that what it missed is lost.
    lost: u32,
}

impl Follower {
    fn new(server: &Server) -> Follower {
        let mut client = Client::connect(server.address());
        let reply = client.call("subscribe", json!({"channel": "chat:1"}))["subscribe"].clone();
        let epoch = reply["epoch"].as_str().expect("an epoch").to_owned();
        Follower { client, offset: reply["offset"].as_u64().unwrap_or(0), epoch, lost: 0 }
    }

    /// Reads until it stands at this offset, coming again whenever it has to. One that is told that its stream began anew has been
    /// further than that.
    #[track_caller]
    fn follow_to(&mut self, offset: u64) {
        while self.offset != offset {
            let push = self.client.next_push();
            if push["channel"] != "chat:1" {
                continue;
            }
            if let Some(publication) = push.get("pub") {
                self.take(publication);
            } else if let Some(end) = push.get("unsubscribe") {
                assert_eq!(end["code"], 2500, "{end}");
                self.come_again();
            }
        }
    }

    #[track_caller]
    fn take(&mut self, publication: &Value) {
        assert_eq!(publication["offset"], self.offset + 1, "does not follow {}: {publication}", self.offset);
        self.offset += 1;
    }

    /// Subscribes until that works: while Redis is gone it does not.
    #[track_caller]
    fn come_again(&mut self) {
        let began = Instant::now();
        loop {
            let wish = json!({"channel": "chat:1", "recover": true, "offset": self.offset, "epoch": self.epoch});
            let reply = self.client.call("subscribe", wish);
            let Some(subscribed) = reply.get("subscribe") else {
                assert_eq!(reply["error"]["code"], 100, "{reply}");
                assert!(began.elapsed() < PATIENCE, "cannot subscribe");
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            if subscribed["recovered"] == true {
                for publication in subscribed["publications"].as_array().unwrap_or(&Vec::new()) {
                    self.take(publication);
                }
            } else {
                self.lost += 1;
                self.offset = subscribed["offset"].as_u64().unwrap_or(0);
                self.epoch = subscribed["epoch"].as_str().expect("an epoch").to_owned();
            }
            return;
        }
    }
}

/// The offset of a publication, if Redis took it.
fn publish(server: &Server) -> Option<u64> {
    server.api("publish", &json!({"channel": "chat:1", "data": {}}))["result"]["offset"].as_u64()
}

/// Tells when a replica has become master, which then ends with what is returned beside.
fn promotion(replica: Redis) -> (Receiver<Instant>, Arc<Redis>) {
    let (sender, promoted) = channel();
    let replica = Arc::new(replica);
    let watched = replica.clone();
    thread::spawn(move || {
        watched.wait_until(|replica| replica.ask(&["ROLE"]).starts_with("master"));
        let _ = sender.send(Instant::now());
    });
    (promoted, replica)
}

/// E04
/// Something is published all the time, and the master is killed: as soon as publications are taken again every subscriber is told
/// of them, or that it has lost something. Nobody has to restart anything.
#[test]
fn subscribers_are_level_or_told_after_the_master_has_died() {
    let mut master = Redis::start(&["--repl-diskless-sync-delay", "0"]);
    let replica = Redis::replica_of(&master);
    let sentinel = Redis::sentinel(&master);
    let redis = json!({"sentinel_address": [sentinel.address()], "sentinel_master_name": "m"});
    let engine = json!({"engine": {"type": "redis", "redis": redis}});
    let (one, two) = (node(engine.clone()), node(engine));
    let mut followers: Vec<_> = [&one, &one, &two, &two].map(Follower::new).into();
    for number in 1..=20 {
        assert_eq!(publish(&one), Some(number));
    }
    followers.iter_mut().for_each(|follower| follower.follow_to(20));
    master.kill();
    let began = Instant::now();
    assert_eq!(publish(&one), None, "nobody is there to take it");
    let (promoted, replica) = promotion(replica);
    let mut top = 0;
    for server in [&one, &two] {
        top = loop {
            if let Some(offset) = publish(server) {
                break offset;
            }
            assert!(began.elapsed() < PATIENCE, "publications fail after the fail-over");
            thread::sleep(Duration::from_millis(20));
        };
    }
    for _ in 0..5 {
        top = publish(&one).expect("Redis is there");
    }
    followers.iter_mut().for_each(|follower| follower.follow_to(top));
    let level = began.elapsed();
    let promoted = promoted.recv_timeout(PATIENCE).expect("the replica is master") - began;
    crate::server::write_stderr(&format!("master after {promoted:?}, all subscribers level after {level:?}\n"));
    drop(replica);
    for server in [&one, &two] {
        server.wait_for_log(PATIENCE, |log| log.contains("PUB/SUB connection to Redis is back").then_some(()));
    }
}

/// E05
#[test]
fn clients_of_two_nodes_see_one_system_on_a_cluster() {
    let start = |_| {
        let bus = free_port().to_string();
        Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &bus])
    };
    let servers: Vec<_> = (0..3).map(start).collect();
    let addresses: Vec<_> = servers.iter().map(Redis::address).collect();
    let mut words = vec!["--cluster", "create", "--cluster-yes"];
    words.splice(2..2, addresses.iter().map(String::as_str));
    let said = servers[0].ask(&words);
    assert!(said.contains("All 16384 slots covered"), "{said}");
    for server in &servers {
        server.wait_until(|server| {
            let info = server.ask(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        });
    }
    let engine = json!({"engine": {"type": "redis", "redis": {"cluster_address": [addresses.join(",")]}}});
    let (one, two) = (node(engine.clone()), node(engine));
    let (mut anna, mut otto) = (Client::connect(one.address()), Client::connect(two.address()));
    for number in 0..12 {
        let channel = format!("chat:{number}");
        anna.subscribe(&channel);
        otto.subscribe(&channel);
        for server in [&one, &two] {
            server.publish(&channel, json!({"number": number}));
            for client in [&mut anna, &mut otto] {
                assert_eq!(client.publication()["data"], json!({"number": number}));
            }
        }
        let history = one.api("history", &json!({"channel": channel, "limit": 10}));
        assert_eq!(history["result"]["publications"].as_array().map(Vec::len), Some(2), "{history}");
        let presence = two.api("presence", &json!({"channel": channel}));
        assert_eq!(presence["result"]["presence"].as_object().map(serde_json::Map::len), Some(2), "{presence}");
    }
}

/// E11, O04
/// Publications are on one Redis and presence is on another, which counts connections and users by itself.
#[test]
fn presence_is_kept_and_counted_on_another_redis_than_publications() {
    let (broker, presence) = (Redis::start(&[]), Redis::start(&[]));
    let parts = json!({
        "broker": {"enabled": true, "type": "redis", "redis": {"address": [broker.address()], "prefix": "b"}},
        "presence_manager": {"enabled": true, "type": "redis", "redis": {
            "address": [presence.address()], "prefix": "p", "presence_user_mapping": true,
        }},
    });
    let (one, two) = (node(parts.clone()), node(parts));
    let connect = |server: &Server, user: &str| {
        let mut client = Client::connect_with(server.address(), json!({"token": token(&json!({"sub": user}))}));
        client.subscribe("chat:1");
        client
    };
    let mut clients = [connect(&one, "anna"), connect(&two, "anna"), connect(&two, "otto")];
    two.publish("chat:1", json!("x"));
    clients.iter_mut().for_each(|client| assert_eq!(client.publication()["data"], "x"));
    let stats = |server: &Server| server.api("presence_stats", &json!({"channel": "chat:1"}))["result"].clone();
    for server in [&one, &two] {
        assert_eq!(stats(server), json!({"num_clients": 3, "num_users": 2}));
    }
    let reply = clients[0].call("presence_stats", json!({"channel": "chat:1"}));
    assert_eq!(reply["presence_stats"], json!({"num_clients": 3, "num_users": 2}));
    assert!(
        !presence.ask(&["INFO", "commandstats"]).contains("cmdstat_hgetall"),
        "it was counted by reading everything"
    );
    assert_eq!(
        clients[0].call("presence", json!({"channel": "chat:1"}))["presence"]["presence"]
            .as_object()
            .map(serde_json::Map::len),
        Some(3)
    );
    assert_eq!(broker.ask(&["KEYS", "*"]).lines().filter(|key| !key.starts_with("b.stream")).count(), 0);
    assert_eq!(presence.ask(&["KEYS", "*"]).lines().filter(|key| !key.starts_with("p.presence")).count(), 0);
    drop(clients);
    let began = Instant::now();
    while stats(&one) != json!({"num_clients": 0, "num_users": 0}) {
        assert!(began.elapsed() < PATIENCE, "{}", stats(&one));
        thread::sleep(Duration::from_millis(20));
    }
}
