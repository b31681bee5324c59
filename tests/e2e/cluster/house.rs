//! A `redis-server` or `nats-server` of its own, and nodes of two shards that it joins.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::nats::peer::NatsServer;
use crate::server::{PATIENCE, Server, config, free_port};

/// What joins nodes.
pub trait Broker {
    /// Keys of the configuration that name it.
    fn keys(&self) -> Value;
    fn kill(&mut self);
    /// Again, on the same port.
    fn run(&mut self);

    /// The configuration of a node; HTTP streaming and SSE are on.
    fn config(&self, name: &str) -> Value {
        let mut config = config(free_port());
        config.as_object_mut().expect("an object").extend(self.keys().as_object().expect("an object").clone());
        config["node"] = json!({"name": name});
        config["http_stream"] = json!({"enabled": true});
        config["sse"] = json!({"enabled": true});
        config
    }
}

/// A Redis; killed when dropped.
pub struct Redis {
    child: Option<Child>,
    port: u16,
    folder: PathBuf,
}

impl Redis {
    pub fn start() -> Redis {
        let port = free_port();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-{port}"));
        std::fs::create_dir_all(&folder).expect("the target folder can be written");
        let mut redis = Redis { child: None, port, folder };
        redis.run();
        redis
    }
}

impl Broker for Redis {
    fn keys(&self) -> Value {
        let address = format!("redis://127.0.0.1:{}", self.port);
        json!({"engine": {"type": "redis", "redis": {"address": address}}})
    }

    fn run(&mut self) {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &self.port.to_string(), "--dir"])
            .arg(&self.folder)
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.expect("redis-server is installed: apt-get install redis-server"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        wait_for("redis-server answers", || TcpStream::connect(address).is_ok());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Broker for NatsServer {
    fn keys(&self) -> Value {
        json!({"broker": {"enabled": true, "type": "nats", "nats": {"url": self.url()}}})
    }

    fn run(&mut self) {
        NatsServer::run(self);
    }

    fn kill(&mut self) {
        NatsServer::kill(self);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// So many nodes, each of which knows of all.
pub fn nodes<const NODES: usize>(broker: &impl Broker) -> [Server; NODES] {
    let configs: Vec<Value> = (0..NODES).map(|number| broker.config(&format!("node{number}"))).collect();
    let servers = std::array::from_fn(|number| Server::start_with(2, &configs[number]));
    wait_for("all nodes know all", || servers.iter().all(|server| names(server).len() == NODES));
    servers
}

/// Names of the nodes that a node knows, sorted.
pub fn names(server: &Server) -> Vec<String> {
    let info = server.api("info", &json!({}));
    let nodes = info["result"]["nodes"].as_array().unwrap_or_else(|| panic!("{info}")).iter();
    let mut names: Vec<String> = nodes.map(|node| node["name"].as_str().unwrap_or_default().to_owned()).collect();
    names.sort();
    names
}

/// Channels and their subscribers, as a node tells them.
#[track_caller]
pub fn channels(server: &Server, pattern: &str) -> Value {
    let answer = server.api("channels", &json!({"pattern": pattern}));
    assert!(answer.get("error").is_none(), "{answer}");
    answer["result"]["channels"].clone()
}

/// Tries until it holds.
#[track_caller]
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
