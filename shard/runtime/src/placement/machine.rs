//! What of the machine a process may use: CPUs with their cores and NUMA nodes, and its quota of CPU time.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity};

use super::cpu_list::parse_cpu_list;

/// Where the kernel tells it.
const SYS: &str = "/sys/devices/system";
const CGROUPS: &str = "/sys/fs/cgroup";
const OWN_CGROUPS: &str = "/proc/self/cgroup";

/// What the process may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// CPUs of the affinity mask, which a cpuset narrows; ascending, never empty.
    pub cpus: Vec<Cpu>,
    /// CPUs' worth of time, the least of `cpu.max` (cgroup v1: `cpu.cfs_quota_us`) of its control groups; None for no limit.
    pub quota: Option<f64>,
}

/// A hyperthread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Number.
    pub id: usize,
    /// Number of the first hyperthread of its physical core.
    pub core: usize,
    /// NUMA node.
    pub node: usize,
}

impl Machine {
    /// Of this process.
    pub fn read() -> Self {
        Self::from_files(&allowed_cpus(), |path| fs::read_to_string(path).ok())
    }

    /// Of a process with this affinity mask on a machine with these files. What cannot be read is taken for simple: a core per
    /// CPU, one node, no quota.
    pub fn from_files(allowed: &[usize], file: impl Fn(&str) -> Option<String>) -> Self {
        let list = |path: &str| file(path).and_then(|text| parse_cpu_list(&text).ok()).unwrap_or_default();
        let nodes = list(&format!("{SYS}/node/online"));
        let nodes: Vec<_> =
            nodes.into_iter().map(|node| (node, list(&format!("{SYS}/node/node{node}/cpulist")))).collect();
        let cpu = |&id: &usize| Cpu {
            id,
            core: list(&format!("{SYS}/cpu/cpu{id}/topology/thread_siblings_list")).first().copied().unwrap_or(id),
            node: nodes.iter().find(|(_, cpus)| cpus.contains(&id)).map_or(0, |(node, _)| *node),
        };
        Self { cpus: allowed.iter().map(cpu).collect(), quota: quota(&file) }
    }

    /// Numbers of the CPUs.
    pub(super) fn ids(&self) -> Vec<usize> {
        self.cpus.iter().map(|cpu| cpu.id).collect()
    }
}

/// The affinity mask. Where it cannot be read (more than 1024 CPUs) CPU 0 is the one that every machine has.
fn allowed_cpus() -> Vec<usize> {
    let mask = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| mask.is_set(*cpu)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// The least quota of the groups that the process is in. In a container the paths may be those of the host, of which only
/// the root exists.
fn quota(file: &impl Fn(&str) -> Option<String>) -> Option<f64> {
    let groups = file(OWN_CGROUPS).unwrap_or_default();
    let quotas = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_v2 = controllers.is_empty();
        let is_cpu = is_v2 || controllers.split(',').any(|name| name == "cpu");
        let root = if is_v2 { CGROUPS.to_owned() } else { format!("{CGROUPS}/{controllers}") };
        upwards(path).filter(move |_| is_cpu).map(move |group| (is_v2, format!("{root}{group}")))
    });
    let quotas =
        quotas.filter_map(|(is_v2, group)| if is_v2 { quota_v2(file, &group) } else { quota_v1(file, &group) });
    quotas.min_by(f64::total_cmp)
}

/// The path and those above it, without the slash at the end; the root is empty.
fn upwards(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path.trim_end_matches('/')), |path| Some(&path[..path.rfind('/')?]))
}

fn quota_v2(file: &impl Fn(&str) -> Option<String>, group: &str) -> Option<f64> {
    let text = file(&format!("{group}/cpu.max"))?;
    let mut numbers = text.split_whitespace();
    cpus_of(numbers.next()?, numbers.next()?)
}

fn quota_v1(file: &impl Fn(&str) -> Option<String>, group: &str) -> Option<f64> {
    let text = |name| file(&format!("{group}/cpu.cfs_{name}_us"));
    cpus_of(text("quota")?.trim(), text("period")?.trim())
}

/// `max` (v2) and -1 (v1) are no limit.
fn cpus_of(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of these files, each a path and its text.
    fn machine(allowed: &[usize], files: &[(&str, &str)]) -> Machine {
        let found = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
        Machine::from_files(allowed, found)
    }

    fn cpu((id, core, node): (usize, usize, usize)) -> Cpu {
        Cpu { id, core, node }
    }

    #[test]
    fn cores_and_nodes_of_the_allowed_cpus_are_read() {
        let files = [
            ("/sys/devices/system/node/online", "0-1\n"),
            ("/sys/devices/system/node/node0/cpulist", "0-1,4-5\n"),
            ("/sys/devices/system/node/node1/cpulist", "2-3,6-7\n"),
            ("/sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1,5\n"),
            ("/sys/devices/system/cpu/cpu5/topology/thread_siblings_list", "1,5\n"),
            ("/sys/devices/system/cpu/cpu6/topology/thread_siblings_list", "2,6\n"),
        ];
        let got = machine(&[1, 5, 6], &files);
        assert_eq!(got.cpus, [(1, 1, 0), (5, 1, 0), (6, 2, 1)].map(cpu));
        assert_eq!(got.quota, None);
    }

    #[test]
    fn machine_that_tells_nothing_has_a_core_per_cpu_and_no_quota() {
        let want = Machine { cpus: [(0, 0, 0), (3, 3, 0)].map(cpu).to_vec(), quota: None };
        assert_eq!(machine(&[0, 3], &[]), want);
    }

    #[track_caller]
    fn check_quota(files: &[(&str, &str)], want: Option<f64>) {
        assert_eq!(machine(&[0], files).quota, want, "{files:?}");
    }

    #[test]
    fn quota_of_version_2_is_the_least_of_the_group_and_those_above() {
        let own = ("/proc/self/cgroup", "0::/system.slice/ringcast.service\n");
        let service = "/sys/fs/cgroup/system.slice/ringcast.service/cpu.max";
        check_quota(&[own, (service, "max 100000\n")], None);
        check_quota(&[own, (service, "250000 100000\n")], Some(2.5));
        let slice = ("/sys/fs/cgroup/system.slice/cpu.max", "50000 100000\n");
        check_quota(&[own, (service, "250000 100000\n"), slice], Some(0.5));
    }

    #[test]
    fn quota_of_a_container_is_found_at_the_root() {
        let root = ("/sys/fs/cgroup/cpu.max", "150000 100000\n");
        check_quota(&[("/proc/self/cgroup", "0::/\n"), root], Some(1.5));
        check_quota(&[("/proc/self/cgroup", "0::/docker/4f2a\n"), root], Some(1.5));
    }

    #[test]
    fn quota_of_version_1_is_that_of_the_cpu_controller() {
        let own = ("/proc/self/cgroup", "9:memory:/other\n4:cpu,cpuacct:/docker/1\n0::/\n");
        let group = "/sys/fs/cgroup/cpu,cpuacct/docker/1";
        let [quota, period] = ["quota", "period"].map(|name| format!("{group}/cpu.cfs_{name}_us"));
        check_quota(&[own, (&quota, "300000\n"), (&period, "100000\n")], Some(3.0));
        check_quota(&[own, (&quota, "-1\n"), (&period, "100000\n")], None);
        check_quota(&[own, (&quota, "300000\n"), (&period, "0\n")], None);
    }
}
