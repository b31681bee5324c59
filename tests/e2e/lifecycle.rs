//! Start and end of the process: what a service manager and an operator see.

use std::fs;
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bystander::Bystander;
use crate::client::Client;
use crate::server::{Server, config, free_port};

/// Close code of a server that stops; clients come back.
const SHUTDOWN: u16 = 3001;

/// L10
#[test]
fn a_stop_closes_every_client_and_ends_without_error() {
    for signal in [Signal::TERM, Signal::INT] {
        let port = free_port();
        let server = Server::start_with(4, &config(port));
        let mut clients: Vec<_> = (0..16).map(|_| Client::connect(server.address())).collect();
        clients[0].subscribe("chat:a");
        server.signal(signal);
        for client in &mut clients {
            assert_eq!(client.closed().ok(), Some((SHUTDOWN, "shutdown".to_owned())));
        }
        let ended = server.wait();
        assert!(ended.status.success(), "{}:\n{}", ended.status, ended.log);

        let again = Server::start_with(4, &config(port));
        Bystander::new(&again);
    }
}

#[test]
fn drained_clients_go_one_after_the_other_and_a_second_signal_ends_it() {
    let mut options = config(free_port());
    options["shutdown"] = json!({"drain": "30s"});
    let server = Server::start_with(2, &options);
    let mut clients: Vec<_> = (0..40).map(|_| Client::connect(server.address())).collect();
    let mut last = clients.pop().expect("connected");
    server.signal(Signal::TERM);
    // The newest goes first, and has some second to do so.
    let goodbye = Some((SHUTDOWN, "shutdown".to_owned()));
    assert_eq!(last.closed().ok(), goodbye);
    clients[0].subscribe("chat:a");
    assert!(TcpStream::connect(server.address()).is_err(), "nobody is accepted any more");
    server.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.closed().ok(), goodbye);
    }
    let ended = server.wait();
    assert!(ended.status.success(), "{}:\n{}", ended.status, ended.log);
    assert!(ended.log.contains("second signal"), "{}", ended.log);
}

#[test]
fn a_client_that_does_not_answer_the_close_does_not_hold_up_the_stop() {
    let server = Server::start(2);
    let _deaf: Vec<_> = (0..8).map(|_| Client::connect(server.address())).collect();
    server.signal(Signal::TERM);
    let ended = server.wait();
    assert!(ended.status.success(), "{}:\n{}", ended.status, ended.log);
}

#[test]
fn history_of_another_life_is_not_recovered() {
    let options = config(free_port());
    let server = Server::start_with(4, &options);
    server.publish("chat:a", json!({}));
    let position = server.api("history", &json!({"channel": "chat:a"}));
    drop(server);

    let again = Server::start_with(4, &options);
    again.publish("chat:a", json!({}));
    let mut client = Client::connect(again.address());
    let (offset, epoch) = (&position["result"]["offset"], &position["result"]["epoch"]);
    let recover = json!({"channel": "chat:a", "recover": true, "offset": offset, "epoch": epoch});
    let reply = client.call("subscribe", recover);
    assert_eq!(reply["subscribe"]["was_recovering"], true, "{reply}");
    assert_eq!(reply["subscribe"].get("recovered"), None, "{reply}");
}

#[test]
fn a_port_in_use_is_named_and_the_first_server_goes_on() {
    let port = free_port();
    let first = Server::start_with(4, &config(port));
    let mut bystander = Bystander::new(&first);
    let second = Server::ends_with(4, &config(port));
    assert_eq!(second.status.code(), Some(1), "{}", second.log);
    assert!(second.log.contains(&port.to_string()) && second.log.contains("in use"), "{}", second.log);
    bystander.is_undisturbed(&first, "a second server on its port");
}

#[test]
fn a_broken_configuration_is_named_and_nothing_starts() {
    check_refused(|options| options["http_server"]["port"] = json!("many"), "http_server.port");
    check_refused(|options| options["client"]["ping_interval"] = json!("soon"), "ping_interval");
    check_refused(|options| options["client"]["pong_timeout"] = json!("1h"), "pong_timeout");
    check_refused(|options| options["channel"]["namespaces"] = json!([{"name": "x y"}]), "invalid namespace name");
    check_refused(|options| options["channel"]["namespaces"] = json!([{"name": "ab"}, {"name": "ab"}]), "unique");
    check_refused(|options| options["channel"]["namespaces"][0]["history_ttl"] = json!("1500ms"), "history_ttl");
}

#[test]
fn a_file_that_is_no_json_is_named() {
    let server = Server::start(1);
    let path = server.config_path();
    fs::write(&path, r#"{"http_server":"#).expect("the target folder can be written");
    let ended = Server::ends_with_file(&path);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    assert!(ended.log.contains("config"), "{}", ended.log);
}

#[test]
fn unknown_keys_are_warned_about_and_the_server_starts() {
    let mut options = config(free_port());
    options["client"]["alowed_origins"] = json!(["*"]);
    options["nonsense"] = json!({"deep": true});
    let server = Server::start_with(1, &options);
    Bystander::new(&server);
    server.signal(Signal::TERM);
    let log = server.wait().log;
    for key in ["client.alowed_origins", "nonsense"] {
        assert!(log.lines().any(|line| line.contains("unknown") && line.contains(key)), "{key}:\n{log}");
    }
}

/// `change` makes the configuration wrong; the log must say `named`.
#[track_caller]
fn check_refused(change: impl FnOnce(&mut Value), named: &str) {
    let mut options = config(free_port());
    let port = options["http_server"]["port"].clone();
    change(&mut options);
    let ended = Server::ends_with(1, &options);
    assert_eq!(ended.status.code(), Some(1), "{named} on {port}:\n{}", ended.log);
    assert!(ended.log.contains(named), "{named}:\n{}", ended.log);
}
