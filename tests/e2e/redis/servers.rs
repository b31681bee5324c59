//! Real `redis-server` processes on ports of their own; each ends with the test.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::server::{PATIENCE, free_port};

/// A server, or a sentinel.
pub struct Redis {
    child: Option<Child>,
    folder: PathBuf,
    pub port: u16,
}

impl Redis {
    /// With more options as on a command line.
    pub fn start(words: &[&str]) -> Redis {
        let (port, folder) = (free_port(), new_folder());
        let own = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""];
        Redis::run(port, folder, &[&own[..], words].concat())
    }

    /// A replica that has all that its master has.
    pub fn replica_of(master: &Redis) -> Redis {
        let replica = Redis::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
        master.wait_until(|master| master.ask(&["INFO", "replication"]).contains("state=online"));
        replica
    }

    /// A sentinel that knows a master and its replica under the name `m`, and thinks them gone after 300 ms of silence.
    pub fn sentinel(master: &Redis) -> Redis {
        let (port, folder) = (free_port(), new_folder());
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("sentinel monitor m 127.0.0.1 {} 1", master.port),
            "sentinel down-after-milliseconds m 300".to_owned(),
            "sentinel failover-timeout m 2000".to_owned(),
        ];
        let config = folder.join("sentinel.conf");
        fs::write(&config, lines.join("\n")).expect("the target folder can be written");
        let sentinel = Redis::run(port, folder, &[config.to_str().expect("a path in Unicode"), "--sentinel"]);
        sentinel.wait_until(|sentinel| sentinel.ask(&["SENTINEL", "REPLICAS", "m"]).contains("slave"));
        sentinel
    }

    fn run(port: u16, folder: PathBuf, words: &[&str]) -> Redis {
        let mut command = Command::new("redis-server");
        let child = command.args(words).current_dir(&folder).stdout(Stdio::null()).spawn();
        let redis = Redis { child: Some(child.expect("redis-server is installed")), folder, port };
        redis.wait_until(|redis| TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port)).is_ok());
        redis
    }

    #[track_caller]
    pub fn wait_until(&self, holds: impl Fn(&Redis) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "redis-server does not get there");
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` prints.
    pub fn ask(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words).output();
        String::from_utf8_lossy(&output.expect("redis-cli is installed").stdout).trim_end().to_owned()
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn new_folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-{}-{}", std::process::id(), free_port()));
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}
