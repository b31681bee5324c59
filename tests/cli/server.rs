//! The server as an operator meets it: its log, its pid file, its signals.

use crate::directory::Directory;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// What a line of the log may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    log: Receiver<String>,
}

impl Server {
    /// On a free port with two shards.
    pub fn start(directory: &Directory, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringcast"));
        command.args(["--shards", "2", "-a", "127.0.0.1", "-p", "0"]).args(arguments);
        Self::spawn(directory, command.env_clear().envs(variables.iter().copied()))
    }

    /// By a command that becomes the server.
    pub fn spawn(directory: &Directory, command: &mut Command) -> Self {
        let mut child = command
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (sender, log) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Server { child, log }
    }

    /// Reads the log up to the first line with this text, and returns that line.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        let mut seen = Vec::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("no {text:?} in the log:\n{}", seen.join("\n"));
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is ours");
    }

    /// Waits until it has ended by itself, and returns the exit code.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.wait().expect("a child of ours").code()
    }

    /// Asks it to end and returns the exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait_for("shutting down");
        self.child.wait().expect("a child of ours").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port in the line that tells where the server listens.
pub fn port(line: &str) -> u16 {
    let behind = line.split("127.0.0.1:").nth(1).expect("an address");
    behind.split('"').next().and_then(|port| port.parse().ok()).expect("a port")
}

/// Publishes and returns the answer's body.
pub fn publish(port: u16) -> String {
    let body = r#"{"channel": "a", "data": {}}"#;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    write!(
        stream,
        "POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: key\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()
}

const PLAIN: &str = r#"{"http_api": {"key": "key"}}"#;
const HISTORY: &str = r#"{"http_api": {"key": "key"},
    "channel": {"without_namespace": {"history_size": 1, "history_ttl": "60s"}}}"#;

/// L09
#[test]
fn a_reload_changes_channels_and_a_bad_one_changes_nothing() {
    let directory = Directory::with(&[("config.json", PLAIN)]);
    let server = Server::start(&directory, &[], &[]);
    let port = port(&server.wait_for("serving websocket, api endpoints on"));
    server.wait_for("\"ready\"");
    assert_eq!(publish(port), r#"{"result":{}}"#);

    // Often, because the line in the log once came before every shard had the options.
    for _ in 0..10 {
        for (text, result) in [(PLAIN, "{}"), (HISTORY, r#"{"offset":"#)] {
            directory.write("config.json", text);
            server.signal(Signal::HUP);
            server.wait_for("configuration successfully reloaded");
            let answer = publish(port);
            assert!(answer.starts_with(&format!(r#"{{"result":{result}"#)), "{answer} with {text}");
        }
    }

    let no_name = r#"{"channel": {"namespaces": [{"name": "h"}]}}"#;
    for (broken, told) in [("{", "error reading config"), (no_name, "error validating config")] {
        directory.write("config.json", broken);
        server.signal(Signal::HUP);
        server.wait_for(told);
        assert!(publish(port).starts_with(r#"{"result":{"offset":"#), "after {broken}");
    }
    assert_eq!(server.stop(), Some(0));
}

/// L11
#[test]
fn a_pid_file_lives_as_long_as_the_server() {
    let directory = Directory::with(&[("config.json", PLAIN)]);
    let server = Server::start(&directory, &["--pid_file", "pid"], &[]);
    server.wait_for("\"ready\"");
    let file = directory.path().join("pid");
    let text = std::fs::read_to_string(&file).expect("a pid file");
    assert_eq!(text, format!("{}\n", server.child.id()));
    assert_eq!(server.stop(), Some(0));
    assert!(!file.exists());
}

#[test]
fn what_is_odd_in_a_configuration_is_told_at_start() {
    let config = r#"{"clinet": {}, "admin": {"enabled": true}, "client": {"insecure": true}}"#;
    let directory = Directory::with(&[("config.json", config)]);
    let server = Server::start(&directory, &[], &[("CENTRIFUGO_FOO", "1")]);
    server.wait_for("INSECURE client mode enabled");
    let line = server.wait_for("unknown key in configuration file");
    assert!(line.starts_with(r#"{"level":"warn","key":"clinet","nearest":"client","time":""#), "{line}");
    server.wait_for(r#""var":"CENTRIFUGO_FOO""#);
    server.wait_for("admin is not supported yet");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_server_starts_without_a_file() {
    let server = Server::start(&Directory::with(&[]), &["--log.level=info"], &[]);
    server.wait_for("config file not found, continue using environment and flag options");
    server.wait_for("\"ready\"");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_log_file_is_continued() {
    let directory = Directory::with(&[("server.log", "before\n")]);
    let arguments = ["--log.file", "server.log", "--pid_file", "/no/such/folder/pid"];
    let mut server = Server::start(&directory, &arguments, &[]);
    let status = server.child.wait().expect("a child of ours");
    assert_eq!(status.code(), Some(1));
    let log = std::fs::read_to_string(directory.path().join("server.log")).expect("a log");
    assert!(log.starts_with("before\n{\"level\":\"warn\""), "{log}");
    assert!(log.contains("\"level\":\"fatal\"") && log.contains("error writing PID"), "{log}");
}
