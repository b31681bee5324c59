//! A server that runs short of memory gives up what costs its users least, and goes on.

use serde_json::json;

use crate::bystander::Bystander;
use crate::http;
use crate::server::{Server, config, free_port};

const MIB: usize = 1 << 20;

#[test]
fn new_clients_are_refused_while_memory_is_short_and_publications_are_not() {
    let mut options = config(free_port());
    // Less than any process has.
    options["memory"] = json!({"budget": 1});
    let server = Server::start_with(2, &options);
    server.wait_for_log(crate::server::PATIENCE, |log| log.contains("memory is short").then_some(()));
    assert!(http::upgrade(server.address()).is_none());
    assert_eq!(http::try_get(server.inside(), "/health").map(|reply| reply.status), Some(200));
    server.publish("chat:a", json!({}));
}

#[test]
fn histories_that_grow_beyond_the_memory_are_cut_and_clients_stay() {
    let mut options = config(free_port());
    options["memory"] = json!({"budget": 160 * MIB});
    options["channel"]["namespaces"][0]["history_size"] = json!(10_000);
    let server = Server::start_with(2, &options);
    let mut bystander = Bystander::new(&server);
    let data = "x".repeat(MIB);
    for _ in 0..480 {
        server.publish("chat:big", json!(data));
    }
    let history = server.api("history", &json!({"channel": "chat:big", "limit": 0}));
    assert_eq!(history["result"]["offset"], 480, "{history}");
    assert!(server.peak_bytes() < 400 * MIB, "{} MiB", server.peak_bytes() / MIB);
    assert!(server.log().contains("older halves of histories"), "{}", server.log());
    bystander.is_undisturbed(&server, "histories that are cut");
}
