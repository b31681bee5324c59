//! A `redis-server` of its own, and nodes of two shards that it joins.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{PATIENCE, Server, config, free_port};

/// A Redis; killed when dropped.
pub struct Redis {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Redis {
    pub fn start() -> Redis {
        let port = free_port();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-{port}"));
        std::fs::create_dir_all(&folder).expect("the target folder can be written");
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"])
            .arg(&folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: apt-get install redis-server");
        let redis = Redis { child, port, folder };
        wait_for("redis-server answers", || TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok());
        redis
    }

    /// The configuration of a node; HTTP streaming and SSE are on.
    pub fn config(&self, name: &str) -> Value {
        let mut config = config(free_port());
        let address = format!("redis://127.0.0.1:{}", self.port);
        config["engine"] = json!({"type": "redis", "redis": {"address": address}});
        config["node"] = json!({"name": name});
        config["http_stream"] = json!({"enabled": true});
        config["sse"] = json!({"enabled": true});
        config
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// So many nodes, each of which knows of all.
pub fn nodes<const NODES: usize>(redis: &Redis) -> [Server; NODES] {
    let configs: Vec<Value> = (0..NODES).map(|number| redis.config(&format!("node{number}"))).collect();
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
