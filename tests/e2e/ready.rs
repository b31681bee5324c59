//! `/ready`: whether what is published arrives, with memory and behind brokers that hang.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::http;
use crate::nats::peer::NatsServer;
use crate::server::{PATIENCE, Server, config, free_port};

fn start(shards: u16, more: Value) -> Server {
    let mut config = config(free_port());
    config["health"]["delivery_check"] = true.into();
    config["prometheus"] = json!({"enabled": true});
    config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    Server::start_with(shards, &config)
}

/// Asks until the status is the wanted one; its body.
#[track_caller]
fn wait_for(server: &Server, status: u16) -> String {
    let began = Instant::now();
    loop {
        let reply = get(server.address(), "/ready");
        if reply.status == status {
            return reply.text();
        }
        assert!(began.elapsed() < PATIENCE, "{}: {}", reply.status, reply.text());
        thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn get(address: SocketAddr, path: &str) -> http::Reply {
    http::try_get(address, path).expect("an answer")
}

#[track_caller]
fn is_alive(server: &Server) {
    let reply = get(server.address(), "/health");
    assert_eq!((reply.status, reply.text().as_str()), (200, "{}"));
}

/// A `redis-server` that ends with the test.
pub struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    pub fn start() -> Self {
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]).stdout(Stdio::null());
        let child =
            command.spawn().unwrap_or_else(|error| panic!("redis-server: {error}; it needs: apt install redis-server"));
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "redis-server does not start");
            thread::sleep(Duration::from_millis(10));
        }
        Self { child, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a child has a process id");
        kill_process(pid, signal).expect("the child is not reaped yet");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// B03
#[test]
fn delivery_in_memory_is_proved_on_every_shard_and_shows_nowhere() {
    let server = start(3, json!({}));
    assert_eq!(wait_for(&server, 200), "{}");
    is_alive(&server);
    assert_eq!(server.api("channels", &json!({}))["result"], json!({"channels": {}}));
    let info = server.api("info", &json!({}));
    let node = &info["result"]["nodes"][0];
    assert_eq!((&node["num_channels"], &node["num_subs"]), (&json!(0), &json!(0)), "{node}");
    let metrics = get(server.address(), "/metrics").text();
    for shard in 0..3 {
        for family in ["ringcast_delivery_check_age_seconds", "ringcast_delivery_check_latency_seconds"] {
            let line = format!("{family}{{broker=\"memory\",shard=\"{shard}\"}}");
            assert!(metrics.contains(&line), "no {line} in {metrics}");
        }
    }
    let plain = Server::start(1);
    assert_eq!(get(plain.address(), "/ready").status, 404);
}

/// B03, E02
#[test]
fn redis_that_hangs_makes_a_node_unready_until_it_goes_on() {
    let (redis, other) = (Redis::start(), Redis::start());
    let addresses = [&redis, &other].map(|redis| format!("127.0.0.1:{}", redis.port));
    let options = json!({"address": addresses, "connect_timeout": "500ms", "io_timeout": "500ms"});
    let server = start(2, json!({"engine": {"type": "redis", "redis": options}}));
    wait_for(&server, 200);
    redis.signal(Signal::STOP);
    let stopped = Instant::now();
    let body = wait_for(&server, 503);
    assert!(stopped.elapsed() < Duration::from_secs(10), "unready after {:?}", stopped.elapsed());
    assert!(body.contains(&addresses[0]) && !body.contains(&addresses[1]), "{body}");
    is_alive(&server);
    redis.signal(Signal::CONT);
    wait_for(&server, 200);
}

/// B03, E07
#[test]
fn nats_that_is_gone_makes_a_node_unready_until_it_is_back() {
    let mut nats = NatsServer::start();
    let broker = json!({"enabled": true, "type": "nats", "nats": {"url": nats.url()}});
    let server = start(2, json!({"broker": broker}));
    wait_for(&server, 200);
    nats.kill();
    assert!(wait_for(&server, 503).contains("NATS"));
    is_alive(&server);
    nats.run();
    wait_for(&server, 200);
}
