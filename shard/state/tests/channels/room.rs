//! One shard, users in it with a connection each, and the server API beside them.

use crate::store::Store;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use regex::Regex;
use ring::hmac;
use ringcast_proto::client::Encoding;
use ringcast_proto::websocket::{Decoder, Event, Role};
use ringcast_state::broker::{BrokerNews, BrokerRequest};
use ringcast_state::metrics::Snapshot;
use ringcast_state::namespace::{ChannelConfig, ChannelOptions};
use ringcast_state::options::{ClientOptions, TokenOptions};
use ringcast_state::{
    Action, ApiCallId, ConnectionId, Farewell, Frames, Framing, Now, Options, Pings, Seeds, Shard, ShardId, Time,
    Transport, TransportKind, Visitor,
};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Wall clock at the beginning.
pub const UNIX: i64 = 1_700_000_000;

pub struct Room {
    pub shard: Shard,
    pub now: Now,
    /// Served at once, where channels have one.
    pub store: Store,
    /// Questions for it are not served.
    pub is_deaf: bool,
    /// Names of the connections, by slot.
    names: Vec<String>,
    /// Their ids, once told.
    ids: Vec<String>,
    /// What each was told and nobody has looked at, replies and pushes as lines.
    heard: Vec<Vec<String>>,
}

/// Options with these namespaces, and without pings.
pub fn options(namespaces: impl IntoIterator<Item = (&'static str, ChannelOptions)>) -> Options {
    let namespaces = namespaces.into_iter().map(|(name, options)| (name.to_owned(), options)).collect();
    Options {
        client: ClientOptions {
            allow_anonymous_connect_without_token: true,
            ping_interval: Duration::ZERO,
            ..ClientOptions::default()
        },
        token: TokenOptions { hmac_secret_key: "secret".into(), ..TokenOptions::default() },
        channel: ChannelConfig { namespaces, ..ChannelConfig::default() },
        has_broker: crate::HAS_BROKER,
        ..Options::default()
    }
}

/// Options of a namespace that everybody may subscribe to.
pub fn open() -> ChannelOptions {
    ChannelOptions {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        ..ChannelOptions::default()
    }
}

/// Likewise, with five publications kept for a minute.
pub fn kept() -> ChannelOptions {
    ChannelOptions { history_size: 5, history_ttl: Duration::from_secs(60), ..open() }
}

/// Likewise, with recovery for all.
pub fn recovering() -> ChannelOptions {
    ChannelOptions { force_recovery: true, ..kept() }
}

/// A token with these claims.
pub fn token(claims: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"secret"), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

impl Room {
    pub fn new(options: Options) -> Self {
        let now = Now { at: Time(1), unix_ms: UNIX as u64 * 1000 };
        let seeds = Seeds { home: 1, shard: [7; 32] };
        let shard = Shard::new(ShardId(0), 1, Arc::new(options), seeds, now);
        let store = Store::default();
        Room { shard, now, store, is_deaf: false, names: Vec::new(), ids: Vec::new(), heard: Vec::new() }
    }

    /// Connects as the user of this name; the reply is not looked at.
    pub fn enter(&mut self, name: &str) {
        self.enter_with(name, &format!(r#"{{"sub":"{name}"}}"#), "");
    }

    /// Connects with a token of these claims and more fields, and returns the reply.
    pub fn enter_with(&mut self, name: &str, claims: &str, fields: &str) -> String {
        self.connect(name, &format!(r#""token":"{}"{fields}"#, token(claims)))
    }

    fn connect(&mut self, name: &str, fields: &str) -> String {
        let transport = Transport {
            encoding: Encoding::Json,
            framing: Framing::WebSocket,
            kind: TransportKind::WebSocket,
            pings: Pings::Messages,
            visitor: Visitor::UNKNOWN,
            farewell: Farewell::Push,
        };
        self.names.push(name.to_owned());
        self.ids.push("no id yet".to_owned());
        self.heard.push(Vec::new());
        let slot = self.names.len() - 1;
        self.shard.handle_open(self.now, connection(slot), transport);
        self.shard.handle_frame(self.now, connection(slot), format!(r#"{{"id":1,"connect":{{{fields}}}}}"#).as_bytes());
        self.listen();
        let reply = self.heard[slot].join("\n");
        if let Some((_, id)) = reply.split_once(r#""client":""#) {
            self.ids[slot] = id[..36].to_owned();
        }
        self.news(name)
    }

    /// Says a command, its id left out, and returns all that `name` heard since it was last asked.
    pub fn say(&mut self, name: &str, command: &str) -> String {
        let slot = self.slot(name);
        self.shard.handle_frame(self.now, connection(slot), format!(r#"{{"id":9,{command}}}"#).as_bytes());
        self.news(name)
    }

    /// Subscribes to a channel with more fields.
    pub fn subscribe(&mut self, name: &str, channel: &str, fields: &str) -> String {
        self.say(name, &format!(r#""subscribe":{{"channel":"{channel}"{fields}}}"#))
    }

    /// A call of the server API.
    pub fn call(&mut self, method: &str, body: &str) -> String {
        let call = ApiCallId { connection: ConnectionId { slot: 9999, generation: 0 }, sequence: 1 };
        self.shard.handle_api(self.now, call, Some(method), body.as_bytes(), false);
        self.listen();
        let answer = self.shard.take_api_answer().expect("one shard answers at once");
        self.plain(&String::from_utf8_lossy(&answer.body))
    }

    /// Publishes to a channel through the server API, with more fields.
    pub fn publish(&mut self, channel: &str, data: &str, fields: &str) -> String {
        self.call("publish", &format!(r#"{{"channel":"{channel}","data":{data}{fields}}}"#))
    }

    pub fn wait(&mut self, span: Duration) {
        self.now.at = self.now.at + span;
        self.now.unix_ms += span.as_millis() as u64;
        self.shard.handle_timeout(self.now);
        self.listen();
    }

    /// Answers a ping.
    pub fn pong(&mut self, name: &str) {
        let slot = self.slot(name);
        self.shard.handle_frame(self.now, connection(slot), b"{}");
    }

    /// All that was queued until now is written this much later.
    pub fn write_after(&mut self, span: Duration) {
        self.shard.handle_written(self.now.at + span);
    }

    /// What was counted by now.
    pub fn counted(&self) -> Snapshot {
        self.shard.snapshot()
    }

    /// Says a command and looks at nothing.
    pub fn tell(&mut self, name: &str, command: &str) {
        let slot = self.slot(name);
        self.shard.handle_frame(self.now, connection(slot), format!(r#"{{"id":9,{command}}}"#).as_bytes());
        self.serve();
    }

    /// Calls and looks at nothing.
    pub fn begin(&mut self, method: &str, body: &str) {
        let call = ApiCallId { connection: ConnectionId { slot: 9999, generation: 0 }, sequence: 1 };
        self.shard.handle_api(self.now, call, Some(method), body.as_bytes(), false);
    }

    /// The answer to the oldest call that has one.
    pub fn answer(&mut self) -> Option<String> {
        let answer = self.shard.take_api_answer()?;
        Some(self.plain(&String::from_utf8_lossy(&answer.body)))
    }

    /// Publishes and looks at nothing.
    pub fn post(&mut self, channel: &str, data: &str) {
        let call = ApiCallId { connection: ConnectionId { slot: 9999, generation: 0 }, sequence: 1 };
        let body = format!(r#"{{"channel":"{channel}","data":{data}}}"#);
        self.shard.handle_api(self.now, call, Some("publish"), body.as_bytes(), false);
        self.serve();
        self.shard.take_api_answer().expect("one shard answers at once");
    }

    /// After this span: who has output that is due, by name. It is taken, and not looked at.
    pub fn flush(&mut self, span: Duration) -> Vec<String> {
        let mut due = self.due(span);
        due.retain(|name| {
            let slot = self.slot(name);
            let has_output = self.shard.take_frames(connection(slot)).is_some();
            self.shard.handle_flushed(connection(slot));
            has_output
        });
        due
    }

    /// After this span: who has output that is due, by name.
    pub fn due(&mut self, span: Duration) -> Vec<String> {
        self.now.at = self.now.at + span;
        let dirty = std::iter::from_fn(|| self.shard.take_dirty(self.now));
        let mut due = dirty.map(|connection| self.names[connection.slot as usize].clone()).collect::<Vec<_>>();
        due.sort();
        due
    }

    /// The socket of a user has taken all; whether more is due.
    pub fn flushed(&mut self, name: &str) -> bool {
        let slot = self.slot(name);
        self.shard.handle_flushed(connection(slot))
    }

    /// Other options are loaded.
    pub fn reload(&mut self, options: Options) {
        self.shard.set_options(Arc::new(options));
    }

    /// The socket of a user is gone.
    pub fn lose(&mut self, name: &str) {
        let slot = self.slot(name);
        self.shard.handle_close(self.now, connection(slot));
        self.listen();
    }

    /// As `news`, word for word.
    pub fn words(&mut self, name: &str) -> String {
        self.listen();
        let slot = self.slot(name);
        std::mem::take(&mut self.heard[slot]).join("\n")
    }

    /// All that somebody heard since it was last asked.
    pub fn news(&mut self, name: &str) -> String {
        self.listen();
        let slot = self.slot(name);
        let heard = std::mem::take(&mut self.heard[slot]).join("\n");
        self.plain(&heard)
    }

    /// The last connection of that name.
    fn slot(&self, name: &str) -> usize {
        self.names.iter().rposition(|known| known == name).expect("somebody entered under this name")
    }

    /// Has the broker serve what was asked until now. It tells before it answers, as a broker may.
    fn serve(&mut self) {
        while !self.is_deaf {
            let tellers = self.shard.take_node_messages().into_iter().filter_map(|message| message.teller);
            let told: Vec<_> = tellers.map(|teller| BrokerNews::Told(teller, true)).collect();
            let requests = self.shard.take_broker_requests();
            if requests.is_empty() && told.is_empty() {
                return;
            }
            self.shard.handle_broker(self.now, told);
            for BrokerRequest { request, ask } in requests {
                let answer = self.store.serve(0, self.now.at, ask);
                let told = self.store.events.drain(..).map(|(_, event)| BrokerNews::Event(event));
                let news = told.chain([BrokerNews::Answer(request, answer)]).collect();
                self.shard.handle_broker(self.now, news);
            }
        }
    }

    fn listen(&mut self) {
        self.serve();
        for slot in 0..self.names.len() {
            self.listen_to(slot);
        }
        while let Some(action) = self.shard.take_action() {
            let Action::Disconnect { connection, disconnect, .. } = action else { continue };
            let slot = connection.slot as usize;
            self.listen_to(slot);
            self.heard[slot].push(format!("closed {} {}", disconnect.code, disconnect.reason));
        }
    }

    fn listen_to(&mut self, slot: usize) {
        let mut bytes = match self.shard.take_frames(connection(slot)) {
            None => return,
            Some(Frames::One(frame)) => frame.bytes().to_vec(),
            Some(Frames::Many(frames)) => frames.iter().flat_map(|frame| frame.bytes()).copied().collect(),
        };
        self.shard.handle_flushed(connection(slot));
        let heard = &mut self.heard[slot];
        let mut decoder = Decoder::new(Role::Client, 1 << 20);
        let read = decoder.decode(&mut bytes, &mut |event| {
            let Event::Text(text) = event else { panic!("{event:?}") };
            heard.push(String::from_utf8_lossy(text).into_owned());
            ControlFlow::Continue(())
        });
        assert_eq!(read, Ok(ControlFlow::Continue(())));
    }

    /// Names in the place of client ids, `E` for every epoch.
    fn plain(&self, text: &str) -> String {
        let epoch = Regex::new(r#""epoch":"[A-Za-z]{8}""#).expect("a pattern");
        let mut plain = epoch.replace_all(text, r#""epoch":"E""#).into_owned();
        for (id, name) in self.ids.iter().zip(&self.names) {
            plain = plain.replace(id, &format!("<{name}>"));
        }
        plain
    }
}

fn connection(slot: usize) -> ConnectionId {
    ConnectionId { slot: slot as u32, generation: 0 }
}
