//! `doctor` from outside: its report on this machine and on made-up ones, and its exit codes.

use crate::directory::Directory;
use crate::{ringcast, text};
use serde_json::Value;
use std::fs;

/// Files of a machine in a directory of its own.
fn machine(files: &[(&str, &str)]) -> Directory {
    let directory = Directory::with(&[]);
    for (path, text) in files.iter().chain(&[("sys/devices/system/cpu/online", "0-1\n")]) {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder for a test");
        fs::write(path, text).expect("a file for a test");
    }
    directory
}

const OLD: &[(&str, &str)] = &[("proc/sys/kernel/osrelease", "5.15.0-91-generic\n")];
const SHORT: &[(&str, &str)] = &[("proc/sys/net/core/somaxconn", "128\n")];

#[track_caller]
fn check(files: &[(&str, &str)], arguments: &[&str], exit_code: i32, words: &[&str]) {
    let directory = machine(files);
    let arguments: Vec<_> = ["doctor", "--root", "."].iter().chain(arguments).copied().collect();
    let output = ringcast(&directory, &arguments, &[]);
    assert_eq!(output.status.code(), Some(exit_code), "{output:?}");
    for word in words {
        assert!(text(&output.stdout).contains(word), "no {word:?} in {output:?}");
    }
}

#[test]
fn the_exit_code_tells_scripts_how_bad_it_is() {
    check(&[], &["--strict"], 0, &["the machine is ready"]);
    check(SHORT, &[], 0, &["warn  somaxconn", "mend: sysctl -w net.core.somaxconn=4096"]);
    check(SHORT, &["--strict"], 1, &["warn  somaxconn"]);
    check(OLD, &[], 2, &["fail  kernel", "the server does not start like this"]);
}

#[test]
fn a_configuration_is_compared_with_the_machine() {
    let limits = ("proc/self/limits", "Max open files  1024  4096  files\n");
    let many = ("config.json", r#"{"client": {"connection_limit": 100000}}"#);
    check(&[limits, many], &["-c", "config.json", "--strict"], 1, &["hard limit 4096", "100000 clients need 100072"]);
    check(&[limits, many], &["-c", "config.json", "--strict", "--connections", "1000"], 0, &["1000 clients"]);
    check(&[limits, ("config.json", "{")], &["-c", "config.json"], 2, &["fail  config", "checkconfig"]);
    check(&[], &["-c", "none.json"], 2, &["config file not found"]);
}

#[test]
fn this_machine_is_described_as_json() {
    let output = ringcast(&Directory::with(&[]), &["doctor", "--json"], &[]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("a list");
    // A ring can be made, or no other test of the server would pass here.
    let ring = findings.iter().find(|finding| finding["check"] == "io_uring").expect("io_uring is looked at");
    assert_ne!(ring["level"], "fail", "{ring}");
    for finding in findings.iter().filter(|finding| finding["level"] == "warn" || finding["level"] == "fail") {
        for part in ["found", "why", "remedy"] {
            assert_ne!(finding[part].as_str(), Some(""), "{part} of {finding}");
        }
    }
}
