//! Restart without downtime as an operator and a service manager meet it: the command, the notify socket, the pid file.

use crate::directory::Directory;
use crate::ringcast;
use crate::server::{PATIENCE, Server, port, publish};
use crate::service::Manager;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::process::Output;
use std::time::{Duration, Instant};

const CONFIG: &str = r#"{"pid_file": "pid", "http_api": {"key": "key"},
    "channel": {"without_namespace": {"history_size": 10, "history_ttl": "60s"}}}"#;

/// A process that is nobody's child here; killed when dropped.
struct Successor(Pid);

impl Successor {
    /// The one that a line of the log, or of a command, names behind this text.
    #[track_caller]
    fn named(line: &str, before: &str) -> Self {
        let digits = line.split(before).nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        let pid = digits.and_then(|digits| digits.parse().ok()).and_then(Pid::from_raw);
        Self(pid.unwrap_or_else(|| panic!("no process id: {line}")))
    }

    /// Asks it to end, and waits until it has.
    #[track_caller]
    fn stop(self) {
        kill_process(self.0, Signal::TERM).expect("it runs");
        let started = Instant::now();
        while test_kill_process(self.0).is_ok() && !self.is_zombie() {
            assert!(started.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where nobody collects children that are left behind.
    fn is_zombie(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.as_raw_nonzero())).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = kill_process(self.0, Signal::KILL);
    }
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn upgrade_is_told_to_the_operator_and_to_the_service_manager() {
    let directory = Directory::with(&[("config.json", CONFIG)]);
    let manager = Manager::new();
    let variables = [("NOTIFY_SOCKET", manager.path()), ("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "1")];
    let mut server = Server::start(&directory, &[], &variables);
    let port = port(&server.wait_for("serving websocket, api endpoints on"));
    manager.wait_for("READY=1\n");
    manager.wait_for("FDSTORE=1\nFDNAME=stored tcp 0 127.0.0.1|0\n");
    assert!(publish(port).contains(r#""offset":1"#));

    let output = ringcast(&directory, &["upgrade"], &[]);
    let said = words(&output);
    let successor = Successor::named(&said, "process ");
    assert!(
        output.status.success() && said.contains(&format!("serves in place of {}", server.pid().as_raw_nonzero())),
        "{said}"
    );
    manager.wait_for(&format!("MAINPID={}\nREADY=1\n", successor.0.as_raw_nonzero()));
    server.wait_for("another process has taken over");
    assert_eq!(server.ended(), Some(0));
    assert!(publish(port).contains(r#""offset":2"#), "the history went along");
    let pid_file = std::fs::read_to_string(directory.path().join("pid")).expect("a pid file");
    assert_eq!(pid_file, format!("{}\n", successor.0.as_raw_nonzero()));
    // The variable names another process than the new one, which gives its signs of life nevertheless. And the old one, which is
    // only a process of the unit by now, has not said that the unit stops.
    loop {
        let news = manager.news_within(PATIENCE).expect("the new process gives signs of life");
        assert!(!news.contains("STOPPING"), "{news}");
        if news == "WATCHDOG=1\n" {
            break;
        }
    }
    successor.stop();
    manager.wait_for("STOPPING=1\n");
    assert!(!directory.path().join("pid").exists());
}

#[test]
fn operator_hears_why_the_old_process_goes_on() {
    let directory = Directory::with(&[("config.json", CONFIG)]);
    let server = Server::start(&directory, &[], &[]);
    let port = port(&server.wait_for("serving websocket, api endpoints on"));
    server.wait_for("\"ready\"");
    directory.write("config.json", r#"{"pid_file": "pid", "channel": {"namespaces": [{"name": "x y"}]}}"#);
    let output = ringcast(&directory, &["upgrade"], &[]);
    let said = words(&output);
    assert!(
        output.status.code() == Some(1) && said.contains("goes on") && said.contains("invalid namespace name"),
        "{said}"
    );
    server.wait_for("upgrade failed, this process goes on");
    assert!(publish(port).contains(r#""offset":1"#));
    let pid_file = std::fs::read_to_string(directory.path().join("pid")).expect("a pid file");
    assert_eq!(pid_file, format!("{}\n", server.pid().as_raw_nonzero()));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn upgrade_without_a_server_names_the_remedy() {
    let check = |files: &[(&str, &str)], arguments: &[&str], want: &str| {
        let output = ringcast(&Directory::with(files), &[&["upgrade"], arguments].concat(), &[]);
        let said = words(&output);
        assert!(output.status.code() == Some(1) && said.contains(want), "{arguments:?}: {said}");
    };
    check(&[("config.json", "{}")], &[], "give --pid");
    check(&[("config.json", CONFIG)], &[], "does the server run?");
    check(&[("config.json", CONFIG), ("pid", "many\n")], &[], "holds no process id");
    let own = std::process::id().to_string();
    check(&[], &["--pid", &own], "does not wait for SIGUSR2");
}
