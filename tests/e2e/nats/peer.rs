//! A `nats-server` of the test's own, and a plain client that speaks its protocol by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::server::{PATIENCE, free_port};

/// A server that ends with the test.
pub struct NatsServer {
    child: Option<Child>,
    port: u16,
    arguments: Vec<String>,
}

impl NatsServer {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { child: None, port: free_port(), arguments };
        server.run();
        server
    }

    /// Again, on the same port.
    pub fn run(&mut self) {
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &self.port.to_string()]).args(&self.arguments);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child =
            Some(child.unwrap_or_else(|error| panic!("nats-server: {error}; it needs: apt install nats-server")));
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "nats-server does not start");
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().expect("it ends");
        }
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = Pid::from_raw(child.id() as i32).expect("a child has a process id");
        kill_process(pid, signal).expect("the child is not reaped yet");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client that knows nothing of channels.
pub struct Peer {
    stream: BufReader<TcpStream>,
}

impl Peer {
    /// Connects, and subscribes to everything that the pattern fits.
    pub fn hearing(server: &NatsServer, pattern: &str) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
        let mut peer = Self { stream: BufReader::new(stream) };
        peer.say(&format!("CONNECT {{\"verbose\":false}}\r\nSUB {pattern} 1\r\n"));
        peer.settle();
        peer
    }

    /// Publishes, and waits until the server has taken it.
    pub fn publish(&mut self, subject: &str, payload: &[u8]) {
        let stream = self.stream.get_mut();
        write!(stream, "PUB {subject} {}\r\n", payload.len()).expect("the server reads");
        stream.write_all(payload).expect("the server reads");
        self.say("\r\n");
    }

    /// The next message: subject and payload.
    #[track_caller]
    pub fn message(&mut self) -> (String, Vec<u8>) {
        loop {
            let line = self.line();
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["MSG", subject, _, length] | ["MSG", subject, _, _, length] => {
                    let mut payload = vec![0; length.parse::<usize>().expect("a number") + 2];
                    self.stream.read_exact(&mut payload).expect("the payload follows");
                    payload.truncate(payload.len() - 2);
                    return (subject.to_owned(), payload);
                }
                ["PING"] => self.say("PONG\r\n"),
                _ => (),
            }
        }
    }

    fn settle(&mut self) {
        self.say("PING\r\n");
        while self.line() != "PONG" {}
    }

    fn say(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("the server reads");
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the server says something");
        line.trim_end().to_owned()
    }
}

/// A file in a folder that is the test's own.
pub fn file(name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("nats-{}-{name}", std::process::id()));
    std::fs::write(&path, content).expect("the target folder can be written");
    path
}
