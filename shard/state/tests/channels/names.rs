//! How the name of a channel is read, and what a subscription token says about it. Source: behaviour §1, §2.

use crate::room::{Room, UNIX, kept, open, options, token};
use ringcast_state::Options;
use ringcast_state::namespace::ChannelOptions;
use std::time::Duration;

/// Names with other signs than by default, and short.
fn signs() -> Options {
    let limited = ChannelOptions { allow_user_limited_channels: true, ..ChannelOptions::default() };
    let mut options = options([("open", open()), ("limited", limited)]);
    options.channel.max_length = 20;
    options.channel.namespace_boundary = "/".into();
    options.channel.private_prefix = "!".into();
    options.channel.user_boundary = "@".into();
    options.channel.user_separator = "+".into();
    options
}

/// C02, C03, C04
#[test]
fn signs_in_names_can_be_others() {
    let (done, unknown, denied, bad) = (None, Some(102), Some(103), Some(107));
    for (channel, want) in [
        ("open/1", done),
        ("open:1", denied),
        ("nosuch/1", unknown),
        ("!open/1", denied),
        ("$open/1", unknown),
        ("limited/1@bob+ann", done),
        ("limited/1@bob,ann", denied),
        ("limited/1#ann", denied),
        ("open/3456789012345678", bad),
        ("open/345678901234567", done),
    ] {
        let mut room = Room::new(signs());
        room.enter("ann");
        let reply = room.subscribe("ann", channel, "");
        let is_as_wanted = match want {
            None => reply == r#"{"id":9,"subscribe":{}}"#,
            Some(code) => reply.contains(&format!(r#""error":{{"code":{code},"#)),
        };
        assert!(is_as_wanted, "{channel}: {reply}");
    }
}

/// C13
#[test]
fn subscription_token_overrides_options_of_the_namespace() {
    let plain = ChannelOptions { allow_subscribe_for_client: false, ..kept() };
    for (overrides, want) in [
        ("", r#"{"id":9,"subscribe":{}}"#),
        (
            r#""force_recovery":{"value":true}"#,
            r#"{"id":9,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}"#,
        ),
        (r#""force_positioning":{"value":true}"#, r#"{"id":9,"subscribe":{"epoch":"E","positioned":true}}"#),
        (
            r#""join_leave":{"value":true},"force_push_join_leave":{"value":true}"#,
            "{\"id\":9,\"subscribe\":{}}\n{\"push\":{\"channel\":\"plain:1\",\"join\":{\"info\":{\"user\":\"ann\",\"client\":\"<ann>\"}}}}",
        ),
    ] {
        let mut room = Room::new(options([("plain", plain.clone())]));
        room.enter("ann");
        let token = token(&format!(r#"{{"sub":"ann","channel":"plain:1","override":{{{overrides}}}}}"#));
        assert_eq!(room.subscribe("ann", "plain:1", &format!(r#","token":"{token}""#)), want, "{overrides}");
    }
}

/// C12
#[test]
fn subscription_lives_as_long_as_its_last_token_says() {
    let mut room = Room::new(options([("plain", ChannelOptions::default())]));
    room.enter("ann");
    let until = |seconds: i64| token(&format!(r#"{{"sub":"ann","channel":"plain:1","exp":{}}}"#, UNIX + seconds));
    let reply = room.subscribe("ann", "plain:1", &format!(r#","token":"{}""#, until(10)));
    assert_eq!(reply, r#"{"id":9,"subscribe":{"expires":true,"ttl":10}}"#);
    let refresh = format!(r#""sub_refresh":{{"channel":"plain:1","token":"{}"}}"#, until(60));
    assert_eq!(room.say("ann", &refresh), r#"{"id":9,"sub_refresh":{"expires":true,"ttl":60}}"#);
    // `client.expired_sub_close_delay` is 25 s.
    room.wait(Duration::from_secs(80));
    assert_eq!(room.news("ann"), "");
    room.wait(Duration::from_secs(10));
    let over = r#"{"push":{"channel":"plain:1","unsubscribe":{"code":2501,"reason":"subscription expired"}}}"#;
    assert_eq!(room.news("ann"), over);
}
