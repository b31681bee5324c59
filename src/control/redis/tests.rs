//! Against a real `redis-server` that each test starts for itself, on a socket in a directory of its own. Another store is tried with
//! its server under that name at the front of `PATH`, as was done with Valkey 9.1.

mod cluster;
mod field_ttl;
mod login;
mod replicas;
mod sentinel;
mod servers;
mod slots;
mod stub;

use super::*;
use bytes::Bytes;
use ringcast_proto::client::{ClientInfo, Publication};
use ringcast_proto::control::{Disconnect, Node as NodeIs, Shutdown};
use ringcast_state::broker::{
    BrokerAnswer, BrokerError, BrokerEvent, BrokerNews, BrokerPublish, HistoryTerms, Suppression, Teller,
};
use ringcast_state::{ClientId, RequestId};
use servers::Server;
use std::path::Path;
use std::sync::mpsc::{self, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

struct Ear(std::sync::Mutex<mpsc::Sender<(ShardId, BrokerNews)>>);

impl Listener for Ear {
    fn home(&self, channel: &str) -> ShardId {
        ShardId(channel.len() as u16 % 2)
    }

    fn tell(&self, shard: ShardId, news: Vec<BrokerNews>) {
        let sender = self.0.lock().expect("nobody panicked");
        news.into_iter().for_each(|news| drop(sender.send((shard, news))));
    }
}

/// Stands for the shards of one node.
struct Node {
    redis: Arc<Redis>,
    control: Receiver<Command>,
    news: mpsc::Receiver<(ShardId, BrokerNews)>,
    next: u32,
    /// Events that came while an answer was awaited.
    events: Vec<BrokerEvent>,
}

fn endpoint(place: Place) -> Endpoint {
    Endpoint {
        place,
        login: Login::default(),
        db: 0,
        connect_timeout: Duration::from_secs(5),
        io_timeout: Duration::from_secs(5),
        force_resp2: false,
        tls: None,
        sentinel_tls: None,
        has_replica_client: false,
        readonly: false,
    }
}

fn options_at(shards: Vec<Endpoint>) -> RedisOptions {
    RedisOptions {
        prefix: "centrifugo".into(),
        shards,
        history_use_lists: false,
        presence_ttl: Duration::from_secs(60),
        presence_user_mapping: false,
        presence_hash_field_ttl: false,
        presence_read_from_replica: false,
    }
}

fn options(places: &[&Path]) -> RedisOptions {
    let one = |path: &&Path| endpoint(Place::Fixed(Address::Unix(path.to_path_buf())));
    options_at(places.iter().map(one).collect())
}

impl Node {
    fn start(options: &RedisOptions, id: &str) -> Self {
        let (sender, news) = channel();
        let (redis, control) = connect(options, id, Arc::new(Ear(sender.into())), true).expect("Redis is there");
        Self { redis, control, news, next: 0, events: Vec::new() }
    }

    fn on(server: &Server) -> Self {
        Self::start(&options(&[&server.socket()]), "node")
    }

    fn send(&mut self, ask: BrokerAsk) -> RequestId {
        self.next += 1;
        let request = RequestId::new(self.next, 0);
        self.redis.take(ShardId(0), vec![BrokerRequest { request, ask }]);
        request
    }

    fn ask(&mut self, ask: BrokerAsk) -> BrokerAnswer {
        let request = self.send(ask);
        loop {
            match self.news.recv_timeout(PATIENCE).expect("an answer").1 {
                BrokerNews::Answer(of, answer) if of == request => return answer,
                BrokerNews::Answer(of, answer) => panic!("answer {answer:?} to {of:?}"),
                BrokerNews::Event(event) => self.events.push(event),
                other => panic!("{other:?}"),
            }
        }
    }

    fn event(&mut self) -> BrokerEvent {
        if !self.events.is_empty() {
            return self.events.remove(0);
        }
        match self.news.recv_timeout(PATIENCE).expect("an event").1 {
            BrokerNews::Event(event) => event,
            other => panic!("{other:?}"),
        }
    }

    /// Publishes until Redis takes it.
    #[track_caller]
    fn publish_at_last(&mut self, publish: impl Fn() -> BrokerPublish) -> u64 {
        let began = Instant::now();
        loop {
            match self.ask(BrokerAsk::Publish(Box::new(publish()))) {
                BrokerAnswer::Published { position, .. } => return position.offset,
                answer => assert!(began.elapsed() < PATIENCE, "{answer:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until all of these channels are to be looked at, and nothing else is told.
    #[track_caller]
    fn hears_again(&mut self, channels: &[&str]) {
        let mut heard = Vec::new();
        while heard.len() < channels.len() {
            match self.event() {
                BrokerEvent::Hearing { channels } => heard.extend(channels),
                other => panic!("{other:?}"),
            }
        }
        heard.sort();
        let heard: Vec<&str> = heard.iter().map(|channel| &**channel).collect();
        assert_eq!(heard, channels);
    }

    #[track_caller]
    fn done(&mut self, ask: BrokerAsk) {
        let answer = self.ask(ask);
        assert!(matches!(answer, BrokerAnswer::Done), "{answer:?}");
    }

    /// Offset, epoch, and why it was not published.
    #[track_caller]
    fn publish(&mut self, publish: BrokerPublish) -> (u64, String, Option<Suppression>) {
        match self.ask(BrokerAsk::Publish(Box::new(publish))) {
            BrokerAnswer::Published { position, suppressed } => {
                (position.offset, position.epoch.to_string(), suppressed)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Top, and offset with payload of each publication.
    #[track_caller]
    fn history(&mut self, since: Option<u64>, limit: Option<usize>, reverse: bool) -> (u64, Vec<(u64, String)>) {
        let ask = BrokerAsk::History { channel: "ch".into(), since, limit, reverse, meta_ttl: Duration::from_secs(90) };
        match self.ask(ask) {
            BrokerAnswer::History { top, publications } => (top.offset, publications.iter().map(short).collect()),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn presence(&mut self) -> Vec<String> {
        match self.ask(BrokerAsk::Presence { channel: "ch".into() }) {
            BrokerAnswer::Presence(infos) => {
                let mut users: Vec<_> = infos.iter().map(|info| info.user.clone()).collect();
                users.sort();
                users
            }
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn hears(&mut self, offset: u64, data: &str, previous: Option<&str>) {
        match self.event() {
            BrokerEvent::Publication(event) => {
                let got = (event.position.offset, event.publication.data, event.previous);
                let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
                assert_eq!(got, (offset, bytes(data), previous.map(bytes)));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn short(publication: &Publication) -> (u64, String) {
    (publication.offset, String::from_utf8_lossy(&publication.data).into_owned())
}

fn subscribe(channel: &str) -> BrokerAsk {
    BrokerAsk::Subscribe { channel: channel.into() }
}

fn publication(data: &str) -> BrokerPublish {
    BrokerPublish {
        channel: "ch".into(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        info: None,
        tags: Default::default(),
        history: None,
        use_delta: false,
        idempotency_key: String::new(),
        idempotency_ttl: Duration::ZERO,
        version: 0,
        version_epoch: String::new(),
    }
}

fn kept(data: &str) -> BrokerPublish {
    let terms = HistoryTerms { size: 3, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(90) };
    BrokerPublish { history: Some(terms), ..publication(data) }
}

fn info(user: &str, client: u128) -> (ClientId, Arc<ClientInfo>) {
    let client = ClientId(client);
    (client, Arc::new(ClientInfo { user: user.into(), client: client.to_string(), ..ClientInfo::default() }))
}

/// E02, E13
#[test]
fn a_publication_reaches_the_subscribers_of_all_nodes() {
    let server = Server::start("reach");
    let (mut here, mut there) = (Node::on(&server), Node::on(&server));
    there.done(subscribe("ch"));
    assert_eq!(here.publish(publication("1")), (0, String::new(), None));
    there.hears(0, "1", None);
    let (_, who) = info("u", 7);
    here.done(BrokerAsk::PublishJoin { channel: "ch".into(), info: who.clone() });
    here.done(BrokerAsk::PublishLeave { channel: "ch".into(), info: who.clone() });
    for came in [true, false] {
        match there.event() {
            BrokerEvent::Membership { info, joined, .. } => assert_eq!((info, joined), (who.clone(), came)),
            other => panic!("{other:?}"),
        }
    }
    there.done(BrokerAsk::Unsubscribe { channel: "ch".into() });
    assert_eq!(server.cli(&["PUBSUB", "NUMSUB", "centrifugo.client.ch"]), "centrifugo.client.ch\n0");
}

fn check_history(lists: bool, resp2: bool) {
    let server = Server::start(&format!("history-{lists}-{resp2}"));
    let mut options = options(&[&server.socket()]);
    options.history_use_lists = lists;
    options.shards[0].force_resp2 = resp2;
    let mut node = Node::start(&options, "node");
    node.done(subscribe("ch"));
    assert_eq!(node.history(None, Some(0), false), (0, vec![]));
    let epoch = node.publish(kept("1")).1;
    assert_eq!(epoch.len(), 8);
    for offset in 2..=4 {
        let data = offset.to_string();
        assert_eq!(
            node.publish(BrokerPublish { use_delta: offset == 4, ..kept(&data) }),
            (offset, epoch.clone(), None)
        );
    }
    node.hears(1, "1", None);
    node.hears(2, "2", None);
    node.hears(3, "3", None);
    node.hears(4, "4", Some("3"));
    let entry = |offset: u64| (offset, offset.to_string());
    assert_eq!(node.history(None, None, false), (4, vec![entry(2), entry(3), entry(4)]));
    assert_eq!(node.history(Some(2), None, false), (4, vec![entry(3), entry(4)]));
    assert_eq!(node.history(Some(2), Some(1), false), (4, vec![entry(3)]));
    assert_eq!(node.history(Some(4), None, false), (4, vec![]));
    assert_eq!(node.history(None, Some(2), true), (4, vec![entry(4), entry(3)]));
    assert_eq!(node.history(Some(4), None, true), (4, vec![entry(3), entry(2)]));
    node.done(BrokerAsk::RemoveHistory { channel: "ch".into() });
    assert_eq!(node.history(None, None, false), (4, vec![]));
}

/// E02
#[test]
fn history_in_streams_is_read_from_both_ends() {
    check_history(false, false);
}

/// E02
#[test]
fn history_in_lists_is_read_from_both_ends() {
    check_history(true, false);
}

/// E02, E06
/// Stores that know RESP 2 alone.
#[test]
fn history_is_read_over_resp_2() {
    check_history(false, true);
}

/// E02
#[test]
fn a_repeated_idempotency_key_publishes_nothing() {
    let server = Server::start("once");
    let mut node = Node::on(&server);
    let keyed = |publish: BrokerPublish| BrokerPublish { idempotency_key: "k".into(), ..publish };
    let first = node.publish(keyed(kept("1")));
    assert_eq!((first.0, first.2), (1, None));
    assert_eq!(node.publish(keyed(kept("2"))), (1, first.1, Some(Suppression::Idempotency)));
    assert_eq!(node.history(None, None, false), (1, vec![(1, "1".into())]));
    assert_eq!(server.cli(&["TTL", "centrifugo.result.ch.k"]), "300");
    let other = |data| BrokerPublish {
        channel: "other".into(),
        idempotency_ttl: Duration::from_secs(9),
        ..keyed(publication(data))
    };
    assert_eq!(node.publish(other("1")).2, None);
    assert_eq!(node.publish(other("2")).2, Some(Suppression::Idempotency));
    assert_eq!(server.cli(&["TTL", "centrifugo.result.other.k"]), "9");
}

/// E02
#[test]
fn a_version_that_is_not_higher_publishes_nothing() {
    let server = Server::start("version");
    let mut node = Node::on(&server);
    let version = |version: u64, epoch: &str| BrokerPublish { version, version_epoch: epoch.into(), ..kept("x") };
    let epoch = node.publish(version(5, "a")).1;
    assert_eq!(node.publish(version(5, "a")), (1, epoch.clone(), Some(Suppression::Version)));
    assert_eq!(node.publish(version(4, "")), (1, epoch.clone(), Some(Suppression::Version)));
    assert_eq!(node.publish(version(4, "b")), (2, epoch.clone(), None));
    assert_eq!(node.publish(version(6, "b")), (3, epoch, None));
    assert_eq!(server.cli(&["HMGET", "centrifugo.stream.meta.ch", "v", "ve", "s"]), "6\nb\n3");
}

/// E02, O04
#[test]
fn presence_counts_connections_and_forgets_those_that_are_gone() {
    let server = Server::start("presence");
    let mut options = options(&[&server.socket()]);
    options.presence_user_mapping = true;
    let mut node = Node::start(&options, "node");
    let add = |(client, info)| BrokerAsk::AddPresence { channel: "ch".into(), client, info };
    let remove = |(client, info)| BrokerAsk::RemovePresence { channel: "ch".into(), client, info };
    for (user, client) in [("a", 1), ("a", 2), ("b", 3), ("b", 3)] {
        node.done(add(info(user, client)));
    }
    assert_eq!(node.presence(), ["a", "a", "b"]);
    let stats = |node: &mut Node| match node.ask(BrokerAsk::PresenceStats { channel: "ch".into() }) {
        BrokerAnswer::PresenceStats { clients, users } => (clients, users),
        other => panic!("{other:?}"),
    };
    assert_eq!(stats(&mut node), (3, 2));
    assert_eq!(server.cli(&["HMGET", "centrifugo.presence.user.clients.ch", "a", "b"]), "2\n1");
    assert_eq!(server.cli(&["TTL", "centrifugo.presence.data.ch"]), "60");
    node.done(remove(info("a", 1)));
    node.done(remove(info("b", 3)));
    node.done(remove(info("b", 3)));
    assert_eq!(node.presence(), ["a"]);
    assert_eq!(server.cli(&["HGETALL", "centrifugo.presence.user.clients.ch"]), "a\n1");
    assert_eq!(server.cli(&["ZRANGE", "centrifugo.presence.user.expire.ch", "0", "-1"]), "a");
    assert_eq!(stats(&mut node), (1, 1));
    server.cli(&["ZADD", "centrifugo.presence.expire.ch", "1", &ClientId(2).to_string()]);
    server.cli(&["ZADD", "centrifugo.presence.user.expire.ch", "1", "a"]);
    assert_eq!(stats(&mut node), (0, 0));
    assert_eq!(node.presence(), [""; 0]);
}

/// E03
/// Both sides agree on the Redis of a channel, and a channel's keys are on one.
#[test]
fn channels_are_spread_over_several_redis() {
    let (one, two) = (Server::start("spread-1"), Server::start("spread-2"));
    let options = options(&[&one.socket(), &two.socket()]);
    let (mut here, mut there) = (Node::start(&options, "here"), Node::start(&options, "there"));
    for number in 0..20 {
        let channel = format!("ch{number}");
        there.done(subscribe(&channel));
        here.publish(BrokerPublish { channel: channel.as_str().into(), ..kept(&channel) });
        there.hears(1, &channel, None);
        let home = [&one, &two][consistent_index(&channel, 2)];
        assert_eq!(home.cli(&["EXISTS", &format!("centrifugo.stream.{channel}")]), "1");
    }
    assert_ne!(one.cli(&["DBSIZE"]), "0");
    assert_ne!(two.cli(&["DBSIZE"]), "0");
}

/// E02, E13
/// After an outage the channels are heard again; in between everything fails at once.
#[test]
fn after_an_outage_channels_are_subscribed_again() {
    let mut server = Server::start("outage");
    let mut node = Node::on(&server);
    for channel in ["ch", "odd", "gone"] {
        node.done(subscribe(channel));
    }
    server.kill();
    let refused = |answer: &BrokerAnswer| matches!(answer, BrokerAnswer::Failed(BrokerError::Unavailable));
    let answer = node.ask(BrokerAsk::Publish(Box::new(publication("lost"))));
    assert!(refused(&answer), "{answer:?}");
    while !refused(&node.ask(subscribe("new"))) {}
    node.done(BrokerAsk::Unsubscribe { channel: "gone".into() });
    server.run();
    node.hears_again(&["ch", "odd"]);
    node.publish_at_last(|| publication("again"));
    node.hears(0, "again", None);
    node.done(subscribe("new"));
    assert_eq!(server.cli(&["PUBSUB", "NUMSUB", "centrifugo.client.new"]), "centrifugo.client.new\n1");
}

/// E02
/// Scripts that somebody flushed are loaded again.
#[test]
fn flushed_scripts_are_loaded_again() {
    let server = Server::start("flush");
    let mut node = Node::on(&server);
    server.cli(&["SCRIPT", "FLUSH"]);
    assert!(matches!(node.ask(BrokerAsk::Publish(Box::new(kept("1")))), BrokerAnswer::Failed(_)));
    assert_eq!(node.publish(kept("1")).0, 1);
}

/// E13
#[test]
fn nodes_tell_all_nodes_or_one() {
    let server = Server::start("control");
    let (here, there) =
        (Node::start(&options(&[&server.socket()]), "here"), Node::start(&options(&[&server.socket()]), "there"));
    let until = Instant::now() + PATIENCE;
    while server.cli(&["PUBSUB", "NUMSUB", "centrifugo.control"]) != "centrifugo.control\n2" {
        assert!(Instant::now() < until, "nodes do not listen");
    }
    here.redis.say(None, Body::Node(NodeIs { name: "here".into(), ..NodeIs::default() }));
    here.redis.say(Some("there"), Body::Shutdown(Shutdown {}));
    let body = Body::Disconnect(Disconnect { user: "u".into(), ..Disconnect::default() });
    let teller = Some(Teller::Call(RequestId::new(9, 0)));
    here.redis.tell_nodes(ShardId(1), vec![NodeMessage { to: None, body, teller }]);
    match here.news.recv_timeout(PATIENCE).expect("an answer in time") {
        (ShardId(1), BrokerNews::Told(told, true)) => assert_eq!(Some(told), teller),
        other => panic!("{other:?}"),
    }
    let heard = there.control.recv_timeout(PATIENCE).expect("a message in time");
    assert!(heard.uid == "here" && matches!(heard.body, Some(Body::Node(_))), "{heard:?}");
    let heard = there.control.recv_timeout(PATIENCE).expect("a message in time");
    assert!(matches!(heard.body, Some(Body::Shutdown(_))), "{heard:?}");
    match there.news.recv_timeout(PATIENCE).expect("a message in time").1 {
        BrokerNews::Command(body) => assert!(matches!(*body, Body::Disconnect(_)), "{body:?}"),
        other => panic!("{other:?}"),
    }
    assert!(here.control.is_empty(), "a node hears itself");
}
