//! Limits of the control groups that the process is in, version 1 and 2: CPU time, memory, threads.

use super::finding::Finding;
use super::machine::Machine;
use super::machine::groups::{Group, NO_LIMIT, folders};
use super::memory::affordable;
use super::wants::{Wants, size_text};

/// Threads besides the shards: main, signals, log, slow signature checks, key sets.
const OWN_THREADS: u64 = 16;

/// All of it.
pub fn check(machine: &Machine, wants: &Wants) -> Vec<Finding> {
    let checks = [cpu(machine, wants), memory(machine, wants), threads(machine, wants)];
    checks.into_iter().flatten().collect()
}

fn cpu(machine: &Machine, wants: &Wants) -> Option<Finding> {
    let quotas = folders(machine, "cpu").into_iter().filter_map(|group| match &group {
        Group::V2(folder) => {
            let numbers = machine.numbers(&format!("{folder}/cpu.max"));
            Some((*numbers.first()?, *numbers.get(1)?))
        }
        Group::V1(folder) => {
            let quota = machine.number(&format!("{folder}/cpu.cfs_quota_us"))?;
            Some((quota, machine.number(&format!("{folder}/cpu.cfs_period_us"))?))
        }
    });
    let quotas = quotas.filter(|(_, period)| *period > 0).map(|(quota, period)| quota as f64 / period as f64);
    let cpus = quotas.min_by(f64::total_cmp)?;
    let found = format!("the control group has {cpus:.1} CPUs' worth of time for {} shards", wants.shards);
    if cpus >= wants.shards as f64 {
        return Some(Finding::ok("cgroup cpu", found));
    }
    let why =
        "when it is spent all shards stand still until the next period, as a rule up to 100 ms: that is the p99 then";
    let whole = (cpus as usize).max(1);
    let remedy = format!("set key shards to {whole}, or raise it: CPUQuota= of the unit, --cpus of docker run");
    Some(Finding::warn("cgroup cpu", found).why(why).remedy(remedy))
}

fn memory(machine: &Machine, wants: &Wants) -> Option<Finding> {
    let limits = folders(machine, "memory").into_iter().filter_map(|group| match &group {
        Group::V2(folder) => machine.number(&format!("{folder}/memory.max")),
        Group::V1(folder) => machine.number(&format!("{folder}/memory.limit_in_bytes")),
    });
    let limit = limits.filter(|limit| *limit < NO_LIMIT).min()?;
    let needed = wants.memory_bytes();
    let found = format!(
        "the control group has {}; {} idle clients and {} shards need some {}, sockets of the kernel included",
        size_text(limit),
        wants.connections,
        wants.shards,
        size_text(needed)
    );
    if limit >= needed {
        return Some(Finding::ok("cgroup memory", found));
    }
    let why = "the kernel ends the server when the group runs out";
    let remedy = format!(
        "set key client.connection_limit to {} at most, or raise it: MemoryMax= of the unit, --memory of docker run",
        affordable(wants, limit)
    );
    Some(Finding::warn("cgroup memory", found).why(why).remedy(remedy))
}

fn threads(machine: &Machine, wants: &Wants) -> Option<Finding> {
    let limits = folders(machine, "pids").into_iter().filter_map(|group| {
        let (Group::V2(folder) | Group::V1(folder)) = &group;
        machine.number(&format!("{folder}/pids.max"))
    });
    let limit = limits.min()?;
    let needed = wants.shards as u64 + OWN_THREADS;
    let found = format!("the control group allows {limit} threads, {needed} are needed");
    if limit >= needed {
        return Some(Finding::ok("cgroup pids", found));
    }
    let why = "a shard is a thread; without all of them the server does not start";
    let finding = Finding::fail("cgroup pids", found).why(why);
    Some(finding.remedy("raise it: TasksMax= of the unit, --pids-limit of docker run"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::{expect, wants};
    use super::*;

    const V2: (&str, &str) = ("proc/self/cgroup", "0::/system.slice/ringcast.service\n");
    const V1: (&str, &str) =
        ("proc/self/cgroup", "9:name=systemd:/\n4:memory:/docker/a\n2:cpu,cpuacct:/docker/a\n1:pids:/a\n");

    #[track_caller]
    fn of(files: &[(&str, &str)], name: &str, want: Option<Level>, words: &[&str]) {
        expect(check, files, &wants(4, 100_000), name, want, words);
    }

    #[test]
    fn time_is_bounded_by_the_group_and_those_above() {
        let (own, slice) =
            ("sys/fs/cgroup/system.slice/ringcast.service/cpu.max", "sys/fs/cgroup/system.slice/cpu.max");
        of(&[V2, (own, "max 100000\n")], "cgroup cpu", None, &[]);
        of(&[V2, (own, "400000 100000\n")], "cgroup cpu", Some(Level::Ok), &["4.0 CPUs"]);
        of(
            &[V2, (own, "400000 100000"), (slice, "150000 100000")],
            "cgroup cpu",
            Some(Level::Warn),
            &["1.5", "shards to 1"],
        );
        of(&[V2, (own, "400000 0\n")], "cgroup cpu", None, &[]);
    }

    #[test]
    fn version_1_has_other_files() {
        let (quota, period) =
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us");
        of(&[V1, (quota, "250000"), (period, "100000")], "cgroup cpu", Some(Level::Warn), &["2.5", "shards to 2"]);
        of(&[V1, (quota, "-1"), (period, "100000")], "cgroup cpu", None, &[]);
        let linked = ("sys/fs/cgroup/cpu/docker/a/cpu.cfs_quota_us", "sys/fs/cgroup/cpu/docker/a/cpu.cfs_period_us");
        of(&[V1, (linked.0, "250000"), (linked.1, "100000")], "cgroup cpu", Some(Level::Warn), &["2.5"]);
        let limit = "sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes";
        of(&[V1, (limit, "268435456")], "cgroup memory", Some(Level::Warn), &["256 MiB", "connection_limit to 32768"]);
        of(&[V1, (limit, "9223372036854771712")], "cgroup memory", None, &[]);
        of(&[V1, ("sys/fs/cgroup/pids/a/pids.max", "10")], "cgroup pids", Some(Level::Fail), &["10", "TasksMax"]);
    }

    #[test]
    fn memory_and_threads_are_bounded_too() {
        let folder = "sys/fs/cgroup/system.slice/ringcast.service";
        let (memory, pids) = (format!("{folder}/memory.max"), format!("{folder}/pids.max"));
        of(&[V2, (&memory, "8589934592\n")], "cgroup memory", Some(Level::Ok), &["8 GiB"]);
        of(&[V2, (&memory, "max\n")], "cgroup memory", None, &[]);
        of(&[V2, (&pids, "1024\n")], "cgroup pids", Some(Level::Ok), &[]);
        of(&[V2, (&pids, "max\n")], "cgroup pids", None, &[]);
    }
}
