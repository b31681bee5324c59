//! Subscriptions that the server makes: by token, at the client's hint, the user's own channel, through the server API.
//! Source: behaviour §6.

use crate::room::{self, Room, kept, open, options, recovering};
use ringcast_state::Options;
use ringcast_state::namespace::ChannelOptions;
use ringcast_state::options::PersonalChannel;

fn namespaces() -> Options {
    let closed = ChannelOptions { presence: true, ..ChannelOptions::default() };
    let limited = ChannelOptions { allow_user_limited_channels: true, ..closed.clone() };
    options([("open", open()), ("rec", recovering()), ("closed", closed), ("limited", limited)])
}

/// Connects with these claims and fields and wants these `subs`, or this instead of a connection.
#[track_caller]
fn check(claims: &str, fields: &str, want: &str) {
    let reply = Room::new(namespaces()).enter_with("ann", claims, fields);
    let (start, end) = (r#"{"id":1,"connect":{"client":"<ann>""#, "}}");
    let got = reply.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    let got = got.map(|rest| rest.split_once(r#","subs":"#).map_or("", |(_, subs)| subs));
    assert_eq!(got.unwrap_or(&reply), want, "{claims} {fields}");
}

/// S02
#[test]
fn token_opens_channels() {
    check(r#"{"sub":"ann"}"#, "", "");
    check(r#"{"sub":"ann","channels":["closed:1","open:1"]}"#, "", r#"{"closed:1":{},"open:1":{}}"#);
    check(r#"{"sub":"ann","subs":{"closed:1":{"data":{"n":1}}}}"#, "", r#"{"closed:1":{"data":{"n":1}}}"#);
    check(r#"{"sub":"ann","channels":["closed:1"],"subs":{"open:1":{}}}"#, "", r#"{"open:1":{}}"#);
    check(r#"{"sub":"ann","channels":[""]}"#, "", "");
    check(
        r#"{"sub":"ann","channels":["nosuch:1"]}"#,
        "",
        r#"{"id":1,"error":{"code":102,"message":"unknown channel"}}"#,
    );
}

/// C13
#[test]
fn token_overrides_options_of_the_namespace() {
    let with = |options: &str| format!(r#"{{"sub":"ann","subs":{{"closed:1":{{"override":{{{options}}}}}}}}}"#);
    let recovering = r#"{"closed:1":{"recoverable":true,"epoch":"E","positioned":true}}"#;
    check(&with(r#""force_recovery":{"value":true}"#), "", recovering);
    check(&with(r#""force_positioning":{"value":true}"#), "", r#"{"closed:1":{"epoch":"E","positioned":true}}"#);
    for (options, is_there) in
        [("", true), (r#""presence":{"value":true}"#, true), (r#""presence":{"value":false}"#, false)]
    {
        let mut room = Room::new(namespaces());
        room.enter_with("ann", &with(options), "");
        let stats = room.call("presence_stats", r#"{"channel":"closed:1"}"#);
        assert_eq!(stats.contains(r#""num_clients":1"#), is_there, "{options} {stats}");
    }
}

/// S02
#[test]
fn client_gets_what_it_hints_at_where_it_could_subscribe() {
    let hint = |channel: &str| format!(r#","subs":{{"{channel}":{{}}}}"#);
    let ann = r#"{"sub":"ann"}"#;
    for (claims, channel, is_open) in [
        (ann, "open:1", true),
        (ann, "closed:1", false),
        (ann, "$open:1", false),
        (ann, "open:\u{e9}", false),
        (ann, "", false),
        (ann, "limited:1#ann", true),
        (ann, "limited:1#bob", false),
        (r#"{"sub":""}"#, "open:1", true),
        // Unlike a subscribe command, a hint does not take nobody for the user without a name.
        (r#"{"sub":""}"#, "limited:1#", false),
    ] {
        let want = if is_open { format!(r#"{{"{channel}":{{}}}}"#) } else { String::new() };
        check(claims, &hint(channel), &want);
    }
    check(ann, &hint("nosuch:1"), "closed 3501 bad request");
    // The rest of a subscribe request means nothing here.
    let fields = r#","subs":{"rec:1":{"recover":true,"offset":5,"flag":2,"join_leave":true}}"#;
    check(ann, fields, r#"{"rec:1":{"recoverable":true,"epoch":"E","positioned":true,"was_recovering":true}}"#);
}

/// S02
#[test]
fn server_side_subscription_recovers_at_connect() {
    let mut room = Room::new(namespaces());
    room.publish("rec:1", "1", "");
    room.publish("rec:1", "2", "");
    let claims = r#"{"sub":"ann","channels":["rec:1"]}"#;
    let reply = room.enter_with("ann", claims, r#","subs":{"rec:1":{"recover":true,"offset":1}}"#);
    let want =
        r#""publications":[{"data":2,"offset":2}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true"#;
    assert!(reply.contains(want), "{reply}");
}

/// S05
#[test]
fn server_subscribes_and_unsubscribes_a_user_at_run_time() {
    let mut room = Room::new(namespaces());
    room.enter("ann");
    let body = r#"{"user":"ann","channel":"closed:1","data":{"n":1},"info":{"i":1}}"#;
    assert_eq!(room.call("subscribe", body), r#"{"result":{}}"#);
    assert_eq!(room.news("ann"), r#"{"push":{"channel":"closed:1","subscribe":{"data":{"n":1}}}}"#);
    assert!(room.call("presence", r#"{"channel":"closed:1"}"#).contains(r#""chan_info":{"i":1}"#));
    room.publish("closed:1", "1", "");
    assert_eq!(room.news("ann"), r#"{"push":{"channel":"closed:1","pub":{"data":1}}}"#);
    assert_eq!(room.call("unsubscribe", r#"{"user":"ann","channel":"closed:1"}"#), r#"{"result":{}}"#);
    let over = r#"{"push":{"channel":"closed:1","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#;
    assert_eq!(room.news("ann"), over);
    room.publish("closed:1", "2", "");
    assert_eq!(room.news("ann"), "");
}

/// S02, C12
#[test]
fn client_cannot_refresh_what_the_server_subscribed_it_to() {
    let mut room = Room::new(namespaces());
    room.enter_with("ann", r#"{"sub":"ann","channels":["closed:1"]}"#, "");
    let token = crate::room::token(r#"{"sub":"ann","channel":"closed:1"}"#);
    let refresh = format!(r#""sub_refresh":{{"channel":"closed:1","token":"{token}"}}"#);
    assert_eq!(room.say("ann", &refresh), "closed 3501 bad request");
}

fn personal(namespace: &str, single_connection: bool) -> Options {
    let own = ChannelOptions { presence: true, ..kept() };
    let mut options = options([("own", own.clone())]);
    options.channel.without_namespace = own;
    options.client.subscribe_to_user_personal_channel =
        Some(PersonalChannel { personal_channel_namespace: namespace.to_owned(), single_connection });
    options
}

/// S03
#[test]
fn user_is_subscribed_to_its_own_channel() {
    for (namespace, channel) in [("", "#ann"), ("own", "own:#ann")] {
        let mut room = Room::new(personal(namespace, false));
        let reply = room.enter_with("ann", r#"{"sub":"ann"}"#, "");
        assert!(reply.contains(&format!(r#""subs":{{"{channel}":{{}}}}"#)), "{reply}");
        room.publish(channel, "1", "");
        assert!(room.news("ann").contains(r#""data":1"#));
        let nobody = room.enter_with("nobody", r#"{"sub":""}"#, "");
        assert!(!nobody.contains("subs"), "{nobody}");
    }
}

/// S04
#[test]
fn newcomer_takes_the_place_of_the_user_s_other_connection() {
    for (single, want) in [(true, "closed 3504 connection limit"), (false, "")] {
        let mut room = Room::new(personal("", single));
        room.enter_with("first", r#"{"sub":"ann"}"#, "");
        room.enter_with("other", r#"{"sub":"bob"}"#, "");
        room.enter_with("second", r#"{"sub":"ann"}"#, "");
        assert_eq!(room.news("first"), want);
        assert_eq!(room.news("other"), "");
        assert_eq!(room.say("second", r#""unsubscribe":{"channel":"x"}"#), r#"{"id":9,"unsubscribe":{}}"#);
    }
}

const DONE: &str = r#"{"result":{}}"#;
const FAILED: &str = r#"{"error":{"code":100,"message":"internal server error"}}"#;

/// S05
#[test]
fn server_is_told_that_a_subscription_was_there_or_is_over_before_it_begins() {
    let mut room = Room::new(namespaces());
    room.enter_with("ann", r#"{"sub":"ann","channels":["closed:1"]}"#, "");
    let past = room::UNIX;
    for (body, want) in [
        (r#"{"user":"ann","channel":"closed:1"}"#.to_owned(), FAILED),
        (r#"{"user":"bob","channel":"closed:1"}"#.to_owned(), DONE),
        (format!(r#"{{"user":"ann","channel":"closed:2","expire_at":{past}}}"#), FAILED),
        (format!(r#"{{"user":"ann","channel":"closed:2","expire_at":{}}}"#, past + 1), DONE),
    ] {
        assert_eq!(room.call("subscribe", &body), want, "{body}");
    }
    let over = r#"{"push":{"channel":"closed:2","subscribe":{}}}"#;
    assert_eq!(room.news("ann"), over);
}

/// S05
#[test]
fn server_subscription_over_the_limit_closes_the_connection() {
    let mut options = namespaces();
    options.client.channel_limit = 1;
    let mut room = Room::new(options);
    room.enter_with("ann", r#"{"sub":"ann","channels":["closed:1"]}"#, "");
    assert_eq!(room.call("subscribe", r#"{"user":"ann","channel":"closed:1"}"#), DONE);
    assert_eq!(room.news("ann"), "closed 3505 channel limit");
}

/// S05
#[test]
fn server_subscription_tells_its_position_and_brings_no_publications() {
    let cache = ChannelOptions {
        force_recovery_mode: ringcast_state::namespace::RecoveryMode::Cache,
        auto_cache_recover: true,
        ..recovering()
    };
    let mut room = Room::new(options([("rec", recovering()), ("cache", cache)]));
    room.enter("ann");
    for channel in ["rec:1", "cache:1"] {
        room.publish(channel, "1", "");
        room.publish(channel, "2", "");
        let body = format!(r#"{{"user":"ann","channel":"{channel}","recover_since":{{"offset":1}}}}"#);
        assert_eq!(room.call("subscribe", &body), DONE);
        let push = r#""subscribe":{"recoverable":true,"epoch":"E","offset":1,"positioned":true}}}"#;
        assert_eq!(room.news("ann"), format!(r#"{{"push":{{"channel":"{channel}",{push}"#));
    }
}

/// S05
#[test]
fn server_tells_of_an_unsubscribe_where_there_was_no_subscription() {
    let mut room = Room::new(namespaces());
    room.enter("ann");
    for channel in ["closed:1", ""] {
        assert_eq!(room.call("unsubscribe", &format!(r#"{{"user":"ann","channel":"{channel}"}}"#)), DONE);
        let heard = room.news("ann");
        assert!(heard.contains(r#""unsubscribe":{"code":2000,"reason":"server unsubscribe"}"#), "{heard}");
    }
}

/// A06
#[test]
fn session_that_nobody_was_told_is_nobody_s() {
    let mut room = Room::new(namespaces());
    room.enter("ann");
    for method in ["subscribe", "unsubscribe", "disconnect", "refresh"] {
        assert_eq!(room.call(method, r#"{"user":"ann","channel":"closed:1","session":"s"}"#), DONE);
        assert_eq!(room.news("ann"), "", "{method}");
    }
}

/// A06
#[test]
fn server_gives_a_connection_another_end_and_info() {
    let check = |fields: &str, want: &str, is_other: bool| {
        let mut options = namespaces();
        let news = ChannelOptions { allow_publish_for_client: true, ..open() };
        options.channel.namespaces.insert("news".to_owned(), news);
        let mut room = Room::new(options);
        room.enter_with("ann", r#"{"sub":"ann","info":1,"channels":["news:1"]}"#, "");
        assert_eq!(room.call("refresh", &format!(r#"{{"user":"ann"{fields}}}"#)), DONE);
        assert_eq!(room.news("ann"), want, "{fields}");
        if !want.starts_with("closed") {
            let heard = room.say("ann", r#""publish":{"channel":"news:1","data":1}"#);
            assert_eq!(heard.contains(r#""conn_info":2"#), is_other, "{fields} {heard}");
        }
    };
    let later = format!(r#","expire_at":{}"#, room::UNIX + 60);
    check(&format!(r#"{later},"info":2"#), r#"{"push":{"refresh":{"expires":true,"ttl":60}}}"#, true);
    check(&later, r#"{"push":{"refresh":{"expires":true,"ttl":60}}}"#, false);
    check(r#","info":2"#, r#"{"push":{"refresh":{}}}"#, false);
    check(r#","expire_at":-5"#, r#"{"push":{"refresh":{}}}"#, false);
    check(&format!(r#","expire_at":{}"#, room::UNIX), "closed 3005 connection expired", false);
    check(r#","expired":true"#, "closed 3005 connection expired", false);
}

/// U09
#[test]
fn new_token_must_open_what_the_old_one_did() {
    let check = |claims: &str, want: &str| {
        let mut room = Room::new(namespaces());
        room.enter_with("ann", r#"{"sub":"ann","channels":["closed:1"]}"#, "");
        let answer = room.say("ann", &format!(r#""refresh":{{"token":"{}"}}"#, crate::room::token(claims)));
        assert_eq!(answer, want, "{claims}");
    };
    let insufficient = "closed 3010 insufficient state";
    let error = |code: u32, rest: &str| format!(r#"{{"id":9,"error":{{"code":{code},"message":{rest}}}}}"#);
    check(r#"{"sub":"ann","channels":["closed:1"]}"#, r#"{"id":9,"refresh":{}}"#);
    check(r#"{"sub":"ann"}"#, insufficient);
    check(r#"{"sub":"ann","channels":["closed:1","closed:2"]}"#, insufficient);
    check(r#"{"sub":"bob","channels":["closed:1"]}"#, "closed 3500 invalid token");
    check(r#"{"sub":"ann","channels":["nosuch:1"]}"#, &error(102, r#""unknown channel""#));
    check(r#"{"sub":"ann","channels":["closed:1"],"expire_at":1}"#, &error(110, r#""expired""#));
    let broken = r#"{"sub":"ann","channels":["closed:1"],"b64info":"?"}"#;
    check(broken, &error(100, r#""internal server error","temporary":true"#));
}

/// What ann is told when she connects to `rec:1` again, having seen the first of these publications.
fn come_back(options: Options, publications: &[&str]) -> String {
    let mut room = Room::new(options);
    for publication in publications {
        room.call("publish", &format!(r#"{{"channel":"rec:1",{publication}}}"#));
    }
    let claims = r#"{"sub":"ann","channels":["rec:1"]}"#;
    room.enter_with("ann", claims, r#","subs":{"rec:1":{"recover":true,"offset":1}}"#)
}

/// H04, S02
#[test]
fn connect_brings_what_server_side_subscriptions_missed() {
    let reply = come_back(namespaces(), &[r#""data":1"#, r#""data":{"a":2}"#, r#""data":3,"tags":{"b":"c"}"#]);
    let missed =
        r#""publications":[{"data":{"a":2},"offset":2},{"data":3,"offset":3,"tags":{"b":"c"}}],"recovered":true"#;
    assert!(reply.contains(missed), "{reply}");
}

#[test]
fn connect_that_brings_too_much_or_what_is_not_json_closes_the_connection() {
    let mut narrow = namespaces();
    narrow.client.queue_max_size = 300;
    let long = format!(r#""data":"{}""#, "x".repeat(400));
    assert_eq!(come_back(narrow, &[r#""data":1"#, &long]), "closed 3008 slow");
    assert_eq!(come_back(namespaces(), &[r#""data":1"#, r#""b64data":"AAE=""#]), "closed 3506 inappropriate protocol");
}
