//! Offsets, epochs, versions, idempotency and the life of history. Source: behaviour §3, server API §3.1.

use crate::room::{Room, kept, open, options, recovering};
use ringcast_state::namespace::ChannelOptions;
use std::time::Duration;

fn room() -> Room {
    let short = ChannelOptions {
        history_ttl: Duration::from_secs(2),
        history_meta_ttl: Duration::from_secs(5),
        ..recovering()
    };
    let mut room = Room::new(options([("kept", kept()), ("rec", recovering()), ("short", short), ("plain", open())]));
    room.enter("ann");
    room
}

/// Publishes with these fields one after the other and wants these offsets, 0 for none.
#[track_caller]
fn check_offsets(channel: &str, publications: &[(&str, u64)]) {
    let mut room = room();
    for (fields, want) in publications {
        let answer = room.publish(channel, "1", fields);
        let want = match want {
            0 => r#"{"result":{}}"#.to_owned(),
            offset => format!(r#"{{"result":{{"offset":{offset},"epoch":"E"}}}}"#),
        };
        assert_eq!(answer, want, "{fields} in {publications:?}");
    }
}

/// H05, H13
#[test]
fn who_has_a_position_keeps_the_stream_alive_that_is_looked_at_in_time() {
    let lasting = |seconds| ChannelOptions { history_meta_ttl: Duration::from_secs(seconds), ..recovering() };
    for (seconds, subscribes, want) in [
        (60, true, r#"{"push":{"channel":"rec:1","pub":{"data":2,"offset":2}}}"#),
        (50, true, r#"{"push":{"channel":"rec:1","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#),
        (60, false, ""),
    ] {
        let mut room =
            Room::new(options([("rec", ChannelOptions { history_ttl: Duration::from_secs(10), ..lasting(seconds) })]));
        room.enter("ann");
        room.publish("rec:1", "1", "");
        if subscribes {
            room.subscribe("ann", "rec:1", "");
        }
        for _ in 0..20 {
            room.wait(Duration::from_secs(10));
        }
        let lives_on = room.publish("rec:1", "2", "").contains(r#""offset":2"#);
        assert_eq!(lives_on, subscribes && seconds == 60, "{seconds} {subscribes}");
        assert_eq!(room.news("ann"), want, "{seconds} {subscribes}");
    }
}

/// H01, H03
#[test]
fn publications_get_offsets_where_history_is_kept() {
    check_offsets("kept:1", &[("", 1), ("", 2), (r#","skip_history":true"#, 0), ("", 3)]);
    check_offsets("plain:1", &[("", 0), ("", 0)]);
}

/// H10
#[test]
fn publication_with_a_known_key_is_answered_as_the_first_and_not_repeated() {
    let key = |key: &str| format!(r#","idempotency_key":"{key}""#);
    let (a, b) = (key("a"), key("b"));
    check_offsets("kept:1", &[(&a, 1), (&a, 1), (&b, 2), (&a, 1), ("", 3)]);
    check_offsets("plain:1", &[(&a, 0), (&a, 0)]);
    let mut room = room();
    room.subscribe("ann", "plain:1", "");
    room.publish("plain:1", "1", &a);
    room.publish("plain:1", "2", &a);
    assert_eq!(room.news("ann"), r#"{"push":{"channel":"plain:1","pub":{"data":1}}}"#);
    room.call("broadcast", &format!(r#"{{"channels":["plain:1","plain:2"],"data":3{a}}}"#));
    room.publish("plain:2", "4", &a);
    assert_eq!(room.news("ann"), "");
    room.wait(Duration::from_secs(301));
    room.publish("plain:1", "5", &a);
    assert_eq!(room.news("ann"), r#"{"push":{"channel":"plain:1","pub":{"data":5}}}"#);
}

/// H11
#[test]
fn publication_of_an_older_version_is_dropped() {
    let version = |version: u64, epoch: &str| format!(r#","version":{version},"version_epoch":"{epoch}""#);
    let [one, two, two_a, one_b, one_a] =
        [version(1, ""), version(2, ""), version(2, "a"), version(1, "b"), version(1, "a")];
    check_offsets("kept:1", &[(&two, 1), (&one, 1), (&two, 1), (&two_a, 2), (&one_a, 2), (&one_b, 3), (&one_a, 4)]);
    // One without a version takes the memory of it away.
    check_offsets("kept:1", &[(&two, 1), ("", 2), (&one, 3)]);
}

/// H01
#[test]
fn removed_history_keeps_its_position() {
    let mut room = room();
    room.publish("kept:1", "1", "");
    room.publish("kept:1", "2", "");
    assert_eq!(room.call("history_remove", r#"{"channel":"kept:1"}"#), r#"{"result":{}}"#);
    let empty = r#"{"result":{"publications":[],"epoch":"E","offset":2}}"#;
    assert_eq!(room.call("history", r#"{"channel":"kept:1","limit":-1}"#), empty);
    assert_eq!(room.publish("kept:1", "3", ""), r#"{"result":{"offset":3,"epoch":"E"}}"#);
}

/// H01, H13
#[test]
fn publications_go_with_their_ttl_and_the_position_with_the_meta_ttl() {
    let mut room = room();
    room.publish("short:1", "1", "");
    room.wait(Duration::from_secs(3));
    assert_eq!(
        room.call("history", r#"{"channel":"short:1","limit":-1}"#),
        r#"{"result":{"publications":[],"epoch":"E","offset":1}}"#
    );
    room.wait(Duration::from_secs(4));
    assert_eq!(room.publish("short:1", "2", ""), r#"{"result":{"offset":2,"epoch":"E"}}"#);
    room.wait(Duration::from_secs(6));
    assert_eq!(room.publish("short:1", "3", ""), r#"{"result":{"offset":1,"epoch":"E"}}"#);
}

/// H03, H05
#[test]
fn subscriber_of_a_stream_that_began_anew_has_lost_its_place() {
    let mut room = room();
    room.publish("short:1", "1", "");
    room.subscribe("ann", "short:1", "");
    room.wait(Duration::from_secs(6));
    room.news("ann");
    room.publish("short:1", "2", "");
    let lost = r#"{"push":{"channel":"short:1","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
    assert_eq!(room.news("ann"), lost);
}

/// H05
#[test]
fn position_is_told_to_those_who_may_ask_for_it() {
    let asks = ChannelOptions { allow_positioning: true, ..kept() };
    let reads = ChannelOptions { allow_history_for_subscriber: true, ..kept() };
    let without = ChannelOptions { allow_positioning: true, ..open() };
    let forced = ChannelOptions { force_positioning: true, ..kept() };
    let namespaces = [("asks", asks), ("reads", reads), ("without", without), ("forced", forced), ("kept", kept())];
    let mut room = Room::new(options(namespaces));
    room.enter("ann");
    for (channel, fields, want) in [
        ("asks:1", r#","positioned":true"#, r#"{"id":9,"subscribe":{"epoch":"E","positioned":true}}"#),
        ("reads:1", r#","positioned":true"#, r#"{"id":9,"subscribe":{"epoch":"E","positioned":true}}"#),
        // Also where nothing is kept: the position never moves.
        ("without:1", r#","positioned":true"#, r#"{"id":9,"subscribe":{"epoch":"E","positioned":true}}"#),
        ("forced:1", "", r#"{"id":9,"subscribe":{"epoch":"E","positioned":true}}"#),
        ("kept:1", r#","positioned":true"#, r#"{"id":9,"subscribe":{}}"#),
        ("asks:2", r#","recoverable":true"#, r#"{"id":9,"subscribe":{}}"#),
    ] {
        assert_eq!(room.subscribe("ann", channel, fields), want, "{channel} {fields}");
    }
    room.publish("without:1", "1", "");
    assert_eq!(room.news("ann"), r#"{"push":{"channel":"without:1","pub":{"data":1}}}"#);
}
