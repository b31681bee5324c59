//! What goes when memory is short, and what stays.

use crate::room::{Room, open, options, recovering};

/// Users that do not read, with so many kilobytes waiting for each.
fn room(waiting: &[(&str, usize)]) -> Room {
    let mut room = Room::new(options([("a", open()), ("kept", recovering())]));
    for (name, _) in waiting {
        room.enter(name);
        room.subscribe(name, &format!("a:{name}"), "");
    }
    for (name, kilobytes) in waiting {
        for _ in 0..*kilobytes {
            room.post(&format!("a:{name}"), &format!("\"{}\"", "x".repeat(1000)));
        }
    }
    room
}

#[test]
fn longest_queues_go_until_half_is_gone_and_short_ones_stay() {
    let mut room = room(&[("idle", 0), ("short", 9), ("long", 40), ("longest", 60)]);
    room.shard.shed_queues(room.now);
    assert!(room.news("longest").contains("closed 3008"));
    assert_eq!(room.counted().metrics.shed_clients, 1);
    for name in ["idle", "short", "long"] {
        assert!(!room.news(name).contains("closed"), "{name}");
    }
}

#[test]
fn who_was_closed_is_not_counted_again() {
    let mut room = room(&[("short", 9), ("long", 40), ("longest", 60)]);
    for _ in 0..3 {
        room.shard.shed_queues(room.now);
    }
    let metrics = room.counted().metrics;
    assert_eq!((metrics.shed_clients, metrics.disconnects.get(&3008)), (2, 2));
}

#[test]
fn older_half_of_a_history_goes_and_who_misses_it_is_told() {
    let mut room = room(&[("reader", 0)]);
    for number in 1..=5 {
        room.post("kept:x", &number.to_string());
    }
    room.shard.shed_histories();
    let history = room.call("history", r#"{"channel":"kept:x","limit":-1}"#);
    assert!(!history.contains(r#""data":3"#) && history.contains(r#""data":4"#), "{history}");
    assert!(history.contains(r#""epoch":"E","offset":5}"#), "{history}");
    let back = room.subscribe("reader", "kept:x", r#","recover":true,"offset":2"#);
    assert!(back.contains(r#""was_recovering":true"#) && !back.contains(r#""recovered":true"#), "{back}");
    room.shard.shed_histories();
    room.shard.shed_histories();
    assert_eq!(room.counted().metrics.shed_publications, 5);
    assert!(room.publish("kept:x", "6", "").contains(r#""offset":6"#));
    assert!(room.news("reader").contains(r#""data":6"#));
}
