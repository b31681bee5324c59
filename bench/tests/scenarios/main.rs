//! The built tool against a small server of its own: whole scenarios run to their end, count what they must, and notice what
//! the server does wrong. Nothing is timed.

mod server;

use std::process::Command;

use serde_json::{Value, json};
use server::{Fault, Server};

/// Runs a scenario against a server whose fault shows after so many sound publications; its report and exit status.
fn run(fault: Fault, sound: u64, arguments: &str) -> (Value, Option<i32>) {
    let server = Server::start(fault, sound);
    let output = Command::new(env!("CARGO_BIN_EXE_ringcast-bench"))
        .args(arguments.split(' '))
        .args(["--json", "--url", &url(server.port, arguments)])
        .args(["--api", &format!("http://127.0.0.1:{}/api", server.port)])
        .output()
        .expect("the tool runs");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (report, output.status.code())
}

/// Where the clients of the transport in these arguments connect.
fn url(port: u16, arguments: &str) -> String {
    let transport = arguments.split_once("--transport ").map(|(_, rest)| rest.split(' ').next().unwrap_or(rest));
    let transport = transport.unwrap_or("websocket");
    let scheme = if transport.ends_with("websocket") { "ws" } else { "http" };
    format!("{scheme}://127.0.0.1:{port}/connection/{transport}")
}

/// A sound server: so many deliveries, none of them wrong.
#[track_caller]
fn check_clean(arguments: &str, deliveries: u64) {
    let (report, status) = run(Fault::None, 0, arguments);
    let wrong = json!({"lost": 0, "duplicated": 0, "reordered": 0, "corrupted": 0, "late": 0});
    assert_eq!((&report["deliveries"], &report["wrong"], status), (&json!(deliveries), &wrong, Some(0)), "{report}");
}

/// A faulty server: the count of that name is not zero, and the tool says so with its exit status.
#[track_caller]
fn check_noticed(fault: Fault, (sound, arguments): (u64, &str), count: &str) {
    let (report, status) = run(fault, sound, arguments);
    assert!(report["wrong"][count].as_u64() > Some(0), "{fault:?}: {count}: {arguments}: {report}");
    assert_eq!(status, Some(1), "{report}");
}

/// A server that refuses or cuts: that is a problem, with a reason of these words, and the tool says so with its exit status.
#[track_caller]
fn check_problem(fault: Fault, (sound, arguments): (u64, &str), words: &str) {
    let (report, status) = run(fault, sound, arguments);
    let reasons = report["problems"]["reasons"].to_string();
    assert!(reasons.contains(words), "{fault:?}: {arguments}: {report}");
    assert_eq!(status, Some(1), "{report}");
}

/// The clients that warm up are five, too; each misses seven, three times.
const RECOVER: &str = "recover --clients 5 --missed 7 --windows 2";

/// Three channels, which publish 100 each to warm up, and then 20 in each of two windows.
const PUBLISH: &str = "publish --channels 3 --subscribers 2 --publications 20 --windows 2";

/// 200 publications to warm up, in batches of 4, and 40 in each of two windows.
const FANOUT: &str = "fanout --subscribers 3 --outstanding 2 --batch 4 --publications 40 --windows 2";

/// The same without subscribers.
const API: &str = "api --connections 2 --channels 6 --batch 4 --publications 40 --windows 2";

/// The same with a subscriber for each of two channels.
const CHANNELS: &str = "channels --connections 1 --channels 2 --batch 4 --publications 40 --windows 2";

/// The same on a schedule, and with several subscribers for each of four channels.
const LATENCY: &str =
    "latency --rate 1000 --connections 2 --channels 4 --subscribers 2 --batch 8 --publications 80 --windows 2";

/// A day of 400 actions, which publish from the start.
const MIXED: &str = "mixed --clients 12 --channels 4 --batch 3 --rate 1000 --publications 200 --windows 2";

/// 60 cuts among 800 publications, and as many again.
const CUTS: &str = "cuts --clients 12 --channels 6 --connections 2 --batch 4 --rate 2000 --cuts 60 --away-ms 60 --publications 800 --windows 2";

/// All transports but the usual one. The first three are streams whose clients say something, too.
const OTHERS: [&str; 6] =
    ["http_stream", "http_stream --protocol protobuf", "sse", "uni_http_stream", "uni_sse", "uni_websocket"];

/// A fault of deliveries is noticed in all scenarios but those named so, after the warm-up and with little patience.
#[track_caller]
fn check_all(fault: Fault, count: &str, but: &str) {
    let delivering = [(300, PUBLISH), (200, FANOUT), (200, CHANNELS), (200, LATENCY)];
    for (sound, scenario) in [(0, RECOVER), (0, MIXED), (0, CUTS)].into_iter().chain(delivering) {
        if !scenario.starts_with(but) {
            check_noticed(fault, (sound, &format!("{scenario} --patience 0.3")), count);
        }
    }
}

#[test]
fn each_client_recovers_exactly_what_it_missed() {
    check_clean(RECOVER, 5 * 7 * 3);
    check_clean(&format!("{RECOVER} --protocol protobuf"), 5 * 7 * 3);
}

#[test]
fn clients_that_are_cut_come_back_for_everything() {
    for more in ["", " --protocol protobuf", " --transport http_stream"] {
        let (report, status) = run(Fault::None, 0, &format!("{CUTS}{more}"));
        assert_eq!((&report["deliveries"], status), (&json!(2 * 2 * 800), Some(0)), "{report}");
        let kinds = ["resets", "ends", "halves", "stalls"].map(|kind| report[kind].as_u64().expect("a count"));
        assert_eq!(kinds.iter().sum::<u64>(), 120, "{report}");
        assert!(!kinds.contains(&0) && report["recovered_messages"].as_u64() > Some(0), "{report}");
    }
    check_problem(Fault::Confess, (0, CUTS), "the server said that something is missing");
}

#[test]
fn each_subscriber_gets_each_publication_of_its_channel() {
    check_clean(PUBLISH, 3 * 2 * 140);
    check_clean(&format!("{PUBLISH} --protocol protobuf"), 3 * 2 * 140);
    check_clean(CHANNELS, 280);
    check_clean(&format!("{CHANNELS} --protocol protobuf"), 280);
    check_clean("channels --connections 3 --channels 7 --publications 40 --windows 2", 280);
    check_clean(&CHANNELS.replace("channels --conn", "redis-publish --conn"), 280);
}

/// Nothing can be measured: what the server should have asked the backend, it answered itself.
#[test]
fn server_that_asks_no_backend_is_noticed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
    let backend = listener.local_addr().expect("it is bound");
    drop(listener);
    for scenario in ["proxy-connect --count 20 --windows 2", "proxy-rpc --clients 3 --publications 20 --windows 2"] {
        let (_, status) = run(Fault::None, 0, &format!("{scenario} --backend {backend}"));
        assert_eq!(status, Some(2), "{scenario}");
    }
}

#[test]
fn publishers_may_stand_apart_from_the_subscribers() {
    check_clean(&format!("{PUBLISH} --apart"), 3 * 2 * 140);
}

#[test]
fn all_subscribers_get_what_all_publishers_send() {
    check_clean(FANOUT, 3 * 280);
    check_clean(&format!("{FANOUT} --protocol protobuf --on-answer"), 3 * 280);
    check_clean(&format!("{FANOUT} --rate 1000"), 3 * 280);
}

#[test]
fn schedules_and_saturation_deliver_everything() {
    check_clean(LATENCY, 2 * 360);
    check_clean("latency --saturate --connections 2 --subscribers 3 --publications 40 --windows 2", 3 * 280);
}

#[test]
fn requests_to_nobody_are_answered() {
    check_clean(API, 0);
    check_clean("api --rate 1000 --connections 2 --publications 40 --windows 2", 0);
}

#[test]
fn day_is_clean_where_all_that_is_told_is_so() {
    for protocol in ["json", "protobuf"] {
        let (report, status) = run(Fault::None, 0, &format!("{MIXED} --protocol {protocol}"));
        assert_eq!((&report["clean"], status), (&json!(true), Some(0)), "{report}");
        for count in ["deliveries", "left", "recovered", "recovered_messages", "histories", "presences"] {
            assert!(report[count].as_u64() > Some(0), "{count}: {report}");
        }
    }
}

#[test]
fn histories_and_presences_are_checked() {
    check_problem(Fault::Hole, (0, MIXED), "a history with a hole");
    check_problem(Fault::Absent, (0, MIXED), "a presence without the client that asked");
    check_problem(Fault::Refuse, (0, MIXED), "API answered 200");
}

#[test]
fn floors_of_requests_deliver_as_the_server_does() {
    check_clean(&format!("{CHANNELS} --floor"), 280);
    check_clean(&format!("{API} --floor"), 0);
}

#[test]
fn floors_of_clients_that_come_and_stay_let_them_in_and_ping_them() {
    for protocol in ["json", "protobuf"] {
        let connect = "connect --count 20 --concurrency 3 --windows 2 --floor --protocol";
        let idle = "idle --connections 7 --subscribe-own --hold 2 --floor --floor-together 3 --protocol";
        for (scenario, floor) in [(connect, "floor_cpu_per_connection_us"), (idle, "floor_cpu_per_ping_us")] {
            let (report, status) = run(Fault::None, 0, &format!("{scenario} {protocol}"));
            assert_eq!((report[floor].is_null(), status), (false, Some(0)), "{scenario}: {report}");
            if scenario == idle {
                // Two seconds with a ping in each.
                assert!(report["floor_pings"].as_u64() >= Some(7), "{report}");
            }
        }
    }
}

#[test]
fn other_transports_deliver_and_their_faults_are_noticed() {
    for transport in OTHERS {
        check_clean(&format!("{FANOUT} --transport {transport}"), 3 * 280);
        check_clean(&format!("{LATENCY} --transport {transport}"), 2 * 360);
        for (fault, count) in [(Fault::Lose, "lost"), (Fault::Duplicate, "duplicated"), (Fault::Corrupt, "corrupted")] {
            check_noticed(fault, (200, &format!("{FANOUT} --patience 0.3 --transport {transport}")), count);
        }
    }
}

#[test]
fn clients_of_other_transports_come_and_go() {
    for transport in OTHERS {
        let (report, status) = run(Fault::None, 0, &format!("connect --count 20 --windows 2 --transport {transport}"));
        assert_eq!(status, Some(0), "{transport}: {report}");
    }
}

#[test]
fn clients_of_streams_answer_pings_at_the_emulation_endpoint() {
    for stream in &OTHERS[..3] {
        let idle = format!("idle --connections 9 --subscribe-own --hold 1 --transport {stream}");
        let (report, status) = run(Fault::None, 0, &idle);
        assert_eq!(status, Some(0), "{stream}: {report}");
        check_problem(Fault::Forget, (0, &idle), "emulation endpoint: answered 404");
    }
}

#[test]
fn lost_deliveries_are_noticed() {
    check_all(Fault::Lose, "lost", "no scenario");
    check_noticed(Fault::Confess, (0, RECOVER), "lost");
}

#[test]
fn second_copies_are_noticed() {
    check_all(Fault::Duplicate, "duplicated", "no scenario");
}

/// In `publish` one publication is under way in each channel, so that there is none to be swapped with.
#[test]
fn swapped_deliveries_are_noticed() {
    check_all(Fault::Swap, "reordered", "publish");
}

#[test]
fn changed_payloads_are_noticed() {
    check_all(Fault::Corrupt, "corrupted", "no scenario");
}

/// In `recover` messages are not due at any time.
#[test]
fn late_deliveries_are_noticed() {
    check_all(Fault::Late, "late", "recover");
}

#[test]
fn deliveries_to_others_are_noticed() {
    for (sound, scenario) in [(300, PUBLISH), (200, CHANNELS), (200, LATENCY), (0, MIXED)] {
        check_noticed(Fault::Stray, (sound, scenario), "corrupted");
    }
}

#[test]
fn answers_of_the_api_are_checked() {
    for scenario in [API, CHANNELS, FANOUT] {
        check_problem(Fault::Refuse, (200, scenario), "API answered 200");
        check_problem(Fault::Forget, (200, scenario), "3 replies to 4 commands");
    }
    check_problem(Fault::Refuse, (200, "api --publications 40 --windows 2"), "API answered 200");
}

#[test]
fn clients_that_are_cut_are_noticed() {
    check_problem(Fault::CutLater, (0, "idle --connections 5 --subscribe-own --hold 4"), "closed the connection");
    check_problem(Fault::Cut, (0, "connect --count 5 --windows 1 --keep"), "closed the connection");
}

#[test]
fn two_servers_are_compared_window_by_window() {
    let servers = [Server::start(Fault::None, 0), Server::start(Fault::None, 0)];
    let [a, b] = servers.map(|server| format!("http://127.0.0.1:{}", server.port));
    for scenario in [RECOVER, PUBLISH, FANOUT, API, CHANNELS, LATENCY, MIXED, "connect --count 5 --windows 2"] {
        let output = Command::new(env!("CARGO_BIN_EXE_ringcast-bench"))
            .arg("compare")
            .args(scenario.split(' '))
            .args(["--json", "--a", &a, "--b", &b])
            .output()
            .expect("the tool runs");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let windows = |side: &str| report[side].as_array().map(Vec::len);
        assert_eq!((windows("a_each_window"), windows("b_each_window")), (Some(2), Some(2)), "{scenario}: {report}");
        assert_eq!(output.status.code(), Some(0), "{scenario}: {report}");
    }
}
