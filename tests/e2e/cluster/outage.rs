//! The broker is gone: what other nodes have to be told or asked for fails at once, and what a node can do alone it does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::house::{Broker, Redis, channels, names, nodes, wait_for};
use super::user;
use crate::nats::peer::NatsServer;
use crate::server::PATIENCE;

fn check(broker: &mut impl Broker) {
    let [here, there] = nodes(broker);
    let (mut near, mut far) = (user(&here, "ann"), user(&there, "ann"));
    near.subscribe("quiet:1");
    let code = |method: &str, body: Value| here.api(method, &body)["error"]["code"].clone();
    let publish = || code("publish", json!({"channel": "quiet:1", "data": {}}));
    assert_eq!(publish(), json!(null));
    broker.kill();
    wait_for("publishing fails", || publish() == 100);
    let began = Instant::now();
    assert_eq!(names(&here).len(), 2, "nothing has to be asked for this");
    assert_eq!(code("channels", json!({})), 100);
    assert_eq!(code("unsubscribe", json!({"user": "ann", "channel": "quiet:1"})), 100);
    assert_eq!(near.push("unsubscribe")["code"], 2000);
    assert_eq!(code("subscribe", json!({"user": "ann", "channel": "quiet:2"})), 100);
    assert_eq!(code("refresh", json!({"user": "ann", "expire_at": 4_000_000_000_u64})), 100);
    assert_eq!(near.push("refresh")["expires"], true);
    assert_eq!(code("disconnect", json!({"user": "ann"})), 100);
    near.is_closed_with(3503, "disconnect");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}: something waited for an answer", began.elapsed());

    broker.run();
    for server in [&here, &there] {
        server.wait_for_log(PATIENCE, is_back);
    }
    // Each has another connection, by which it asks.
    wait_for("who asks is answered", || code("channels", json!({})) == json!(null));
    wait_for("both know both", || [&here, &there].iter().all(|server| names(server).len() == 2));
    assert_eq!(channels(&here, ""), json!({}));
    assert_eq!(code("disconnect", json!({"user": "ann"})), json!(null));
    far.is_closed_with(3503, "disconnect once the broker is back");
}

fn is_back(log: &str) -> Option<()> {
    let lines = ["PUB/SUB connection to Redis is back", "connected to NATS again"];
    lines.iter().any(|line| log.contains(line)).then_some(())
}

/// E13, A05, A06, A07, A08, A11
#[test]
fn commands_fail_at_once_while_redis_is_gone() {
    check(&mut Redis::start());
}

/// E07, E13, A05, A06, A07, A08, A11
#[test]
fn commands_fail_at_once_while_nats_is_gone() {
    check(&mut NatsServer::start());
}
