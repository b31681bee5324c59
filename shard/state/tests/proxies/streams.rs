//! Subscriptions that a backend feeds.

use crate::house::{ANN, House, PATIENCE, options};
use bytes::Bytes;
use ringcast_proto::codes::ReplyError;
use ringcast_state::Options;
use ringcast_state::namespace::{ChannelConfig, ChannelOptions, DeltaType};
use ringcast_state::proxy::{
    Overrides, ProxyAnswer, ProxyEvent, ProxyId, ProxyQuestion, StreamAct, StreamId, StreamNews, SubscribeAnswer,
};

const SUBSCRIBE: &str =
    r#"{"id":2,"subscribe":{"channel":"fed:1","positioned":true,"recoverable":true,"delta":"fossil"}}"#;

/// Backend 5 feeds `fed`, and what clients publish in `both`, too.
fn fed() -> Options {
    let fed = ChannelOptions {
        subscribe_stream_proxy: Some(ProxyId(5)),
        force_positioning: true,
        allow_positioning: true,
        allow_recovery: true,
        history_size: 10,
        history_ttl: PATIENCE,
        allowed_delta_types: vec![DeltaType::Fossil],
        allow_tags_filter: true,
        ..ChannelOptions::default()
    };
    let both = ChannelOptions { subscribe_stream_proxy_bidirectional: true, ..fed.clone() };
    let namespaces = [("fed".to_owned(), fed), ("both".to_owned(), both)].into();
    Options { channel: ChannelConfig { namespaces, ..ChannelConfig::default() }, ..options() }
}

fn acts(house: &mut House) -> Vec<StreamAct> {
    std::iter::from_fn(|| house.shard.take_stream_act()).collect()
}

/// The only act there is: a stream is opened.
#[track_caller]
fn opened(house: &mut House) -> (StreamId, ProxyQuestion) {
    match acts(house).pop() {
        Some(StreamAct::Open { stream, question, .. }) => (stream, *question),
        other => panic!("{other:?}"),
    }
}

/// The only act there is: the stream is closed.
#[track_caller]
fn is_closed(house: &mut House, stream: StreamId) {
    let acts = acts(house);
    assert!(matches!(acts[..], [StreamAct::Close { stream: closed }] if closed == stream), "{acts:?}");
}

/// How much more the stream may say.
#[track_caller]
fn allowed(house: &mut House) -> usize {
    match acts(house)[..] {
        [StreamAct::Allow { bytes, .. }] => bytes,
        ref other => panic!("{other:?}"),
    }
}

fn yes() -> ProxyAnswer {
    ProxyAnswer::Subscribe(Box::default())
}

fn publication(data: &'static str) -> StreamNews {
    StreamNews::Publication { data: Bytes::from_static(data.as_bytes()), tags: [].into() }
}

/// [`ANN`], in a channel.
fn subscribed(channel: &str) -> (House, StreamId) {
    let mut house = House::connected(fed());
    house.say(ANN, &SUBSCRIBE.replace("fed:1", channel));
    let (stream, question) = opened(&mut house);
    house.answer(&question, yes());
    assert_eq!(house.heard(ANN), r#"{"id":2,"subscribe":{}}"#);
    assert!(allowed(&mut house) > 0);
    (house, stream)
}

/// S06
#[test]
fn stream_says_nothing_before_the_subscription_is_live_and_no_more_than_its_client_reads() {
    let mut house = House::connected(fed());
    house.say(ANN, SUBSCRIBE);
    let (stream, question) = opened(&mut house);
    let event = ProxyEvent::Subscribe { channel: "fed:1".into(), data: Bytes::new() };
    assert_eq!((question.proxy.1, &question.event), (ProxyId(5), &event));
    let overrides = Overrides { force_recovery: Some(true), ..Overrides::default() };
    house.answer(&question, ProxyAnswer::Subscribe(Box::new(SubscribeAnswer { overrides, ..Default::default() })));
    // Neither a position nor deltas, whatever anybody says.
    assert_eq!(house.heard(ANN), r#"{"id":2,"subscribe":{}}"#);
    allowed(&mut house);
    let news = publication("1");
    let cost = news.cost();
    for _ in 0..2 {
        house.shard.handle_stream(house.now, stream, news.clone());
    }
    assert!(acts(&mut house).is_empty(), "the socket has not taken it");
    let push = r#"{"push":{"channel":"fed:1","pub":{"data":1}}}"#;
    assert_eq!(house.heard(ANN), format!("{push}\n{push}"));
    assert_eq!(allowed(&mut house), 2 * cost);
}

/// S06
#[test]
fn stream_ends_with_the_subscription_and_the_other_way_round() {
    let (mut house, stream) = subscribed("fed:1");
    house.say(ANN, r#"{"id":3,"unsubscribe":{"channel":"fed:1"}}"#);
    is_closed(&mut house, stream);
    house.heard(ANN);
    house.shard.handle_stream(house.now, stream, publication("1"));
    house.shard.handle_stream(house.now, stream, StreamNews::Failed);
    assert_eq!(house.heard(ANN), "", "late");

    let (mut house, stream) = subscribed("fed:1");
    house.shard.handle_close(house.now, ANN);
    is_closed(&mut house, stream);

    for (end, code) in [(StreamNews::Complete, 2000), (StreamNews::Failed, 2500)] {
        let (mut house, stream) = subscribed("fed:1");
        house.shard.handle_stream(house.now, stream, end);
        assert!(house.heard(ANN).contains(&format!(r#""unsubscribe":{{"code":{code}"#)));
        is_closed(&mut house, stream);
    }
}

/// S06
#[test]
fn stream_without_a_subscription_is_closed() {
    let no = ReplyError { code: 1001, message: "no".into(), temporary: false };
    let late = SubscribeAnswer { expire_at: 1, ..SubscribeAnswer::default() };
    for answer in [ProxyAnswer::Error(no), ProxyAnswer::Failed, ProxyAnswer::Subscribe(Box::new(late))] {
        let mut house = House::connected(fed());
        house.say(ANN, SUBSCRIBE);
        let (stream, question) = opened(&mut house);
        house.answer(&question, answer);
        assert!(house.heard(ANN).contains("error"));
        is_closed(&mut house, stream);
    }
    let mut house = House::connected(fed());
    house.say(ANN, &SUBSCRIBE.replace("}}", r#","tf":{"key":"a","cmp":"ex"}}}"#));
    let (stream, question) = opened(&mut house);
    house.answer(&question, yes());
    assert!(house.heard(ANN).contains(r#""code":107"#), "no filter");
    is_closed(&mut house, stream);
    // Nobody answers, and whoever asked has gone.
    house.say(ANN, SUBSCRIBE);
    let (stream, question) = opened(&mut house);
    house.wait(PATIENCE);
    assert!(house.heard(ANN).contains(r#""code":100"#));
    is_closed(&mut house, stream);
    house.answer(&question, yes());
    assert!(acts(&mut house).is_empty() && house.heard(ANN).is_empty());
    house.say(ANN, SUBSCRIBE);
    let (stream, question) = opened(&mut house);
    house.shard.handle_close(house.now, ANN);
    house.answer(&question, yes());
    is_closed(&mut house, stream);
}

/// S07
#[test]
fn publication_goes_up_and_is_answered_when_it_is_on_its_way() {
    const PUBLISH: &str = r#"{"id":3,"publish":{"channel":"both:1","data":1}}"#;
    let (mut house, stream) = subscribed("both:1");
    for (answer, want) in [
        (ProxyAnswer::Sent, r#"{"id":3,"publish":{}}"#),
        (ProxyAnswer::Failed, r#"{"id":3,"error":{"code":100,"message":"internal server error","temporary":true}}"#),
    ] {
        house.say(ANN, PUBLISH);
        let acts = acts(&mut house);
        let [StreamAct::Publish { stream: on, request, data }] = &acts[..] else { panic!("{acts:?}") };
        assert_eq!((*on, &data[..]), (stream, &b"1"[..]));
        assert_eq!(house.heard(ANN), "");
        house.shard.handle_proxy_answer(house.now, *request, answer);
        assert_eq!(house.heard(ANN), want);
    }
    let (mut house, _) = subscribed("fed:1");
    house.say(ANN, &PUBLISH.replace("both", "fed"));
    assert!(house.heard(ANN).contains(r#""code":108"#));
}
