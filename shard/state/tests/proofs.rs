//! Tokens that take a public key: the command waits aside for key and signature check, and is then served as any other.
//! One shard; the test plays the runtime and the control plane, and decides what a check finds.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringcast_proto::client::Encoding;
use ringcast_proto::websocket::{Decoder, Event, Role};
use ringcast_state::auth::{Endpoint, KeyAnswer, KeyQuestion, PublicKey};
use ringcast_state::namespace::{ChannelConfig, ChannelOptions};
use ringcast_state::options::{ClientOptions, TokenOptions};
use ringcast_state::{
    Action, ConnectionId, Farewell, Frames, Framing, Now, Options, Pings, RequestId, Seeds, Shard, ShardId, Time,
    Transport, TransportKind, Visitor,
};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

const ANN: ConnectionId = ConnectionId { slot: 0, generation: 0 };
const BOB: ConnectionId = ConnectionId { slot: 1, generation: 0 };

const CONNECTED: &str = "1 connect";

struct House {
    shard: Shard,
    now: Now,
}

impl House {
    fn new(options: Options) -> Self {
        let now = Now { at: Time(1), unix_ms: 1_700_000_000_000 };
        let seeds = Seeds { home: 1, shard: [7; 32] };
        House { shard: Shard::new(ShardId(0), 1, Arc::new(options), seeds, now), now }
    }

    fn open(&mut self, connection: ConnectionId) {
        let transport = Transport {
            encoding: Encoding::Json,
            framing: Framing::WebSocket,
            kind: TransportKind::WebSocket,
            pings: Pings::Messages,
            visitor: Visitor::UNKNOWN,
            farewell: Farewell::Push,
        };
        self.shard.handle_open(self.now, connection, transport);
    }

    fn say(&mut self, connection: ConnectionId, frame: &str) {
        self.shard.handle_frame(self.now, connection, frame.as_bytes());
    }

    /// Opens and sends a connect command whose token has to be checked.
    fn connect(&mut self, connection: ConnectionId) {
        self.open(connection);
        self.say(connection, &connect("RS256"));
    }

    fn connected(options: Options) -> Self {
        let mut house = House::new(options);
        house.connect(ANN);
        house.judge(&[true]);
        assert_eq!(house.heard(ANN), CONNECTED);
        house
    }

    fn wait(&mut self, span: Duration) {
        self.now.at = self.now.at + span;
        self.now.unix_ms += span.as_millis() as u64;
        self.shard.handle_timeout(self.now);
    }

    /// Waiting checks, the slow ones behind the others.
    fn checks(&mut self) -> Vec<RequestId> {
        let quick: Vec<_> = std::iter::from_fn(|| self.shard.take_signature_check()).collect();
        let slow = std::iter::from_fn(|| self.shard.take_slow_signature_check());
        quick.into_iter().chain(slow).map(|check| check.request).collect()
    }

    /// Answers the waiting checks; there must be as many as verdicts.
    #[track_caller]
    fn judge(&mut self, verdicts: &[bool]) {
        let checks = self.checks();
        assert_eq!(checks.len(), verdicts.len(), "checks");
        for (request, verdict) in checks.into_iter().zip(verdicts) {
            self.shard.handle_signature(self.now, request, *verdict);
        }
    }

    fn questions(&mut self) -> Vec<Arc<KeyQuestion>> {
        std::iter::from_fn(|| self.shard.take_key_question()).collect()
    }

    fn answer(&mut self, question: &Arc<KeyQuestion>, key: Option<Arc<PublicKey>>) {
        let answer = KeyAnswer { question: question.clone(), key, valid_for: Duration::from_secs(3600) };
        self.shard.handle_key(self.now, &answer);
    }

    /// What a client heard: ids with what came of the command, pushes left out.
    fn heard(&mut self, connection: ConnectionId) -> String {
        let bytes = match self.shard.take_frames(connection) {
            None => Vec::new(),
            Some(Frames::One(frame)) => frame.bytes().to_vec(),
            Some(Frames::Many(frames)) => frames.iter().flat_map(|frame| frame.bytes()).copied().collect(),
        };
        self.shard.handle_flushed(connection);
        let mut heard = Vec::new();
        let _ = Decoder::new(Role::Client, 1 << 20).decode(&mut bytes.clone(), &mut |event| {
            let Event::Text(text) = event else { panic!("{event:?}") };
            heard.extend(String::from_utf8_lossy(text).lines().filter_map(in_short));
            ControlFlow::Continue(())
        });
        while let Some(action) = self.shard.take_action() {
            match action {
                Action::Disconnect { connection: closed, disconnect, .. } if closed == connection => {
                    heard.push(format!("closed {}", disconnect.code));
                }
                other => panic!("{other:?}"),
            }
        }
        heard.join(", ")
    }
}

/// A reply as id and result name, or id and error code.
fn in_short(line: &str) -> Option<String> {
    let reply: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let id = reply.get("id")?;
    let error = reply["error"]["code"].as_u64().map(|code| code.to_string());
    let name = reply.as_object()?.keys().find(|key| *key != "id").cloned();
    Some(format!("{id} {}", error.or(name).unwrap_or_default()))
}

fn options() -> Options {
    let pem = include_str!("../src/auth/fixtures/rsa.pub.pem");
    let open = ChannelOptions { allow_subscribe_for_client: true, ..ChannelOptions::default() };
    let namespaces = [("open".to_owned(), open), ("closed".to_owned(), ChannelOptions::default())];
    Options {
        token: TokenOptions {
            hmac_secret_key: "secret".to_owned(),
            rsa_public_key: PublicKey::from_rsa_pem(pem).map(Arc::new).ok(),
            ..TokenOptions::default()
        },
        channel: ChannelConfig { namespaces: namespaces.into(), ..ChannelConfig::default() },
        ..Options::default()
    }
}

/// Keys are published.
fn published(template: &str) -> Options {
    let endpoint = Endpoint::parse(template, false).ok();
    let options = options();
    Options { token: TokenOptions { jwks_public_endpoint: endpoint, ..options.token }, ..options }
}

fn key() -> Option<Arc<PublicKey>> {
    options().token.rsa_public_key
}

/// A token with a signature that only the test judges.
fn token(algorithm: &str, claims: &str) -> String {
    let header = format!(r#"{{"alg":"{algorithm}","kid":"k"}}"#);
    format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

fn connect(algorithm: &str) -> String {
    format!(r#"{{"id":1,"connect":{{"token":"{}"}}}}"#, token(algorithm, r#"{"sub":"ann"}"#))
}

fn subscribe(id: u32, channel: &str) -> String {
    let token = token("RS256", &format!(r#"{{"sub":"ann","channel":"{channel}"}}"#));
    format!(r#"{{"id":{id},"subscribe":{{"channel":"{channel}","token":"{token}"}}}}"#)
}

/// U02
#[test]
fn a_command_is_answered_when_its_token_was_checked() {
    let mut house = House::new(options());
    house.connect(ANN);
    assert_eq!(house.heard(ANN), "");
    house.judge(&[true]);
    assert_eq!(house.heard(ANN), CONNECTED);
    house.say(ANN, &subscribe(2, "closed:a"));
    assert_eq!(house.heard(ANN), "");
    house.judge(&[true]);
    assert_eq!(house.heard(ANN), "2 subscribe");
}

/// U02: the table of behaviour §2, row "bad signature".
#[test]
fn a_wrong_signature_is_answered_by_the_kind_of_the_command() {
    let mut house = House::new(options());
    house.connect(ANN);
    house.judge(&[false]);
    assert_eq!(house.heard(ANN), "closed 3500");

    let token = |claims: &str| token("RS256", claims);
    let refresh = format!(r#"{{"id":3,"refresh":{{"token":"{}"}}}}"#, token(r#"{"sub":"ann"}"#));
    let claims = token(r#"{"sub":"ann","channel":"closed:a"}"#);
    let sub_refresh = format!(r#"{{"id":3,"sub_refresh":{{"channel":"closed:a","token":"{claims}"}}}}"#);
    for (frame, want) in [(subscribe(3, "closed:b"), "3 103"), (refresh, "closed 3500"), (sub_refresh, "closed 3500")] {
        let mut house = House::connected(options());
        house.say(ANN, &subscribe(2, "closed:a"));
        house.judge(&[true]);
        assert_eq!(house.heard(ANN), "2 subscribe");
        house.say(ANN, &frame);
        house.judge(&[false]);
        assert_eq!(house.heard(ANN), want, "{frame}");
    }
}

/// U02
#[test]
fn other_errors_come_before_that_of_the_token() {
    let mut house = House::connected(options());
    for (id, channel, want) in [(2, "none:a", "2 102"), (3, "closed:a", "3 subscribe"), (4, "closed:a", "4 105")] {
        house.say(ANN, &subscribe(id, channel));
        house.judge(&[id == 3]);
        assert_eq!(house.heard(ANN), want, "{channel}");
    }
}

/// R03
#[test]
fn commands_behind_one_that_waits_keep_their_order() {
    for concurrency in [0, 1, 8] {
        let client = ClientOptions { concurrency, ..ClientOptions::default() };
        let mut house = House::new(Options { client, ..options() });
        house.open(ANN);
        let frames = [&connect("RS256"), &*subscribe(2, "closed:a"), r#"{"id":3,"unsubscribe":{"channel":"open:b"}}"#];
        house.say(ANN, &frames.join("\n"));
        assert_eq!(house.heard(ANN), "", "{concurrency}");
        house.judge(&[true]);
        let then = if concurrency == 8 { "1 connect, 3 unsubscribe" } else { CONNECTED };
        assert_eq!(house.heard(ANN), then, "{concurrency}");
        house.judge(&[true]);
        let then = if concurrency == 8 { "2 subscribe" } else { "2 subscribe, 3 unsubscribe" };
        assert_eq!(house.heard(ANN), then, "{concurrency}");
    }
}

#[test]
fn a_refused_command_lets_those_behind_it_pass() {
    let mut house = House::connected(options());
    let behind = r#"{"id":3,"unsubscribe":{"channel":"open:b"}}"#;
    house.say(ANN, &[&*subscribe(2, "closed:a"), behind].join("\n"));
    house.judge(&[false]);
    assert_eq!(house.heard(ANN), "2 103, 3 unsubscribe");
}

#[test]
fn tokens_are_not_looked_at_where_the_command_is_not_allowed() {
    let mut house = House::new(options());
    house.open(ANN);
    house.say(ANN, &subscribe(1, "closed:a"));
    house.judge(&[]);
    assert_eq!(house.heard(ANN), "closed 3501");
    let mut house = House::connected(options());
    house.say(ANN, &connect("RS256"));
    house.judge(&[]);
    assert_eq!(house.heard(ANN), "closed 3501");
}

#[test]
fn nothing_is_checked_for_a_client_that_is_gone() {
    let mut house = House::new(options());
    house.connect(ANN);
    house.connect(BOB);
    house.shard.handle_close(house.now, ANN);
    let checks = house.checks();
    assert_eq!(checks.len(), 1);
    house.shard.handle_close(house.now, BOB);
    house.shard.handle_signature(house.now, checks[0], true);
    house.shard.handle_signature(house.now, checks[0], true);
    house.open(ANN);
    assert_eq!(house.heard(ANN), "");
    assert_eq!(house.shard.connections(), 1);
}

/// U01
#[test]
fn hmac_is_checked_at_once_beside_public_keys_and_not_at_all_beside_published_ones() {
    let mut house = House::new(options());
    house.open(ANN);
    house.say(ANN, &connect("HS256"));
    assert_eq!(house.heard(ANN), "closed 3500");
    house.judge(&[]);
    let mut house = House::new(published("http://h/jwks"));
    house.open(ANN);
    house.say(ANN, &connect("HS256"));
    assert_eq!(house.heard(ANN), "closed 3500");
    assert_eq!(house.questions(), []);
}

#[test]
fn a_check_that_the_machine_has_no_time_for_is_not_the_fault_of_the_token() {
    let mut house = House::new(options());
    house.connect(ANN);
    let checks = house.checks();
    house.wait(Duration::from_secs(5) + Duration::from_millis(1));
    assert_eq!(house.heard(ANN), "closed 3004");
    house.shard.handle_signature(house.now, checks[0], true);
    assert_eq!(house.heard(ANN), "");
}

/// U04
#[test]
fn a_published_key_is_asked_for_once_and_kept() {
    let mut house = House::new(published("http://h/jwks"));
    house.connect(ANN);
    house.connect(BOB);
    let questions = house.questions();
    assert_eq!(questions.len(), 1);
    assert_eq!((&*questions[0].address.url, &*questions[0].kid), ("http://h/jwks", "k"));
    house.judge(&[]);
    house.answer(&questions[0], key());
    house.judge(&[true, true]);
    assert_eq!([house.heard(ANN), house.heard(BOB)], [CONNECTED; 2]);
    house.shard.handle_close(house.now, ANN);
    house.connect(ANN);
    assert_eq!(house.questions(), []);
    house.judge(&[true]);
}

/// U04
#[test]
fn a_key_that_is_not_there_refuses_the_token_and_is_asked_for_again() {
    let mut house = House::new(published("http://h/jwks"));
    house.connect(ANN);
    let question = house.questions().remove(0);
    house.answer(&question, None);
    let check = house.shard.take_signature_check().expect("refusals go with the checks");
    assert!(!check.run());
    house.shard.handle_signature(house.now, check.request, false);
    assert_eq!(house.heard(ANN), "closed 3500");
    house.connect(BOB);
    assert_eq!(house.questions(), [question]);
}

/// U04
#[test]
fn a_key_of_another_kind_than_the_algorithm_refuses_the_token() {
    let mut house = House::new(published("http://h/jwks"));
    house.open(ANN);
    house.say(ANN, &connect("ES256"));
    let question = house.questions().remove(0);
    house.answer(&question, key());
    assert!(!house.shard.take_signature_check().expect("a refusal").run());
    // Once the key is known, at once.
    house.open(BOB);
    house.say(BOB, &connect("ES256"));
    assert_eq!(house.heard(BOB), "closed 3500");
}

/// U04
#[test]
fn a_key_that_does_not_come_refuses_the_token_in_time() {
    let mut house = House::new(published("http://h/jwks"));
    house.connect(ANN);
    let question = house.questions().remove(0);
    house.wait(Duration::from_secs(3));
    house.connect(BOB);
    house.wait(Duration::from_secs(2));
    assert_eq!(house.heard(ANN), "");
    house.wait(Duration::from_millis(1));
    assert_eq!(house.heard(ANN), "closed 3500");
    assert_eq!(house.questions(), [], "asked already");
    house.wait(Duration::from_secs(3));
    assert_eq!(house.heard(BOB), "closed 3500");
    // Nobody waits: the next one has it asked for again, and the late answer serves, too.
    house.shard.handle_close(house.now, ANN);
    house.connect(ANN);
    assert_eq!(house.questions(), std::slice::from_ref(&question));
    house.answer(&question, key());
    house.judge(&[true]);
    assert_eq!(house.heard(ANN), CONNECTED);
}

/// U04, L10
#[test]
fn keys_of_an_endpoint_are_forgotten_when_another_is_configured() {
    let mut house = House::new(published("http://h/jwks"));
    house.connect(ANN);
    let question = house.questions().remove(0);
    house.answer(&question, key());
    house.judge(&[true]);
    house.shard.set_options(Arc::new(published("http://h/jwks")));
    house.connect(BOB);
    assert_eq!(house.questions(), [], "the same endpoint");
    house.judge(&[true]);
    house.shard.set_options(Arc::new(published("http://other/jwks")));
    house.shard.set_options(Arc::new(published("http://h/jwks")));
    house.shard.handle_close(house.now, BOB);
    house.connect(BOB);
    assert_eq!(house.questions(), [question]);
}

/// L10
#[test]
fn a_reload_gives_and_takes_public_keys() {
    let mut house = House::new(Options::default());
    house.connect(ANN);
    assert_eq!(house.heard(ANN), "closed 3500");
    house.shard.handle_close(house.now, ANN);
    house.shard.set_options(Arc::new(options()));
    house.connect(ANN);
    house.judge(&[true]);
    assert_eq!(house.heard(ANN), CONNECTED);
    house.shard.set_options(Arc::new(Options::default()));
    house.connect(BOB);
    assert_eq!(house.heard(BOB), "closed 3500");
}
