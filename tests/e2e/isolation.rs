//! What one shard or the system cannot do at the moment is not done, and everything else goes on.

use std::fs;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::json;

use crate::client::Client;
use crate::http;
use crate::server::{PATIENCE, Server, config, free_port, new_folder, write_script};
use crate::support;

/// Time within which a shard that runs has answered.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn while_a_shard_hangs_what_needs_it_fails_and_the_rest_goes_on() {
    let server = Server::start(2);
    let channels: Vec<_> = (0..10).map(|number| format!("chat:{number}")).collect();
    let mut clients: Vec<_> = channels.iter().map(|channel| (Client::connect(server.address()), channel)).collect();
    for (client, channel) in &mut clients {
        client.subscribe(channel);
    }
    let shard = Pid::from_raw(server.thread("shard-1"));
    ptrace::attach(shard).expect("a child's thread can be traced");
    waitpid(shard, Some(WaitPidFlag::__WALL)).expect("the thread stops");

    let asked: Vec<_> = clients.iter_mut().map(|(client, _)| client.ask("rpc", json!({"method": "none"}))).collect();
    let is_answered = |((client, _), id): (&mut (Client, _), &u32)| client.reply_within(*id, SOON).is_some();
    let answered: Vec<_> = clients.iter_mut().zip(&asked).map(is_answered).collect();
    assert!(answered.contains(&true) && answered.contains(&false), "{answered:?}");
    let serving = answered.iter().position(|answered| *answered).expect("one is served");
    let served = &mut clients[serving].0;
    let mut failed = 0;
    for channel in &channels {
        let reply = served.call("publish", json!({"channel": channel, "data": "meanwhile"}));
        match reply.get("publish") {
            Some(_) => {}
            None => {
                assert_eq!(
                    (&reply["error"]["code"], &reply["error"]["temporary"]),
                    (&json!(100), &json!(true)),
                    "{reply}"
                );
                failed += 1;
            }
        }
    }
    assert!((1..channels.len()).contains(&failed), "{failed} of {}", channels.len());

    ptrace::detach(shard, None).expect("the thread is ours");
    for ((client, channel), (id, answered)) in clients.iter_mut().zip(asked.into_iter().zip(answered)) {
        if !answered {
            client.reply(id);
        }
        let reply = client.call("publish", json!({"channel": channel, "data": "after"}));
        assert!(reply.get("publish").is_some(), "{reply}");
        while client.publication()["data"] != "after" {}
    }
}

/// Descriptors without which a server does not start.
const NOFILE_MIN: u32 = 64;

/// A ring accepts within the limit that held when it began to, so it is set before the start.
#[test]
fn without_descriptors_new_connections_are_refused_until_there_are_some_and_the_others_go_on() {
    let folder = new_folder();
    let program = folder.join("limited");
    let script = format!("#!/bin/sh\nulimit -n {NOFILE_MIN}\nexec '{}' \"$@\"\n", support::binary().display());
    write_script(&program, &script);
    let server = Server::start_program(&program, 1, &config(free_port()));
    let mut client = Client::connect(server.address());
    client.subscribe("chat:a");
    let mut others = Vec::new();
    for number in 0..5 {
        // A rest that is over finds room, if the server has closed something meanwhile.
        while let Some(other) = http::upgrade(server.address()) {
            others.push(other);
            assert!(others.len() < 100, "none is refused");
        }
        let reply = client.call("publish", json!({"channel": "chat:a", "data": number}));
        assert!(reply.get("publish").is_some(), "{reply}");
        assert_eq!(client.publication()["data"], number);
    }
    server.wait_for_log(PATIENCE, |log| log.contains("cannot accept connections").then_some(()));
    drop(others);
    // The rest after the last refusal may not be over.
    while http::upgrade(server.address()).is_none() {}
    Client::connect(server.address()).subscribe("chat:a");
    let _ = fs::remove_dir_all(folder);
}
