//! Publications that were long on their way from the home to a subscriber's shard. Source: Centrifugo documentation of
//! `client.channel_position_max_time_lag`.

use crate::room::{kept, open, options};
use ringcast_proto::client::Encoding;
use ringcast_state::namespace::ChannelOptions;
use ringcast_state::{
    ApiCallId, ConnectionId, Farewell, Frames, Framing, Now, Pings, Seeds, Shard, ShardId, Time, Transport,
    TransportKind, Visitor,
};
use std::sync::Arc;
use std::time::Duration;

const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 0 };
const NEAR: ShardId = ShardId(0);
const HOME: ShardId = ShardId(1);

/// A subscriber's shard and the home of its channel.
struct Pair {
    near: Shard,
    home: Shard,
    now: Now,
}

impl Pair {
    fn new(lag_max: Duration) -> Self {
        let positioned = ChannelOptions { force_positioning: true, ..kept() };
        let mut options = options([("pos", positioned), ("plain", open())]);
        options.client.channel_position_max_time_lag = lag_max;
        let options = Arc::new(options);
        let now = Now { at: Time(1), unix_ms: 1 };
        let seeds = Seeds { home: 1, shard: [7; 32] };
        let shard = |id| Shard::new(id, 2, Arc::clone(&options), seeds, now);
        let mut pair = Pair { near: shard(NEAR), home: shard(HOME), now };
        let transport = Transport {
            encoding: Encoding::Json,
            framing: Framing::WebSocket,
            kind: TransportKind::WebSocket,
            pings: Pings::Messages,
            visitor: Visitor::UNKNOWN,
            farewell: Farewell::Push,
        };
        pair.near.handle_open(now, CONNECTION, transport);
        pair.say(r#"{"id":1,"connect":{}}"#);
        pair
    }

    /// Lets both shards take what is on its way; returns what the subscriber hears.
    fn exchange(&mut self) -> String {
        let Pair { near, home, now } = self;
        loop {
            if let Some(message) = near.outbox(HOME).pop() {
                home.handle_message(*now, NEAR, message);
            } else if let Some(message) = home.outbox(NEAR).pop() {
                near.handle_message(*now, HOME, message);
            } else {
                break;
            }
        }
        let bytes = match near.take_frames(CONNECTION) {
            None => Vec::new(),
            Some(Frames::One(frame)) => frame.bytes().to_vec(),
            Some(Frames::Many(frames)) => frames.iter().flat_map(|frame| frame.bytes()).copied().collect(),
        };
        near.handle_flushed(CONNECTION);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn say(&mut self, frame: &str) -> String {
        self.near.handle_frame(self.now, CONNECTION, frame.as_bytes());
        self.exchange()
    }
}

/// Subscribes to a channel of the namespace whose home is the other shard, has a publication travel for this long, and
/// wants this in what the subscriber hears.
#[track_caller]
fn check(lag_max: Duration, namespace: &str, travel: Duration, want: &str) {
    let mut pair = Pair::new(lag_max);
    let names = (0..).map(|number| format!("{namespace}:{number}"));
    let is_far = |name: &String| {
        let call = ApiCallId { connection: CONNECTION, sequence: 1 };
        let body = format!(r#"{{"channel":"{name}","data":0}}"#);
        pair.near.handle_api(pair.now, call, Some("publish"), body.as_bytes(), false);
        !pair.near.outbox(HOME).is_empty()
    };
    let channel = names.take(100).find(is_far).expect("half of all channels have their home there");
    pair.exchange();
    let reply = pair.say(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
    assert!(reply.contains(r#""subscribe":{"#), "{reply}");
    let call = ApiCallId { connection: CONNECTION, sequence: 2 };
    let body = format!(r#"{{"channel":"{channel}","data":1}}"#);
    pair.home.handle_api(pair.now, call, Some("publish"), body.as_bytes(), false);
    pair.now.at = pair.now.at + travel;
    let heard = pair.exchange();
    assert!(heard.contains(want), "{lag_max:?} {namespace} {travel:?}: {heard}");
}

/// H06
#[test]
fn subscriber_with_a_position_comes_again_when_a_publication_was_long_on_its_way() {
    let (lag_max, short, long) = (Duration::from_secs(1), Duration::from_millis(900), Duration::from_millis(1100));
    let (comes, lost) = (r#""pub":{"data":1"#, r#""unsubscribe":{"code":2500,"reason":"insufficient state"}"#);
    check(lag_max, "pos", short, comes);
    check(lag_max, "pos", long, lost);
    check(lag_max, "plain", long, comes);
    check(Duration::ZERO, "pos", long, comes);
}
