//! What a client may say when it connects, and whom the configuration lets in. Source: protocol §5.

use crate::room::{Room, UNIX, open, options, token};
use ringcast_state::Options;
use ringcast_state::namespace::ChannelOptions;
use ringcast_state::options::{ClientOptions, TokenOptions};

fn namespaces() -> Options {
    let closed = ChannelOptions { presence: true, ..ChannelOptions::default() };
    options([("open", open()), ("closed", closed)])
}

/// Connects as `ann` with these fields and wants a reply that ends with this.
#[track_caller]
fn check(options: Options, fields: &str, want_end: &str) {
    let reply = Room::new(options).enter_with("ann", r#"{"sub":"ann"}"#, fields);
    assert!(
        reply.starts_with(r#"{"id":1,"connect":{"client":"<ann>""#) && reply.ends_with(want_end),
        "{fields} {reply}"
    );
}

/// R16, R24
#[test]
fn headers_name_and_version_are_taken_and_not_told() {
    let long = "x".repeat(1000);
    for fields in [
        r#","headers":{"X-Trace":"1","":""},"data":{"a":1}"#.to_owned(),
        r#","headers":null,"name":null,"version":null,"data":null"#.to_owned(),
        r#","name":"js","version":"5.0.0""#.to_owned(),
        format!(r#","name":"{long}","version":"{long}""#),
    ] {
        check(namespaces(), &fields, r#""}}"#);
    }
}

/// R13
#[test]
fn flags_and_a_profile_ask_for_nothing_that_is_served() {
    check(namespaces(), r#","flag":9223372036854775807,"dict":"x","profile":"mobile""#, r#""}}"#);
}

/// R17
#[test]
fn server_tells_its_time_where_that_is_configured() {
    let mut options = namespaces();
    options.client.connect_include_server_time = true;
    check(options, "", &format!(r#","time":{}}}}}"#, UNIX * 1000));
}

/// U13
#[test]
fn insecure_client_needs_no_token_and_may_all() {
    let client = ClientOptions { insecure: true, allow_anonymous_connect_without_token: false, ..namespaces().client };
    let mut room = Room::new(Options { client, ..namespaces() });
    let reply = room.enter_with("ann", &format!(r#"{{"sub":"ann","exp":{}}}"#, UNIX + 60), "");
    assert!(!reply.contains("expires"), "{reply}");
    assert_eq!(room.subscribe("ann", "closed:1", ""), r#"{"id":9,"subscribe":{}}"#);
    assert_eq!(room.say("ann", r#""publish":{"channel":"closed:2","data":1}"#), r#"{"id":9,"publish":{}}"#);
    let stats = r#"{"id":9,"presence_stats":{"num_clients":1,"num_users":1}}"#;
    assert_eq!(room.say("ann", r#""presence_stats":{"channel":"closed:1"}"#), stats);
}

/// U11
#[test]
fn subscription_tokens_may_have_a_key_of_their_own() {
    let claims = r#"{"sub":"ann","channel":"closed:1"}"#;
    let subscribe = |options: Options| {
        let mut room = Room::new(options);
        room.enter("ann");
        room.subscribe("ann", "closed:1", &format!(r#","token":"{}""#, token(claims)))
    };
    let live = r#"{"id":9,"subscribe":{}}"#;
    assert_eq!(subscribe(namespaces()), live);
    let with = |key: &str| TokenOptions { hmac_secret_key: key.into(), ..TokenOptions::default() };
    let same = Options { subscription_token: Some(with("secret")), ..namespaces() };
    assert_eq!(subscribe(same), live);
    let other = Options { subscription_token: Some(with("other")), ..namespaces() };
    let denied = r#"{"id":9,"error":{"code":103,"message":"permission denied"}}"#;
    assert_eq!(subscribe(other), denied);
}

/// U15
#[test]
fn null_in_a_token_is_an_info_like_another() {
    let mut room = Room::new(namespaces());
    room.enter_with("ann", r#"{"sub":"ann","info":null,"subs":{"closed:1":null,"":{}}}"#, "");
    let answer = room.call("presence", r#"{"channel":"closed:1"}"#);
    assert!(answer.contains(r#""conn_info":null"#), "{answer}");
}

/// R04
#[test]
fn one_connection_has_many_subscriptions() {
    let mut room = Room::new(namespaces());
    room.enter("ann");
    for channel in ["open:1", "open:2", "open:3"] {
        room.subscribe("ann", channel, "");
    }
    room.say("ann", r#""unsubscribe":{"channel":"open:2"}"#);
    for channel in ["open:3", "open:2", "open:1"] {
        room.publish(channel, "1", "");
    }
    let push = |channel: &str| format!(r#"{{"push":{{"channel":"{channel}","pub":{{"data":1}}}}}}"#);
    assert_eq!(room.news("ann"), format!("{}\n{}", push("open:3"), push("open:1")));
}

/// Connects as `ann` with these claims, does this, and refreshes with other claims.
fn refreshed(claims: &str, before: &str, again: &str) -> String {
    let mut room = Room::new(namespaces());
    room.enter_with("ann", claims, "");
    if !before.is_empty() {
        room.say("ann", before);
    }
    room.say("ann", &format!(r#""refresh":{{"token":"{}"}}"#, token(again)))
}

/// U09
#[test]
fn refresh_that_opens_other_channels_than_the_connection_has_makes_it_connect_again() {
    let claims = r#"{"sub":"ann","channels":["closed:1"]}"#;
    let (same, other) = (r#"{"id":9,"refresh":{}}"#, "closed 3010 insufficient state");
    for (again, want) in [
        (claims, same),
        (r#"{"sub":"ann","subs":{"closed:1":{}}}"#, same),
        (r#"{"sub":"ann","channels":["closed:1","closed:2"]}"#, other),
        (r#"{"sub":"ann"}"#, other),
    ] {
        assert_eq!(refreshed(claims, "", again), want, "{again}");
    }
    let unsubscribe = r#""unsubscribe":{"channel":"closed:1"}"#;
    assert_eq!(refreshed(claims, unsubscribe, r#"{"sub":"ann"}"#), same);
}

/// U09, U15
#[test]
fn refresh_changes_the_info_where_it_brings_one() {
    let exp = UNIX + 600;
    for (again, want) in [
        (format!(r#"{{"sub":"ann","exp":{exp},"info":{{"v":2}}}}"#), r#""conn_info":{"v":2}"#),
        (format!(r#"{{"sub":"ann","exp":{exp}}}"#), r#""conn_info":{"v":1}"#),
        (r#"{"sub":"ann","info":{"v":2}}"#.to_owned(), r#""conn_info":{"v":1}"#),
    ] {
        let mut room = Room::new(namespaces());
        room.enter_with("ann", &format!(r#"{{"sub":"ann","exp":{exp},"info":{{"v":1}},"channels":["closed:1"]}}"#), "");
        let again = again.replace(r#""sub":"ann""#, r#""sub":"ann","channels":["closed:1"]"#);
        room.say("ann", &format!(r#""refresh":{{"token":"{}"}}"#, token(&again)));
        room.say("ann", r#""unsubscribe":{"channel":"closed:1"}"#);
        room.call("subscribe", r#"{"channel":"closed:1","user":"ann"}"#);
        let answer = room.call("presence", r#"{"channel":"closed:1"}"#);
        assert!(answer.contains(want), "{again} {answer}");
    }
}
