//! Fail-over: the server to be asked is another one from some moment on.

use super::servers::{Server, free_port};
use super::*;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;

/// A master, its replica, and a sentinel that knows of both.
pub struct Trio {
    pub master: Server,
    pub replica: Server,
    sentinel: Server,
}

impl Trio {
    pub fn start(name: &str) -> Self {
        let master = Server::start_with(&format!("{name}-master"), free_port(), &["--repl-diskless-sync-delay", "0"]);
        let port = master.port.to_string();
        let words = ["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"];
        let replica = Server::start_with(&format!("{name}-replica"), free_port(), &words);
        master.wait_until(|master| master.cli(&["INFO", "replication"]).contains("state=online"));
        let sentinel = Server::sentinel(&format!("{name}-sentinel"), master.port);
        sentinel.wait_until(|sentinel| sentinel.cli_at_port(&["SENTINEL", "REPLICAS", "m"]).contains("slave"));
        Self { master, replica, sentinel }
    }

    pub fn options(&self) -> RedisOptions {
        let nobody = Address::Tcp(format!("127.0.0.1:{}", free_port()));
        let addresses = vec![nobody, Address::Tcp(format!("127.0.0.1:{}", self.sentinel.port))];
        let sentinels = Sentinels { addresses, master: "m".into(), login: Login::default() };
        options_at(vec![endpoint(Place::Sentinel(sentinels))])
    }
}

/// E04
/// A sentinel that is not there is passed over. While the master is dead, and named by the sentinel still, connections are refused,
/// again and again.
#[test]
fn after_the_death_of_the_master_the_replica_is_asked_and_heard() {
    let mut trio = Trio::start("killed");
    let mut node = Node::start(&trio.options(), "node");
    ["ch", "other"].into_iter().for_each(|channel| node.done(subscribe(channel)));
    assert_eq!(node.publish(kept("1")).0, 1);
    node.hears(1, "1", None);
    trio.master.wait_for(&trio.replica);
    trio.master.kill();
    let answer = node.ask(BrokerAsk::Publish(Box::new(kept("lost"))));
    assert!(matches!(answer, BrokerAnswer::Failed(BrokerError::Unavailable)), "{answer:?}");
    node.hears_again(&["ch", "other"]);
    assert_eq!(node.publish_at_last(|| kept("2")), 2);
    node.hears(2, "2", None);
    assert_eq!(node.history(None, None, false), (2, vec![(1, "1".into()), (2, "2".into())]));
    assert!(trio.replica.cli(&["ROLE"]).starts_with("master"));
}

/// E04
/// The old master lives on as a replica.
#[test]
fn a_master_that_was_replaced_is_left() {
    let trio = Trio::start("replaced");
    let mut node = Node::start(&trio.options(), "node");
    node.done(subscribe("ch"));
    assert_eq!(node.publish(kept("1")).0, 1);
    node.hears(1, "1", None);
    trio.master.wait_for(&trio.replica);
    trio.sentinel.wait_until(|sentinel| sentinel.cli_at_port(&["SENTINEL", "FAILOVER", "m"]) == "OK");
    trio.replica.wait_until(|replica| replica.cli(&["ROLE"]).starts_with("master"));
    node.hears_again(&["ch"]);
    assert_eq!(node.publish_at_last(|| kept("2")), 2);
    node.hears(2, "2", None);
}

/// Leads each connection in turn to the next of these ports, those behind the list to the last.
fn relay(ports: Vec<u16>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for (index, client) in listener.incoming().map_while(Result::ok).enumerate() {
            let target = ports[index.min(ports.len() - 1)];
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).expect("the server listens");
            pump(client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            pump(server, client);
        }
    });
    port
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// E02, E04
/// The server of the PUB/SUB connection answers, and what is published goes to another: it is noticed and left, although no
/// connection ever fails.
#[test]
fn a_connection_that_answers_and_tells_nothing_is_given_up() {
    let deaf = Server::start_with("deaf", free_port(), &[]);
    let other = Server::start_with("hearing", free_port(), &[]);
    // To look for a cluster, for commands, for PUB/SUB.
    let port = relay(vec![other.port, other.port, deaf.port, other.port]);
    let place = Place::Fixed(Address::Tcp(format!("127.0.0.1:{port}")));
    let mut node = Node::start(&options_at(vec![endpoint(place)]), "node");
    node.done(subscribe("ch"));
    assert_eq!(deaf.cli(&["PUBSUB", "NUMSUB", "centrifugo.client.ch"]), "centrifugo.client.ch\n1");
    assert_eq!(node.publish(kept("not heard")).0, 1);
    node.hears_again(&["ch"]);
    assert_eq!(node.publish(kept("2")).0, 2);
    node.hears(2, "2", None);
    let timeouts = node.redis.pub_sub().faults.into_iter().find(|(fault, _)| *fault == Fault::ProbeTimeout);
    assert_eq!(timeouts.map(|(_, count)| count), Some(1));
}

/// E02
/// Probes of a node that is alone come back.
#[test]
fn a_connection_without_anything_to_tell_is_kept() {
    let server = Server::start("quiet");
    let node = Node::on(&server);
    let probes = || {
        let stats = server.cli(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_publish:calls="));
        line.and_then(|line| line.split(',').next()?.parse::<u32>().ok()).unwrap_or(0)
    };
    server.wait_until(|_| probes() >= 2);
    assert!(node.redis.pub_sub().faults.iter().all(|(_, count)| *count == 0));
}
