//! Who is there, who came and who left. Source: behaviour §4.

use crate::room::{Room, UNIX, open, options, token};
use ringcast_state::namespace::ChannelOptions;
use std::time::Duration;

fn room() -> Room {
    let presence = ChannelOptions { presence: true, ..open() };
    let told = ChannelOptions { join_leave: true, ..presence.clone() };
    let namespaces = [
        ("here", ChannelOptions { allow_presence_for_client: true, ..presence }),
        ("quiet", told.clone()),
        ("asks", ChannelOptions { allow_presence_for_subscriber: true, ..told.clone() }),
        ("told", ChannelOptions { force_push_join_leave: true, allow_publish_for_client: true, ..told }),
    ];
    Room::new(options(namespaces))
}

fn join(channel: &str, name: &str) -> String {
    let info = format!(r#"{{"user":"{name}","client":"<{name}>"}}"#);
    format!(r#"{{"push":{{"channel":"{channel}","join":{{"info":{info}}}}}}}"#)
}

fn leave(channel: &str, name: &str) -> String {
    join(channel, name).replace("join", "leave")
}

/// O01, O02
#[test]
fn every_connection_is_present_and_users_are_counted_once() {
    let mut room = room();
    room.enter_with("ann", r#"{"sub":"ann","info":{"n":1}}"#, "");
    room.enter_with("ann too", r#"{"sub":"ann"}"#, "");
    room.enter("bob");
    for name in ["ann", "ann too", "bob"] {
        room.subscribe(name, "here:1", "");
    }
    let stats = r#""presence_stats":{"channel":"here:1"}"#;
    assert_eq!(room.say("bob", stats), r#"{"id":9,"presence_stats":{"num_clients":3,"num_users":2}}"#);
    let reply = room.say("bob", r#""presence":{"channel":"here:1"}"#);
    for entry in [
        r#""<ann>":{"user":"ann","client":"<ann>","conn_info":{"n":1}}"#,
        r#""<ann too>":{"user":"ann","client":"<ann too>"}"#,
        r#""<bob>":{"user":"bob","client":"<bob>"}"#,
    ] {
        assert!(reply.contains(entry), "{entry} in {reply}");
    }
    room.lose("ann");
    room.say("ann too", r#""unsubscribe":{"channel":"here:1"}"#);
    assert_eq!(room.say("bob", stats), r#"{"id":9,"presence_stats":{"num_clients":1,"num_users":1}}"#);
    let left = r#"{"result":{"presence":{"<bob>":{"user":"bob","client":"<bob>"}}}}"#;
    assert_eq!(room.call("presence", r#"{"channel":"here:1"}"#), left);
}

/// O03
#[test]
fn comings_and_goings_are_told_where_the_namespace_says_so() {
    let mut room = room();
    room.enter("ann");
    room.enter("bob");
    let own = format!("{{\"id\":9,\"subscribe\":{{}}}}\n{}", join("told:1", "ann"));
    assert_eq!(room.subscribe("ann", "told:1", ""), own);
    room.subscribe("bob", "told:1", "");
    assert_eq!(room.news("ann"), join("told:1", "bob"));
    assert_eq!(
        room.say("bob", r#""unsubscribe":{"channel":"told:1"}"#).lines().last(),
        Some(r#"{"id":9,"unsubscribe":{}}"#)
    );
    assert_eq!(room.news("ann"), leave("told:1", "bob"));
    room.subscribe("bob", "told:1", "");
    room.lose("bob");
    assert_eq!(room.news("ann"), format!("{}\n{}", join("told:1", "bob"), leave("told:1", "bob")));
}

/// O03
#[test]
fn comings_and_goings_are_told_to_those_who_ask_and_may_see_presence() {
    for (channel, fields, is_told) in [
        ("asks:1", r#","join_leave":true"#, true),
        ("asks:1", "", false),
        ("quiet:1", r#","join_leave":true"#, false),
        ("here:1", r#","join_leave":true"#, false),
    ] {
        let mut room = room();
        room.enter("ann");
        room.enter("bob");
        room.subscribe("ann", channel, fields);
        room.news("ann");
        room.subscribe("bob", channel, "");
        let want = if is_told { join(channel, "bob") } else { String::new() };
        assert_eq!(room.news("ann"), want, "{channel} {fields}");
    }
}

/// O03
#[test]
fn client_leaves_as_what_its_last_token_says() {
    let mut room = room();
    let exp = UNIX + 60;
    room.enter_with("ann", &format!(r#"{{"sub":"ann","info":1,"exp":{exp}}}"#), "");
    room.enter("bob");
    let subscription = |info: u32| token(&format!(r#"{{"sub":"ann","channel":"told:1","info":{info},"exp":{exp}}}"#));
    room.subscribe("ann", "told:1", &format!(r#","token":"{}""#, subscription(1)));
    room.subscribe("bob", "told:1", "");
    let renewed = token(&format!(r#"{{"sub":"ann","info":2,"exp":{exp}}}"#));
    room.say("ann", &format!(r#""refresh":{{"token":"{renewed}"}}"#));
    room.say("ann", &format!(r#""sub_refresh":{{"channel":"told:1","token":"{}"}}"#, subscription(3)));
    room.news("bob");
    let info = r#""info":{"user":"ann","client":"<ann>","conn_info":2,"chan_info":3}"#;
    room.say("ann", r#""publish":{"channel":"told:1","data":1}"#);
    assert_eq!(room.news("bob"), format!(r#"{{"push":{{"channel":"told:1","pub":{{"data":1,{info}}}}}}}"#));
    room.say("ann", r#""unsubscribe":{"channel":"told:1"}"#);
    assert_eq!(room.news("bob"), format!(r#"{{"push":{{"channel":"told:1","leave":{{{info}}}}}}}"#));
}

/// O01
#[test]
fn presence_shows_what_a_refresh_changed_after_the_update_interval() {
    let mut room = room();
    let exp = UNIX + 600;
    room.enter_with("ann", &format!(r#"{{"sub":"ann","info":1,"exp":{exp}}}"#), "");
    room.subscribe("ann", "here:1", "");
    let renewed = token(&format!(r#"{{"sub":"ann","info":2,"exp":{exp}}}"#));
    room.say("ann", &format!(r#""refresh":{{"token":"{renewed}"}}"#));
    for (span, want) in [(0, 1), (20, 1), (10, 2)] {
        room.wait(Duration::from_secs(span));
        let entry = format!(r#"{{"user":"ann","client":"<ann>","conn_info":{want}}}"#);
        let presence = room.call("presence", r#"{"channel":"here:1"}"#);
        assert_eq!(presence, format!(r#"{{"result":{{"presence":{{"<ann>":{entry}}}}}}}"#), "{span}");
    }
}
