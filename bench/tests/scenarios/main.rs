//! The built tool against a small server of its own: whole scenarios run to their end, count what they must, and notice what
//! the server does wrong. Nothing is timed.

mod server;

use std::process::Command;

use serde_json::{Value, json};
use server::{Fault, Server};

/// Runs a scenario against a server with a fault; its report and exit status.
fn run(fault: Fault, arguments: &str) -> (Value, Option<i32>) {
    let server = Server::start(fault);
    let output = Command::new(env!("CARGO_BIN_EXE_ringcast-bench"))
        .args(arguments.split(' '))
        .args(["--json", "--url", &format!("ws://127.0.0.1:{}/connection/websocket", server.port)])
        .args(["--api", &format!("http://127.0.0.1:{}/api", server.port)])
        .output()
        .expect("the tool runs");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (report, output.status.code())
}

/// A sound server: so many deliveries, none of them wrong.
#[track_caller]
fn check_clean(arguments: &str, deliveries: u64) {
    let (report, status) = run(Fault::None, arguments);
    let wrong = json!({"lost": 0, "duplicated": 0, "reordered": 0, "corrupted": 0, "late": 0});
    assert_eq!((&report["deliveries"], &report["wrong"], status), (&json!(deliveries), &wrong, Some(0)), "{report}");
}

/// A faulty server: the count of that name is not zero, and the tool says so with its exit status.
#[track_caller]
fn check_noticed(fault: Fault, arguments: &str, count: &str) {
    let (report, status) = run(fault, arguments);
    assert!(report["wrong"][count].as_u64() > Some(0), "{count}: {report}");
    assert_eq!(status, Some(1), "{report}");
}

/// The clients that warm up are five, too; each misses seven, three times.
const RECOVER: &str = "recover --clients 5 --missed 7 --windows 2";

/// Three channels, which publish 100 each to warm up, and then 20 in each of two windows.
const PUBLISH: &str = "publish --channels 3 --subscribers 2 --publications 20 --windows 2";

#[test]
fn each_client_recovers_exactly_what_it_missed() {
    check_clean(RECOVER, 5 * 7 * 3);
    check_clean(&format!("{RECOVER} --protocol protobuf"), 5 * 7 * 3);
}

#[test]
fn each_subscriber_gets_each_publication_of_its_channel() {
    check_clean(PUBLISH, 3 * 2 * 140);
    check_clean(&format!("{PUBLISH} --protocol protobuf"), 3 * 2 * 140);
}

#[test]
fn publishers_may_stand_apart_from_the_subscribers() {
    check_clean(&format!("{PUBLISH} --apart"), 3 * 2 * 140);
}

#[test]
fn faults_of_recovery_are_noticed() {
    check_noticed(Fault::Lose, RECOVER, "lost");
    check_noticed(Fault::Duplicate, RECOVER, "duplicated");
    check_noticed(Fault::Swap, RECOVER, "reordered");
    check_noticed(Fault::Corrupt, RECOVER, "corrupted");
    check_noticed(Fault::Confess, RECOVER, "lost");
}

#[test]
fn faults_of_deliveries_are_noticed() {
    check_noticed(Fault::Duplicate, PUBLISH, "duplicated");
}
