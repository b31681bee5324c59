//! `client.write_delay` on the wire: what leaves together shares frames.

use crate::client::Client;
use crate::server::{Server, config, free_port};
use serde_json::{Value, json};

/// Sends three commands at once; wants so many replies in each frame that comes back.
#[track_caller]
fn check(client: &Value, want: &[usize]) {
    let mut options = config(free_port());
    for (name, value) in client.as_object().expect("options by name") {
        options["client"][name] = value.clone();
    }
    let server = Server::start_with(2, &options);
    let mut asking = Client::open(server.address());
    asking.send("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"rpc\":{}}\n{\"id\":3,\"rpc\":{}}");
    let frames: Vec<String> = want.iter().map(|_| asking.frame()).collect();
    let counts: Vec<usize> = frames.iter().map(|frame| frame.lines().count()).collect();
    assert_eq!(counts, want, "{client}: {frames:?}");
    let replies = frames.iter().flat_map(|frame| frame.lines());
    let ids = replies.map(|reply| serde_json::from_str::<Value>(reply).expect("JSON")["id"].clone());
    assert_eq!(ids.collect::<Vec<_>>(), [1, 2, 3], "{client}: {frames:?}");
}

/// R20
#[test]
fn messages_share_frames_where_writes_are_delayed() {
    check(&json!({}), &[1, 1, 1]);
    check(&json!({"write_delay": "50ms"}), &[3]);
    check(&json!({"write_delay": "50ms", "max_messages_in_frame": 2}), &[2, 1]);
    check(&json!({"write_delay": "50ms", "max_messages_in_frame": -1}), &[3]);
}

/// R22
#[test]
fn reply_comes_at_once_where_it_may_not_wait() {
    // Longer than the client waits for anything.
    check(&json!({"write_delay": "10m", "reply_without_queue": true}), &[3]);
}
