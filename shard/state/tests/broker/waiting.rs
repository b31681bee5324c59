//! What happens while the broker has not answered yet, or does not answer at all.

use crate::room::{Room, kept, open, options, recovering};
use ringcast_state::RequestId;
use ringcast_state::broker::{BrokerAnswer, BrokerAsk, BrokerError, BrokerEvent, BrokerNews, BrokerRequest};
use ringcast_state::namespace::ChannelOptions;
use std::time::Duration;

const INSUFFICIENT: &str = r#"{"push":{"channel":"rec:1","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
const TEMPORARY: &str = r#"{"id":9,"error":{"code":100,"message":"internal server error","temporary":true}}"#;

/// A room whose broker is served by hand.
struct Hand {
    room: Room,
    asked: Vec<(RequestId, BrokerAsk)>,
}

impl Hand {
    fn new() -> Self {
        let shown = ChannelOptions { presence: true, join_leave: true, force_push_join_leave: true, ..open() };
        let options = options([("rec", recovering()), ("kept", kept()), ("plain", open()), ("shown", shown)]);
        let mut room = Room::new(options);
        room.is_deaf = true;
        ["ann", "bob"].iter().for_each(|name| room.enter(name));
        Hand { room, asked: Vec::new() }
    }

    /// With `ann` subscribed to `rec:1`, where `published` were published.
    fn subscribed(published: u64) -> Self {
        let mut hand = Hand::new();
        (1..=published).for_each(|_| hand.publish_elsewhere());
        hand.room.subscribe("ann", "rec:1", "");
        hand.serve_all();
        hand.room.news("ann");
        hand
    }

    /// Kinds of the questions that wait.
    fn asked(&mut self) -> String {
        let requests = self.room.shard.take_broker_requests();
        self.asked.extend(requests.into_iter().map(|BrokerRequest { request, ask }| (request, ask)));
        let kinds = self.asked.iter().map(|(_, ask)| format!("{ask:?}").split(' ').next().map(str::to_owned));
        kinds.map(Option::unwrap_or_default).collect::<Vec<_>>().join(" ").replace("Publish(BrokerPublish", "Publish")
    }

    fn tell(&mut self, news: BrokerNews) {
        self.room.shard.handle_broker(self.room.now, vec![news]);
    }

    /// Serves the oldest question, but holds the answer back.
    fn serve(&mut self) -> BrokerNews {
        self.asked();
        let (request, ask) = self.asked.remove(0);
        BrokerNews::Answer(request, self.room.store.serve(0, self.room.now.at, ask))
    }

    fn serve_all(&mut self) {
        while !self.asked().is_empty() {
            let answer = self.serve();
            self.tell(answer);
        }
        self.hear();
    }

    /// The broker tells all that it has to tell.
    fn hear(&mut self) {
        for (_, event) in std::mem::take(&mut self.room.store.events) {
            self.tell(BrokerNews::Event(event));
        }
    }

    fn fail_all(&mut self) {
        self.asked();
        for (request, _) in std::mem::take(&mut self.asked) {
            self.tell(BrokerNews::Answer(request, BrokerAnswer::Failed(BrokerError::Unavailable)));
        }
    }

    /// Another node publishes to `rec:1`.
    fn publish_elsewhere(&mut self) {
        let publish = ringcast_state::broker::BrokerPublish {
            channel: "rec:1".into(),
            data: "{}".into(),
            info: None,
            tags: Default::default(),
            history: Some(ringcast_state::broker::HistoryTerms {
                size: 5,
                ttl: Duration::from_secs(60),
                meta_ttl: Duration::from_secs(3600),
            }),
            use_delta: false,
            idempotency_key: String::new(),
            idempotency_ttl: Duration::ZERO,
            version: 0,
            version_epoch: String::new(),
        };
        self.room.store.serve(1, self.room.now.at, BrokerAsk::Publish(Box::new(publish)));
    }

    fn hearing_again(&mut self) {
        self.tell(BrokerNews::Event(BrokerEvent::Hearing { channels: vec!["rec:1".into()] }));
    }

    /// Offsets of the publications that somebody was told.
    fn offsets(&mut self, name: &str) -> Vec<u64> {
        let news = self.room.news(name);
        let parts = news.split(r#""pub":{"data":{},"offset":"#).skip(1);
        parts.map(|part| part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("").parse().unwrap_or(0)).collect()
    }
}

/// E02
#[test]
fn subscriber_is_answered_after_the_acknowledgement_and_the_read_and_others_join_the_wait() {
    let mut hand = Hand::new();
    assert_eq!(hand.room.subscribe("ann", "rec:1", ""), "");
    assert_eq!(hand.room.subscribe("bob", "rec:1", ""), "");
    assert_eq!(hand.asked(), "Subscribe");
    let answer = hand.serve();
    hand.tell(answer);
    assert_eq!((hand.asked().as_str(), hand.room.news("ann").as_str()), ("History", ""));
    let answer = hand.serve();
    hand.tell(answer);
    let reply = r#"{"id":9,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}"#;
    assert_eq!((hand.room.news("ann").as_str(), hand.room.news("bob").as_str()), (reply, reply));
    assert_eq!(hand.asked(), "");
}

/// E02
#[test]
fn publications_that_come_during_the_read_follow_the_reply_once_and_in_order() {
    for read_late in [false, true] {
        let mut hand = Hand::new();
        hand.publish_elsewhere();
        hand.room.subscribe("ann", "rec:1", r#","recover":true,"offset":0"#);
        hand.asked();
        let answer = hand.serve();
        hand.tell(answer);
        hand.asked();
        // Read before or after the second publication; told in both cases before the answer comes.
        let early = (!read_late).then(|| hand.serve());
        hand.publish_elsewhere();
        hand.hear();
        let answer = early.unwrap_or_else(|| hand.serve());
        hand.tell(answer);
        let news = hand.room.news("ann");
        assert!(
            news.contains(r#""publications":[{"data":{},"offset":1},{"data":{},"offset":2}],"recovered":true"#),
            "{news}"
        );
        hand.publish_elsewhere();
        hand.hear();
        assert_eq!(hand.offsets("ann"), [3], "{read_late}");
    }
}

/// E02
#[test]
fn what_a_read_finds_beyond_what_was_told_is_handed_to_all_and_not_again_when_it_is_told() {
    let mut hand = Hand::subscribed(1);
    hand.publish_elsewhere();
    hand.publish_elsewhere();
    let late = std::mem::take(&mut hand.room.store.events);
    hand.room.subscribe("bob", "rec:1", "");
    hand.serve_all();
    assert_eq!(hand.offsets("ann"), [2, 3]);
    assert!(hand.room.news("bob").contains(r#""offset":3"#));
    for (_, event) in late {
        hand.tell(BrokerNews::Event(event));
    }
    hand.publish_elsewhere();
    hand.hear();
    assert_eq!((hand.offsets("ann"), hand.offsets("bob")), (vec![4], vec![4]));
}

/// E02
#[test]
fn subscribers_are_brought_level_when_the_broker_is_heard_again() {
    let mut hand = Hand::subscribed(1);
    hand.publish_elsewhere();
    hand.publish_elsewhere();
    hand.room.store.events.clear();
    hand.hearing_again();
    assert_eq!(hand.asked(), "History");
    hand.serve_all();
    assert_eq!(hand.offsets("ann"), [2, 3]);
}

/// E02
#[test]
fn subscribers_come_again_when_what_they_missed_is_gone() {
    // More than is kept.
    let mut hand = Hand::subscribed(1);
    (0..6).for_each(|_| hand.publish_elsewhere());
    hand.room.store.events.clear();
    hand.hearing_again();
    hand.serve_all();
    assert_eq!(hand.room.news("ann"), INSUFFICIENT);
    // All of it: the broker came back empty.
    let mut hand = Hand::subscribed(1);
    hand.room.store.forget_all();
    hand.hearing_again();
    hand.serve_all();
    assert_eq!(hand.room.news("ann"), INSUFFICIENT);
}

/// E02
#[test]
fn gap_in_what_is_told_ends_subscriptions_with_a_position() {
    let mut hand = Hand::subscribed(1);
    hand.publish_elsewhere();
    hand.room.store.events.clear();
    hand.publish_elsewhere();
    hand.hear();
    assert_eq!(hand.room.news("ann"), INSUFFICIENT);
}

/// E02
#[test]
fn position_is_looked_after_in_silence() {
    let mut hand = Hand::subscribed(1);
    hand.publish_elsewhere();
    hand.room.store.events.clear();
    hand.room.wait(Duration::from_secs(53));
    assert_eq!(hand.asked(), "");
    hand.room.wait(Duration::from_secs(2));
    assert_eq!(hand.asked(), "History");
    hand.serve_all();
    assert_eq!(hand.offsets("ann"), [2]);
}

/// E02
#[test]
fn read_for_subscribers_is_tried_until_it_works() {
    let mut hand = Hand::subscribed(1);
    hand.publish_elsewhere();
    hand.room.store.events.clear();
    hand.hearing_again();
    for _ in 0..3 {
        hand.fail_all();
        assert_eq!(hand.asked(), "");
        hand.room.wait(Duration::from_millis(300));
        assert_eq!(hand.asked(), "History");
    }
    hand.serve_all();
    assert_eq!(hand.offsets("ann"), [2]);
}

/// E02
#[test]
fn what_the_broker_refuses_is_a_temporary_error() {
    for patience in [None, Some(Duration::from_millis(1100))] {
        let mut hand = Hand::new();
        hand.room.subscribe("ann", "rec:1", "");
        hand.room.tell("bob", r#""subscribe":{"channel":"plain:1"}"#);
        hand.room.begin("publish", r#"{"channel":"plain:1","data":1}"#);
        hand.room.begin("history", r#"{"channel":"kept:1"}"#);
        hand.room.begin("presence", r#"{"channel":"shown:1"}"#);
        match patience {
            None => hand.fail_all(),
            Some(patience) => hand.room.wait(patience),
        }
        assert_eq!((hand.room.news("ann").as_str(), hand.room.news("bob").as_str()), (TEMPORARY, TEMPORARY));
        for _ in 0..3 {
            let answer = hand.room.answer();
            assert!(answer.as_ref().is_some_and(|answer| answer.contains(r#""code":100"#)), "{patience:?} {answer:?}");
        }
        // And it is over with that: the next one is asked anew.
        hand.fail_all();
        hand.room.subscribe("ann", "rec:1", "");
        hand.serve_all();
        assert!(hand.room.news("ann").contains(r#""epoch":"E""#));
    }
}

/// E02
#[test]
fn broker_that_never_answers_is_asked_a_bounded_number_of_questions() {
    let mut hand = Hand::new();
    let mut options = options([("plain", open())]);
    options.limits.broker_requests_max = 10;
    hand.room.reload(options);
    for _ in 0..100 {
        hand.room.begin("publish", r#"{"channel":"plain:1","data":1}"#);
        hand.room.wait(Duration::from_millis(100));
        hand.asked();
    }
    assert_eq!(hand.asked.len(), 10);
    hand.fail_all();
    hand.room.begin("publish", r#"{"channel":"plain:1","data":1}"#);
    assert_eq!(hand.asked(), "Publish");
}

/// E02
#[test]
fn channel_without_subscribers_is_kept_for_a_moment() {
    let mut hand = Hand::subscribed(0);
    hand.room.say("ann", r#""unsubscribe":{"channel":"rec:1"}"#);
    hand.room.wait(Duration::from_millis(900));
    assert_eq!(hand.asked(), "");
    hand.room.subscribe("bob", "rec:1", "");
    assert_eq!(hand.asked(), "History");
    hand.serve_all();
    hand.room.news("bob");
    hand.room.wait(Duration::from_millis(900));
    assert_eq!(hand.asked(), "");
    hand.room.say("bob", r#""unsubscribe":{"channel":"rec:1"}"#);
    hand.room.wait(Duration::from_millis(1100));
    assert_eq!(hand.asked(), "Unsubscribe");
}

/// E02
#[test]
fn presence_is_entered_before_the_reply_renewed_and_taken_out() {
    let mut hand = Hand::new();
    hand.room.subscribe("ann", "shown:1", "");
    assert_eq!(hand.asked(), "AddPresence");
    hand.serve_all();
    let news = hand.room.news("ann");
    assert!(news.starts_with(r#"{"id":9,"subscribe":"#) && news.contains(r#""join""#), "{news}");
    hand.room.wait(Duration::from_secs(28));
    assert_eq!(hand.asked(), "AddPresence");
    hand.serve_all();
    hand.room.lose("ann");
    assert_eq!(hand.asked(), "RemovePresence PublishLeave");
}

/// E04
/// A replica took over without the last two publications: who was told of them is told so, and is not taken for somebody who has
/// seen what comes in their place.
#[test]
fn subscriber_that_knows_more_than_the_broker_has_to_come_again() {
    let mut hand = Hand::subscribed(4);
    hand.room.store.forget_last("rec:1", 2);
    hand.room.store.subscribed.insert((0, "rec:1".into()));
    hand.hearing_again();
    hand.serve_all();
    assert_eq!(hand.room.news("ann"), INSUFFICIENT);
    (0..3).for_each(|_| hand.publish_elsewhere());
    hand.hear();
    for (offset, recovered) in [(3, false), (4, false), (2, true)] {
        let epoch = hand.room.store.epoch("rec:1");
        hand.room.subscribe("ann", "rec:1", &format!(r#","recover":true,"offset":{offset},"epoch":"{epoch}""#));
        hand.serve_all();
        let reply = hand.room.news("ann");
        assert_eq!(reply.contains(r#""recovered":true"#), recovered, "{offset}: {reply}");
        hand.room.tell("ann", r#""unsubscribe":{"channel":"rec:1"}"#);
        hand.room.news("ann");
    }
}

/// E04
/// The same when as many have come in their place already.
#[test]
fn subscriber_that_knows_other_publications_than_the_broker_has_to_come_again() {
    let mut hand = Hand::subscribed(0);
    (0..4).for_each(|_| hand.publish_elsewhere());
    hand.hear();
    assert_eq!(hand.offsets("ann"), [1, 2, 3, 4]);
    hand.room.store.forget_last("rec:1", 2);
    (0..2).for_each(|_| hand.publish_elsewhere());
    hand.room.store.subscribed.insert((0, "rec:1".into()));
    hand.hearing_again();
    hand.serve_all();
    assert_eq!(hand.room.news("ann"), INSUFFICIENT);
}

/// E02
/// A look that finds nothing new changes nothing.
#[test]
fn subscriber_that_knows_what_the_broker_has_is_left_alone() {
    let mut hand = Hand::subscribed(0);
    (0..4).for_each(|_| hand.publish_elsewhere());
    hand.hear();
    hand.offsets("ann");
    hand.hearing_again();
    hand.serve_all();
    assert_eq!(hand.room.news("ann"), "");
}
