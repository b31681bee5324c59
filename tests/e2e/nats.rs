//! Nodes that NATS joins: two of two shards each, a real `nats-server`, and a plain client of it.

pub mod peer;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::ready::Redis;
use crate::server::{PATIENCE, Server, config, free_port};
use crate::tls::authority::Authority;
use peer::{NatsServer, Peer};

/// Messages of a channel, as nodes send them.
const CLIENT: &str = "centrifugo.client.";

/// A node with everything allowed in channels without namespace.
fn node(nats: &NatsServer, more: Value) -> Server {
    Server::start_with(2, &node_config(nats, more))
}

fn node_config(nats: &NatsServer, more: Value) -> Value {
    let mut config = config(free_port());
    let mut options = json!({"url": nats.url()});
    options.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    config["broker"] = json!({"enabled": true, "type": "nats", "nats": options});
    config["channel"]["without_namespace"] = json!({
        "presence": true, "join_leave": true, "force_push_join_leave": true,
        "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
        "allow_publish_for_client": true, "allow_publish_for_anonymous": true,
        "allow_presence_for_client": true, "allow_presence_for_anonymous": true,
    });
    config
}

/// Tries until it holds.
#[track_caller]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn publish(server: &Server, channel: &str, data: Value) -> Value {
    server.api("publish", &json!({"channel": channel, "data": data}))
}

/// E07
#[test]
fn clients_of_two_nodes_see_one_system() {
    let nats = NatsServer::start();
    let (one, two) = (node(&nats, json!({})), node(&nats, json!({})));
    let (mut anna, mut otto) = (Client::connect(one.address()), Client::connect(two.address()));
    for number in 0..8 {
        let channel = format!("room{number}");
        anna.subscribe(&channel);
        otto.subscribe(&channel);
        let join = loop {
            // Hers comes first, as it does within one node.
            let join = anna.push("join");
            if join["info"]["client"] != json!(anna.client) {
                break join;
            }
        };
        assert_eq!(join["info"]["client"], json!(otto.client));
        assert!(publish(&one, &channel, json!({"number": number})).get("error").is_none());
        for client in [&mut anna, &mut otto] {
            assert_eq!(client.publication()["data"], json!({"number": number}));
        }
        let reply = otto.call("publish", json!({"channel": channel, "data": "from otto"}));
        assert!(reply.get("error").is_none(), "{reply}");
        let publication = anna.publication();
        assert_eq!((&publication["data"], &publication["info"]["client"]), (&json!("from otto"), &json!(otto.client)));
        assert_eq!(otto.publication()["data"], json!("from otto"));
        // In memory each node knows those who are connected to it.
        let presence = anna.call("presence", json!({"channel": channel}));
        let there = presence["presence"]["presence"].as_object().expect("presence").keys().cloned();
        assert_eq!(there.collect::<Vec<_>>(), [anna.client.clone()]);
    }
    wait_for("both nodes know both", || {
        [&one, &two]
            .iter()
            .all(|server| server.api("info", &json!({}))["result"]["nodes"].as_array().map(Vec::len) == Some(2))
    });
    drop(otto);
    assert!(anna.push("leave")["info"]["client"].is_string());
}

/// E07
#[test]
fn commands_of_the_server_api_reach_clients_of_other_nodes() {
    let nats = NatsServer::start();
    let (one, two) = (node(&nats, json!({})), node(&nats, json!({})));
    let token = crate::client::token(&json!({"sub": "anna"}));
    let mut anna = Client::connect_with(one.address(), json!({"token": token}));
    two.api("subscribe", &json!({"user": "anna", "channel": "room"}));
    assert_eq!(anna.push("subscribe"), json!({}));
    publish(&two, "room", json!(1));
    assert_eq!(anna.publication()["data"], json!(1));
    two.api("unsubscribe", &json!({"user": "anna", "channel": "room"}));
    assert_eq!(anna.push("unsubscribe")["code"], json!(2000));
    two.api("disconnect", &json!({"user": "anna"}));
    anna.is_closed_with(3503, "disconnect on the other node");
}

/// E07
#[test]
fn history_is_not_to_be_had() {
    let nats = NatsServer::start();
    let server = node(&nats, json!({}));
    let mut client = Client::connect(server.address());
    // Its namespace wants to recover.
    let reply = client.call("subscribe", json!({"channel": "chat:1"}));
    assert_eq!(reply["error"]["code"], json!(108), "{reply}");
    assert_eq!(server.api("history", &json!({"channel": "chat:1"}))["error"]["code"], json!(108));
    assert_eq!(server.api("history_remove", &json!({"channel": "chat:1"}))["error"]["code"], json!(108));
    assert!(publish(&server, "chat:1", json!(1)).get("error").is_none());
}

/// E02, E07
/// A broker that takes connections and says nothing is waited for, and nobody is let in meanwhile.
#[test]
fn clients_are_let_in_once_the_broker_is_there() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let place = silent.local_addr().expect("it is bound").to_string();
    let mut nats = config(free_port());
    nats["broker"] =
        json!({"enabled": true, "type": "nats", "nats": {"url": format!("nats://{place}"), "dial_timeout": "2s"}});
    let mut redis = config(free_port());
    redis["engine"] = json!({"type": "redis", "redis": {"address": [place], "connect_timeout": "2s"}});
    for (config, error) in [(nats, "error connecting to NATS"), (redis, "error connecting to Redis")] {
        let port = config["http_server"]["port"].as_u64().expect("a port") as u16;
        let server = Server::spawn(1, &config);
        let _connection = silent.accept().expect("the server connects");
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "a client is let in");
        let ended = server.wait();
        assert!(!ended.status.success() && ended.log.contains(error), "{}", ended.log);
    }
}

/// E07
#[test]
fn names_that_no_subject_can_have_are_refused() {
    let nats = NatsServer::start();
    let server = node(&nats, json!({}));
    let mut client = Client::connect(server.address());
    for channel in ["a.*", "a.>", "a..b", "a b"] {
        let reply = client.call("subscribe", json!({"channel": channel}));
        assert_eq!(reply["error"]["code"], json!(107), "{channel}: {reply}");
        let reply = publish(&server, channel, json!(1));
        assert_eq!(reply["error"]["code"], json!(107), "{channel}: {reply}");
    }
    client.subscribe("a.b");
    publish(&server, "a.b", json!(1));
    assert_eq!(client.publication(), json!({"data": 1}));
}

/// E07
#[test]
fn presence_is_shared_where_redis_keeps_it() {
    let (nats, redis) = (NatsServer::start(), Redis::start());
    let address = json!({"address": [format!("127.0.0.1:{}", redis.port())]});
    let start = |more: Value| {
        let mut config = node_config(&nats, json!({}));
        config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        Server::start_with(2, &config)
    };
    let one = start(json!({"engine": {"type": "redis", "redis": address}}));
    let two = start(json!({"presence_manager": {"enabled": true, "type": "redis", "redis": address}}));
    let (mut anna, mut otto) = (Client::connect(one.address()), Client::connect(two.address()));
    anna.subscribe("room");
    otto.subscribe("room");
    for client in [&mut anna, &mut otto] {
        let presence = client.call("presence", json!({"channel": "room"}));
        assert_eq!(presence["presence"]["presence"].as_object().map(|there| there.len()), Some(2), "{presence}");
    }
    publish(&two, "room", json!(1));
    assert_eq!(anna.publication()["data"], json!(1));
}

/// E07
#[test]
fn types_that_do_not_go_together_are_refused() {
    let broker = |kind: &str| {
        let mut config = config(free_port());
        config["broker"] = json!({"enabled": true, "type": kind});
        config
    };
    let mut presence = config(free_port());
    presence["presence_manager"] = json!({"enabled": true, "type": "redis"});
    for (config, key) in [(broker("redisnats"), "broker.type"), (presence, "presence_manager.type")] {
        let ended = Server::ends_with(1, &config);
        assert!(ended.log.contains(key), "{key}: {}", ended.log);
    }
}

/// C20
#[test]
fn patterns_hear_all_channels_that_they_fit() {
    let nats = NatsServer::start();
    let options = json!({"allow_wildcards": true});
    let (one, two) = (node(&nats, options.clone()), node(&nats, options));
    let mut client = Client::connect(one.address());
    client.subscribe("news.*.today");
    // As in Centrifugo, a pattern has members of its own.
    assert_eq!(client.push("join")["info"]["client"], json!(client.client));
    publish(&two, "news.sport.yesterday", json!(0));
    publish(&two, "news.sport.today", json!(1));
    assert_eq!(client.publication(), json!({"data": 1, "channel": "news.sport.today"}));
    client.subscribe("news.>");
    client.subscribe("news.sport.today");
    publish(&two, "news.sport.today", json!(2));
    for _ in 0..3 {
        assert_eq!(client.publication(), json!({"data": 2, "channel": "news.sport.today"}));
    }
    assert_eq!(publish(&two, "news.*", json!(3))["error"]["code"], json!(107));
    assert_eq!(client.call("subscribe", json!({"channel": "news.>.x"}))["error"]["code"], json!(107));
}

/// E08
#[test]
fn in_raw_mode_others_speak_with_channels_in_plain_payloads() {
    let nats = NatsServer::start();
    let raw = json!({"enabled": true, "prefix": "app.", "channel_replacements": {":": "."}});
    let options = json!({"raw_mode": raw, "allow_wildcards": true});
    let (one, two) = (node(&nats, options.clone()), node(&nats, options));
    let mut peer = Peer::hearing(&nats, "app.>");
    let (mut anna, mut otto) = (Client::connect(one.address()), Client::connect(two.address()));
    anna.subscribe("quiet:1");
    otto.subscribe("quiet:*");

    publish(&one, "quiet:1", json!({"from": "api"}));
    assert_eq!(peer.message(), ("app.quiet.1".to_owned(), br#"{"from":"api"}"#.to_vec()));
    peer.publish("app.quiet.1", br#"{"from":"peer"}"#);
    for from in ["api", "peer"] {
        for client in [&mut anna, &mut otto] {
            assert_eq!(client.publication(), json!({"data": {"from": from}, "channel": "quiet.1"}));
        }
    }
    // Control stays where it is, so that the nodes know each other.
    wait_for("two nodes", || one.api("info", &json!({}))["result"]["nodes"].as_array().map(Vec::len) == Some(2));
}

/// E07
#[test]
fn what_others_write_wrong_disturbs_nobody() {
    let nats = NatsServer::start();
    let server = node(&nats, json!({}));
    let mut peer = Peer::hearing(&nats, "nothing");
    let mut client = Client::connect(server.address());
    client.subscribe("room");
    for bad in [&b""[..], b"\xff\xff\xff", b"{}", b"\x12\x04room"] {
        peer.publish(&format!("{CLIENT}room"), bad);
        peer.publish("centrifugo.control", bad);
    }
    publish(&server, "room", json!(1));
    assert_eq!(client.publication()["data"], json!(1));
}

/// E07
#[test]
fn delivery_goes_on_when_nats_comes_back() {
    let mut nats = NatsServer::start();
    let (one, two) = (node(&nats, json!({})), node(&nats, json!({})));
    let mut client = Client::connect(one.address());
    client.subscribe("room");
    nats.kill();
    wait_for("publishing fails", || publish(&two, "room", json!("lost"))["error"]["code"] == json!(100));
    // Later ones fail at once, and all the rest works.
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(publish(&two, "room", json!("lost"))["error"]["code"], json!(100));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "100 refusals took {:?}", began.elapsed());
    let reply = client.call("subscribe", json!({"channel": "other"}));
    assert_eq!((&reply["error"]["code"], &reply["error"]["temporary"]), (&json!(100), &json!(true)), "{reply}");

    nats.run();
    wait_for("publishing works", || publish(&two, "room", json!("back")).get("error").is_none());
    // The other node may be back a moment later.
    let mut sent = 0;
    one.wait_for_log(PATIENCE, |log| log.contains("connected to NATS again").then_some(()));
    wait_for("a subscription works", || client.call("subscribe", json!({"channel": "other"})).get("error").is_none());
    for _ in 0..3 {
        sent += 1;
        publish(&two, "room", json!(sent));
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&json!(3)) {
        seen.push(client.publication()["data"].clone());
    }
    seen.retain(|data| *data != json!("back"));
    assert_eq!(seen, [json!(1), json!(2), json!(3)]);
}

/// E07
#[test]
fn nats_that_hangs_costs_one_time_out() {
    let nats = NatsServer::start();
    let server = node(&nats, json!({"dial_timeout": "300ms", "write_timeout": "300ms"}));
    let mut client = Client::connect(server.address());
    client.subscribe("room");
    nats.signal(rustix::process::Signal::STOP);
    wait_for("publishing fails", || publish(&server, "room", json!(1))["error"]["code"] == json!(100));
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(publish(&server, "room", json!(1))["error"]["code"], json!(100));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "100 refusals took {:?}", began.elapsed());
    assert!(client.call("presence", json!({"channel": "room"})).get("presence").is_some());
    nats.signal(rustix::process::Signal::CONT);
    wait_for("publishing works", || publish(&server, "room", json!("again")).get("error").is_none());
    while client.publication()["data"] != json!("again") {}
}

/// E07
#[test]
fn nats_wants_to_know_who_we_are() {
    let nats = NatsServer::start_with(&["--user", "anna", "--pass", "se/cret"]);
    let refused = Server::ends_with(1, &node_config(&nats, json!({})));
    assert!(refused.log.contains("error connecting to NATS"), "{}", refused.log);
    let url = format!("nats://anna:se%2Fcret@127.0.0.1:{}", nats.port());
    let server = node(&nats, json!({"url": url}));
    assert!(publish(&server, "room", json!(1)).get("error").is_none());
    assert!(!server.log().contains("se/cret") && !server.log().contains("se%2Fcret"), "{}", server.log());
}

/// E07, Z05
#[test]
fn nats_is_spoken_to_over_tls() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (theirs, ours) = (authority.sign(), authority.sign());
    let (certificate, key) =
        (peer::file("certificate", &theirs.certificate_pem()), peer::file("key", &theirs.key_pem()));
    let ca = peer::file("ca", &authority.pem());
    let path = |path: &std::path::Path| path.display().to_string();
    let (certificate, key, ca) = (path(&certificate), path(&key), path(&ca));
    let nats =
        NatsServer::start_with(&["--tlsverify", "--tlscert", &certificate, "--tlskey", &key, "--tlscacert", &ca]);
    let tls = |authority: &Authority| {
        json!({"tls": {
            "enabled": true, "server_ca_pem": authority.pem(), "cert_pem": ours.certificate_pem(), "key_pem": ours.key_pem(),
        }})
    };
    let refused = Server::ends_with(1, &node_config(&nats, tls(&other)));
    assert!(refused.log.contains("error connecting to NATS"), "{}", refused.log);
    let (one, two) = (node(&nats, tls(&authority)), node(&nats, tls(&authority)));
    let mut client = Client::connect(one.address());
    client.subscribe("room");
    publish(&two, "room", json!(1));
    assert_eq!(client.publication()["data"], json!(1));
}
