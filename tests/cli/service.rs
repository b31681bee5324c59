//! The server under a service manager, which these tests play: news over the notify socket, signs of life, sockets
//! that are handed over.

use crate::directory::Directory;
use crate::server::{PATIENCE, Server};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tungstenite::WebSocket;
use tungstenite::stream::MaybeTlsStream;

const CONFIG: (&str, &str) = ("config.json", r#"{"client": {"insecure": true}, "log": {"level": "debug"}}"#);

/// The manager's end of the notify socket.
pub struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    /// Not in the target directory, whose path may be longer than the 107 bytes of a socket's.
    pub fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("ringcast-notify-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name).to_str().expect("a path of ASCII").to_owned();
        let socket = UnixDatagram::bind(&path).expect("a socket for the test");
        Manager { socket, path }
    }

    /// What the server finds in its variable.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The next news; none if there is none for that long.
    pub fn news_within(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).expect("a socket has timeouts");
        let mut bytes = [0; 4096];
        match self.socket.recv(&mut bytes) {
            Ok(length) => Some(String::from_utf8(bytes[..length].to_vec()).expect("news are text")),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads up to the first news that begin so, and returns them.
    #[track_caller]
    pub fn wait_for(&self, start: &str) -> String {
        loop {
            let news = self.news_within(PATIENCE).unwrap_or_else(|| panic!("no {start}"));
            if news.starts_with(start) {
                return news;
            }
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // What is left behind is an empty file among the temporary ones.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn a_manager_hears_of_readiness_reloads_connections_and_the_end() {
    let directory = Directory::with(&[CONFIG]);
    let manager = Manager::new();
    let server = Server::start(&directory, &[], &[("NOTIFY_SOCKET", &manager.path)]);
    assert_eq!(manager.news_within(PATIENCE).as_deref(), Some("READY=1\n"));
    // Ready means that every shard listens: the address has been logged.
    server.wait_for("serving websocket");
    assert_eq!(manager.wait_for("STATUS="), "STATUS=0 connections on 2 shards\n");

    server.signal(Signal::HUP);
    let reloading = manager.wait_for("RELOADING=1\n");
    let moment = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("the manager wants the time");
    assert!(moment.trim_end().parse::<u64>().is_ok_and(|moment| moment > 0), "{moment}");
    manager.wait_for("READY=1\n");

    server.signal(Signal::TERM);
    assert_eq!(manager.wait_for("STOPPING=1\n"), "STOPPING=1\nSTATUS=closing connections\n");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_reload_that_fails_ends_for_the_manager_too() {
    let directory = Directory::with(&[CONFIG]);
    let manager = Manager::new();
    let server = Server::start(&directory, &[], &[("NOTIFY_SOCKET", &manager.path)]);
    manager.wait_for("READY=1\n");
    directory.write("config.json", "{");
    server.signal(Signal::HUP);
    manager.wait_for("RELOADING=1\n");
    manager.wait_for("READY=1\n");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn signs_of_life_stop_when_one_shard_hangs() {
    let directory = Directory::with(&[CONFIG]);
    let manager = Manager::new();
    let variables = [("NOTIFY_SOCKET", manager.path.as_str()), ("WATCHDOG_USEC", "200000")];
    let server = Server::start(&directory, &[], &variables);
    manager.wait_for("READY=1\n");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1\n");
    }

    let shard = thread(&server, "shard-1");
    ptrace::attach(shard).expect("a child's thread can be traced");
    waitpid(shard, Some(WaitPidFlag::__WALL)).expect("the thread stops");
    // What was under way: signs in the socket, and one for an answer given before the stop.
    while manager.news_within(Duration::from_millis(500)).is_some() {}
    assert_eq!(manager.news_within(Duration::from_secs(1)), None, "the other shard and the main thread still run");

    ptrace::detach(shard, None).expect("the thread is ours");
    manager.wait_for("WATCHDOG=1\n");
    assert_eq!(server.stop(), Some(0));
}

/// A thread of the server, by its name.
fn thread(server: &Server, name: &str) -> Pid {
    let tasks = format!("/proc/{}/task", server.pid().as_raw_nonzero());
    let mut entries = std::fs::read_dir(tasks).expect("a running process").map_while(Result::ok);
    let is_it = |path: std::path::PathBuf| std::fs::read_to_string(path).is_ok_and(|comm| comm.trim() == name);
    let task = entries.find(|entry| is_it(entry.path().join("comm"))).expect("the server has shards");
    Pid::from_raw(task.file_name().to_str().and_then(|id| id.parse().ok()).expect("a thread id"))
}

#[test]
fn a_manager_that_is_gone_does_not_disturb() {
    let directory = Directory::with(&[CONFIG]);
    let server = Server::start(&directory, &[], &[("NOTIFY_SOCKET", "/no/such/socket"), ("WATCHDOG_USEC", "1")]);
    server.wait_for("cannot tell the service manager how the server does");
    assert_eq!(server.stop(), Some(0));
}

/// Becomes the server on the first connection.
fn activate(directory: &Directory, names: &str, ports: &[u16], arguments: &[&str]) -> Server {
    const HELPER: &str = "systemd-socket-activate";
    let found = Command::new(HELPER).arg("--version").output();
    found.unwrap_or_else(|error| panic!("{HELPER}: {error}; it needs: apt-get install systemd"));
    let mut command = Command::new(HELPER);
    for port in ports {
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
    }
    command.arg(format!("--fdname={names}"));
    command.args([env!("CARGO_BIN_EXE_ringcast"), "--shards", "2"]).args(arguments);
    Server::spawn(directory, &mut command)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

type Client = WebSocket<MaybeTlsStream<TcpStream>>;

fn connect(port: u16) -> Option<Client> {
    let (mut client, _) = tungstenite::connect(format!("ws://127.0.0.1:{port}/connection/websocket")).ok()?;
    client.send(r#"{"id":1,"connect":{}}"#.into()).ok()?;
    let reply = client.read().ok()?;
    reply.to_text().is_ok_and(|reply| reply.contains(r#""client":"#)).then_some(client)
}

/// The first one may come before the helper listens.
fn connect_patiently(port: u16) -> Client {
    for _ in 0..600 {
        if let Some(client) = connect(port) {
            return client;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("nobody serves port {port}");
}

#[test]
fn shards_take_turns_at_a_socket_that_was_handed_over() {
    let directory = Directory::with(&[CONFIG]);
    let port = free_port();
    let server = activate(&directory, "external", &[port], &["-p", "1"]);
    let mut clients = vec![connect_patiently(port)];
    server.wait_for("the service manager hands over sockets");
    server.wait_for(&format!("endpoints on 127.0.0.1:{port}"));
    clients.extend((0..15).map(|_| connect(port).expect("a connection")));
    // No exact halves: a shard that is still busy with the last connection misses its turn.
    loop {
        let line = server.wait_for("connections per shard");
        let counts = line.split(['[', ']']).nth(1).expect("counts");
        let counts: Vec<usize> = counts.split(", ").map(|count| count.parse().expect("a count")).collect();
        if counts.iter().sum::<usize>() == clients.len() {
            assert!(counts.iter().all(|count| *count >= 2), "{counts:?}");
            break;
        }
    }
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn socket_that_an_earlier_process_has_stored_is_served_if_it_is_still_configured() {
    let directory = Directory::with(&[CONFIG]);
    let (port, other) = (free_port(), free_port());
    let names = format!("stored tcp 127.0.0.1|{port}:stored tcp 127.0.0.1|{other}");
    // Its port is taken by the helper: without the socket the server could not start.
    let server = activate(&directory, &names, &[port, other], &["-a", "127.0.0.1", "-p", &port.to_string()]);
    let _client = connect_patiently(port);
    server.wait_for(&format!("endpoints on 127.0.0.1:{port}"));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn sockets_are_told_apart_by_name() {
    let directory =
        Directory::with(&[("config.json", r#"{"client": {"insecure": true}, "health": {"enabled": true}}"#)]);
    let (external, internal) = (free_port(), free_port());
    // The names in another order than the ports of the configuration; its numbers do not count.
    let server = activate(
        &directory,
        "internal:external",
        &[internal, external],
        &["-p", "1", "--http_server.internal_port", "2"],
    );
    let _client = connect_patiently(external);
    server.wait_for(&format!("serving websocket endpoints on 127.0.0.1:{external}"));
    server.wait_for(&format!("serving api, health endpoints on 127.0.0.1:{internal}"));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_socket_that_the_configuration_does_not_know_is_refused() {
    let directory = Directory::with(&[CONFIG]);
    let port = free_port();
    let server = activate(&directory, "internal", &[port], &[]);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(100));
    }
    server.wait_for("set http_server.internal_port or remove the socket");
}
