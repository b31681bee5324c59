//! Redis Cluster, of three servers and a replica.

use super::servers::{Server, cli, free_port};
use super::*;
use ringcast_proto::redis::slot_of_tag;
use ringcast_state::message::ChannelName;
use std::collections::{HashMap, HashSet};

/// Time without a word after which the servers think another one gone.
const NODE_TIMEOUT: &str = "1000";

pub struct Cluster {
    /// The last one is the replica of the first, if there are four.
    pub servers: Vec<Server>,
}

impl Cluster {
    pub fn start(name: &str, has_replica: bool) -> Self {
        let count = if has_replica { 4 } else { 3 };
        let start = |index| {
            let bus = free_port().to_string();
            let words = [
                ["--cluster-enabled", "yes"],
                ["--cluster-port", &bus],
                ["--cluster-node-timeout", NODE_TIMEOUT],
                ["--repl-diskless-sync-delay", "0"],
                ["--bind", "127.0.0.1"],
            ];
            Server::start_with(&format!("{name}-{index}"), free_port(), &words.concat())
        };
        let servers: Vec<_> = (0..count).map(start).collect();
        let addresses: Vec<_> = servers.iter().take(3).map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let mut words = vec!["--cluster", "create"];
        words.extend(addresses.iter().map(String::as_str));
        let said = cli(&[], &[&words[..], &["--cluster-yes"]].concat());
        assert!(said.contains("All 16384 slots covered"), "{said}");
        let cluster = Self { servers };
        cluster.wait_until_known(3);
        if has_replica {
            let id = cluster.id(0);
            let (replica, first) = (format!("127.0.0.1:{}", cluster.servers[3].port), &addresses[0]);
            let said =
                cli(&[], &["--cluster", "add-node", &replica, first, "--cluster-slave", "--cluster-master-id", &id]);
            assert!(said.contains("New node added"), "{said}");
            cluster.wait_until_known(4);
            let slaves = |server: &Server| server.cli(&["INFO", "replication"]).contains("state=online");
            cluster.servers[0].wait_until(slaves);
        }
        cluster
    }

    fn wait_until_known(&self, count: usize) {
        for server in &self.servers[..count] {
            let known = format!("cluster_known_nodes:{count}");
            server.wait_until(|server| {
                let info = server.cli(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains(&known)
            });
        }
    }

    fn id(&self, index: usize) -> String {
        self.servers[index].cli(&["CLUSTER", "MYID"])
    }

    fn address(&self, index: usize) -> Address {
        Address::Tcp(format!("127.0.0.1:{}", self.servers[index].port))
    }

    pub fn options(&self) -> RedisOptions {
        let nobody = Address::Tcp(format!("127.0.0.1:{}", free_port()));
        options_at(vec![endpoint(Place::Cluster(vec![nobody, self.address(1)]))])
    }

    /// Names of channels that this server serves as the slots were first spread.
    pub fn channels(&self, index: usize, count: usize) -> Vec<String> {
        let bounds = [0..5461, 5461..10923, 10923..16384_u16];
        let names = (0..).map(|number| format!("ch{number}"));
        names.filter(|name| bounds[index].contains(&slot_of_tag(name))).take(count).collect()
    }
}

fn named(channel: &str, publish: BrokerPublish) -> BrokerPublish {
    BrokerPublish { channel: channel.into(), ..publish }
}

/// E05
#[test]
fn a_channel_is_kept_on_the_node_of_its_slot_and_heard_everywhere() {
    let cluster = Cluster::start("cluster-spread", false);
    let (mut here, mut there) = (Node::start(&cluster.options(), "here"), Node::start(&cluster.options(), "there"));
    for index in 0..3 {
        for channel in cluster.channels(index, 3) {
            there.done(subscribe(&channel));
            let once = |data| BrokerPublish { idempotency_key: "k".into(), ..named(&channel, kept(data)) };
            assert_eq!(here.publish(once("1")).0, 1);
            assert_eq!(here.publish(once("2")).2, Some(Suppression::Idempotency));
            there.hears(1, "1", None);
            let (client, who) = info("u", 7);
            here.done(BrokerAsk::AddPresence { channel: channel.as_str().into(), client, info: who.clone() });
            match there.ask(BrokerAsk::Presence { channel: channel.as_str().into() }) {
                BrokerAnswer::Presence(infos) => assert_eq!(infos, [who]),
                other => panic!("{other:?}"),
            }
            let server = &cluster.servers[index];
            for key in ["stream.{}", "stream.meta.{}", "result.{}.k", "presence.data.{}"] {
                let key = format!("centrifugo.{}", key.replace("{}", &format!("{{{channel}}}")));
                assert_eq!(server.cli(&["EXISTS", &key]), "1", "{key}");
            }
            here.done(BrokerAsk::RemoveHistory { channel: channel.as_str().into() });
        }
    }
    // A single address of a cluster stands for all of it.
    let mut node = Node::start(&options_at(vec![endpoint(Place::Fixed(cluster.address(2)))]), "node");
    for index in 0..3 {
        assert_eq!(node.publish(named(&cluster.channels(index, 1)[0], kept("3"))).0, 2);
    }
    here.redis.say(None, Body::Node(NodeIs { name: "here".into(), ..NodeIs::default() }));
    assert_eq!(there.control.recv_timeout(PATIENCE).expect("a message in time").uid, "here");
}

/// E05
/// Slots move from one server to another while something is published in them all the time: every publication is taken, in order,
/// and heard, at the latest once history was looked at.
#[test]
fn publications_are_taken_and_heard_while_slots_move() {
    let cluster = Cluster::start("cluster-move", false);
    let (mut here, mut there) = (Node::start(&cluster.options(), "here"), Node::start(&cluster.options(), "there"));
    let moving = 400;
    let mut channels = cluster.channels(0, 400);
    channels.retain(|channel| slot_of_tag(channel) < moving);
    assert!(channels.len() > 10, "{channels:?}");
    channels.iter().for_each(|channel| there.done(subscribe(channel)));
    let [from, to] = [0, 1].map(|index| cluster.id(index));
    let address = format!("127.0.0.1:{}", cluster.servers[2].port);
    let mover = std::thread::spawn(move || {
        let from = ["--cluster-from", &from, "--cluster-to", &to, "--cluster-slots", "400", "--cluster-yes"];
        cli(&[], &[&["--cluster", "reshard", &address][..], &from].concat())
    });
    let long = HistoryTerms { size: 100_000, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(90) };
    let mut asked = HashMap::new();
    let mut sent = vec![0_u64; channels.len()];
    let mut taken = vec![0_u64; channels.len()];
    while !mover.is_finished() || !asked.is_empty() {
        if !mover.is_finished() {
            for (index, channel) in channels.iter().enumerate() {
                sent[index] += 1;
                let data = sent[index].to_string();
                let publish = BrokerPublish { history: Some(long), ..named(channel, kept(&data)) };
                asked.insert(here.send(BrokerAsk::Publish(Box::new(publish))), (index, sent[index]));
            }
        }
        while asked.len() > 200 || (mover.is_finished() && !asked.is_empty()) {
            match here.news.recv_timeout(PATIENCE).expect("an answer").1 {
                BrokerNews::Answer(request, BrokerAnswer::Published { position, .. }) => {
                    let (index, number) = asked.remove(&request).expect("it was asked");
                    assert_eq!(position.offset, number, "{}", channels[index]);
                    taken[index] += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(mover.join().expect("no panic").contains("Moving slot"));
    assert_eq!(taken, sent);
    assert!(sent[0] > 20, "{} publications while slots moved", sent[0]);
    // What was told came in order within each channel, or a gap is closed by the look that is told.
    let mut heard: HashMap<String, u64> = HashMap::new();
    let mut doubted = HashSet::new();
    let level = |heard: &HashMap<String, u64>, doubted: &HashSet<ChannelName>| {
        let mut counted = channels.iter().zip(&sent);
        counted.all(|(channel, sent)| heard.get(channel) == Some(sent)) && doubted.len() == channels.len()
    };
    while !level(&heard, &doubted) {
        match there.news.recv_timeout(PATIENCE).expect("more news").1 {
            BrokerNews::Event(BrokerEvent::Publication(event)) => {
                let last = heard.entry(event.channel.to_string()).or_default();
                *last = (*last).max(event.position.offset);
            }
            BrokerNews::Event(BrokerEvent::Hearing { channels }) => doubted.extend(channels),
            other => panic!("{other:?}"),
        }
    }
    let moved = cluster.servers[1].cli(&["EXISTS", &format!("centrifugo.stream.{{{}}}", channels[0])]);
    assert_eq!(moved, "1");
}

/// E05
/// Channels of others are served all the time.
#[test]
fn after_the_death_of_a_node_its_replica_is_asked() {
    let mut cluster = Cluster::start("cluster-killed", true);
    let mut node = Node::start(&cluster.options(), "node");
    let (dead, alive) = (cluster.channels(0, 2), cluster.channels(1, 1).remove(0));
    dead.iter().chain([&alive]).for_each(|channel| node.done(subscribe(channel)));
    for channel in &dead {
        assert_eq!(node.publish(named(channel, kept("1"))).0, 1);
        node.hears(1, "1", None);
    }
    cluster.servers[0].wait_for(&cluster.servers[3]);
    cluster.servers[0].kill();
    let answer = node.ask(BrokerAsk::Publish(Box::new(named(&dead[0], kept("lost")))));
    assert!(matches!(answer, BrokerAnswer::Failed(BrokerError::Unavailable)), "{answer:?}");
    assert_eq!(node.publish(named(&alive, kept("1"))).0, 1);
    let began = Instant::now();
    let mut doubted = std::collections::BTreeSet::new();
    // Which of them, depends on where the PUB/SUB connection was.
    while !dead.iter().all(|channel| doubted.contains(channel.as_str())) {
        match node.event() {
            BrokerEvent::Hearing { channels } => doubted.extend(channels),
            BrokerEvent::Publication(event) => assert_eq!(&*event.channel, alive),
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < PATIENCE);
    }
    for channel in &dead {
        assert_eq!(node.publish_at_last(|| named(channel, kept("2"))), 2);
        loop {
            match node.event() {
                BrokerEvent::Publication(event) if *event.channel == **channel => {
                    break assert_eq!(event.position.offset, 2);
                }
                BrokerEvent::Publication(_) | BrokerEvent::Hearing { .. } => (),
                other => panic!("{other:?}"),
            }
        }
    }
}
