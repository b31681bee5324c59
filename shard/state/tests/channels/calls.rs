//! Calls of the server API about users and to channels. Source: server API §3.

use crate::room::{Room, UNIX, open, options};
use ringcast_state::namespace::{ChannelOptions, SubscriptionType};
use ringcast_state::options::ClientOptions;

const DONE: &str = r#"{"result":{}}"#;
const INTERNAL: &str = r#"{"error":{"code":100,"message":"internal server error"}}"#;
const EXPIRED: &str = "closed 3005 connection expired";

/// A room with `ann`, who has the channel `open:1`.
fn room() -> Room {
    let map = ChannelOptions { subscription_type: SubscriptionType::Map, ..open() };
    let seen = ChannelOptions { presence: true, ..open() };
    let mut options = options([("open", open()), ("map", map), ("seen", seen)]);
    options.client = ClientOptions { channel_limit: 4, ..options.client };
    let mut room = Room::new(options);
    room.enter_with("ann", r#"{"sub":"ann","info":1}"#, "");
    room.subscribe("ann", "open:1", "");
    room
}

/// Calls a method and wants this answer, and the client to hear this.
#[track_caller]
fn check(method: &str, body: &str, want: &str, want_news: &str) {
    let mut room = room();
    let answer = room.call(method, body);
    assert_eq!((&*answer, &*room.news("ann")), (want, want_news), "{method} {body}");
}

/// A06, S05
#[test]
fn user_is_subscribed_once() {
    let push = r#"{"push":{"channel":"open:2","subscribe":{}}}"#;
    check("subscribe", r#"{"channel":"open:2","user":"ann"}"#, DONE, push);
    check("subscribe", r#"{"channel":"open:1","user":"ann"}"#, INTERNAL, "");
    check("subscribe", r#"{"channel":"open:2","user":"bob"}"#, DONE, "");
    check("subscribe", r#"{"channel":"open:2","user":"ann","session":"x"}"#, DONE, "");
    check("subscribe", r#"{"channel":"open:2","user":"ann","client":"x"}"#, DONE, "");
    check("subscribe", r#"{"channel":":2","user":"ann"}"#, DONE, r#"{"push":{"channel":":2","subscribe":{}}}"#);
}

#[test]
fn subscription_that_is_over_already_is_not_begun() {
    let body = |expire_at: i64| format!(r#"{{"channel":"open:2","user":"ann","expire_at":{expire_at}}}"#);
    check("subscribe", &body(UNIX - 1), INTERNAL, "");
    check("subscribe", &body(UNIX), INTERNAL, "");
    check("subscribe", &body(UNIX + 60), DONE, r#"{"push":{"channel":"open:2","subscribe":{}}}"#);
}

/// U23
#[test]
fn subscription_beyond_the_channel_limit_closes_the_connection() {
    let mut room = room();
    for i in 2..=4 {
        assert_eq!(room.call("subscribe", &format!(r#"{{"channel":"open:{i}","user":"ann"}}"#)), DONE);
    }
    room.news("ann");
    assert_eq!(room.call("subscribe", r#"{"channel":"open:5","user":"ann"}"#), DONE);
    assert_eq!(room.news("ann"), "closed 3505 channel limit");
}

/// A06, R11
#[test]
fn unsubscribed_user_is_told_whatever_it_had() {
    let push = |channel: &str| {
        format!(r#"{{"push":{{{channel}"unsubscribe":{{"code":2000,"reason":"server unsubscribe"}}}}}}"#)
    };
    check("unsubscribe", r#"{"channel":"open:1","user":"ann"}"#, DONE, &push(r#""channel":"open:1","#));
    check("unsubscribe", r#"{"channel":"open:2","user":"ann"}"#, DONE, &push(r#""channel":"open:2","#));
    check("unsubscribe", r#"{"user":"ann"}"#, DONE, &push(""));
    check("unsubscribe", r#"{"channel":"open:1","user":"ann","session":"x"}"#, DONE, "");
}

/// A06, R12
#[test]
fn user_is_disconnected_with_a_code_of_the_caller_or_3503() {
    let code = r#"{"user":"ann","disconnect":{"code":4321,"reason":"go"}}"#;
    check("disconnect", code, DONE, "closed 4321 go");
    check("disconnect", r#"{"user":"ann"}"#, DONE, "closed 3503 force disconnect");
    check("disconnect", r#"{"user":"bob"}"#, DONE, "");
    check("disconnect", r#"{"user":"ann","session":"x"}"#, DONE, "");
}

/// A06
#[test]
fn connection_is_refreshed_or_ended() {
    let body = |rest: &str| format!(r#"{{"user":"ann"{rest}}}"#);
    let push = |rest: &str| format!(r#"{{"push":{{"refresh":{{{rest}}}}}}}"#);
    let later = format!(r#","expire_at":{}"#, UNIX + 60);
    check("refresh", &body(&later), DONE, &push(r#""expires":true,"ttl":60"#));
    check("refresh", &body(""), DONE, &push(""));
    check("refresh", &body(r#","expire_at":-1"#), DONE, &push(""));
    check("refresh", &body(&format!(r#","expire_at":{UNIX}"#)), DONE, EXPIRED);
    check("refresh", &body(r#","expired":true"#), DONE, EXPIRED);
    check("refresh", &body(r#","expired":true,"session":"x""#), DONE, "");
}

/// A06, U15
#[test]
fn connection_gets_another_info() {
    let mut room = room();
    room.call("refresh", &format!(r#"{{"user":"ann","expire_at":{},"info":2}}"#, UNIX + 60));
    room.subscribe("ann", "seen:1", "");
    let answer = room.call("presence", r#"{"channel":"seen:1"}"#);
    assert!(answer.contains(r#""conn_info":2"#), "{answer}");
}

/// A05
#[test]
fn only_streams_are_published_to() {
    let refused = r#"{"error":{"code":107,"message":"bad request"}}"#;
    check("publish", r#"{"channel":"map:1","data":1}"#, refused, "");
    check("publish", r#"{"channel":":1","data":1}"#, DONE, "");
}

/// A08
#[test]
fn channels_are_listed_by_pattern() {
    let one = r#"{"result":{"channels":{"open:1":{"num_clients":1}}}}"#;
    let none = r#"{"result":{"channels":{}}}"#;
    check("channels", "{}", one, "");
    check("channels", r#"{"pattern":"open:*"}"#, one, "");
    check("channels", r#"{"pattern":"other:*"}"#, none, "");
    check("channels", r#"{"pattern":"["}"#, INTERNAL, "");
    check("rpc", r#"{"method":"x"}"#, r#"{"error":{"code":104,"message":"not found"}}"#, "");
}
