//! What is counted and timed, and that it is what clients and callers saw.

use crate::room::{Room, kept, open, options, recovering};
use ringcast_proto::api::Method;
use ringcast_state::TransportKind;
use ringcast_state::metrics::{Action, BrokerMessage, FrameType, Histogram, Suppressed, Traffic};
use ringcast_state::namespace::ChannelOptions;
use std::time::Duration;

fn room() -> Room {
    let shown = ChannelOptions { presence: true, join_leave: true, force_push_join_leave: true, ..recovering() };
    let filtered = ChannelOptions { allow_tags_filter: true, ..open() };
    let mut room = Room::new(options([("open", open()), ("kept", kept()), ("shown", shown), ("filtered", filtered)]));
    ["ann", "bob"].into_iter().for_each(|name| room.enter(name));
    room
}

/// Count, least and highest value.
fn range(histogram: &Histogram) -> (u64, Option<u64>, u64) {
    (histogram.count(), histogram.quantile(0.0), histogram.max())
}

#[test]
fn deliveries_are_counted_and_timed_once_per_subscriber() {
    let mut room = room();
    for name in ["ann", "bob"] {
        room.subscribe(name, "open:a", "");
    }
    room.write_after(Duration::ZERO);
    room.publish("open:a", r#"{"n":1}"#, "");
    room.publish("open:nobody", r#"{"n":2}"#, "");
    assert_eq!(room.counted().metrics.publish_to_write.count(), 0, "nothing is written yet");
    room.write_after(Duration::from_micros(70));
    room.write_after(Duration::from_micros(900));
    let metrics = room.counted().metrics;
    let (ann, bob) = (room.news("ann"), room.news("bob"));
    assert_eq!(range(&metrics.publish_to_write), (2, Some(70), 70));
    assert_eq!(range(&metrics.accept_to_home), (2, Some(0), 0));
    assert_eq!(range(&metrics.home_to_shard), (1, Some(0), 0));
    assert_eq!(range(&metrics.shard_to_socket), (1, Some(70), 70));
    let bytes = (ann.len() + bob.len()) as u64;
    assert_eq!(
        metrics.of(TransportKind::WebSocket).sent[FrameType::PushPublication as usize],
        Traffic { messages: 2, bytes }
    );
    let broker = [metrics.broker_sent, metrics.broker_received].map(|sent| sent[BrokerMessage::Publication as usize]);
    assert_eq!(broker, [2, 2]);
}

#[test]
fn commands_and_calls_last_until_their_answer_is_written() {
    let mut room = room();
    room.write_after(Duration::from_micros(20));
    room.say("ann", r#""subscribe":{"channel":"open:a"}"#);
    room.say("ann", r#""publish":{"channel":"open:a","data":{}}"#);
    room.call(
        "batch",
        r#"{"commands":[{"publish":{"channel":"open:a","data":{}}},{"presence":{"channel":"open:a"}}]}"#,
    );
    room.call("broadcast", r#"{"channels":["open:a","none:a"],"data":{}}"#);
    room.write_after(Duration::from_micros(30));
    let metrics = room.counted().metrics;
    let command = |frame: FrameType| range(&metrics.commands[frame as usize]);
    assert_eq!(command(FrameType::Connect), (2, Some(20), 20));
    assert_eq!(command(FrameType::Subscribe), (1, Some(30), 30));
    assert_eq!(command(FrameType::Publish), (1, Some(30), 30));
    let calls: Vec<u64> = metrics.api_calls.iter().take(Method::ALL.len()).map(Histogram::count).collect();
    // publish, broadcast, presence; a batch is what is in it.
    assert_eq!(calls, [1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut errors: Vec<_> = metrics.api_errors.iter().collect();
    errors.sort_unstable();
    assert_eq!(errors, [(&("broadcast_publish", Some(102), "http"), 1), (&("presence", Some(108), "http"), 1)]);
    assert_eq!(metrics.reply_errors.get(&(FrameType::Publish, 103)), 1);
}

#[test]
fn frames_are_counted_by_kind_with_the_bytes_of_their_messages() {
    let mut room = room();
    let before = room.counted().metrics;
    let reply = room.subscribe("ann", "open:a", "");
    let metrics = room.counted().metrics;
    let (subscribe, command) = (FrameType::Subscribe as usize, r#"{"id":9,"subscribe":{"channel":"open:a"}}"#);
    assert_eq!(
        metrics.of(TransportKind::WebSocket).sent[subscribe],
        Traffic { messages: 1, bytes: reply.len() as u64 }
    );
    assert_eq!(
        metrics.of(TransportKind::WebSocket).received[subscribe],
        Traffic { messages: 1, bytes: command.len() as u64 }
    );
    let others = |traffic: [Traffic; FrameType::COUNT]| {
        traffic.into_iter().enumerate().filter(|(frame, _)| *frame != subscribe).map(|(_, traffic)| traffic)
    };
    assert!(
        others(metrics.of(TransportKind::WebSocket).sent).eq(others(before.of(TransportKind::WebSocket).sent))
            && others(metrics.of(TransportKind::WebSocket).received)
                .eq(others(before.of(TransportKind::WebSocket).received))
    );
}

#[test]
fn clients_and_subscriptions_come_and_go() {
    let mut room = room();
    room.enter_with("eve", r#"{"sub":"eve"}"#, r#","name":"js","version":"1""#);
    room.subscribe("ann", "open:a", "");
    room.subscribe("eve", "open:a", "");
    let metrics = room.counted().metrics;
    assert_eq!((metrics.of(TransportKind::WebSocket).connections, metrics.subscriptions), ([2, 0, 0, 1], [1, 1]));
    assert_eq!((room.counted().num_users(), room.counted().channels), (3, 1));
    room.call("unsubscribe", r#"{"user":"ann","channel":"open:a"}"#);
    room.call("disconnect", r#"{"user":"bob"}"#);
    room.lose("eve");
    let metrics = room.counted().metrics;
    assert_eq!((metrics.of(TransportKind::WebSocket).connections, metrics.subscriptions), ([1, 0, 0, 0], [0, 0]));
    assert_eq!(
        (metrics.of(TransportKind::WebSocket).connections_accepted, metrics.subscriptions_accepted),
        ([2, 0, 0, 1], [1, 1])
    );
    assert_eq!((metrics.disconnects.get(&3503), metrics.unsubscribes.get(&2000)), (1, 1));
    assert_eq!(metrics.disconnects.iter().count(), 1, "a lost client was not closed by the server");
    assert_eq!(room.counted().channels, 0);
    let action = |action: Action| metrics.actions[action as usize];
    assert_eq!((action(Action::AddClient), action(Action::RemoveClient)), (3, 2));
    assert_eq!((action(Action::BrokerSubscribe), action(Action::BrokerUnsubscribe)), (1, 1));
}

#[test]
fn what_is_not_published_again_or_kept_back_is_counted() {
    let mut room = room();
    room.subscribe("ann", "filtered:a", r#","tf":{"key":"k","cmp":"eq","val":"v"}"#);
    room.subscribe("bob", "filtered:a", "");
    room.publish("filtered:a", "{}", "");
    for _ in 0..3 {
        room.publish("kept:a", "{}", r#","idempotency_key":"k""#);
        room.publish("kept:a", "{}", r#","version":7"#);
    }
    room.write_after(Duration::ZERO);
    let metrics = room.counted().metrics;
    assert_eq!(metrics.suppressed[Suppressed::Idempotency as usize], 2);
    assert_eq!(metrics.suppressed[Suppressed::Version as usize], 2);
    assert_eq!(metrics.broker_sent[BrokerMessage::Publication as usize], 7);
    assert_eq!(metrics.broker_received[BrokerMessage::Publication as usize], 3);
    assert_eq!((metrics.filtered, metrics.publish_to_write.count()), (1, 1));
}

#[test]
fn recoveries_are_counted_with_what_they_brought() {
    let mut room = room();
    room.publish("shown:a", "{}", "");
    room.publish("shown:a", "{}", "");
    room.subscribe("ann", "shown:a", r#","recover":true,"offset":0"#);
    room.subscribe("bob", "shown:a", r#","recover":true,"offset":1,"epoch":"other""#);
    let metrics = room.counted().metrics;
    assert_eq!(metrics.recoveries, [[1, 0], [0, 1]]);
    assert_eq!(range(&metrics.recovered_publications), (1, Some(2), 2));
    let joins = metrics.broker_sent[BrokerMessage::Join as usize];
    let (ann, bob) = (room.news("ann"), room.news("bob"));
    let told = format!("{ann}\n{bob}").matches(r#""join""#).count() as u64;
    assert_eq!(
        (joins, metrics.of(TransportKind::WebSocket).sent[FrameType::PushJoin as usize].messages, told),
        (2, 3, 1)
    );
}

#[test]
fn ping_is_timed_to_its_pong() {
    let mut options = options([]);
    options.client.ping_interval = Duration::from_secs(25);
    let mut room = Room::new(options);
    room.enter("ann");
    room.wait(Duration::from_secs(25));
    assert_eq!(room.news("ann"), "{}");
    room.wait(Duration::from_millis(3));
    room.pong("ann");
    let metrics = room.counted().metrics;
    assert_eq!(range(&metrics.of(TransportKind::WebSocket).ping_pong), (1, Some(3000), 3000));
    assert_eq!(
        metrics.of(TransportKind::WebSocket).sent[FrameType::ServerPing as usize],
        Traffic { messages: 1, bytes: 2 }
    );
    assert_eq!(
        metrics.of(TransportKind::WebSocket).received[FrameType::ClientPong as usize],
        Traffic { messages: 1, bytes: 2 }
    );
}

#[test]
fn shard_that_is_never_told_of_its_writes_does_not_remember_them_all() {
    let mut room = room();
    room.subscribe("ann", "open:a", "");
    for _ in 0..10_000 {
        room.publish("open:a", "{}", "");
    }
    let recorded = room.counted().metrics.publish_to_write.count();
    assert!(recorded > 5_000, "{recorded}");
    room.write_after(Duration::ZERO);
    assert_eq!(room.counted().metrics.publish_to_write.count(), 10_000);
}
