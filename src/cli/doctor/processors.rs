//! Cores: which of them the process may use, hyperthreads, NUMA nodes, clock rates.

use super::finding::Finding;
use super::machine::{Machine, cpu_text};
use super::wants::Wants;
use std::collections::BTreeSet;

/// All of it.
pub fn check(machine: &Machine, wants: &Wants) -> Vec<Finding> {
    let checks = [allowed(machine, wants), cores(machine, wants), nodes(machine), governor(machine)];
    checks.into_iter().flatten().collect()
}

fn allowed(machine: &Machine, wants: &Wants) -> Option<Finding> {
    let online = machine.cpus("sys/devices/system/cpu/online");
    let allowed = machine.allowed_cpus();
    let found = format!("{} of {} CPUs may be used ({})", allowed.len(), online.len(), cpu_text(&allowed));
    if online.is_empty() {
        return None;
    }
    if wants.shards > allowed.len() {
        let why = format!(
            "{} shards share them: two shards on one CPU take turns of milliseconds, which is their latency then",
            wants.shards
        );
        let remedy = format!("set key shards to {} at most (0 for one on each CPU)", allowed.len());
        return Some(Finding::warn("affinity", found).why(why).remedy(remedy));
    }
    if allowed.len() < online.len() {
        let why =
            "an affinity mask or a cpuset withholds the rest; on purpose, or the server runs on part of the machine";
        let remedy = format!("taskset -c {} ringcast ..., or AllowedCPUs= of the unit", cpu_text(&online));
        return Some(Finding::note("affinity", found).why(why).remedy(remedy));
    }
    Some(Finding::ok("affinity", found))
}

fn cores(machine: &Machine, wants: &Wants) -> Option<Finding> {
    let siblings = |cpu: usize| machine.text(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
    let cpus = machine.allowed_cpus();
    let cores: BTreeSet<String> = cpus.iter().filter_map(|cpu| siblings(*cpu)).collect();
    if cores.is_empty() {
        return None;
    }
    let found = format!("{} CPUs on {} physical cores, {} shards", cpus.len(), cores.len(), wants.shards);
    if wants.shards <= cores.len() {
        return Some(Finding::ok("cores", found));
    }
    let why = "two shards on hyperthreads of one core share its caches and units; together they do less than two cores, and \
               each is slower: one shard per physical core is the start to measure from";
    let remedy = format!("set key shards to {}, and compare with ringcast-bench", cores.len());
    Some(Finding::note("cores", found).why(why).remedy(remedy))
}

fn nodes(machine: &Machine) -> Option<Finding> {
    let allowed = machine.allowed_cpus();
    let names = machine.names("sys/devices/system/node");
    let is_node = |name: &&String| name.strip_prefix("node").is_some_and(|number| number.parse::<u32>().is_ok());
    let used = names.iter().filter(is_node).filter(|name| {
        let cpus = machine.cpus(&format!("sys/devices/system/node/{name}/cpulist"));
        cpus.iter().any(|cpu| allowed.contains(cpu))
    });
    let used: Vec<_> = used.map(String::as_str).collect();
    match used[..] {
        [] => None,
        [node] => Some(Finding::ok("numa", format!("all CPUs are on {node}"))),
        _ => {
            let why = "messages between shards of different nodes cross their link; cards hang on one of them";
            let remedy = "run one server per node behind the load balancer: AllowedCPUs= and AllowedMemoryNodes= in the \
                          unit, or numactl --cpunodebind=0 --membind=0 ringcast ...";
            Some(Finding::note("numa", format!("the CPUs are on {}", used.join(", "))).why(why).remedy(remedy))
        }
    }
}

fn governor(machine: &Machine) -> Option<Finding> {
    let path = |cpu: &usize| format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    let governors: BTreeSet<String> =
        machine.allowed_cpus().iter().filter_map(|cpu| machine.text(&path(cpu))).collect();
    if governors.is_empty() {
        return Some(Finding::ok("governor", "none to be seen, as a rule in a virtual machine: its host decides"));
    }
    let names: Vec<_> = governors.iter().map(String::as_str).collect();
    let found = format!("CPU frequency governor {}", names.join(", "));
    if names == ["performance"] {
        return Some(Finding::ok("governor", found));
    }
    let why = "a shard that wakes from a nap runs at a low clock rate until the governor notices, up to 10 ms; that is in the \
               latency of messages at low load";
    let remedy = "echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor, or tuning/ringcast-governor.service";
    Some(Finding::warn("governor", found).why(why).remedy(remedy))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::{expect, wants};
    use super::*;

    const ONLINE: (&str, &str) = ("sys/devices/system/cpu/online", "0-3\n");
    const ALL: (&str, &str) = ("proc/self/status", "Cpus_allowed_list:\t0-3\n");

    #[track_caller]
    fn of(files: &[(&str, &str)], shards: usize, name: &str, want: Option<Level>, words: &[&str]) {
        expect(check, files, &wants(shards, 1), name, want, words);
    }

    #[test]
    fn withheld_cpus_are_noted_and_shared_ones_warned_of() {
        of(&[ONLINE, ALL], 4, "affinity", Some(Level::Ok), &["4 of 4"]);
        let half = ("proc/self/status", "Cpus_allowed_list:\t0-1\n");
        of(&[ONLINE, half], 2, "affinity", Some(Level::Note), &["2 of 4", "taskset -c 0-3"]);
        of(&[ONLINE, half], 4, "affinity", Some(Level::Warn), &["4 shards", "shards to 2"]);
        of(&[], 4, "affinity", None, &[]);
    }

    #[test]
    fn hyperthreads_are_told_from_cores() {
        let list = "topology/thread_siblings_list";
        let paths: Vec<_> = (0..4).map(|cpu| format!("sys/devices/system/cpu/cpu{cpu}/{list}")).collect();
        let mut files = vec![ONLINE, ALL];
        files.extend(paths.iter().zip(["0,2", "1,3", "0,2", "1,3"]).map(|(path, text)| (path.as_str(), text)));
        of(&files, 4, "cores", Some(Level::Note), &["2 physical cores", "shards to 2"]);
        of(&files, 2, "cores", Some(Level::Ok), &[]);
        of(&[ONLINE, ALL], 2, "cores", None, &[]);
    }

    #[test]
    fn nodes_are_counted() {
        let (one, two) = ("sys/devices/system/node/node0/cpulist", "sys/devices/system/node/node1/cpulist");
        of(&[ALL, (one, "0-1"), (two, "2-3")], 4, "numa", Some(Level::Note), &["node0, node1", "AllowedMemoryNodes"]);
        of(&[ALL, (one, "0-3"), (two, "4-7")], 4, "numa", Some(Level::Ok), &["node0"]);
        of(&[ALL], 4, "numa", None, &[]);
    }

    #[test]
    fn governors_that_save_power_are_warned_of() {
        let paths: Vec<_> =
            (0..2).map(|cpu| format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")).collect();
        let files = [ALL, (&paths[0], "performance\n"), (&paths[1], "powersave\n")];
        of(&files, 4, "governor", Some(Level::Warn), &["performance, powersave", "echo performance"]);
        of(&files[..2], 4, "governor", Some(Level::Ok), &[]);
        of(&[ALL], 4, "governor", Some(Level::Ok), &["virtual"]);
    }
}
