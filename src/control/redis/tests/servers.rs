//! Servers that end with the test, each in a folder of its own.

use super::PATIENCE;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{self, Child, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// A `redis-server`.
pub struct Server {
    dir: PathBuf,
    /// Serves TCP here, if at all.
    pub port: u16,
    words: Vec<String>,
    child: Option<Child>,
}

/// A port that nobody listens on; each call another one.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (process::id() % 100) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

impl Server {
    /// On a socket alone.
    pub fn start(name: &str) -> Self {
        Self::start_with(name, 0, &[])
    }

    /// On a socket and on a port, with more options as on a command line.
    pub fn start_with(name: &str, port: u16, words: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("ringcast-redis-{}-{name}", process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let mut server = Self { dir, port, words, child: None };
        server.run();
        server
    }

    /// A sentinel that watches the master on a port under the name `m`, and thinks it gone when it is silent for 300 ms.
    pub fn sentinel(name: &str, master: u16) -> Self {
        let dir = std::env::temp_dir().join(format!("ringcast-redis-{}-{name}", process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let config = dir.join("sentinel.conf");
        let port = free_port();
        let lines = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor m 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds m 300\nsentinel failover-timeout m 2000\n"
        );
        std::fs::write(&config, lines).expect("a file");
        let mut server = Self { dir, port, words: Vec::new(), child: None };
        let config = config.to_str().expect("a path in Unicode").to_owned();
        server.spawn(&[config, "--sentinel".into()]);
        server.wait_until(|server| TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).is_ok());
        server
    }

    pub fn run(&mut self) {
        let own = [
            vec!["--port".to_owned(), self.port.to_string(), "--save".into(), String::new()],
            vec!["--unixsocket".into(), self.socket().display().to_string()],
        ];
        let words: Vec<_> = own.concat().into_iter().chain(self.words.clone()).collect();
        self.spawn(&words);
        self.wait_until(|server| UnixStream::connect(server.socket()).is_ok());
    }

    fn spawn(&mut self, words: &[String]) {
        let mut command = process::Command::new("redis-server");
        command.args(words).current_dir(&self.dir).stdout(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server is installed"));
    }

    /// Waits for something to become true.
    #[track_caller]
    pub fn wait_until(&self, is_true: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_true(self) {
            assert!(began.elapsed() < PATIENCE, "redis-server does not get there");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a replica has all that was written here.
    #[track_caller]
    pub fn wait_for(&self, replica: &Server) {
        let offset = |server: &Server, name: &str| {
            let info = server.cli(&["INFO", "replication"]);
            info.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned))
        };
        self.wait_until(|master| {
            let wanted = offset(master, "master_repl_offset:");
            wanted.is_some() && offset(replica, "slave_repl_offset:") == wanted
        });
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// What `redis-cli` prints.
    pub fn cli(&self, words: &[&str]) -> String {
        cli(&["-s", self.socket().to_str().expect("a path in Unicode")], words)
    }

    /// The same over the port.
    pub fn cli_at_port(&self, words: &[&str]) -> String {
        cli(&["-p", &self.port.to_string()], words)
    }
}

/// What `redis-cli` prints.
pub fn cli(place: &[&str], words: &[&str]) -> String {
    let output = process::Command::new("redis-cli").args(place).args(words).output().expect("redis-cli");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
