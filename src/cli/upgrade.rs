//! `upgrade`: asks a running server to restart without downtime, and waits for what comes of it.

use super::{Failure, load};
use crate::upgrade::Report;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Longer than the server waits for the new process.
const PATIENCE: Duration = Duration::from_secs(90);

/// Asks the process of this id, or without one the process that key `pid_file` of the configuration names.
pub fn run(pid: Option<i32>, config: &Path) -> Result<String, Failure> {
    let pid = match pid {
        Some(pid) => pid,
        None => pid_of_file(config)?,
    };
    let pid = Some(pid)
        .filter(|pid| *pid > 0)
        .and_then(Pid::from_raw)
        .ok_or_else(|| format!("error: {pid} is no process id"))?;
    let number = pid.as_raw_nonzero();
    check(number.get())?;
    let report = Report::of(pid).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!("error: an upgrade of process {number} is under way already"),
        _ => format!("error: {error}"),
    })?;
    kill_process(pid, Signal::USR2).map_err(|error| match error {
        rustix::io::Errno::PERM => format!("error: may not signal process {number}: run this as its user or as root"),
        error => format!("error: process {number}: {error}"),
    })?;
    match report.wait(PATIENCE).map_err(|error| format!("error: {error}"))? {
        Some(Ok(new)) => Ok(format!("process {new} serves in place of {number}\n")),
        Some(Err(reason)) => Err(format!("error: process {number} goes on: {reason}")),
        None => Err(format!("error: process {number} does not say what came of it within 90 s: see its log")),
    }
}

fn pid_of_file(config: &Path) -> Result<i32, Failure> {
    let loaded = load(config)?;
    let file = loaded.settings.view().text("pid_file");
    if file.is_empty() {
        return Err("error: no process: give --pid (under systemd `systemctl show -P MainPID ringcast` says it) or set key pid_file"
            .to_owned());
    }
    let text =
        fs::read_to_string(file).map_err(|error| format!("error: pid_file {file}: {error}; does the server run?"))?;
    text.trim().parse().map_err(|_| format!("error: pid_file {file} holds no process id"))
}

/// The signal ends a process that does not expect it, and a number in a file may be that of anything.
fn check(pid: i32) -> Result<(), Failure> {
    const SIGUSR2: u32 = 12;
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.map_err(|error| format!("error: process {pid}: {error}; does the server run?"))?;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    match caught >> (SIGUSR2 - 1) & 1 {
        1 => Ok(()),
        _ => Err(format!("error: process {pid} is no server that can be upgraded: it does not wait for SIGUSR2")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_do_not_expect_the_signal_are_left_alone() {
        // The test itself expects none.
        let error = run(Some(std::process::id() as i32), Path::new("no-such-file")).expect_err("no server");
        assert!(error.contains("does not wait for SIGUSR2"), "{error}");
        for pid in [0, -1] {
            let error = run(Some(pid), Path::new("no-such-file")).expect_err("no process");
            assert!(error.contains("no process id"), "{error}");
        }
    }
}
