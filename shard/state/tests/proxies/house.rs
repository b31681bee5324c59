//! One shard with clients, and the test in place of the backends.

use ringcast_proto::client::Encoding;
use ringcast_proto::websocket::{Decoder, Event, Role};
use ringcast_state::namespace::{ChannelConfig, ChannelOptions};
use ringcast_state::options::ClientOptions;
use ringcast_state::proxy::{ProxyAnswer, ProxyId, ProxyOptions, ProxyQuestion, RpcOptions};
use ringcast_state::{
    Action, ConnectionId, Farewell, Frames, Framing, Now, Options, Pings, Seeds, Shard, ShardId, Time, Transport,
    TransportKind, Visitor,
};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

pub const ANN: ConnectionId = ConnectionId { slot: 0, generation: 0 };
pub const BOB: ConnectionId = ConnectionId { slot: 1, generation: 0 };

/// Longer than a backend is waited for.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Nobody is pinged, for nobody here answers.
pub fn quiet() -> ClientOptions {
    ClientOptions { ping_interval: Duration::ZERO, ..ClientOptions::default() }
}

/// Backend 1 serves RPC, backend 2 decides about publications into `news`; everyone may listen there.
pub fn options() -> Options {
    let news = ChannelOptions {
        publish_proxy: Some(ProxyId(2)),
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        ..ChannelOptions::default()
    };
    let namespaces = [("news".to_owned(), news), ("none".to_owned(), ChannelOptions::default())].into();
    let rpc = RpcOptions { without_namespace: Some(ProxyId(1)), ..RpcOptions::default() };
    Options {
        client: ClientOptions { allow_anonymous_connect_without_token: true, ..quiet() },
        channel: ChannelConfig { namespaces, ..ChannelConfig::default() },
        proxy: ProxyOptions { rpc, ..ProxyOptions::default() },
        ..Options::default()
    }
}

pub struct House {
    pub shard: Shard,
    pub now: Now,
}

impl House {
    /// With one client, [`ANN`].
    pub fn connected(options: Options) -> Self {
        let mut house = Self::empty(options);
        house.connect(ANN);
        house
    }

    pub fn empty(options: Options) -> Self {
        let now = Now { at: Time(1), unix_ms: 1_700_000_000_000 };
        let seeds = Seeds { home: 1, shard: [7; 32] };
        Self { shard: Shard::new(ShardId(0), 1, Arc::new(options), seeds, now), now }
    }

    pub fn connect(&mut self, connection: ConnectionId) {
        self.open(connection, TransportKind::WebSocket);
        self.say(connection, r#"{"id":1,"connect":{}}"#);
        assert!(self.heard(connection).contains("connect"));
    }

    /// A client that has said nothing yet.
    pub fn open(&mut self, connection: ConnectionId, kind: TransportKind) {
        let transport = Transport {
            encoding: Encoding::Json,
            framing: Framing::WebSocket,
            kind,
            pings: Pings::Messages,
            visitor: Visitor::UNKNOWN,
            farewell: Farewell::Push,
        };
        self.shard.handle_open(self.now, connection, transport);
    }

    pub fn say(&mut self, connection: ConnectionId, frame: &str) {
        self.shard.handle_frame(self.now, connection, frame.as_bytes());
    }

    pub fn wait(&mut self, span: Duration) {
        // A timer may be late by two ticks of the wheel.
        let span = span + Duration::from_millis(32);
        self.now.at = self.now.at + span;
        self.now.unix_ms += span.as_millis() as u64;
        self.shard.handle_timeout(self.now);
    }

    /// The only question there is.
    #[track_caller]
    pub fn question(&mut self) -> ProxyQuestion {
        let question = self.shard.take_proxy_question().expect("a question");
        assert!(self.shard.take_proxy_question().is_none(), "one question");
        question
    }

    pub fn answer(&mut self, question: &ProxyQuestion, answer: ProxyAnswer) {
        self.shard.handle_proxy_answer(self.now, question.request, answer);
    }

    /// What a client heard, one message a line, and whether it was closed.
    pub fn heard(&mut self, connection: ConnectionId) -> String {
        let bytes = match self.shard.take_frames(connection) {
            None => Vec::new(),
            Some(Frames::One(frame)) => frame.bytes().to_vec(),
            Some(Frames::Many(frames)) => frames.iter().flat_map(|frame| frame.bytes()).copied().collect(),
        };
        self.shard.handle_flushed(connection);
        let mut heard = Vec::new();
        let _ = Decoder::new(Role::Client, 1 << 20).decode(&mut bytes.clone(), &mut |event| {
            let Event::Text(text) = event else { panic!("{event:?}") };
            heard.push(String::from_utf8_lossy(text).into_owned());
            ControlFlow::Continue(())
        });
        while let Some(Action::Disconnect { disconnect, .. }) = self.shard.take_action() {
            heard.push(format!("closed {} {}", disconnect.code, disconnect.reason));
        }
        heard.join("\n")
    }
}
