//! Who subscribes without a token, and whether a subscription goes on.

use crate::house::{ANN, BOB, House, PATIENCE, options};
use bytes::Bytes;
use ringcast_proto::codes::{Disconnect, ReplyError};
use ringcast_state::Options;
use ringcast_state::namespace::{ChannelConfig, ChannelOptions};
use ringcast_state::options::ClientOptions;
use ringcast_state::proxy::{Overrides, ProxyAnswer, ProxyEvent, ProxyId, RefreshAnswer, SubscribeAnswer};
use std::time::Duration;

const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"room:1","data":{"q":1}}}"#;

/// After this a subscription that was given half a minute is asked about: the time and the delay of grace.
const HALF_A_MINUTE: Duration = Duration::from_secs(30 + 25);

/// Backend 5 decides about `room`, and about `hall` and its subscriptions whose time is over backend 6.
fn asking() -> Options {
    let room = ChannelOptions { subscribe_proxy: Some(ProxyId(5)), ..ChannelOptions::default() };
    let hall = ChannelOptions { sub_refresh_proxy: Some(ProxyId(6)), ..room.clone() };
    let limited = ChannelOptions { allow_user_limited_channels: true, ..room.clone() };
    let namespaces = [("room", room), ("hall", hall), ("limited", limited)];
    let namespaces = namespaces.into_iter().map(|(name, options)| (name.to_owned(), options)).collect();
    Options { channel: ChannelConfig { namespaces, ..ChannelConfig::default() }, ..options() }
}

fn terms(answer: SubscribeAnswer) -> ProxyAnswer {
    ProxyAnswer::Subscribe(Box::new(answer))
}

/// [`ANN`], in `hall:1` for half a minute.
fn in_the_hall() -> House {
    let mut house = House::connected(asking());
    house.say(ANN, &SUBSCRIBE.replace("room", "hall"));
    let question = house.question();
    let expire_at = house.now.unix() + 30;
    house.answer(&question, terms(SubscribeAnswer { expire_at, ..SubscribeAnswer::default() }));
    // The client is not to refresh.
    assert_eq!(house.heard(ANN), r#"{"id":2,"subscribe":{}}"#);
    house
}

/// X04
#[test]
fn backend_decides_who_subscribes() {
    let no = ReplyError { code: 1001, message: "no".into(), temporary: false };
    let expire_at = 1_700_000_000 + 60;
    let data = Bytes::from_static(br#"{"d":1}"#);
    let overrides = Overrides { force_positioning: Some(true), ..Overrides::default() };
    for (answer, want) in [
        (terms(SubscribeAnswer::default()), r#"{"id":2,"subscribe":{}}"#),
        (terms(SubscribeAnswer { data, ..SubscribeAnswer::default() }), r#"{"id":2,"subscribe":{"data":{"d":1}}}"#),
        (
            terms(SubscribeAnswer { expire_at, ..SubscribeAnswer::default() }),
            r#"{"id":2,"subscribe":{"expires":true,"ttl":60}}"#,
        ),
        (
            terms(SubscribeAnswer { expire_at: 1, ..SubscribeAnswer::default() }),
            r#"{"id":2,"error":{"code":110,"message":"expired"}}"#,
        ),
        (ProxyAnswer::Error(no), r#"{"id":2,"error":{"code":1001,"message":"no"}}"#),
        (ProxyAnswer::Disconnect(Disconnect { code: 4500, reason: "out".into() }), "closed 4500 out"),
        (ProxyAnswer::Failed, r#"{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}"#),
    ] {
        let mut house = House::connected(asking());
        house.say(ANN, SUBSCRIBE);
        assert_eq!(house.heard(ANN), "");
        let question = house.question();
        let event = ProxyEvent::Subscribe { channel: "room:1".into(), data: Bytes::from_static(br#"{"q":1}"#) };
        assert_eq!((question.proxy.1, &question.event), (ProxyId(5), &event));
        house.answer(&question, answer);
        assert_eq!(house.heard(ANN), want);
    }
    let mut house = House::connected(asking());
    house.say(ANN, SUBSCRIBE);
    let question = house.question();
    house.answer(&question, terms(SubscribeAnswer { overrides, ..SubscribeAnswer::default() }));
    assert!(house.heard(ANN).contains(r#""positioned":true"#));
}

/// X04
#[test]
fn backend_is_not_asked_about_what_it_cannot_open() {
    let mut house = House::connected(asking());
    for (channel, code) in [("what:1", 102), ("$room:1", 103), ("limited:#bob", 103)] {
        house.say(ANN, &SUBSCRIBE.replace("room:1", channel));
        let heard = house.heard(ANN);
        assert!(heard.contains(&format!(r#""code":{code}"#)), "{channel} {heard}");
    }
    house.say(ANN, r#"{"id":2,"subscribe":{"channel":"room:1","token":"t"}}"#);
    assert!(house.heard(ANN).contains(r#""code":103"#));
    assert!(house.shard.take_proxy_question().is_none());
}

/// X04
#[test]
fn client_that_has_left_is_not_subscribed() {
    let mut house = House::connected(asking());
    house.say(ANN, SUBSCRIBE);
    let question = house.question();
    house.shard.handle_close(house.now, ANN);
    house.answer(&question, terms(SubscribeAnswer::default()));
    assert_eq!(house.heard(ANN), "");
    // And its place is another's.
    house.connect(BOB);
    house.say(BOB, SUBSCRIBE);
    let question = house.question();
    house.answer(&question, terms(SubscribeAnswer::default()));
    assert_eq!(house.heard(BOB), r#"{"id":2,"subscribe":{}}"#);
}

/// X06
#[test]
fn backend_says_whether_a_subscription_goes_on() {
    let mut house = in_the_hall();
    house.wait(HALF_A_MINUTE);
    let question = house.question();
    assert_eq!((question.proxy.1, &question.event), (ProxyId(6), &ProxyEvent::SubRefresh { channel: "hall:1".into() }));
    let expire_at = house.now.unix() + 30;
    house.answer(&question, ProxyAnswer::Refresh(RefreshAnswer { expire_at, ..RefreshAnswer::default() }));
    house.wait(HALF_A_MINUTE);
    let question = house.question();
    // A backend that fails gives it a minute.
    house.answer(&question, ProxyAnswer::Failed);
    house.wait(Duration::from_secs(60 + 25));
    let question = house.question();
    // Without an end it is not asked again.
    house.answer(&question, ProxyAnswer::Refresh(RefreshAnswer::default()));
    house.wait(Duration::from_secs(3600));
    assert!(house.shard.take_proxy_question().is_none());
}

/// X06
#[test]
fn subscription_ends_when_the_backend_says_so() {
    let no = ReplyError { code: 1001, message: "no".into(), temporary: false };
    for answer in [
        ProxyAnswer::Refresh(RefreshAnswer { expired: true, ..RefreshAnswer::default() }),
        ProxyAnswer::Refresh(RefreshAnswer { expire_at: 1, ..RefreshAnswer::default() }),
        ProxyAnswer::Error(no),
        ProxyAnswer::NotBase64,
    ] {
        let mut house = in_the_hall();
        house.wait(HALF_A_MINUTE);
        house.heard(ANN);
        let question = house.question();
        house.answer(&question, answer);
        let heard = house.heard(ANN);
        assert!(heard.contains(r#""code":2501"#), "{heard}");
    }
}

/// X06
#[test]
fn answer_about_an_earlier_subscription_is_for_no_other() {
    let mut house = in_the_hall();
    house.wait(HALF_A_MINUTE);
    let question = house.question();
    house.say(ANN, r#"{"id":3,"unsubscribe":{"channel":"hall:1"}}"#);
    house.say(ANN, &SUBSCRIBE.replace("room", "hall"));
    let again = house.question();
    house.answer(&again, terms(SubscribeAnswer::default()));
    house.heard(ANN);
    house.answer(&question, ProxyAnswer::Refresh(RefreshAnswer { expired: true, ..RefreshAnswer::default() }));
    assert_eq!(house.heard(ANN), "");
}

/// X06
#[test]
fn client_does_not_refresh_a_subscription_that_a_backend_is_asked_about() {
    let mut house = in_the_hall();
    house.say(ANN, r#"{"id":3,"sub_refresh":{"channel":"hall:1","token":"t"}}"#);
    assert_eq!(house.heard(ANN), "closed 3501 bad request");
    let mut house = in_the_hall();
    house.wait(HALF_A_MINUTE);
    house.wait(PATIENCE);
    assert!(!house.heard(ANN).contains("2501"));
}

/// X04, R06: with several commands at a time a client may unsubscribe before the backend has answered.
#[test]
fn unsubscribe_withdraws_the_question() {
    let options = asking();
    let client = ClientOptions { concurrency: 2, ..options.client.clone() };
    let mut house = House::connected(Options { client, ..options });
    house.say(ANN, SUBSCRIBE);
    let question = house.question();
    house.say(ANN, r#"{"id":3,"unsubscribe":{"channel":"room:1"}}"#);
    let failed = r#"{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}"#;
    assert_eq!(house.heard(ANN), format!("{failed}\n{}", r#"{"id":3,"unsubscribe":{}}"#));
    house.answer(&question, terms(SubscribeAnswer::default()));
    assert_eq!(house.heard(ANN), "");
    // It counts no more: two others are served at a time, and the channel is free.
    house.say(ANN, SUBSCRIBE);
    let question = house.question();
    house.say(ANN, r#"{"id":4,"unsubscribe":{"channel":"other"}}"#);
    house.answer(&question, terms(SubscribeAnswer::default()));
    assert_eq!(house.heard(ANN), format!("{}\n{}", r#"{"id":4,"unsubscribe":{}}"#, r#"{"id":2,"subscribe":{}}"#));
}
