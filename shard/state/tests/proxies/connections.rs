//! Who connects without a token, and whether a connection goes on.

use crate::house::{ANN, BOB, House, PATIENCE, options, quiet};
use bytes::Bytes;
use ringcast_proto::codes::{Disconnect, ReplyError};
use ringcast_state::proxy::{
    ConnectAnswer, Overrides, ProxyAnswer, ProxyEvent, ProxyId, ProxyOptions, ProxyQuestion, RefreshAnswer,
    SubscribeAnswer,
};
use ringcast_state::{Options, TransportKind};
use std::time::Duration;

const CONNECT: &str = r#"{"id":1,"connect":{"data":{"q":1},"name":"n","version":"v","subs":{"news:9":{}}}}"#;

fn asking() -> Options {
    let proxy = ProxyOptions { connect: Some(ProxyId(3)), refresh: Some(ProxyId(4)), ..options().proxy };
    Options { client: quiet(), proxy, ..options() }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn ann() -> ConnectAnswer {
    ConnectAnswer { user: "ann".into(), ..ConnectAnswer::default() }
}

fn connect_as(answer: ConnectAnswer) -> ProxyAnswer {
    ProxyAnswer::Connect(Some(Box::new(answer)))
}

/// A house with [`ANN`], whose backend has not answered yet.
fn asked(options: Options) -> (House, ProxyQuestion) {
    let mut house = House::empty(options);
    house.open(ANN, TransportKind::WebSocket);
    house.say(ANN, CONNECT);
    assert_eq!(house.heard(ANN), "");
    let question = house.question();
    (house, question)
}

/// [`ANN`], connected for a minute.
fn connected_for_a_minute() -> House {
    let (mut house, question) = asked(asking());
    let expire_at = house.now.unix() + 60;
    house.answer(&question, connect_as(ConnectAnswer { expire_at, ..ann() }));
    let heard = house.heard(ANN);
    // The client is not to refresh.
    assert!(heard.contains("connect") && !heard.contains("expires"), "{heard}");
    house
}

/// X01
#[test]
fn backend_is_asked_who_connects_without_a_token() {
    let (mut house, question) = asked(asking());
    let channels = vec!["news:9".to_owned()];
    let event = ProxyEvent::Connect { data: bytes(r#"{"q":1}"#), name: "n".into(), version: "v".into(), channels };
    assert_eq!((question.proxy.1, question.event.clone()), (ProxyId(3), event));
    assert_eq!(&*question.asker.user, "");
    house.answer(&question, connect_as(ConnectAnswer { data: bytes(r#"{"w":1}"#), ..ann() }));
    let heard = house.heard(ANN);
    assert!(heard.contains(r#""data":{"w":1}"#), "{heard}");
    // What the client wishes does not count.
    assert!(!heard.contains("news:9"), "{heard}");
    house.say(ANN, r#"{"id":2,"rpc":{"method":"m"}}"#);
    assert_eq!(&*house.question().asker.user, "ann");
}

/// X01
#[test]
fn answer_of_the_connect_proxy_decides() {
    let no = ReplyError { code: 1001, message: "no".into(), temporary: false };
    for (answer, want) in [
        (ProxyAnswer::Error(no), r#"{"id":1,"error":{"code":1001,"message":"no"}}"#),
        (ProxyAnswer::Disconnect(Disconnect { code: 4500, reason: "out".into() }), "closed 4500 out"),
        (ProxyAnswer::Failed, r#"{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}"#),
        (ProxyAnswer::Connect(None), "closed 3501 bad request"),
        (connect_as(ConnectAnswer { expire_at: 1, ..ann() }), r#"{"id":1,"error":{"code":110,"message":"expired"}}"#),
        (
            connect_as(ConnectAnswer { channels: vec!["what:1".into()], ..ann() }),
            r#"{"id":1,"error":{"code":102,"message":"unknown channel"}}"#,
        ),
    ] {
        let (mut house, question) = asked(asking());
        house.answer(&question, answer);
        assert_eq!(house.heard(ANN), want);
    }
}

/// X01
#[test]
fn backend_that_knows_nobody_leaves_it_to_the_configuration() {
    let (mut house, question) = asked(Options { client: options().client, ..asking() });
    house.answer(&question, ProxyAnswer::Connect(None));
    let heard = house.heard(ANN);
    // Then wishes count.
    assert!(heard.contains(r#""subs":{"news:9""#), "{heard}");
}

/// X01
#[test]
fn backend_subscribes_on_its_terms() {
    let (mut house, question) = asked(asking());
    let overrides = Overrides { force_positioning: Some(true), ..Overrides::default() };
    let terms = SubscribeAnswer { data: bytes(r#"{"d":1}"#), overrides, ..SubscribeAnswer::default() };
    let subs = [("news:2".to_owned(), terms)].into();
    house.answer(&question, connect_as(ConnectAnswer { channels: vec!["none:1".into()], subs, ..ann() }));
    let heard = house.heard(ANN);
    assert!(heard.contains(r#""none:1":{}"#), "{heard}");
    let (_, told) = heard.split_once(r#""news:2":"#).expect(&heard);
    assert!(told.contains(r#""data":{"d":1}"#) && told.contains(r#""positioned":true"#), "{heard}");
}

/// X01
#[test]
fn commands_wait_until_the_backend_has_said_who_it_is() {
    let (mut house, question) = asked(asking());
    house.say(ANN, r#"{"id":2,"rpc":{"method":"m"}}"#);
    assert!(house.shard.take_proxy_question().is_none());
    house.answer(&question, connect_as(ann()));
    assert_eq!(&*house.question().asker.user, "ann");
}

/// X01
#[test]
fn client_that_has_left_while_connecting_is_no_more() {
    let (mut house, question) = asked(asking());
    house.shard.handle_close(house.now, ANN);
    house.answer(&question, connect_as(ann()));
    assert_eq!(house.heard(ANN), "");
    house.open(BOB, TransportKind::WebSocket);
    house.say(BOB, CONNECT);
    house.wait(PATIENCE);
    assert!(house.heard(BOB).contains(r#""code":100"#));
}

/// X01
#[test]
fn unidirectional_client_is_closed_over_a_refusal() {
    let mut house = House::empty(asking());
    house.open(ANN, TransportKind::UniWebSocket);
    house.say(ANN, r#"{"data":{"q":1}}"#);
    let question = house.question();
    house.answer(&question, ProxyAnswer::Failed);
    let heard = house.heard(ANN);
    assert!(heard.contains("closed 3004"), "{heard}");
    house.open(BOB, TransportKind::UniWebSocket);
    house.say(BOB, r#"{"data":{"q":1}}"#);
    let question = house.question();
    house.answer(&question, connect_as(ann()));
    let heard = house.heard(BOB);
    assert!(heard.contains(r#""connect""#), "{heard}");
}

/// X02
#[test]
fn backend_says_whether_a_connection_goes_on() {
    let mut house = connected_for_a_minute();
    house.wait(Duration::from_secs(59));
    assert!(house.shard.take_proxy_question().is_none());
    house.wait(Duration::from_secs(1));
    let question = house.question();
    assert_eq!((question.proxy.1, &question.event), (ProxyId(4), &ProxyEvent::Refresh));
    assert_eq!(&*question.asker.user, "ann");
    let expire_at = house.now.unix() + 30;
    house.answer(&question, ProxyAnswer::Refresh(RefreshAnswer { expire_at, ..RefreshAnswer::default() }));
    house.wait(Duration::from_secs(29));
    assert!(house.shard.take_proxy_question().is_none());
    house.wait(Duration::from_secs(1));
    house.question();
}

/// X02
#[test]
fn connection_ends_when_the_backend_says_so() {
    let no = ReplyError { code: 1001, message: "no".into(), temporary: false };
    for answer in [
        ProxyAnswer::Refresh(RefreshAnswer { expired: true, ..RefreshAnswer::default() }),
        ProxyAnswer::Refresh(RefreshAnswer { expire_at: 1, ..RefreshAnswer::default() }),
        ProxyAnswer::Refresh(RefreshAnswer::default()),
        ProxyAnswer::Error(no),
        ProxyAnswer::Disconnect(Disconnect { code: 4500, reason: "out".into() }),
    ] {
        let mut house = connected_for_a_minute();
        house.wait(Duration::from_secs(60));
        house.heard(ANN);
        let question = house.question();
        house.answer(&question, answer);
        let heard = house.heard(ANN);
        assert!(heard.contains("closed 3005"), "{heard}");
    }
}

/// X02
#[test]
fn connection_is_closed_as_broken_over_a_result_that_cannot_be_read() {
    let mut house = connected_for_a_minute();
    house.wait(Duration::from_secs(60));
    let question = house.question();
    house.answer(&question, ProxyAnswer::NotBase64);
    let heard = house.heard(ANN);
    assert!(heard.contains("closed 3004 internal server error"), "{heard}");
}

/// X02
#[test]
fn connection_goes_on_for_a_minute_while_the_backend_fails() {
    let mut house = connected_for_a_minute();
    house.wait(Duration::from_secs(60));
    let question = house.question();
    house.answer(&question, ProxyAnswer::Failed);
    house.wait(Duration::from_secs(59));
    assert!(house.shard.take_proxy_question().is_none());
    house.wait(Duration::from_secs(1));
    // And so it does when nobody answers.
    house.question();
    house.wait(PATIENCE);
    assert!(!house.heard(ANN).contains("closed"));
    house.wait(Duration::from_secs(60));
    house.question();
}

/// X02
#[test]
fn client_does_not_refresh_what_a_backend_is_asked_about() {
    let mut house = connected_for_a_minute();
    house.say(ANN, r#"{"id":2,"refresh":{"token":"t"}}"#);
    assert_eq!(house.heard(ANN), "closed 3501 bad request");
}
