//! Plays the conformance cases against the built binary, with one shard and with four, and compares the ids of those
//! that pass with `expected.txt`: nothing that passed may break, and what begins to pass is added.

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Ids of cases.
type Ids = BTreeSet<String>;

/// Numbers of shards that a case must pass with.
const SHARDS: &[u16] = &[1, 4];

/// Ports that the script takes, one after the other.
const PORTS: u16 = 64;

/// Cases that may be played again because a busy machine can break the timing of one; more is not chance.
const AGAIN_MAX: usize = 60;

#[test]
fn the_listed_cases_and_no_others_pass_with_one_and_with_four_shards() {
    let list = support::tests_folder().join("compat/expected.txt");
    let mut expected = read_list(&list);
    let suite = Suite::new();
    let passing: Vec<Ids> = SHARDS.iter().map(|shards| suite.passing(*shards, &expected)).collect();
    let everywhere = passing.iter().skip(1).fold(passing[0].clone(), |all, ids| &all & ids);

    if std::env::var_os("COMPAT_UPDATE").is_some() {
        expected.extend(everywhere.iter().cloned());
        write_list(&list, &expected);
    }
    let mut findings = Vec::new();
    for (shards, ids) in SHARDS.iter().zip(&passing) {
        findings.extend((&expected - ids).iter().map(|id| format!("fails with {shards} shards: {id}")));
    }
    findings.extend((&everywhere - &expected).iter().map(|id| format!("passes, add it to expected.txt: {id}")));
    assert!(
        findings.is_empty(),
        "{} of {} listed cases pass; COMPAT_UPDATE=1 adds those that begin to pass:\n  {}",
        (&everywhere & &expected).len(),
        expected.len(),
        findings.join("\n  ")
    );
}

/// The script with its Python and the server that it starts.
struct Suite {
    python: PathBuf,
    folder: PathBuf,
    reports: PathBuf,
}

impl Suite {
    fn new() -> Suite {
        let folder = support::tests_folder().join("compat");
        let python = support::python("venv-compat", &folder.join("requirements.txt"));
        let reports = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compat");
        fs::create_dir_all(&reports).expect("the target folder can be written");
        Suite { python, folder, reports }
    }

    /// Plays all cases, then once more and slowly those whose verdict is not the expected one; the second verdict counts.
    fn passing(&self, shards: u16, expected: &Ids) -> Ids {
        let mut passing = self.play(shards, &Ids::new(), "all");
        let surprising = &passing ^ expected;
        if !surprising.is_empty() && surprising.len() <= AGAIN_MAX {
            let again = self.play(shards, &surprising, "again");
            passing = &(&passing - &surprising) | &again;
        }
        passing
    }

    /// Ids of the cases that pass, out of `only`, or out of all when it is empty.
    fn play(&self, shards: u16, only: &Ids, label: &str) -> Ids {
        let report = self.reports.join(format!("{label}-{shards}.json"));
        let mut command = Command::new(&self.python);
        command
            .arg(self.folder.join("run.py"))
            .args(["--bin", &format!("{} --config {{file}}", support::binary().display())])
            .args(["--retry", "0", "--port", &free_ports(PORTS).to_string()])
            .arg("--json")
            .arg(&report)
            .arg("--logs")
            .arg(self.reports.join(format!("logs-{label}-{shards}")))
            .env("RINGCAST_SHARDS", shards.to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        for id in only {
            command.args(["--filter", id]);
        }
        if !only.is_empty() {
            command.args(["--jobs", "2", "--servers", "2"]);
        }
        let output = command.output().expect("the virtual environment has a Python");
        let printed = String::from_utf8_lossy(&output.stdout);
        fs::write(report.with_extension("txt"), printed.as_bytes()).expect("the target folder can be written");
        let last = printed.lines().last().unwrap_or_default();
        assert!(last.ends_with(" failed"), "the script broke: {}", String::from_utf8_lossy(&output.stderr));

        let cases: Value = serde_json::from_slice(&fs::read(&report).expect("the script wrote it")).expect("JSON");
        let cases = cases.as_array().expect("a list of cases");
        let passed = cases.iter().filter(|case| case["ok"] == true).filter_map(|case| case["id"].as_str());
        passed.filter(|id| only.is_empty() || only.contains(*id)).map(str::to_owned).collect()
    }
}

/// First of `count` ports in a row that nobody listens on, below those that the kernel gives to clients.
fn free_ports(count: u16) -> u16 {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut first = 20_000 + (std::process::id() % 100) as u16 * 100;
    while !(first..first + count).all(free) {
        first += count;
        assert!(first < 32_000, "no {count} free ports in a row");
    }
    first
}

fn read_list(path: &Path) -> Ids {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn write_list(path: &Path, ids: &Ids) {
    let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
    fs::write(path, lines).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
