//! How much memory is used, and how much may be.

use crate::machine::Machine;
use crate::machine::groups::{Group, NO_LIMIT, folders};

/// Reads it, of whoever grants the least in relation to what is used.
pub struct Gauge {
    machine: Machine,
    /// Bytes, as configured.
    budget: Option<u64>,
    /// Groups with a limit, and that limit in bytes. Looked up once.
    groups: Vec<(Group, u64)>,
}

/// What is used and from where on load is shed, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// By this process, or by its control group.
    pub used: u64,
    /// Of that.
    pub budget: u64,
}

impl Gauge {
    /// For a budget in bytes, or without one for four fifths of each limit.
    pub fn new(machine: Machine, budget: Option<u64>) -> Self {
        let limited = folders(&machine, "memory").into_iter().filter_map(|group| {
            let limit = machine.number(&limit_file(&group)).filter(|limit| *limit < NO_LIMIT)?;
            Some((group, limit))
        });
        let groups = limited.collect();
        Gauge { machine, budget, groups }
    }

    /// Now. Where the machine tells nothing, nothing is used.
    pub fn read(&self) -> Reading {
        let own = Reading { used: self.resident(), budget: self.budget.unwrap_or_else(|| four_fifths(self.total())) };
        let groups = self
            .groups
            .iter()
            .filter_map(|(group, limit)| Some(Reading { used: self.used_by(group)?, budget: four_fifths(*limit) }));
        let share = |reading: &Reading| u128::from(reading.used) * 1000 / u128::from(reading.budget.max(1));
        groups.fold(own, |most, reading| if share(&reading) > share(&most) { reading } else { most })
    }

    /// Bytes that the process keeps in memory.
    fn resident(&self) -> u64 {
        let field = self.machine.field("proc/self/status", "VmRSS").unwrap_or_default();
        let kilobytes = field.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
        kilobytes.unwrap_or(0).saturating_mul(1024)
    }

    fn total(&self) -> u64 {
        self.machine.memory("MemTotal").unwrap_or(u64::MAX)
    }

    /// Bytes that a group is charged for, without what the kernel takes back when it needs it: pages of files. Buffers of
    /// sockets are in it, in version 1 where they are accounted for at all.
    fn used_by(&self, group: &Group) -> Option<u64> {
        let (folder, current, files, shared) = match group {
            Group::V2(folder) => (folder, "memory.current", "file", "shmem"),
            Group::V1(folder) => (folder, "memory.usage_in_bytes", "total_cache", "total_shmem"),
        };
        let stat = self.machine.text(&format!("{folder}/memory.stat")).unwrap_or_default();
        let of = |name: &str| {
            let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
        };
        let current = self.machine.number(&format!("{folder}/{current}"))?;
        Some(current.saturating_sub(of(files).saturating_sub(of(shared))))
    }
}

fn limit_file(group: &Group) -> String {
    match group {
        Group::V2(folder) => format!("{folder}/memory.max"),
        Group::V1(folder) => format!("{folder}/memory.limit_in_bytes"),
    }
}

fn four_fifths(bytes: u64) -> u64 {
    bytes / 5 * 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tree::Tree;

    const OWN: [(&str, &str); 2] =
        [("proc/self/status", "Name:\tringcast\nVmRSS:\t   10240 kB\n"), ("proc/meminfo", "MemTotal: 102400 kB\n")];

    #[track_caller]
    fn check(files: &[(&str, &str)], budget: Option<u64>, used: u64, of: u64) {
        let tree = Tree::with(&[&OWN[..], files].concat());
        assert_eq!(Gauge::new(tree.machine(), budget).read(), Reading { used, budget: of }, "{files:?}");
    }

    #[test]
    fn machine_grants_what_no_group_bounds() {
        check(&[], None, 10 << 20, 80 << 20);
        check(&[], Some(1000), 10 << 20, 1000);
        check(&[("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/a/memory.max", "max\n")], None, 10 << 20, 80 << 20);
    }

    #[test]
    fn group_that_is_fullest_counts() {
        let files = [
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "5000"),
            ("sys/fs/cgroup/a/b/memory.current", "4500"),
            ("sys/fs/cgroup/a/b/memory.stat", "anon 1000\nfile 1500\nkernel 300\nshmem 500\n"),
            ("sys/fs/cgroup/a/memory.max", "10000"),
            ("sys/fs/cgroup/a/memory.current", "9000"),
        ];
        check(&files, None, 9000, 8000);
        check(&files[..4], None, 3500, 4000);
    }

    #[test]
    fn version_1_has_other_files() {
        let files = [
            ("proc/self/cgroup", "4:memory:/a\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "5000"),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "4500"),
            ("sys/fs/cgroup/memory/a/memory.stat", "cache 7\ntotal_cache 1500\ntotal_shmem 500\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"),
        ];
        check(&files, None, 3500, 4000);
    }
}
