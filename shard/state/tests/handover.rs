//! Channels that pass from the shards of one process to those of another, of which there may be more or fewer.

use ringcast_proto::client::Encoding;
use ringcast_state::namespace::{ChannelConfig, ChannelOptions};
use ringcast_state::options::ClientOptions;
use ringcast_state::{
    ApiCallId, ConnectionId, Farewell, Framing, Now, Options, Pings, Seeds, Shard, ShardId, Time, Transport,
    TransportKind, Visitor, Written,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Long enough for several parts.
const CHANNELS: u64 = 40;
const PUBLICATIONS: u64 = 300;

/// All shards of a process.
struct House {
    shards: Vec<Shard>,
    now: Now,
}

fn options(history_size: usize) -> Options {
    let own = ChannelOptions {
        history_size,
        history_ttl: Duration::from_secs(60),
        presence: true,
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        force_recovery: true,
        ..ChannelOptions::default()
    };
    Options {
        client: ClientOptions { insecure: true, ping_interval: Duration::ZERO, ..ClientOptions::default() },
        channel: ChannelConfig { without_namespace: own, ..ChannelConfig::default() },
        ..Options::default()
    }
}

impl House {
    fn new(shards: u16, seed: u8, at: Time, options: Options) -> Self {
        let (now, options) = (Now { at, unix_ms: 1_700_000_000_000 }, Arc::new(options));
        let seeds = |shard: u16| Seeds { home: seed.into(), shard: [seed + shard as u8; 32] };
        let shard = |id: u16| Shard::new(ShardId(id), shards, options.clone(), seeds(id), now);
        House { shards: (0..shards).map(shard).collect(), now }
    }

    /// Carries messages until there are none.
    fn run(&mut self) {
        loop {
            let mut carried = false;
            for from in 0..self.shards.len() {
                for to in 0..self.shards.len() {
                    while let Some(message) = self.shards[from].outbox(ShardId(to as u16)).pop() {
                        self.shards[to].handle_message(self.now, ShardId(from as u16), message);
                        carried = true;
                    }
                }
            }
            if !carried {
                return;
            }
        }
    }

    fn ask(&mut self, method: &str, body: &Value) {
        let call = ApiCallId { connection: ConnectionId { slot: 99, generation: 0 }, sequence: 0 };
        self.shards[0].handle_api(self.now, call, Some(method), body.to_string().as_bytes(), false);
        self.run();
    }

    fn answer(&mut self) -> Option<Value> {
        let answer = self.shards[0].take_api_answer()?;
        Some(serde_json::from_slice(&answer.body).expect("answers are JSON"))
    }

    #[track_caller]
    fn call(&mut self, method: &str, body: &Value) -> Value {
        self.ask(method, body);
        self.answer().unwrap_or_else(|| panic!("no answer to {method} {body}"))
    }

    fn history(&mut self, channel: u64) -> Value {
        self.call("history", &json!({"channel": channel.to_string(), "limit": -1}))["result"].clone()
    }

    fn subscribe(&mut self, slot: u32, channel: &str) {
        let transport = Transport {
            encoding: Encoding::Json,
            framing: Framing::WebSocket,
            kind: TransportKind::WebSocket,
            pings: Pings::Messages,
            visitor: Visitor { user: Some("ann".into()), ..Visitor::UNKNOWN },
            farewell: Farewell::Push,
        };
        let connection = ConnectionId { slot, generation: 0 };
        self.shards[0].handle_open(self.now, connection, transport);
        let subscribe = json!({"id": 2, "subscribe": {"channel": channel}});
        for frame in [json!({"id": 1, "connect": {}}), subscribe] {
            self.shards[0].handle_frame(self.now, connection, frame.to_string().as_bytes());
            self.run();
        }
    }

    fn present(&mut self, channel: &str) -> usize {
        let presence = self.call("presence", &json!({"channel": channel}));
        presence["result"]["presence"].as_object().map_or(0, serde_json::Map::len)
    }

    fn write(&mut self) -> (Vec<Vec<u8>>, Written) {
        let (mut lists, mut written) = (Vec::new(), Written::default());
        for shard in &mut self.shards {
            written += shard.write_channels(self.now, &mut |list| {
                lists.push(list);
                true
            });
        }
        (lists, written)
    }

    fn read(&mut self, lists: &[Vec<u8>]) -> Written {
        let mut read = Written::default();
        for list in lists {
            for shard in &mut self.shards {
                read += shard.read_channels(self.now, list).expect("what was written can be read");
            }
        }
        read
    }

    fn is_whole(&mut self) -> bool {
        self.shards.iter_mut().all(Shard::has_whole_channels)
    }

    fn wait(&mut self, span: Duration) {
        self.now.at = self.now.at + span;
        for shard in &mut self.shards {
            shard.handle_timeout(self.now);
        }
        self.run();
    }
}

fn publish(channel: u64, number: u64) -> Value {
    let data = json!({"number": number, "filler": "x".repeat(200)});
    json!({"channel": channel.to_string(), "data": data, "idempotency_key": format!("{number}"), "tags": {"a": "b"}})
}

/// A process of so many shards with histories.
fn house(shards: u16) -> House {
    let mut house = House::new(shards, 1, Time(1), options(200));
    for channel in 0..CHANNELS {
        for number in 1..=PUBLICATIONS {
            assert_eq!(house.call("publish", &publish(channel, number))["result"]["offset"], number);
        }
    }
    house
}

#[test]
fn channels_come_whole_to_any_number_of_shards_and_keep_their_time() {
    for (from, to) in [(1, 3), (3, 2), (2, 1)] {
        let mut old = house(from);
        old.wait(Duration::from_secs(40));
        let histories: Vec<Value> = (0..CHANNELS).map(|channel| old.history(channel)).collect();
        let (lists, written) = old.write();
        assert!(lists.len() > 4 && lists.iter().all(|list| list.len() < 1 << 20), "{} lists", lists.len());
        // Another process has another clock.
        let mut new = House::new(to, 9, Time(777_000_000_000), options(200));
        assert_eq!((new.read(&lists), written.publications), (written, CHANNELS * 200));
        assert!(new.is_whole());
        for channel in 0..CHANNELS {
            assert_eq!(new.history(channel), histories[channel as usize], "{from} to {to}");
        }
        // The same key again brings the same result, and the next publication the next offset.
        let again = new.call("publish", &publish(7, PUBLICATIONS));
        assert_eq!((&again["result"]["offset"], &again["result"]["epoch"]), (&json!(300), &histories[7]["epoch"]));
        assert_eq!(new.call("publish", &publish(7, PUBLICATIONS + 1))["result"]["offset"], 301);
        new.wait(Duration::from_secs(21));
        assert_eq!(new.history(8)["publications"], json!([]), "its time has gone on");
        assert_eq!(new.history(8)["offset"], 300);
    }
}

#[test]
fn new_process_keeps_no_more_than_its_options_say() {
    let (lists, _) = house(1).write();
    let mut new = House::new(1, 9, Time(1), options(10));
    new.read(&lists);
    assert!(new.is_whole());
    let history = new.history(3);
    assert_eq!(history["publications"].as_array().map(Vec::len), Some(10));
    assert_eq!((&history["publications"][0]["offset"], &history["offset"]), (&json!(291), &json!(300)));
}

#[test]
fn channel_that_lacks_a_part_is_noticed() {
    let mut old = House::new(1, 1, Time(1), options(10_000));
    for number in 0..5000 {
        old.call("publish", &publish(0, number));
    }
    let (lists, _) = old.write();
    assert!(lists.len() > 3, "{} lists", lists.len());
    for gone in 0..lists.len() {
        let mut new = House::new(1, 9, Time(1), options(10_000));
        let mut rest = lists.iter().enumerate().filter(|(number, _)| *number != gone);
        let is_read = rest.all(|(_, list)| new.shards[0].read_channels(new.now, list).is_ok());
        assert!(!is_read || !new.is_whole(), "list {gone} of {}", lists.len());
    }
    let mut new = House::new(1, 9, Time(1), options(10_000));
    assert!(new.shards[0].read_channels(new.now, &lists[0][..lists[0].len() - 1]).is_err());
}

#[test]
fn what_is_asked_while_channels_are_written_waits_until_the_old_process_goes_on() {
    let mut old = house(2);
    let histories: Vec<Value> = (0..2).map(|channel| old.history(channel)).collect();
    old.write();
    old.ask("publish", &publish(0, 1000));
    assert_eq!(old.answer(), None);
    for shard in &mut old.shards {
        shard.reclaim(old.now);
    }
    old.run();
    let answer = old.answer().expect("it waited");
    assert_eq!((&answer["result"]["offset"], &answer["result"]["epoch"]), (&json!(301), &histories[0]["epoch"]));
    assert_eq!(old.history(1), histories[1]);
}

#[test]
fn old_process_changes_nothing_any_more_once_it_has_ceded() {
    let mut old = house(2);
    old.subscribe(1, "0");
    old.write();
    old.ask("publish", &publish(0, 1000));
    for shard in &mut old.shards {
        shard.cede(old.now);
    }
    old.run();
    let failed = old.answer().expect("it waited");
    assert_eq!(failed["error"]["code"], 100, "{failed}");
    for (method, body) in [("publish", publish(0, 1001)), ("history_remove", json!({"channel": "0"}))] {
        assert_eq!(old.call(method, &body)["error"]["code"], 100, "{method}");
    }
    // Late subscribers are counted, and go like others.
    old.subscribe(2, "0");
    for slot in [1, 2] {
        old.shards[0].handle_close(old.now, ConnectionId { slot, generation: 0 });
        old.run();
    }
}

#[test]
fn those_who_were_present_count_until_they_come_back_or_their_time_is_over() {
    let mut old = House::new(2, 1, Time(1), options(10));
    for slot in 0..3 {
        old.subscribe(slot, "room");
    }
    assert_eq!(old.present("room"), 3);
    let (lists, _) = old.write();
    let mut new = House::new(1, 9, Time(1), options(10));
    new.read(&lists);
    assert_eq!(new.present("room"), 3);
    new.subscribe(0, "room");
    assert_eq!(new.present("room"), 3, "one of them is back");
    new.wait(Duration::from_secs(31));
    assert_eq!(new.present("room"), 1);
}
