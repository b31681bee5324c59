//! Restart without downtime: a new process takes the place of the old one under load.

mod load;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use rustls::version::TLS13;
use serde_json::{Value, json};

use crate::bystander::Bystander;
use crate::client::Client;
use crate::http3::peer::Peer;
use crate::server::{PATIENCE, Server, config, free_port, new_folder, write_script};
use crate::support;
use crate::tls::authority::{Authority, dial_over, exchange};
use load::Load;

/// As the others, with a history that holds whatever is published while a client is away.
fn options() -> Value {
    let mut options = config(free_port());
    let namespaces = options["channel"]["namespaces"].as_array_mut().expect("written as a list");
    let mut namespace = namespaces[0].clone();
    namespace["name"] = json!("load");
    namespace["history_size"] = json!(100_000);
    // Two hundred clients that hear of each other's coming and going would be another test.
    namespace["join_leave"] = json!(false);
    namespaces.push(namespace);
    options["client"]["recovery_max_publication_limit"] = json!(100_000);
    options["log"] = json!({"level": "info"});
    options
}

#[test]
fn new_process_serves_on_the_same_sockets() {
    let mut server = Server::start_with(2, &options());
    let mut client = Client::connect(server.address());
    client.subscribe("chat:a");
    let published = json!({"channel": "chat:a", "data": {}, "idempotency_key": "once"});
    let position = server.api("publish", &published);
    let mut idle = TcpStream::connect(server.address()).expect("the server listens");
    server.signal(Signal::USR2);
    server.is_replaced();
    assert_eq!(client.closed().ok(), Some((3001, "shutdown".to_owned())));
    assert_eq!(load::health(&mut idle), Some(200), "a connection that had asked for nothing went along");
    assert_eq!(server.api("publish", &published), position, "the key is remembered");
    let presence = server.api("presence", &json!({"channel": "chat:a"}));
    assert!(presence["result"]["presence"].get(&client.client).is_some(), "on its way: {presence}");
    let mut back = Client::connect(server.address());
    back.subscribe("chat:a");
    let presence = server.api("presence", &json!({"channel": "chat:a"}));
    let present: Vec<_> = presence["result"]["presence"].as_object().expect("members").keys().collect();
    assert_eq!(present, [&back.client]);
    Bystander::new(&server);
}

/// GRPC, HTTP/3, and a connection over TLS that has not said anything yet.
#[test]
fn other_ports_go_along() {
    let authority = Authority::new();
    let mut options = options();
    let grpc = free_port();
    options["grpc_api"] = json!({"enabled": true, "address": "127.0.0.1", "port": grpc});
    options["http_server"]["tls"] = authority.sign().object();
    options["http_server"]["http3"] = json!({"enabled": true});
    let mut server = Server::spawn(2, &options);
    server.wait_for_log(PATIENCE, |log| log.contains("\"ready\"").then_some(()));
    let silent = TcpStream::connect(server.address()).expect("the server listens");
    for _ in 0..2 {
        server.signal(Signal::USR2);
        server.is_replaced();
        let mut port = TcpStream::connect(("127.0.0.1", grpc)).expect("GRPC listens");
        port.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("sent");
        let mut head = [0; 9];
        port.read_exact(&mut head).expect("GRPC answers");
        assert_eq!(head[3], 4, "its settings");
        let info = Peer::connect(server.address(), &authority).api("info", &json!({}));
        assert_eq!(info["result"]["nodes"].as_array().map(Vec::len), Some(1), "{info}");
    }
    let mut silent = dial_over(silent, &authority.client(&[&TLS13], None)).expect("it went along twice");
    let answer = exchange(&mut silent, "GET /health HTTP/1.1|Host: localhost|Connection: close||").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Whoever connects is let in, and whoever comes back recovers; four times, with other numbers of shards.
#[test]
fn nobody_is_refused_and_everybody_recovers() {
    let mut options = options();
    options["shards"] = json!(2);
    let mut server = Server::start_with(0, &options);
    let load = Load::start(server.address());
    for shards in [2, 3, 1, 2] {
        load.wait_for_publications(200);
        options["shards"] = json!(shards);
        fs::write(server.config_path(), options.to_string()).expect("the target folder can be written");
        server.signal(Signal::USR2);
        server.is_replaced();
    }
    load.wait_for_publications(200);
    let account = load.finish();
    account.tell(&server.log());
    assert_eq!(count(&account.refused), 0, "connects were refused");
    assert_eq!(count(&account.unanswered), 0, "connections ended without an answer");
    let (recovered, lost) = (count(&account.recovered), count(&account.lost));
    assert!(recovered >= 4 * 200 && lost * 1000 <= recovered, "{recovered} recovered, {lost} did not");
}

/// A new process that does not start, or ends in the middle of the handover, disturbs nobody.
#[test]
fn old_process_goes_on_when_the_new_one_fails() {
    let folder = new_folder();
    let program = folder.join("ringcast");
    let replace = |make: &dyn Fn(&Path)| {
        let next = folder.join("next");
        make(&next);
        fs::rename(&next, &program).expect("the target folder can be written");
    };
    let copy = |path: &Path| {
        fs::copy(support::binary(), path).expect("the binary can be copied");
    };
    replace(&copy);
    let mut options = options();
    let mut server = Server::start_program(&program, 2, &options);
    let load = Load::start(server.address());
    let mut failures = 0;
    let mut fails = |why: &str| {
        load.wait_for_publications(100);
        server.signal(Signal::USR2);
        failures += 1;
        let told = |log: &str| {
            let line = log.lines().filter(|line| line.contains("upgrade failed")).nth(failures - 1)?;
            Some(line.to_owned())
        };
        let line = server.wait_for_log(PATIENCE, told);
        assert!(line.contains(why), "{line}");
        load.wait_for_publications(100);
    };
    replace(&|path| write_script(path, "#!/bin/sh\nexit 3\n"));
    fails("exit status: 3");
    replace(&|path| write_script(path, "no program"));
    fails("cannot be started");
    replace(&|path| write_script(path, DIES_AT_COMMIT));
    fails("exit status: 5");
    replace(&|path| write_script(path, REFUSES));
    fails("it is the wrong day");
    assert!(server.log().contains("histories begin anew"), "it reads another version");
    replace(&copy);
    fs::write(server.config_path(), "{").expect("the target folder can be written");
    fails("error getting config");
    options["http_server"]["port"] = json!(1);
    options["http_server"]["address"] = json!("192.0.2.1");
    fs::write(server.config_path(), options.to_string()).expect("the target folder can be written");
    fails("cannot listen");
    let account = load.finish();
    account.tell(&server.log());
    let disturbed = [&account.refused, &account.unanswered, &account.sent_away, &account.recovered, &account.lost];
    assert_eq!(disturbed.map(count), [0; 5]);
    // What waited for longer than a second while the new process failed may have been told to try again.

    // And once it is repaired, it works.
    options = self::options();
    options["http_server"]["port"] = json!(server.address().port());
    fs::write(server.config_path(), options.to_string()).expect("the target folder can be written");
    server.signal(Signal::USR2);
    server.is_replaced();
    Bystander::new(&server);
    let _ = fs::remove_dir_all(&folder);
}

/// Says that it is ready, takes everything, and ends when it should serve.
const DIES_AT_COMMIT: &str = r#"#!/usr/bin/env python3
import socket, sys
wire = socket.socket(fileno=0)
wire.sendall(b"\x04\x00\x01\x00\x00\x00\x01")
read = wire.makefile("rb")
while True:
    head = read.read(6)
    read.read(int.from_bytes(head[2:], "little"))
    if head[0] == 6:
        sys.exit(5)
"#;

/// Says that it is ready, and reads another version of channels; and then that it is not.
const REFUSES: &str = r#"#!/usr/bin/env python3
import socket
wire = socket.socket(fileno=0)
wire.sendall(b"\x04\x00\x01\x00\x00\x00\x09\x08\x00\x13\x00\x00\x00it is the wrong day")
wire.makefile("rb").read()
"#;

fn count(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::Relaxed)
}
