//! What one shard does while another has not answered yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ringcast_proto::client::Encoding;
use ringcast_proto::codes::Disconnect;
use ringcast_state::message::{Subscribed, UserAct, UserCommand};
use ringcast_state::options::TokenOptions;
use ringcast_state::{
    Action, ApiCallId, ConnectionId, Farewell, Framing, Message, Now, Options, Pings, Seeds, Shard, ShardId, Time,
    Transport, TransportKind, Visitor,
};
use std::sync::Arc;
use std::time::Duration;

const NOW: Now = Now { at: Time(1), unix_ms: 1_700_000_000_000 };

fn connect(shard: &mut Shard, connection: ConnectionId, user: &str) {
    let transport = Transport {
        encoding: Encoding::Json,
        framing: Framing::WebSocket,
        kind: TransportKind::WebSocket,
        pings: Pings::Messages,
        visitor: Visitor::UNKNOWN,
        farewell: Farewell::Push,
    };
    shard.handle_open(NOW, connection, transport);
    let (header, claims) = (r#"{"alg":"HS256"}"#, format!(r#"{{"sub":"{user}"}}"#));
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"secret"), signed.as_bytes());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    shard.handle_frame(NOW, connection, format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#).as_bytes());
}

/// The first of two shards.
fn shard() -> Shard {
    let token = TokenOptions { hmac_secret_key: "secret".to_owned(), ..TokenOptions::default() };
    let options = Options { token, ..Options::default() };
    Shard::new(ShardId(0), 2, Arc::new(options), Seeds { home: 1, shard: [7; 32] }, NOW)
}

/// S04
#[test]
fn connection_that_is_still_being_made_is_closed_with_the_others_of_its_user() {
    let mut shard = shard();
    // The home of one of these users is the other shard, which must know of the connection before it is made.
    let slot = (0..32).find(|slot| {
        connect(&mut shard, ConnectionId { slot: *slot, generation: 0 }, &format!("user {slot}"));
        matches!(shard.outbox(ShardId(1)).pop(), Some(Message::UserConnect(_)))
    });
    let slot = slot.expect("not all of 32 users have the same home");
    let act = UserAct::Disconnect { disconnect: Disconnect::CONNECTION_LIMIT, whitelist: Vec::new() };
    let user = format!("user {slot}").into();
    let command = UserCommand { origin: None, user, client: "".into(), session: "".into(), act: Arc::new(act) };
    shard.handle_message(NOW, ShardId(1), Message::UserAct(Box::new(command)));
    let Some(Action::Disconnect { connection, disconnect, .. }) = shard.take_action() else { panic!("still there") };
    assert_eq!((connection.slot, disconnect.code), (slot, 3504));
}

/// S05, A06
#[test]
fn call_that_subscribes_is_answered_when_the_home_of_the_channel_has_its_subscriber() {
    let mut shard = shard();
    let at_home = |shard: &mut Shard, slot| {
        connect(shard, ConnectionId { slot, generation: 0 }, &format!("user {slot}"));
        shard.outbox(ShardId(1)).pop().is_none()
    };
    let slot = (0..32).find(|slot| at_home(&mut shard, *slot)).expect("not all of 32 users have the same home");
    let call = ApiCallId { connection: ConnectionId { slot: 99, generation: 0 }, sequence: 0 };
    let asked = (0..32).find_map(|channel| {
        let body = format!(r#"{{"user":"user {slot}","channel":"{channel}"}}"#);
        shard.handle_api(NOW, call, Some("subscribe"), body.as_bytes(), false);
        match shard.outbox(ShardId(1)).pop() {
            Some(Message::Subscribe(subscribe)) => Some(*subscribe),
            message => {
                assert!(message.is_none(), "{message:?}");
                shard.take_api_answer().expect("the home is here");
                None
            }
        }
    });
    let asked = asked.expect("not all of 32 channels have the same home");
    assert!(shard.take_api_answer().is_none(), "nobody is in the channel yet");
    let subscribed = Subscribed { request: asked.request, channel: asked.channel, top: None, recovery: None };
    shard.handle_message(NOW, ShardId(1), Message::Subscribed(Box::new(subscribed)));
    let answer = shard.take_api_answer().expect("the client is in the channel");
    assert_eq!(answer.body, br#"{"result":{}}"#);
}

/// A06
#[test]
fn client_is_connected_when_the_home_of_its_user_knows_or_does_not_answer() {
    for answers in [true, false] {
        let mut shard = shard();
        let asked = (0..32).find_map(|slot| {
            let connection = ConnectionId { slot, generation: 0 };
            connect(&mut shard, connection, &format!("user {slot}"));
            match shard.outbox(ShardId(1)).pop() {
                Some(Message::UserConnect(asked)) => Some((connection, asked.request)),
                _ => None,
            }
        });
        let (connection, request) = asked.expect("not all of 32 users have the same home");
        assert!(shard.take_frames(connection).is_none(), "a call that names the user would not find it");
        if answers {
            shard.handle_message(NOW, ShardId(1), Message::UserConnected { request, allowed: true });
        } else {
            let at = shard.next_timeout().expect("the answer has a deadline");
            let late = Now { at: at.max(NOW.at + Duration::from_secs(2)), ..NOW };
            shard.handle_timeout(late);
        }
        assert!(shard.take_frames(connection).is_some(), "answered: {answers}");
    }
}
