//! What one shard does while another has not answered yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ringcast_proto::client::Encoding;
use ringcast_proto::codes::Disconnect;
use ringcast_state::message::{UserAct, UserCommand};
use ringcast_state::options::{ClientOptions, TokenOptions};
use ringcast_state::{
    Action, ConnectionId, Framing, Message, Now, Options, Pings, Seeds, Shard, ShardId, Time, Transport, TransportKind,
};
use std::sync::Arc;

const NOW: Now = Now { at: Time(1), unix_ms: 1_700_000_000_000 };

fn connect(shard: &mut Shard, connection: ConnectionId, user: &str) {
    let transport = Transport {
        encoding: Encoding::Json,
        framing: Framing::WebSocket,
        kind: TransportKind::WebSocket,
        pings: Pings::Messages,
        user: None,
    };
    shard.handle_open(NOW, connection, transport);
    let (header, claims) = (r#"{"alg":"HS256"}"#, format!(r#"{{"sub":"{user}"}}"#));
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"secret"), signed.as_bytes());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    shard.handle_frame(NOW, connection, format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#).as_bytes());
}

/// S04
#[test]
fn connection_that_is_still_being_made_is_closed_with_the_others_of_its_user() {
    let client = ClientOptions { user_connection_limit: 5, ..ClientOptions::default() };
    let token = TokenOptions { hmac_secret_key: "secret".to_owned(), ..TokenOptions::default() };
    let options = Arc::new(Options { client, token, ..Options::default() });
    let mut shard = Shard::new(ShardId(0), 2, options, Seeds { home: 1, shard: [7; 32] }, NOW);
    // The home of one of these users is the other shard, which must allow the connection.
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
