//! What each command of a client is answered: one shard, JSON in, JSON or a close code out. Source: protocol §4, §5; the
//! answers are those recorded from the reference.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use regex::Regex;
use ring::hmac;
use ringcast_proto::client::Encoding;
use ringcast_proto::websocket::{Decoder, Event, Role};
use ringcast_state::namespace::{ChannelConfig, ChannelOptions, DataFormat};
use ringcast_state::options::{ClientOptions, TokenOptions};
use ringcast_state::{
    Action, ApiCallId, ConnectionId, Farewell, Frames, Framing, Now, Options, Pings, Seeds, Shard, ShardId, Time,
    Transport, TransportKind, Visitor,
};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Wall clock of the tests.
const UNIX: i64 = 1_700_000_000;
const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 0 };

/// One shard and one connection.
struct Talk {
    shard: Shard,
    now: Now,
    /// All that came so far, replies as lines.
    heard: Vec<String>,
}

impl Talk {
    fn open(options: Options) -> Self {
        Talk::open_as(None, options)
    }

    /// On a connection whose user the transport vouches for.
    fn open_as(user: Option<&str>, options: Options) -> Self {
        let now = Now { at: Time(1), unix_ms: UNIX as u64 * 1000 };
        let seeds = Seeds { home: 1, shard: [7; 32] };
        let mut shard = Shard::new(ShardId(0), 1, Arc::new(options), seeds, now);
        let transport = Transport {
            encoding: Encoding::Json,
            framing: Framing::WebSocket,
            kind: TransportKind::WebSocket,
            pings: Pings::Messages,
            visitor: Visitor { user: user.map(Into::into), headers: None },
            farewell: Farewell::Push,
        };
        shard.handle_open(now, CONNECTION, transport);
        Talk { shard, now, heard: Vec::new() }
    }

    fn say(&mut self, frame: &str) {
        self.shard.handle_frame(self.now, CONNECTION, frame.as_bytes());
        self.listen();
    }

    /// A call of the server API; what it answers is not looked at.
    fn call(&mut self, method: &str, body: &str) {
        let call = ApiCallId { connection: ConnectionId { slot: 1, generation: 0 }, sequence: 1 };
        self.shard.handle_api(self.now, call, Some(method), body.as_bytes(), false);
        self.listen();
    }

    fn wait(&mut self, span: Duration) {
        self.now.at = self.now.at + span;
        self.now.unix_ms += span.as_millis() as u64;
        self.shard.handle_timeout(self.now);
        self.listen();
    }

    fn listen(&mut self) {
        let bytes = match self.shard.take_frames(CONNECTION) {
            None => Vec::new(),
            Some(Frames::One(frame)) => frame.bytes().to_vec(),
            Some(Frames::Many(frames)) => frames.iter().flat_map(|frame| frame.bytes()).copied().collect(),
        };
        self.shard.handle_flushed(CONNECTION);
        let mut decoder = Decoder::new(Role::Client, 1 << 20);
        let heard = &mut self.heard;
        let read = decoder.decode(&mut bytes.clone(), &mut |event| {
            let Event::Text(text) = event else { panic!("{event:?}") };
            heard.push(String::from_utf8_lossy(text).into_owned());
            ControlFlow::Continue(())
        });
        assert_eq!(read, Ok(ControlFlow::Continue(())));
        while let Some(action) = self.shard.take_action() {
            let Action::Disconnect { disconnect, .. } = action else { continue };
            self.heard.push(format!("closed {} {}", disconnect.code, disconnect.reason));
        }
    }

    /// What came since the last time.
    fn news(&mut self) -> String {
        std::mem::take(&mut self.heard).join("\n")
    }
}

fn options() -> Options {
    let history = ChannelOptions { history_size: 5, history_ttl: Duration::from_secs(60), ..ChannelOptions::default() };
    let namespaces = [
        ("sub", ChannelOptions { allow_subscribe_for_client: true, ..ChannelOptions::default() }),
        ("anon", ChannelOptions { allow_subscribe_for_anonymous: true, ..ChannelOptions::default() }),
        ("closed", ChannelOptions { presence: true, ..history.clone() }),
        (
            "bare",
            ChannelOptions {
                allow_subscribe_for_client: true,
                allow_subscribe_for_anonymous: true,
                allow_publish_for_client: true,
                allow_presence_for_client: true,
                allow_history_for_client: true,
                ..ChannelOptions::default()
            },
        ),
        (
            "subscriber",
            ChannelOptions {
                presence: true,
                allow_subscribe_for_client: true,
                allow_publish_for_subscriber: true,
                allow_presence_for_subscriber: true,
                allow_history_for_subscriber: true,
                ..history.clone()
            },
        ),
        (
            "all",
            ChannelOptions {
                presence: true,
                allow_subscribe_for_client: true,
                allow_subscribe_for_anonymous: true,
                allow_publish_for_client: true,
                allow_publish_for_anonymous: true,
                allow_presence_for_client: true,
                allow_presence_for_anonymous: true,
                allow_history_for_client: true,
                allow_history_for_anonymous: true,
                ..history.clone()
            },
        ),
        (
            "rec",
            ChannelOptions {
                force_recovery: true,
                allow_subscribe_for_client: true,
                allow_publish_for_client: true,
                ..history
            },
        ),
        ("limited", ChannelOptions { allow_user_limited_channels: true, ..ChannelOptions::default() }),
        (
            "regex",
            ChannelOptions {
                channel_regex: Some(Regex::new("^[a-z0-9]{2,12}$").expect("a pattern")),
                allow_subscribe_for_client: true,
                allow_publish_for_client: true,
                ..ChannelOptions::default()
            },
        ),
        (
            "fobj",
            ChannelOptions {
                publication_data_format: Some(DataFormat::JsonObject),
                allow_publish_for_client: true,
                ..ChannelOptions::default()
            },
        ),
    ];
    let namespaces = namespaces.into_iter().map(|(name, options)| (name.to_owned(), options)).collect();
    Options {
        client: ClientOptions {
            allow_anonymous_connect_without_token: true,
            channel_limit: 4,
            history_max_publication_limit: 3,
            ..ClientOptions::default()
        },
        token: TokenOptions { hmac_secret_key: "secret".into(), ..TokenOptions::default() },
        channel: ChannelConfig { namespaces, ..ChannelConfig::default() },
        rpc_ping_method: Some("ping".into()),
        ..Options::default()
    }
}

/// A token with these claims, as a JSON string.
fn token(claims: &str) -> String {
    signed(claims, "secret")
}

fn signed(claims: &str, key: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A connection of user `ann`, or of nobody.
fn connected(options: Options, claims: Option<&str>) -> Talk {
    let mut talk = Talk::open(options);
    let token = claims.map(token).unwrap_or_default();
    talk.say(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
    let reply = talk.news();
    assert!(reply.starts_with(r#"{"id":1,"connect":{"client":""#), "{reply}");
    talk
}

/// Says all frames as `ann` and wants this in answer to the last.
#[track_caller]
fn check(frames: &[&str], want: &str) {
    check_as(Some(r#"{"sub":"ann"}"#), frames, want);
}

/// Likewise without a token.
#[track_caller]
fn check_anonymous(frames: &[&str], want: &str) {
    check_as(None, frames, want);
}

#[track_caller]
fn check_as(claims: Option<&str>, frames: &[&str], want: &str) {
    let mut talk = connected(options(), claims);
    for frame in frames {
        talk.news();
        talk.say(frame);
    }
    assert_eq!(talk.news(), want, "{frames:?}");
}

/// Says a frame on a connection that has not connected.
#[track_caller]
fn check_fresh(frame: &str, want: &str) {
    let mut talk = Talk::open(options());
    talk.say(frame);
    assert_eq!(talk.news(), want, "{frame}");
}

fn error(code: u32) -> String {
    let message = match code {
        102 => "unknown channel",
        103 => "permission denied",
        104 => "method not found",
        105 => "already subscribed",
        106 => "limit exceeded",
        107 => "bad request",
        108 => "not available",
        109 => "token expired",
        112 => "unrecoverable position",
        code => panic!("{code}"),
    };
    format!(r#"{{"id":9,"error":{{"code":{code},"message":"{message}"}}}}"#)
}

const BAD_REQUEST: &str = "closed 3501 bad request";
const INVALID_TOKEN: &str = "closed 3500 invalid token";

#[test]
fn nothing_but_connect_is_served_before_connect() {
    for command in ["subscribe", "publish", "rpc", "ping", "history", "presence", "send", "refresh", "unsubscribe"] {
        check_fresh(&format!(r#"{{"id":9,"{command}":{{"channel":"x"}}}}"#), BAD_REQUEST);
    }
    check_fresh("{}", BAD_REQUEST);
}

#[test]
fn frame_that_cannot_be_decoded_closes_the_connection() {
    for frame in ["", "{", "null", "[]", "7", "{}\n\n{}", "{\"id\":-1}", "{\"id\":4294967296}", "\u{0}"] {
        check_fresh(frame, BAD_REQUEST);
        check(&[frame], BAD_REQUEST);
    }
}

#[test]
fn command_without_a_known_request_closes_the_connection() {
    check(&[r#"{"id":9}"#], BAD_REQUEST);
    check(&[r#"{"id":9,"ping":{}}"#], BAD_REQUEST);
    check(&[r#"{"id":9,"dance":{}}"#], BAD_REQUEST);
}

/// R03
#[test]
fn pong_is_legal_once_for_each_ping() {
    check(&["{}"], BAD_REQUEST);
    let mut talk = connected(options(), None);
    talk.wait(Duration::from_millis(25_100));
    assert_eq!(talk.news(), "{}");
    talk.say("{}");
    assert_eq!(talk.news(), "");
    talk.say("{}");
    assert_eq!(talk.news(), BAD_REQUEST);
}

/// R03, R12
#[test]
fn silence_closes_the_connection() {
    let mut talk = connected(options(), None);
    talk.wait(Duration::from_millis(25_100));
    talk.wait(Duration::from_millis(8_100));
    assert_eq!(talk.news(), "{}\nclosed 3012 no pong");
    let mut talk = Talk::open(options());
    talk.wait(Duration::from_millis(10_100));
    assert_eq!(talk.news(), "closed 3502 stale");
}

/// R01
#[test]
fn first_request_of_the_schema_is_served() {
    check(&[r#"{"id":9,"rpc":{"method":"ping"},"unsubscribe":{"channel":"sub:1"}}"#], r#"{"id":9,"unsubscribe":{}}"#);
}

#[test]
fn second_connect_closes_the_connection() {
    check(&[r#"{"id":9,"connect":{}}"#], BAD_REQUEST);
}

/// U10
#[test]
fn connect_needs_a_token_unless_anonymous_clients_are_allowed() {
    let mut options = options();
    options.client.allow_anonymous_connect_without_token = false;
    let mut talk = Talk::open(options);
    talk.say(r#"{"id":9,"connect":{}}"#);
    assert_eq!(talk.news(), BAD_REQUEST);
}

#[test]
fn connect_with_a_wrong_token_is_refused() {
    let expired = token(&format!(r#"{{"sub":"ann","exp":{}}}"#, UNIX - 1));
    for (token, want) in [
        ("garbage".to_owned(), INVALID_TOKEN.to_owned()),
        ("a.b.c".to_owned(), INVALID_TOKEN.to_owned()),
        (signed(r#"{"sub":"ann"}"#, "other"), INVALID_TOKEN.to_owned()),
        (token(r#"{"sub":42}"#), INVALID_TOKEN.to_owned()),
        (expired, error(109)),
        (token(&format!(r#"{{"sub":"ann","nbf":{}}}"#, UNIX + 9)), error(109)),
        (token(r#"{"sub":"ann","channels":["nosuch:1"]}"#), error(102)),
        (token(r#"{"sub":"ann","channels":["1","2","3","4","5"]}"#), "closed 3505 channel limit".to_owned()),
    ] {
        check_fresh(&format!(r#"{{"id":9,"connect":{{"token":"{token}"}}}}"#), &want);
    }
}

/// U10
#[test]
fn anonymous_token_can_be_refused() {
    let mut options = options();
    options.client.disallow_anonymous_connection_tokens = true;
    let mut talk = Talk::open(options);
    talk.say(&format!(r#"{{"id":9,"connect":{{"token":"{}"}}}}"#, token(r#"{"sub":""}"#)));
    assert_eq!(talk.news(), "closed 3507 permission denied");
}

#[test]
fn connection_whose_connect_failed_is_not_answered_any_more() {
    let mut talk = Talk::open(options());
    let expired = token(&format!(r#"{{"sub":"ann","exp":{}}}"#, UNIX - 1));
    talk.say(&format!(r#"{{"id":9,"connect":{{"token":"{expired}"}}}}"#));
    assert_eq!(talk.news(), error(109));
    talk.say(r#"{"id":2,"connect":{}}"#);
    assert_eq!(talk.news(), "");
    talk.wait(Duration::from_millis(10_100));
    assert_eq!(talk.news(), "closed 3502 stale");
}

/// R03, U09
#[test]
fn connect_reply_tells_how_to_ping_and_when_to_refresh() {
    let mut talk = Talk::open(options());
    let token = token(&format!(r#"{{"sub":"ann","exp":{}}}"#, UNIX + 600));
    talk.say(&format!(r#"{{"id":9,"connect":{{"token":"{token}"}}}}"#));
    let reply = talk.news();
    let (_, rest) = reply.split_at(r#"{"id":9,"connect":{"client":"00000000-0000-0000-0000-000000000000""#.len());
    assert_eq!(rest, r#","expires":true,"ttl":600,"ping":25,"pong":true}}"#);
}

/// U09, R12
#[test]
fn connection_expires_when_its_time_and_the_grace_are_over() {
    let mut talk = connected(options(), Some(&format!(r#"{{"sub":"ann","exp":{}}}"#, UNIX + 3)));
    talk.wait(Duration::from_millis(12_000));
    talk.news();
    talk.wait(Duration::from_millis(16_100));
    assert_eq!(talk.news(), "closed 3005 connection expired");
}

/// C01, C03, C04, C05, C07
#[test]
fn who_may_subscribe() {
    for (channel, code) in [
        ("sub:1", None),
        ("bare:1", None),
        ("anon:1", Some(103)),
        ("closed:1", Some(103)),
        ("1", Some(103)),
        ("$sub:1", Some(103)),
        ("nosuch:1", Some(102)),
        ("limited:1", Some(103)),
        ("limited:1#ann", None),
        ("limited:1#bob,ann", None),
        ("limited:1#bob", Some(103)),
        ("sub:\u{43a}\u{43e}\u{442}", Some(107)),
        ("regex:ab", None),
        ("regex:a", Some(107)),
        ("regex:aB", Some(107)),
    ] {
        let frame = format!(r#"{{"id":9,"subscribe":{{"channel":"{channel}"}}}}"#);
        check(&[&frame], &code.map_or(r#"{"id":9,"subscribe":{}}"#.to_owned(), error));
    }
}

/// C07
#[test]
fn who_may_subscribe_anonymously() {
    for (channel, code) in
        [("all:1", None), ("bare:1", None), ("sub:1", Some(103)), ("anon:1", Some(103)), ("closed:1", Some(103))]
    {
        let frame = format!(r#"{{"id":9,"subscribe":{{"channel":"{channel}"}}}}"#);
        check_anonymous(&[&frame], &code.map_or(r#"{"id":9,"subscribe":{}}"#.to_owned(), error));
    }
    let empty_user = r#"{"id":9,"subscribe":{"channel":"limited:1#"}}"#;
    check_anonymous(&[empty_user], r#"{"id":9,"subscribe":{}}"#);
}

#[test]
fn subscribe_without_a_channel_closes_the_connection() {
    check(&[r#"{"id":9,"subscribe":{"channel":""}}"#], BAD_REQUEST);
    check(&[r#"{"id":9,"subscribe":{}}"#], BAD_REQUEST);
}

/// C02
#[test]
fn channel_longer_than_max_length_is_refused() {
    let subscribe = |length: usize| format!(r#"{{"id":9,"subscribe":{{"channel":"sub:{}"}}}}"#, "x".repeat(length));
    check(&[&subscribe(251)], r#"{"id":9,"subscribe":{}}"#);
    check(&[&subscribe(252)], &error(107));
}

/// S01
#[test]
fn subscribing_twice_is_an_error() {
    check(&[r#"{"id":8,"subscribe":{"channel":"sub:1"}}"#, r#"{"id":9,"subscribe":{"channel":"sub:1"}}"#], &error(105));
    check(
        &[
            r#"{"id":7,"subscribe":{"channel":"sub:1"}}"#,
            r#"{"id":8,"unsubscribe":{"channel":"sub:1"}}"#,
            r#"{"id":9,"subscribe":{"channel":"sub:1"}}"#,
        ],
        r#"{"id":9,"subscribe":{}}"#,
    );
}

/// U23
#[test]
fn channel_limit_counts_what_is_subscribed_now() {
    let subscribe = |i: u32| format!(r#"{{"id":9,"subscribe":{{"channel":"sub:{i}"}}}}"#);
    let full = [subscribe(1), subscribe(2), subscribe(3), subscribe(4)];
    let mut frames: Vec<&str> = full.iter().map(String::as_str).collect();
    let fifth = subscribe(5);
    frames.push(&fifth);
    check(&frames, &error(106));
    frames.push(r#"{"id":8,"unsubscribe":{"channel":"sub:1"}}"#);
    frames.push(&fifth);
    check(&frames, r#"{"id":9,"subscribe":{}}"#);
}

#[test]
fn only_streams_are_subscribed_to() {
    for kind in [1, 2, 3] {
        check(&[&format!(r#"{{"id":9,"subscribe":{{"channel":"sub:1","type":{kind}}}}}"#)], &error(103));
    }
}

/// C11
#[test]
fn subscription_tokens() {
    for (channel, claims, want) in [
        ("$closed:1", r#"{"sub":"ann","channel":"$closed:1"}"#.to_owned(), r#"{"id":9,"subscribe":{}}"#.to_owned()),
        ("closed:1", r#"{"sub":"ann","channel":"closed:1"}"#.to_owned(), r#"{"id":9,"subscribe":{}}"#.to_owned()),
        (
            "closed:1",
            format!(r#"{{"sub":"ann","channel":"closed:1","exp":{}}}"#, UNIX + 300),
            r#"{"id":9,"subscribe":{"expires":true,"ttl":300}}"#.to_owned(),
        ),
        ("closed:1", format!(r#"{{"sub":"ann","channel":"closed:1","exp":{}}}"#, UNIX - 1), error(109)),
        ("closed:1", r#"{"sub":"ann","channel":"closed:2"}"#.to_owned(), INVALID_TOKEN.to_owned()),
        ("closed:1", r#"{"sub":"bob","channel":"closed:1"}"#.to_owned(), INVALID_TOKEN.to_owned()),
        ("closed:1", r#"{"sub":"ann","channel":"closed:1","client":"x"}"#.to_owned(), INVALID_TOKEN.to_owned()),
        ("closed:1", r#"{"sub":"ann"}"#.to_owned(), error(103)),
        ("nosuch:1", r#"{"sub":"ann","channel":"nosuch:1"}"#.to_owned(), error(102)),
    ] {
        let token = token(&claims);
        check(&[&format!(r#"{{"id":9,"subscribe":{{"channel":"{channel}","token":"{token}"}}}}"#)], &want);
    }
    let forged = signed(r#"{"sub":"ann","channel":"closed:1"}"#, "other");
    check(&[&format!(r#"{{"id":9,"subscribe":{{"channel":"closed:1","token":"{forged}"}}}}"#)], &error(103));
}

/// S01
#[test]
fn unsubscribing_succeeds_from_whatever_channel() {
    check(&[r#"{"id":9,"unsubscribe":{"channel":"sub:1"}}"#], r#"{"id":9,"unsubscribe":{}}"#);
    check(&[r#"{"id":9,"unsubscribe":{"channel":"nosuch:1"}}"#], r#"{"id":9,"unsubscribe":{}}"#);
    check(&[r#"{"id":9,"unsubscribe":{"channel":""}}"#], BAD_REQUEST);
}

/// C08, R05
#[test]
fn who_may_publish() {
    for (channel, code) in [
        ("bare:1", None),
        ("all:1", None),
        ("sub:1", Some(103)),
        ("closed:1", Some(103)),
        ("subscriber:1", Some(103)),
        ("nosuch:1", Some(102)),
        ("regex:BAD", Some(107)),
    ] {
        let frame = format!(r#"{{"id":9,"publish":{{"channel":"{channel}","data":{{}}}}}}"#);
        check(&[&frame], &code.map_or(r#"{"id":9,"publish":{}}"#.to_owned(), error));
    }
    let anonymous = r#"{"id":9,"publish":{"channel":"bare:1","data":{}}}"#;
    check_anonymous(&[anonymous], &error(103));
    check_anonymous(&[&anonymous.replace("bare", "all")], r#"{"id":9,"publish":{}}"#);
}

/// S01, R05
#[test]
fn publisher_that_subscribes_gets_its_own_push_before_the_reply() {
    let mut talk = connected(options(), Some(r#"{"sub":"ann","info":{"n":1}}"#));
    talk.say(r#"{"id":8,"subscribe":{"channel":"subscriber:1"}}"#);
    talk.news();
    talk.say(r#"{"id":9,"publish":{"channel":"subscriber:1","data":{ "a" : 1 }}}"#);
    let news = talk.news();
    let (push, reply) = news.split_once('\n').expect("two messages");
    assert_eq!(reply, r#"{"id":9,"publish":{}}"#);
    assert!(
        push.starts_with(r#"{"push":{"channel":"subscriber:1","pub":{"data":{ "a" : 1 },"info":{"user":"ann","#),
        "{push}"
    );
}

/// C06
#[test]
fn publication_without_data_or_of_the_wrong_format_is_refused() {
    check(&[r#"{"id":9,"publish":{"channel":"","data":{}}}"#], BAD_REQUEST);
    check(&[r#"{"id":9,"publish":{"channel":"bare:1"}}"#], &error(107));
    check(&[r#"{"id":9,"publish":{"channel":"fobj:1","data":[1]}}"#], &error(107));
    check(&[r#"{"id":9,"publish":{"channel":"fobj:1","data":{"a":1}}}"#], r#"{"id":9,"publish":{}}"#);
}

/// C09
#[test]
fn who_may_read_presence() {
    for (channel, code) in
        [("bare:1", Some(108)), ("sub:1", Some(108)), ("closed:1", Some(103)), ("nosuch:1", Some(102)), ("all:1", None)]
    {
        let presence = format!(r#"{{"id":9,"presence":{{"channel":"{channel}"}}}}"#);
        check(&[&presence], &code.map_or(r#"{"id":9,"presence":{"presence":{}}}"#.to_owned(), error));
        let stats = format!(r#"{{"id":9,"presence_stats":{{"channel":"{channel}"}}}}"#);
        let none = r#"{"id":9,"presence_stats":{"num_clients":0,"num_users":0}}"#;
        check(&[&stats], &code.map_or(none.to_owned(), error));
    }
    check(&[r#"{"id":9,"presence":{"channel":""}}"#], BAD_REQUEST);
    check(&[r#"{"id":9,"presence_stats":{"channel":""}}"#], BAD_REQUEST);
    let stats = r#"{"id":9,"presence_stats":{"channel":"subscriber:1"}}"#;
    check(&[stats], &error(103));
    let one = r#"{"id":9,"presence_stats":{"num_clients":1,"num_users":1}}"#;
    check(&[r#"{"id":8,"subscribe":{"channel":"subscriber:1"}}"#, stats], one);
}

/// C10
#[test]
fn who_may_read_history() {
    for (channel, code) in
        [("bare:1", 108), ("sub:1", 108), ("closed:1", 103), ("subscriber:1", 103), ("nosuch:1", 102)]
    {
        check(&[&format!(r#"{{"id":9,"history":{{"channel":"{channel}","limit":1}}}}"#)], &error(code));
    }
    check(&[r#"{"id":9,"history":{"channel":""}}"#], BAD_REQUEST);
    check_anonymous(&[r#"{"id":9,"history":{"channel":"subscriber:1"}}"#], &error(103));
}

/// Reads history of a channel with five publications.
#[track_caller]
fn check_history(request: &str, want: &[u64]) {
    let mut talk = connected(options(), Some(r#"{"sub":"ann"}"#));
    for i in 1..=5 {
        talk.say(&format!(r#"{{"id":8,"publish":{{"channel":"all:1","data":{i}}}}}"#));
    }
    talk.news();
    talk.say(&format!(r#"{{"id":9,"history":{{"channel":"all:1"{request}}}}}"#));
    let news = talk.news();
    let reply: serde_json::Value = serde_json::from_str(&news).expect("a reply");
    assert_eq!(reply["history"]["offset"], 5, "{news}");
    let publications = reply["history"]["publications"].as_array().expect("publications");
    let offsets: Vec<u64> = publications.iter().filter_map(|publication| publication["offset"].as_u64()).collect();
    assert_eq!(offsets, want, "{request}");
}

/// H02
#[test]
fn history_is_read_by_limit_start_and_direction() {
    check_history("", &[]);
    check_history(r#","limit":0"#, &[]);
    check_history(r#","limit":2"#, &[1, 2]);
    check_history(r#","limit":-1"#, &[1, 2, 3]);
    check_history(r#","limit":100"#, &[1, 2, 3]);
    check_history(r#","limit":2,"reverse":true"#, &[5, 4]);
    check_history(r#","limit":-1,"since":{"offset":3}"#, &[4, 5]);
    check_history(r#","limit":-1,"since":{"offset":3},"reverse":true"#, &[2, 1]);
    check_history(r#","limit":-1,"since":{"offset":18446744073709551615}"#, &[]);
    check_history(r#","limit":-1,"since":{"offset":6},"reverse":true"#, &[5, 4, 3]);
    check_history(r#","limit":-1,"since":{"offset":7},"reverse":true"#, &[]);
    check_history(r#","limit":-1,"since":{"offset":18446744073709551615},"reverse":true"#, &[]);
}

/// H02, H03
#[test]
fn history_since_another_epoch_or_backwards_from_nowhere_is_refused() {
    check(&[r#"{"id":9,"history":{"channel":"all:1","limit":1,"since":{"offset":1,"epoch":"x"}}}"#], &error(112));
    let nowhere = r#"{"id":9,"history":{"channel":"all:1","limit":1,"since":{"offset":0},"reverse":true}}"#;
    check(&[nowhere], &error(107));
}

/// H12
#[test]
fn recovery_of_a_position_that_is_lost_fails_where_the_client_says_so() {
    let lost = r#"{"id":9,"subscribe":{"channel":"rec:1","recover":true,"offset":7,"epoch":"x","flag":2}}"#;
    check(&[lost], &error(112));
    let mut talk = connected(options(), Some(r#"{"sub":"ann"}"#));
    talk.say(&lost.replace(r#","flag":2"#, ""));
    let reply = talk.news();
    assert!(reply.contains(r#""was_recovering":true"#) && !reply.contains(r#""recovered""#), "{reply}");
}

/// R06, R07
#[test]
fn rpc_knows_the_built_in_ping_only() {
    check(&[r#"{"id":9,"rpc":{"method":"ping"}}"#], r#"{"id":9,"rpc":{}}"#);
    check(&[r#"{"id":9,"rpc":{"method":"dance"}}"#], &error(104));
    let mut talk = connected(Options { rpc_ping_method: None, ..options() }, None);
    talk.say(r#"{"id":9,"rpc":{"method":"ping"}}"#);
    assert_eq!(talk.news(), error(108));
}

/// R08
#[test]
fn send_has_no_handler() {
    check(&[r#"{"send":{"data":1}}"#], "closed 3508 not available");
}

/// R09, U09
#[test]
fn refresh_takes_a_new_token_of_the_same_user() {
    let exp = UNIX + 600;
    for (token, want) in [
        (token(&format!(r#"{{"sub":"ann","exp":{exp}}}"#)), r#"{"id":9,"refresh":{"expires":true,"ttl":600}}"#),
        (token(r#"{"sub":"ann"}"#), r#"{"id":9,"refresh":{}}"#),
        (String::new(), BAD_REQUEST),
        ("garbage".to_owned(), INVALID_TOKEN),
        (token(&format!(r#"{{"sub":"bob","exp":{exp}}}"#)), INVALID_TOKEN),
        (signed(r#"{"sub":"ann"}"#, "other"), INVALID_TOKEN),
        (token(&format!(r#"{{"sub":"ann","exp":{}}}"#, UNIX - 1)), "closed 3005 connection expired"),
    ] {
        let claims = format!(r#"{{"sub":"ann","exp":{}}}"#, UNIX + 60);
        check_as(Some(&claims), &[&format!(r#"{{"id":9,"refresh":{{"token":"{token}"}}}}"#)], want);
    }
}

/// C11, C12, R09
#[test]
fn sub_refresh_takes_a_new_token_of_a_live_subscription() {
    let claims =
        |user: &str, channel: &str, exp: i64| format!(r#"{{"sub":"{user}","channel":"{channel}","exp":{exp}}}"#);
    let first = token(&claims("ann", "closed:1", UNIX + 60));
    let subscribe = format!(r#"{{"id":8,"subscribe":{{"channel":"closed:1","token":"{first}"}}}}"#);
    for (token, want) in [
        (
            token(&claims("ann", "closed:1", UNIX + 600)),
            r#"{"id":9,"sub_refresh":{"expires":true,"ttl":600}}"#.to_owned(),
        ),
        (String::new(), error(107)),
        (token(&claims("ann", "closed:1", UNIX - 1)), error(109)),
        (token(&claims("ann", "closed:2", UNIX + 600)), INVALID_TOKEN.to_owned()),
        (token(&claims("bob", "closed:1", UNIX + 600)), INVALID_TOKEN.to_owned()),
        (signed(&claims("ann", "closed:1", UNIX + 600), "other"), INVALID_TOKEN.to_owned()),
    ] {
        let refresh = format!(r#"{{"id":9,"sub_refresh":{{"channel":"closed:1","token":"{token}"}}}}"#);
        check(&[&subscribe, &refresh], &want);
    }
    check(&[r#"{"id":9,"sub_refresh":{"channel":"closed:1","token":"x"}}"#], &error(103));
    check(&[r#"{"id":9,"sub_refresh":{"channel":""}}"#], BAD_REQUEST);
}

/// C12, R11
#[test]
fn subscription_expires_and_the_connection_lives_on() {
    let claims = format!(r#"{{"sub":"ann","channel":"closed:1","exp":{}}}"#, UNIX + 3);
    let mut talk = connected(options(), Some(r#"{"sub":"ann"}"#));
    talk.say(&format!(r#"{{"id":8,"subscribe":{{"channel":"closed:1","token":"{}"}}}}"#, token(&claims)));
    talk.wait(Duration::from_millis(24_000));
    talk.news();
    talk.wait(Duration::from_millis(4_100));
    let news = talk.news();
    let push = r#"{"push":{"channel":"closed:1","unsubscribe":{"code":2501,"reason":"subscription expired"}}}"#;
    assert!(news.contains(push) && !news.contains("closed 3"), "{news}");
}

/// R02
#[test]
fn commands_of_one_frame_are_answered_in_order() {
    let frame = "{\"id\":2,\"subscribe\":{\"channel\":\"sub:1\"}}\n{\"id\":3,\"unsubscribe\":{\"channel\":\"sub:1\"}}\n\
                 {\"id\":4,\"publish\":{\"channel\":\"bare:1\",\"data\":1}}\n{\"id\":5,\"rpc\":{\"method\":\"ping\"}}\n";
    let want =
        "{\"id\":2,\"subscribe\":{}}\n{\"id\":3,\"unsubscribe\":{}}\n{\"id\":4,\"publish\":{}}\n{\"id\":5,\"rpc\":{}}";
    check(&[frame], want);
}

/// R02
#[test]
fn commands_behind_one_that_closes_are_not_served() {
    check(&["{\"id\":2,\"ping\":{}}\n{\"id\":3,\"rpc\":{\"method\":\"ping\"}}"], BAD_REQUEST);
    check(&["{\"id\":2,\"rpc\":{\"method\":\"ping\"}}\n{"], "{\"id\":2,\"rpc\":{}}\nclosed 3501 bad request");
}

#[test]
fn subscription_of_the_server_that_is_over_already_is_not_begun() {
    let mut talk = connected(options(), Some(r#"{"sub":"u"}"#));
    talk.call("subscribe", &format!(r#"{{"channel":"news","user":"u","expire_at":{}}}"#, UNIX - 1));
    assert_eq!(talk.news(), "");
    talk.call("subscribe", &format!(r#"{{"channel":"news","user":"u","expire_at":{}}}"#, UNIX + 60));
    assert!(talk.news().contains(r#""subscribe":{"#));
}

/// R01
#[test]
fn other_types_of_subscriptions_and_publications_are_refused() {
    for (kind, want) in
        [(1, error(103)), (3, error(103)), (4, error(108)), (-1, r#"{"id":9,"subscribe":{}}"#.to_owned())]
    {
        check(&[&format!(r#"{{"id":9,"subscribe":{{"channel":"sub:1","type":{kind}}}}}"#)], &want);
    }
    check(&[r#"{"id":9,"subscribe":{"channel":"sub:1","type":5}}"#], "closed 3004 internal server error");
    let publish = |kind: i32| format!(r#"{{"id":9,"publish":{{"channel":"bare:1","data":1,"type":{kind}}}}}"#);
    check(&[&publish(1)], &error(103));
    check(&[&publish(2)], r#"{"id":9,"publish":{}}"#);
    check(&[r#"{"id":9,"publish":{"channel":"nosuch:1","type":1}}"#], &error(102));
}

/// C12
#[test]
fn subscription_expiry_is_told_uncut_and_not_begun_when_it_is_now() {
    for (expire_at, want) in [
        (UNIX + 40_000_000, r#"{"id":9,"subscribe":{"expires":true,"ttl":40000000}}"#.to_owned()),
        (UNIX, r#"{"id":9,"error":{"code":110,"message":"expired"}}"#.to_owned()),
    ] {
        let token = token(&format!(r#"{{"sub":"ann","channel":"1","expire_at":{expire_at}}}"#));
        check(&[&format!(r#"{{"id":9,"subscribe":{{"channel":"1","token":"{token}"}}}}"#)], &want);
    }
}

/// C12
#[test]
fn expiry_of_a_subscription_is_looked_at_before_its_filter() {
    let token = token(&format!(r#"{{"sub":"ann","channel":"1","expire_at":{UNIX}}}"#));
    let frame = format!(r#"{{"id":9,"subscribe":{{"channel":"1","token":"{token}","tf":{{}}}}}}"#);
    check(&[&frame], r#"{"id":9,"error":{"code":110,"message":"expired"}}"#);
}

/// U12
#[test]
fn user_that_the_transport_vouches_for_counts_where_nobody_else_is_let_in() {
    for (is_open, code) in [(false, None), (true, Some(103))] {
        let mut options = options();
        options.client.allow_anonymous_connect_without_token = is_open;
        let mut talk = Talk::open_as(Some("ann"), options);
        talk.say(r#"{"id":9,"connect":{"subs":{"sub:1":{}}}}"#);
        let reply = talk.news();
        assert!(reply.contains(r#""connect""#) && !reply.contains("subs"), "{reply}");
        talk.say(r#"{"id":9,"subscribe":{"channel":"sub:1"}}"#);
        assert_eq!(talk.news(), code.map_or(r#"{"id":9,"subscribe":{}}"#.to_owned(), error));
    }
}

/// R02, R23
#[test]
fn commands_behind_a_connect_wait_for_it_whatever_the_concurrency() {
    for concurrency in [0, 1, 4] {
        let mut options = options();
        options.client.concurrency = concurrency;
        let mut talk = Talk::open(options);
        let token = token(r#"{"sub":"ann","channels":["bare:1"]}"#);
        talk.say(&format!(
            "{{\"id\":1,\"connect\":{{\"token\":\"{token}\"}}}}\n{{\"id\":9,\"subscribe\":{{\"channel\":\"sub:1\"}}}}"
        ));
        let heard = talk.news();
        assert!(heard.ends_with(r#"{"id":9,"subscribe":{}}"#), "{heard}");
    }
}
