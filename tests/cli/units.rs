//! What is shipped beside the binary: the units as systemd reads them, and the list of system calls for containers as
//! the kernel counts them.

use crate::directory::Directory;
use crate::server::{PATIENCE, Server, port, publish};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

/// Points of `systemd-analyze security`, of ten, that the unit may have.
const EXPOSURE_MAX: f64 = 1.4;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn output_of(command: &mut Command, package: &str) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    command.output().unwrap_or_else(|error| panic!("{name}: {error}; it needs: apt-get install {package}"))
}

#[test]
fn the_unit_exposes_little() {
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=yes", "--no-pager"]).arg(shipped("systemd/ringcast.service"));
    let output = output_of(&mut command, "systemd");
    let report = String::from_utf8_lossy(&output.stdout);
    let overall = report.split("Overall exposure level for ringcast.service: ").nth(1);
    let exposure = overall.and_then(|rest| rest.split_whitespace().next()).and_then(|points| points.parse().ok());
    let exposure: f64 = exposure.unwrap_or_else(|| panic!("no exposure in: {output:?}"));
    assert!(exposure <= EXPOSURE_MAX, "{report}");
}

#[test]
fn systemd_finds_no_fault_in_the_units() {
    let service = read(&shipped("systemd/ringcast.service"));
    let service = service.replace("/usr/bin/ringcast", env!("CARGO_BIN_EXE_ringcast"));
    let mut files = vec![("ringcast.service", service)];
    for name in ["ringcast.socket", "ringcast-internal.socket"] {
        files.push((name, read(&shipped("systemd").join(name))));
    }
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let directory = Directory::with(&files);
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no"]);
    command.args(files.iter().map(|(name, _)| directory.path().join(name)));
    let output = output_of(&mut command, "systemd");
    let said = String::from_utf8_lossy(&output.stderr);
    // Faults of other units of the machine are not ours.
    assert!(output.status.success() && !said.contains("ringcast"), "{said}");
}

#[test]
fn the_script_for_interrupts_writes_only_when_told() {
    const CARD: &str = "sys/class/net/eth0";
    let card = |name: &str| format!("{CARD}/{name}");
    let files = [
        ("sys/devices/system/cpu/online".to_owned(), "0-39"),
        (card("device/msi_irqs/40"), "msix"),
        (card("device/msi_irqs/41"), "msix"),
        (card("queues/tx-0/xps_cpus"), ""),
        (card("queues/rx-0/rps_cpus"), ""),
        (card("queues/rx-0/rps_flow_cnt"), ""),
        ("proc/irq/40/smp_affinity_list".to_owned(), ""),
        ("proc/irq/41/smp_affinity_list".to_owned(), ""),
        ("proc/sys/net/core/rps_sock_flow_entries".to_owned(), ""),
    ];
    let directory = Directory::with(&[]);
    for (path, text) in &files {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("a folder for a test");
        std::fs::write(path, text).expect("a file for a test");
    }
    let run = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command.arg(shipped("tuning/irq.sh")).args(arguments).env("IRQ_ROOT", directory.path());
        let output = output_of(&mut command, "dash");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let check = |path: &str, want: &str| assert_eq!(read(&directory.path().join(path)).trim(), want, "{path}");

    let said = run(&["--rps", "--cpus", "3,34-35"]);
    assert!(said.contains("would write 34 to /proc/irq/41/smp_affinity_list"), "{said}");
    files[3..].iter().for_each(|(path, _)| check(path, ""));

    run(&["--rps", "--cpus", "3,34-35", "--apply", "eth0"]);
    let want = ["8", "c,00000008", "32768", "3", "34", "32768"];
    files[3..].iter().zip(want).for_each(|((path, _), want)| check(path, want));
}

#[test]
fn the_server_calls_nothing_that_the_seccomp_profile_refuses() {
    let config =
        r#"{"http_api": {"key": "key"}, "client": {"token": {"jwks_public_endpoint": "http://localhost:1/"}}}"#;
    let directory = Directory::with(&[("config.json", config)]);
    output_of(Command::new("strace").arg("--version"), "strace");
    let mut command = Command::new("strace");
    // -D: the child is the server itself, which the test can signal and, if it fails, end.
    command.args(["-D", "-f", "-c", "-o", "counts", env!("CARGO_BIN_EXE_ringcast")]);
    command.args(["--shards", "2", "-a", "127.0.0.1", "-p", "0", "--pid_file", "pid"]);
    let server = Server::spawn(&directory, &mut command);
    let port = port(&server.wait_for("serving websocket, api endpoints on"));
    server.wait_for("\"ready\"");
    assert_eq!(publish(port), r#"{"result":{}}"#);
    server.signal(Signal::HUP);
    server.wait_for("configuration successfully reloaded");
    assert_eq!(server.stop(), Some(0));

    let called = called(&counts(&directory.path().join("counts")));
    assert!(called.contains("io_uring_enter"), "{called:?}");
    let allowed = allowed(&read(&shipped("tuning/seccomp.json")));
    assert_eq!(called.difference(&allowed).collect::<Vec<_>>(), [""; 0]);
}

/// The table, once strace has seen the end of the server and written it.
fn counts(path: &Path) -> String {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let table = std::fs::read_to_string(path).unwrap_or_default();
        if table.trim_end().ends_with("total") {
            return table;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("no table of system calls from strace; may this user trace processes?");
}

/// The last column of a table of strace, without heading and sum.
fn called(table: &str) -> BTreeSet<String> {
    let rows = table.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    let names = rows.filter_map(|row| row.split_whitespace().last());
    names.filter(|name| *name != "total").map(str::to_owned).collect()
}

fn allowed(profile: &str) -> BTreeSet<String> {
    let profile: Value = serde_json::from_str(profile).expect("the profile is JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let groups = profile["syscalls"].as_array().expect("groups of calls");
    assert!(groups.iter().all(|group| group["action"] == "SCMP_ACT_ALLOW"));
    let names = groups.iter().flat_map(|group| group["names"].as_array().expect("names"));
    names.map(|name| name.as_str().expect("a name").to_owned()).collect()
}
