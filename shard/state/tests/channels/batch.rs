//! Output and publications that wait so that more leaves at once. Source: Centrifugo PRO documentation, "Message batching
//! control".

use crate::room::{Room, open, options, recovering};
use ringcast_state::namespace::{ChannelOptions, DeltaType, RecoveryMode};
use ringcast_state::options::ClientOptions;
use std::time::Duration;

const DELAY: Duration = Duration::from_millis(100);

/// Up to three publications, and for 100 ms.
fn batched(options: ChannelOptions) -> ChannelOptions {
    ChannelOptions { batch_max_size: 3, batch_max_delay: DELAY, ..options }
}

fn latest(options: ChannelOptions) -> ChannelOptions {
    ChannelOptions { batch_flush_latest: true, ..batched(options) }
}

/// Everybody named is there and subscribed to the channel.
fn room(channel: &str, names: &[&str]) -> Room {
    let told = ChannelOptions { join_leave: true, force_push_join_leave: true, ..recovering() };
    let patched = ChannelOptions {
        allowed_delta_types: vec![DeltaType::Fossil],
        delta_publish: true,
        force_recovery_mode: RecoveryMode::Cache,
        ..recovering()
    };
    let namespaces = [
        ("now", recovering()),
        ("both", batched(recovering())),
        ("plain", batched(open())),
        ("told", batched(told)),
        ("size", ChannelOptions { batch_max_delay: Duration::ZERO, ..batched(open()) }),
        ("time", ChannelOptions { batch_max_size: 0, ..batched(open()) }),
        ("one", ChannelOptions { batch_max_size: 1, ..batched(open()) }),
        ("last", latest(recovering())),
        ("patched", latest(patched)),
    ];
    let mut room = Room::new(options(namespaces));
    for name in names {
        room.enter(name);
        room.subscribe(name, channel, "");
    }
    for name in names {
        room.news(name);
    }
    room
}

/// What came, in the order in which it came: the payloads of publications, and words for the rest.
fn order(heard: &str) -> String {
    let word = |line: &str| match line.split_once(r#""data":"#) {
        Some((_, data)) => data.split([',', '}']).next().unwrap_or_default().to_owned(),
        None => ["join", "leave", "unsubscribe", "closed"]
            .into_iter()
            .find(|word| line.contains(word))
            .unwrap_or("reply")
            .to_owned(),
    };
    heard.lines().map(word).collect::<Vec<_>>().join(" ")
}

/// Publishes so many to a channel of the namespace; wants these to come at once, and those after the delay.
#[track_caller]
fn check(namespace: &str, count: usize, at_once: &str, later: &str) {
    let channel = format!("{namespace}:1");
    let mut room = room(&channel, &["ann"]);
    for number in 1..=count {
        room.publish(&channel, &number.to_string(), "");
    }
    assert_eq!(order(&room.news("ann")), at_once, "{namespace} {count}");
    room.wait(DELAY);
    assert_eq!(order(&room.news("ann")), later, "{namespace} {count} later");
}

/// R21
#[test]
fn publications_wait_until_they_are_enough_or_for_long() {
    check("now", 2, "1 2", "");
    check("one", 2, "1 2", "");
    check("both", 2, "", "1 2");
    check("both", 4, "1 2 3", "4");
    check("time", 5, "", "1 2 3 4 5");
    check("size", 5, "1 2 3", "");
}

/// R21
#[test]
fn newest_of_a_batch_stands_for_it_where_that_is_enough() {
    check("last", 2, "", "2");
    check("last", 4, "3", "4");
}

/// R21
#[test]
fn who_comes_gets_what_is_newer_than_its_position_and_nothing_twice() {
    let mut room = room("both:1", &["ann"]);
    room.publish("both:1", "1", "");
    room.enter("bob");
    let reply = room.subscribe("bob", "both:1", "");
    assert!(reply.contains(r#""offset":1"#), "{reply}");
    assert_eq!(order(&room.news("ann")), "1", "what waited goes to those it waited for");
    room.publish("both:1", "2", "");
    room.wait(DELAY);
    assert_eq!(order(&room.news("ann")), "2");
    assert_eq!(order(&room.news("bob")), "2");
}

/// R21
#[test]
fn nothing_of_the_channel_overtakes_what_waits() {
    let mut room = room("told:1", &["ann", "bob"]);
    room.publish("told:1", "1", "");
    room.enter("eve");
    room.subscribe("eve", "told:1", "");
    assert_eq!(order(&room.news("ann")), "1 join");
    room.publish("told:1", "2", "");
    room.lose("eve");
    assert_eq!(order(&room.news("ann")), "2 leave");
    room.publish("told:1", "3", "");
    room.call("unsubscribe", r#"{"user":"bob","channel":"told:1"}"#);
    assert_eq!(order(&room.news("bob")), "1 join 2 leave 3 unsubscribe");
    room.publish("told:1", "4", "");
    assert_eq!(order(&room.say("ann", r#""unsubscribe":{"channel":"told:1"}"#)), "3 leave 4 unsubscribe");
}

/// R21
#[test]
fn batch_goes_with_the_last_subscriber() {
    let mut room = room("plain:1", &["ann"]);
    room.publish("plain:1", "1", "");
    room.lose("ann");
    room.enter("bob");
    room.subscribe("bob", "plain:1", "");
    room.wait(DELAY);
    assert_eq!(order(&room.news("bob")), "");
}

/// R21
#[test]
fn batch_is_no_larger_than_the_queue_of_a_subscriber_can_take() {
    let mut room = room("time:1", &["ann"]);
    let large = format!("\"{}\"", "x".repeat(100_000));
    for _ in 0..40 {
        room.publish("time:1", &large, "");
    }
    room.wait(DELAY);
    assert!(!room.news("ann").contains("closed"));
}

/// R21
#[test]
fn patch_is_not_made_of_what_was_left_out() {
    let mut room = room("patched:1", &[]);
    room.enter("ann");
    room.subscribe("ann", "patched:1", r#","delta":"fossil""#);
    let payload = |number: u32| format!(r#""{}{number}""#, "lorem ipsum ".repeat(6));
    let mut came = Vec::new();
    for (first, count) in [(1, 1), (2, 1), (3, 2), (5, 1)] {
        for number in first..first + count {
            room.publish("patched:1", &payload(number), "");
        }
        room.wait(DELAY);
        came.push(room.news("ann").contains(r#""delta":true"#));
    }
    assert_eq!(came, [false, true, false, true]);
}

/// R21
#[test]
fn other_options_end_what_waits_for_the_old_ones() {
    let mut room = room("size:1", &["ann"]);
    room.publish("size:1", "1", "");
    room.reload(options([("size", open())]));
    assert_eq!(order(&room.news("ann")), "1");
    room.publish("size:1", "2", "");
    assert_eq!(order(&room.news("ann")), "2");
}

/// A room whose connections write late, and who is in it. Nothing waits.
fn late(client: ClientOptions) -> Room {
    let mut options = options([("now", recovering())]);
    options.client = ClientOptions { write_delay: DELAY, ..client };
    let mut room = Room::new(options);
    for name in ["ann", "bob"] {
        room.enter(name);
        room.subscribe(name, "now:1", "");
    }
    room.flush(Duration::ZERO);
    room.flush(DELAY);
    room
}

fn undelayed() -> ClientOptions {
    options([]).client
}

/// R20
#[test]
fn output_of_a_connection_leaves_together_when_the_first_has_waited() {
    let mut room = late(undelayed());
    room.post("now:1", "1");
    assert_eq!(room.flush(Duration::ZERO), [""; 0]);
    assert_eq!(room.flush(DELAY / 2), [""; 0]);
    room.post("now:1", "2");
    assert_eq!(room.flush(DELAY / 2), ["ann", "bob"]);
    assert_eq!(room.flush(DELAY), [""; 0]);
}

/// R20
#[test]
fn each_connection_counts_from_its_own_first_message() {
    let mut room = late(undelayed());
    room.tell("ann", r#""rpc":{}"#);
    assert_eq!(room.flush(Duration::ZERO), [""; 0]);
    assert_eq!(room.flush(DELAY / 2), [""; 0]);
    room.tell("bob", r#""rpc":{}"#);
    assert_eq!(room.flush(Duration::ZERO), [""; 0]);
    assert_eq!(room.flush(DELAY / 2), ["ann"]);
    assert_eq!(room.flush(DELAY / 2), ["bob"]);
}

/// R22
#[test]
fn reply_takes_with_it_what_waits_where_it_may_not_wait() {
    let mut room = late(ClientOptions { reply_without_queue: true, ..undelayed() });
    room.post("now:1", "1");
    assert_eq!(room.flush(Duration::ZERO), [""; 0]);
    room.tell("ann", r#""rpc":{}"#);
    assert_eq!(room.flush(Duration::ZERO), ["ann"]);
    assert_eq!(room.flush(DELAY), ["bob"]);
    room.post("now:1", "2");
    assert_eq!(room.flush(Duration::ZERO), [""; 0]);
    assert_eq!(room.flush(DELAY), ["ann", "bob"]);
}

/// R20
#[test]
fn socket_that_was_busy_takes_the_rest_in_its_time() {
    let mut room = late(undelayed());
    room.post("now:1", "1");
    room.due(Duration::ZERO);
    assert!(!room.flushed("ann"), "it still waits");
    room.due(DELAY);
    assert!(room.flushed("ann"), "it waited long enough while the socket was busy");
}

/// R20
#[test]
fn delay_ends_with_the_connection() {
    let mut room = late(undelayed());
    room.publish("now:1", "1", "");
    room.call("disconnect", r#"{"user":"ann"}"#);
    assert_eq!(order(&room.news("ann")).split(' ').next_back(), Some("closed"));
}
