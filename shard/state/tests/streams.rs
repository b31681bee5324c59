//! Clients of other transports than WebSocket: framings, pushes without replies, commands that come by another way.

use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::client::{EmulationRequest, Encoding};
use ringcast_state::options::NodeOptions;
use ringcast_state::{
    Action, ApiCallId, ConnectionId, EmulationError, Farewell, Frames, Framing, Message, Now, Options, Pings, Seeds,
    Shard, ShardId, Time, Transport, TransportKind, Visitor,
};

const NOW: Now = Now { at: Time(1), unix_ms: 1_700_000_000_000 };
const NODE: &str = "this node";

/// One of `shards` shards, everybody let in.
fn shard(shards: u16) -> Shard {
    shard_pinging(shards, Options::default().client.ping_interval)
}

fn shard_pinging(shards: u16, ping_interval: Duration) -> Shard {
    let mut options =
        Options { node: NodeOptions { uid: NODE.into(), ..NodeOptions::default() }, ..Options::default() };
    options.client.insecure = true;
    options.client.ping_interval = ping_interval;
    Shard::new(ShardId(0), shards, Arc::new(options), Seeds { home: 1, shard: [7; 32] }, NOW)
}

fn open(shard: &mut Shard, slot: u32, kind: TransportKind, framing: Framing, farewell: Farewell, first: &str) {
    let transport = Transport {
        encoding: Encoding::Json,
        framing,
        kind,
        pings: Pings::Messages,
        visitor: Visitor::UNKNOWN,
        farewell,
    };
    shard.handle_open(NOW, connection(slot), transport);
    shard.handle_frame(NOW, connection(slot), first.as_bytes());
}

fn connection(slot: u32) -> ConnectionId {
    ConnectionId { slot, generation: 0 }
}

/// What waits for a connection, as it is written.
fn taken(shard: &mut Shard, slot: u32) -> String {
    String::from_utf8(taken_bytes(shard, slot)).expect("JSON")
}

fn taken_bytes(shard: &mut Shard, slot: u32) -> Vec<u8> {
    match shard.take_frames(connection(slot)) {
        None => Vec::new(),
        Some(Frames::One(frame)) => frame.bytes().to_vec(),
        Some(Frames::Many(frames)) => frames.iter().flat_map(|frame| frame.bytes().to_vec()).collect(),
    }
}

fn publish(shard: &mut Shard, channel: &str, data: &str) {
    let call = ApiCallId { connection: connection(9999), sequence: 0 };
    let body = format!(r#"{{"channel":"{channel}","data":{data}}}"#);
    shard.handle_api(NOW, call, Some("publish"), body.as_bytes(), false);
}

/// Session of a connect reply or push.
fn session_of(reply: &str) -> String {
    let (_, rest) = reply.split_once(r#""session":""#).unwrap_or_else(|| panic!("{reply}"));
    rest[..36].to_owned()
}

fn emulate(shard: &mut Shard, session: &str, data: &str) -> Result<(), EmulationError> {
    let data = data.to_owned().into();
    shard.handle_emulation(NOW, &EmulationRequest { node: NODE.into(), session: session.into(), data })
}

/// Why a connection was closed; `None` when none was.
fn closed(shard: &mut Shard) -> Option<(u32, u32)> {
    while let Some(action) = shard.take_action() {
        if let Action::Disconnect { connection, disconnect, .. } = action {
            return Some((connection.slot, disconnect.code));
        }
    }
    None
}

#[test]
fn publication_is_framed_as_each_subscriber_reads_it() {
    let mut shard = shard(1);
    let connect = r#"{"id":1,"connect":{"subs":{"c":{}}}}"#;
    let kinds = [
        (TransportKind::HttpStream, Framing::Lines, "{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":1}}}\n"),
        (
            TransportKind::HttpStream,
            Framing::ChunkedLines,
            "2a\r\n{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":1}}}\n\r\n",
        ),
        (TransportKind::Sse, Framing::Events, "data: {\"push\":{\"channel\":\"c\",\"pub\":{\"data\":1}}}\n\n"),
        (
            TransportKind::Sse,
            Framing::ChunkedEvents,
            "31\r\ndata: {\"push\":{\"channel\":\"c\",\"pub\":{\"data\":1}}}\n\n\r\n",
        ),
        (TransportKind::UniSse, Framing::Events, "data: {\"channel\":\"c\",\"pub\":{\"data\":1}}\n\n"),
        (TransportKind::UniHttpStream, Framing::Lines, "{\"channel\":\"c\",\"pub\":{\"data\":1}}\n"),
    ];
    for (slot, (kind, framing, _)) in kinds.iter().enumerate() {
        let first = if kind.is_unidirectional() { r#"{"subs":{"c":{}}}"# } else { connect };
        open(&mut shard, slot as u32, *kind, *framing, Farewell::Push, first);
        assert!(taken(&mut shard, slot as u32).contains("\"connect\":{"), "{kind:?}");
    }
    publish(&mut shard, "c", "1");
    for (slot, (kind, framing, want)) in kinds.iter().enumerate() {
        assert_eq!(taken(&mut shard, slot as u32), *want, "{kind:?} {framing:?}");
    }
}

/// T10
#[test]
fn commands_of_a_session_are_passed_to_its_shard() {
    let mut shard = shard(4);
    open(&mut shard, 3, TransportKind::Sse, Framing::Lines, Farewell::Push, r#"{"id":1,"connect":{}}"#);
    let session = session_of(&taken(&mut shard, 3));
    assert_eq!(emulate(&mut shard, &session, r#"{"id":2,"rpc":{"method":"x"}}"#), Ok(()));
    assert!(taken(&mut shard, 3).starts_with(r#"{"id":2,"error":"#));

    // The first digits name the shard; what they say is not believed there.
    let elsewhere = format!("0002{}", &session[4..]);
    assert_eq!(emulate(&mut shard, &elsewhere, "{}"), Ok(()));
    match shard.outbox(ShardId(2)).pop() {
        Some(Message::Emulate { slot, data, .. }) => assert_eq!((slot, &data[..]), (3, &b"{}"[..])),
        message => panic!("{message:?}"),
    }
    for session in ["", "x", &format!("ffff{}", &session[4..]), &format!("{}0", &session[..35])] {
        assert_eq!(emulate(&mut shard, session, r#"{"id":2,"rpc":{"method":"x"}}"#), Ok(()), "{session}");
    }
    assert_eq!(taken(&mut shard, 3), "");
    let data = "{}".to_owned().into();
    let request = EmulationRequest { node: "another".into(), session, data };
    assert_eq!(shard.handle_emulation(NOW, &request), Err(EmulationError::UnknownNode));
}

/// There is no socket to stop reading from.
#[test]
fn flood_of_emulated_commands_closes_its_client() {
    let mut shard = shard(2);
    open(&mut shard, 0, TransportKind::HttpStream, Framing::Lines, Farewell::Push, r#"{"id":1,"connect":{}}"#);
    let session = session_of(&taken(&mut shard, 0));
    // The other shard does not answer, so what is behind its channel waits.
    let channel = (0..64).map(|number| format!("c{number}")).find(|channel| {
        let subscribe = format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#);
        emulate(&mut shard, &session, &subscribe).expect("the session is here");
        shard.outbox(ShardId(1)).pop().is_some()
    });
    channel.expect("not all of 64 channels have the same home");
    let command = format!(r#"{{"id":3,"rpc":{{"data":"{}"}}}}"#, "x".repeat(1000));
    let sent = (0..10_000).find(|_| {
        emulate(&mut shard, &session, &command).expect("the session is here");
        matches!(closed(&mut shard), Some((0, 3013)))
    });
    assert!(sent.is_some_and(|sent| sent < 200), "{sent:?}");
    assert!(taken(&mut shard, 0).contains(r#"{"push":{"disconnect":{"code":3013,"reason":"too many requests"}}}"#));
}

/// A06
#[test]
fn call_reaches_the_connection_of_its_session_only() {
    let mut shard = shard(1);
    for slot in 0..2 {
        open(&mut shard, slot, TransportKind::UniSse, Framing::Lines, Farewell::Push, "{}");
    }
    let session = session_of(&taken(&mut shard, 1));
    let call = ApiCallId { connection: connection(9999), sequence: 0 };
    let body = format!(r#"{{"user":"","session":"{session}"}}"#);
    shard.handle_api(NOW, call, Some("disconnect"), body.as_bytes(), false);
    assert_eq!((closed(&mut shard), closed(&mut shard)), (Some((1, 3503)), None));
}

/// T23
#[test]
fn unidirectional_client_learns_of_its_end_as_its_transport_wants() {
    let end = |farewell, kind| {
        let mut options = Options::default();
        options.token.hmac_secret_key = "secret".into();
        let mut shard = Shard::new(ShardId(0), 1, Arc::new(options), Seeds { home: 1, shard: [7; 32] }, NOW);
        open(&mut shard, 0, kind, Framing::Lines, farewell, r#"{"token":"bad"}"#);
        (closed(&mut shard), taken(&mut shard, 0))
    };
    let push = "{\"disconnect\":{\"code\":3500,\"reason\":\"invalid token\"}}\n";
    assert_eq!(end(Farewell::Push, TransportKind::UniSse), (Some((0, 3500)), push.into()));
    assert_eq!(end(Farewell::None, TransportKind::UniWebSocket), (Some((0, 3500)), String::new()));
}

/// What follows the connect request means nothing, whatever it is.
#[test]
fn unidirectional_client_is_not_listened_to() {
    let mut shard = shard(1);
    open(&mut shard, 0, TransportKind::UniWebSocket, Framing::Lines, Farewell::Push, "null");
    let push = taken(&mut shard, 0);
    assert!(push.starts_with(r#"{"connect":{"client":"#) && !push.contains("\"pong\""), "{push}");
    for frame in ["", "{}", "x", r#"{"id":2,"subscribe":{"channel":"c"}}"#] {
        shard.handle_frame(NOW, connection(0), frame.as_bytes());
    }
    assert_eq!((taken(&mut shard, 0), closed(&mut shard)), (String::new(), None));
}

/// T04
#[test]
fn native_pings_replace_those_of_the_protocol() {
    let mut shard = shard(1);
    let transport = Transport {
        encoding: Encoding::Json,
        framing: Framing::WebSocket,
        kind: TransportKind::WebSocket,
        pings: Pings::Frames,
        visitor: Visitor::UNKNOWN,
        farewell: Farewell::Push,
    };
    shard.handle_open(NOW, connection(0), transport);
    shard.handle_frame(NOW, connection(0), br#"{"id":1,"connect":{}}"#);
    let mut now = NOW;
    let mut wait = |shard: &mut Shard, millis: u64| {
        now.at = now.at + Duration::from_millis(millis);
        now.unix_ms += millis;
        shard.handle_timeout(now);
    };
    assert!(taken_bytes(&mut shard, 0).windows(6).all(|bytes| bytes != b"\"ping\""));
    for _ in 0..3 {
        wait(&mut shard, 25_000);
        assert_eq!(taken_bytes(&mut shard, 0), [0x89, 0], "an empty ping frame");
        wait(&mut shard, 5000);
        shard.handle_pong(connection(0));
        wait(&mut shard, 19_000);
        assert!(taken_bytes(&mut shard, 0).is_empty());
        wait(&mut shard, 1000);
    }
    wait(&mut shard, 25_000);
    wait(&mut shard, 10_100);
    assert_eq!(closed(&mut shard), Some((0, 3012)));
}

#[test]
fn pings_shorter_apart_than_a_native_pong_may_take_keep_their_interval() {
    let mut shard = shard_pinging(1, Duration::from_secs(2));
    let transport = Transport {
        encoding: Encoding::Json,
        framing: Framing::WebSocket,
        kind: TransportKind::UniWebSocket,
        pings: Pings::Both,
        visitor: Visitor::UNKNOWN,
        farewell: Farewell::Push,
    };
    shard.handle_open(NOW, connection(0), transport);
    shard.handle_frame(NOW, connection(0), b"{}");
    taken_bytes(&mut shard, 0);
    let mut now = NOW;
    for _ in 0..4 {
        now.at = now.at + Duration::from_millis(2050);
        shard.handle_timeout(now);
        assert_eq!(taken_bytes(&mut shard, 0), [0x89, 0, 0x81, 2, b'{', b'}']);
        shard.handle_pong(connection(0));
    }
}
