//! Presence that is read at replicas.

use super::cluster::Cluster;
use super::sentinel::Trio;
use super::servers::Server;
use super::*;

fn reading(mut options: RedisOptions) -> RedisOptions {
    options.shards.iter_mut().for_each(|shard| shard.has_replica_client = true);
    RedisOptions { presence_read_from_replica: true, presence_user_mapping: true, ..options }
}

/// Scripts that a server has run.
fn scripts_run(server: &Server) -> u32 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

fn add(node: &mut Node, channel: &str, user: &str, id: u128) {
    let (client, info) = info(user, id);
    node.done(BrokerAsk::AddPresence { channel: channel.into(), client, info });
}

fn count(node: &mut Node, channel: &str) -> (u32, u32) {
    match node.ask(BrokerAsk::PresenceStats { channel: channel.into() }) {
        BrokerAnswer::PresenceStats { clients, users } => (clients, users),
        other => panic!("{other:?}"),
    }
}

/// Asks until so many connections and users are told, and this server has told them.
#[track_caller]
fn is_told_by(node: &mut Node, server: &Server, channel: &str, wanted: (u32, u32)) {
    let began = Instant::now();
    loop {
        let before = scripts_run(server);
        if count(node, channel) == wanted && scripts_run(server) > before {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{:?} and {} scripts", count(node, channel), scripts_run(server));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// E12
/// What replicas cannot say comes from the master: what has expired, and everything once they are gone.
#[test]
fn presence_is_read_at_the_replica_that_sentinels_name() {
    let mut trio = Trio::start("reading");
    let mut node = Node::start(&reading(trio.options()), "node");
    add(&mut node, "ch", "a", 1);
    add(&mut node, "ch", "b", 2);
    is_told_by(&mut node, &trio.replica, "ch", (2, 2));
    let (at_master, at_replica) = (scripts_run(&trio.master), scripts_run(&trio.replica));
    assert_eq!(node.presence(), ["a", "b"]);
    assert_eq!((scripts_run(&trio.master), scripts_run(&trio.replica)), (at_master, at_replica + 1));

    trio.master.cli(&["ZADD", "centrifugo.presence.expire.ch", "1", &ClientId(2).to_string()]);
    trio.master.wait_for(&trio.replica);
    assert_eq!(node.presence(), ["a"]);
    assert_eq!(trio.master.cli(&["HLEN", "centrifugo.presence.data.ch"]), "1");

    trio.replica.kill();
    for _ in 0..3 {
        assert_eq!(node.presence(), ["a"]);
    }
    trio.replica.run();
    is_told_by(&mut node, &trio.replica, "ch", (1, 2));
}

/// E12
/// Of masters without replicas they are asked themselves.
#[test]
fn presence_is_read_at_the_replicas_of_a_cluster() {
    let cluster = Cluster::start("cluster-reading", true);
    let mut node = Node::start(&reading(cluster.options()), "node");
    let (doubled, alone) = (cluster.channels(0, 1).remove(0), cluster.channels(1, 1).remove(0));
    for channel in [&doubled, &alone] {
        add(&mut node, channel, "a", 1);
        add(&mut node, channel, "a", 2);
    }
    is_told_by(&mut node, &cluster.servers[3], &doubled, (2, 1));
    let at_replica = scripts_run(&cluster.servers[3]);
    assert_eq!(count(&mut node, &alone), (2, 1));
    assert_eq!(scripts_run(&cluster.servers[3]), at_replica);
}

/// E12
#[test]
fn one_that_has_no_replicas_is_refused() {
    let server = Server::start("alone");
    let refused = |options: &RedisOptions| {
        let (sender, _news) = channel();
        let error = connect(options, "node", Arc::new(Ear(sender.into())), true).err().expect("an error");
        error.to_string()
    };
    let error = refused(&reading(options(&[&server.socket()])));
    assert!(error.contains("expected sentinel_address or cluster_address"), "{error}");
    let error = refused(&RedisOptions { presence_read_from_replica: true, ..options(&[&server.socket()]) });
    assert!(error.contains("replica_client.enabled"), "{error}");
}
