//! Commands that a backend decides about. One shard; the test plays the backends, and decides what they answer and when.

mod connections;
mod house;
mod streams;
mod subscriptions;

use bytes::Bytes;
use house::{ANN, BOB, House, PATIENCE, options};
use ringcast_proto::codes::{Disconnect, ReplyError};
use ringcast_state::Options;
use ringcast_state::proxy::{ProxyAnswer, ProxyEvent, ProxyId, ProxyOptions, PublishAnswer, RpcOptions};
use std::collections::BTreeMap;

const RPC: &str = r#"{"id":2,"rpc":{"method":"dance","data":{"a":1}}}"#;
const PUBLISH: &str = r#"{"id":2,"publish":{"channel":"news:1","data":{"a":1}}}"#;
const SUBSCRIBE: &str = r#"{"id":9,"subscribe":{"channel":"news:1"}}"#;
const INTERNAL: &str = r#"{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}"#;

fn refusal() -> ReplyError {
    ReplyError { code: 1001, message: "no dancing".into(), temporary: false }
}

/// R06, X03
#[test]
fn rpc_is_answered_with_what_the_backend_says() {
    let data = |text: &'static str| ProxyAnswer::Rpc(Bytes::from_static(text.as_bytes()));
    for (answer, want) in [
        (data(r#"{"b":2}"#), r#"{"id":2,"rpc":{"data":{"b":2}}}"#),
        (data(""), r#"{"id":2,"rpc":{}}"#),
        (ProxyAnswer::Error(refusal()), r#"{"id":2,"error":{"code":1001,"message":"no dancing"}}"#),
        (ProxyAnswer::Disconnect(Disconnect { code: 4500, reason: "out".into() }), "closed 4500 out"),
        (ProxyAnswer::Failed, INTERNAL),
        (ProxyAnswer::NotBase64, INTERNAL),
        (ProxyAnswer::Publish(PublishAnswer::default()), INTERNAL),
    ] {
        let mut house = House::connected(options());
        house.say(ANN, RPC);
        assert_eq!(house.heard(ANN), "");
        let question = house.question();
        let method = "dance".to_owned();
        assert_eq!(question.event, ProxyEvent::Rpc { method, data: Bytes::from_static(br#"{"a":1}"#) });
        assert_eq!((question.proxy.1, question.asker.transport.as_str()), (ProxyId(1), "websocket"));
        house.answer(&question, answer);
        assert_eq!(house.heard(ANN), want);
    }
}

/// R06, X03, X12
#[test]
fn namespace_of_a_method_names_its_backend() {
    let namespaces = [("yes", Some(ProxyId(7))), ("no", None)];
    let namespaces: BTreeMap<_, _> = namespaces.into_iter().map(|(name, proxy)| (name.to_owned(), proxy)).collect();
    let rpc = RpcOptions { namespaces, ..RpcOptions::default() };
    let proxy = ProxyOptions { rpc, ..ProxyOptions::default() };
    let mut house = House::connected(Options { proxy, rpc_ping_method: Some("ping".into()), ..options() });
    for (method, want) in [
        ("ping", r#"{"id":2,"rpc":{}}"#),
        ("bare", r#"{"id":2,"error":{"code":108,"message":"not available"}}"#),
        (":bare", r#"{"id":2,"error":{"code":108,"message":"not available"}}"#),
        ("no:m", r#"{"id":2,"error":{"code":108,"message":"not available"}}"#),
        ("what:m", r#"{"id":2,"error":{"code":104,"message":"method not found"}}"#),
        ("yes:m", ""),
    ] {
        house.say(ANN, &format!(r#"{{"id":2,"rpc":{{"method":"{method}"}}}}"#));
        assert_eq!(house.heard(ANN), want, "{method}");
    }
    assert_eq!(house.question().proxy.1, ProxyId(7));
}

/// X05
#[test]
fn publication_goes_out_as_the_backend_says() {
    let other = PublishAnswer {
        data: Some(Bytes::from_static(b"{}")),
        tags: [("k".to_owned(), "v".to_owned())].into(),
        ..PublishAnswer::default()
    };
    for (answer, reply, push) in [
        (ProxyAnswer::Publish(PublishAnswer::default()), r#"{"id":2,"publish":{}}"#, r#""data":{"a":1},"#),
        (ProxyAnswer::Publish(other), r#"{"id":2,"publish":{}}"#, r#""data":{},"#),
        (ProxyAnswer::Error(refusal()), r#"{"id":2,"error":{"code":1001,"message":"no dancing"}}"#, ""),
        (ProxyAnswer::Failed, INTERNAL, ""),
    ] {
        let has_tags = matches!(&answer, ProxyAnswer::Publish(answer) if !answer.tags.is_empty());
        let mut house = House::connected(options());
        house.connect(BOB);
        house.say(BOB, SUBSCRIBE);
        house.heard(BOB);
        house.say(ANN, PUBLISH);
        let question = house.question();
        let data = Bytes::from_static(br#"{"a":1}"#);
        assert_eq!(question.event, ProxyEvent::Publish { channel: "news:1".into(), data });
        house.answer(&question, answer);
        assert_eq!(house.heard(ANN), reply);
        let heard = house.heard(BOB);
        assert!(heard.contains(push) && heard.is_empty() == push.is_empty(), "{heard}");
        assert_eq!(heard.contains(r#""tags":{"k":"v"}"#), has_tags, "{heard}");
    }
}

/// X05
#[test]
fn backend_is_not_asked_about_what_may_not_be_published_at_all() {
    let mut house = House::connected(options());
    for (channel, code) in [("what:1", 102), ("none:1", 103)] {
        house.say(ANN, &PUBLISH.replace("news:1", channel));
        let heard = house.heard(ANN);
        assert!(heard.contains(&format!(r#""code":{code}"#)), "{heard}");
    }
    house.say(ANN, r#"{"id":2,"publish":{"channel":"news:1"}}"#);
    assert!(house.heard(ANN).contains(r#""code":107"#));
    assert!(house.shard.take_proxy_question().is_none());
}

/// X03, X05
#[test]
fn backend_without_an_answer_fails_its_command_and_holds_up_no_other() {
    let mut house = House::connected(options());
    house.say(ANN, RPC);
    let question = house.question();
    house.say(ANN, &PUBLISH.replace(r#""id":2"#, r#""id":3"#));
    // In their order, one at a time.
    assert!(house.shard.take_proxy_question().is_none());
    house.wait(PATIENCE);
    assert_eq!(house.heard(ANN), INTERNAL);
    let next = house.question();
    // Late, it is no answer to what is asked now.
    house.answer(&question, ProxyAnswer::Rpc(Bytes::new()));
    assert_eq!(house.heard(ANN), "");
    house.answer(&next, ProxyAnswer::Publish(PublishAnswer::default()));
    assert_eq!(house.heard(ANN), r#"{"id":3,"publish":{}}"#);
}

/// X03
#[test]
fn question_that_was_given_up_is_not_asked() {
    let mut house = House::connected(options());
    house.say(ANN, RPC);
    house.wait(PATIENCE);
    assert!(house.shard.take_proxy_question().is_none());
}

/// X05
#[test]
fn client_that_has_left_publishes_nothing() {
    let mut house = House::connected(options());
    house.connect(BOB);
    house.say(BOB, SUBSCRIBE);
    house.heard(BOB);
    house.say(ANN, PUBLISH);
    let question = house.question();
    house.shard.handle_close(house.now, ANN);
    house.answer(&question, ProxyAnswer::Publish(PublishAnswer::default()));
    assert_eq!(house.heard(BOB), "");
}
