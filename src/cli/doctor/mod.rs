//! `doctor`: looks at the machine, and says what keeps the server from starting or from being fast, why, and what mends
//! it. Changes nothing.

mod buffers;
mod certificates;
mod cgroup;
mod finding;
mod interrupts;
mod kernel;
mod limits;
mod memory;
mod network;
mod processors;
mod report;
#[cfg(test)]
mod tree;
mod wants;

use crate::config::{self, Environment, Sources};
use crate::machine::{self, Machine};
use finding::{Finding, Level};
use std::path::PathBuf;
use wants::Wants;

/// Exit code when something keeps the server from starting.
const FAILED: u8 = 2;

/// What is asked.
pub struct Request {
    /// The configuration file; without one the defaults and the environment count.
    pub file: Option<PathBuf>,
    /// Clients to be ready for, instead of key `client.connection_limit`.
    pub connections: Option<u64>,
    /// Folder with `proc` and `sys`.
    pub root: PathBuf,
    /// Report as JSON.
    pub json: bool,
    /// Warnings fail, too.
    pub strict: bool,
    /// Standard output shows colours.
    pub has_colours: bool,
}

/// The report and the exit code.
pub fn run(request: &Request) -> (String, u8) {
    let machine = Machine::at(&request.root);
    let mut findings = match wants(request, &machine) {
        Ok(wants) => examine(&machine, &wants),
        Err(finding) => vec![finding],
    };
    // The worst first, each level in the order of the checks.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let text = match request.json {
        true => report::json(&findings),
        false => report::text(&findings, request.has_colours),
    };
    let code = match report::worst(&findings) {
        Level::Fail => FAILED,
        Level::Warn => u8::from(request.strict),
        Level::Note | Level::Ok => 0,
    };
    (text, code)
}

fn examine(machine: &Machine, wants: &Wants) -> Vec<Finding> {
    let checks = [
        kernel::check,
        limits::check,
        cgroup::check,
        memory::check,
        processors::check,
        interrupts::check,
        network::check,
        buffers::check,
        certificates::check,
    ];
    checks.into_iter().flat_map(|check| check(machine, wants)).collect()
}

/// What the configuration asks for; a broken one is a finding, too.
fn wants(request: &Request, machine: &Machine) -> Result<Wants, Finding> {
    let loaded = match &request.file {
        Some(file) => match super::load(file) {
            Ok(loaded) if !loaded.file_found => Err("config file not found".to_owned()),
            loaded => loaded,
        },
        None => {
            let environment = Environment::of_process();
            let sources = Sources { file: None, environment: &environment, flags: &[] };
            config::load(sources).map_err(|error| format!("error getting config: {error}"))
        }
    };
    let checked = loaded.and_then(|loaded| {
        config::validate(&loaded.settings).map_err(|error| format!("error validating config: {error}"))?;
        Ok(loaded.settings)
    });
    match checked {
        Ok(settings) => Ok(Wants::new(&settings, request.connections, machine)),
        Err(text) => Err(Finding::fail("config", text)
            .why("the server reads the same file at start")
            .remedy("ringcast checkconfig")),
    }
}

#[cfg(test)]
mod tests {
    use super::tree::Tree;
    use super::*;

    /// The report as JSON and the exit code.
    fn run_on(files: &[(&str, &str)], strict: bool) -> (serde_json::Value, u8) {
        let tree = Tree::with(files);
        let root = tree.root();
        let (text, code) =
            run(&Request { file: None, connections: Some(100), root, json: true, strict, has_colours: false });
        (serde_json::from_str(&text).expect("JSON"), code)
    }

    const SYSFS: (&str, &str) = ("sys/devices/system/cpu/online", "0");

    #[test]
    fn the_exit_code_tells_how_bad_it_is() {
        let limits = "proc/self/limits";
        assert_eq!(run_on(&[SYSFS], true).1, 0);
        let few = [SYSFS, (limits, "Max open files 100 100 files")];
        assert_eq!(run_on(&few, false).1, 0);
        assert_eq!(run_on(&few, true).1, 1);
        let none = [SYSFS, (limits, "Max open files 10 10 files")];
        assert_eq!(run_on(&none, false).1, 2);
    }

    #[test]
    fn the_worst_comes_first() {
        let files = [SYSFS, ("proc/sys/kernel/osrelease", "6.8.0"), ("proc/sys/net/core/somaxconn", "128")];
        let (report, _) = run_on(&files, false);
        let levels: Vec<_> = report["findings"].as_array().expect("a list").iter().map(|f| &f["level"]).collect();
        assert_eq!(levels.first().map(|level| level.as_str()), Some(Some("warn")), "{report}");
    }

    #[test]
    fn nonsense_in_every_file_is_no_panic() {
        let many = ["18446744073709551615"; 3].join(" ");
        let field =
            "MemAvailable: 18446744073709551615\nSwapTotal: -1\nffffffffffffffff ffffffffffffffff\nffffffffffffffff 1";
        for garbage in [
            "",
            "-1",
            "max",
            &many,
            &many[..20],
            &many[..41],
            field,
            "\u{fffd}:::\n0::/a",
            "0-99999999999",
            "Max open files x y",
        ] {
            run_on(&FILES.map(|path| (path, garbage)), false);
        }
    }

    /// Every file that a check reads.
    const FILES: [&str; 40] = [
        "proc/meminfo",
        "proc/net/softnet_stat",
        "proc/self/cgroup",
        "proc/self/limits",
        "proc/self/status",
        "proc/sys/fs/file-max",
        "proc/sys/fs/nr_open",
        "proc/sys/kernel/io_uring_disabled",
        "proc/sys/kernel/osrelease",
        "proc/sys/net/core/busy_poll",
        "proc/sys/net/core/busy_read",
        "proc/sys/net/core/netdev_budget",
        "proc/sys/net/core/netdev_budget_usecs",
        "proc/sys/net/core/netdev_max_backlog",
        "proc/sys/net/core/somaxconn",
        "proc/sys/net/ipv4/ip_local_port_range",
        "proc/sys/net/ipv4/ip_local_reserved_ports",
        "proc/sys/net/ipv4/ip_unprivileged_port_start",
        "proc/sys/net/ipv4/tcp_max_syn_backlog",
        "proc/sys/net/ipv4/tcp_notsent_lowat",
        "proc/sys/net/ipv4/tcp_rmem",
        "proc/sys/net/ipv4/tcp_slow_start_after_idle",
        "proc/sys/net/ipv4/tcp_syncookies",
        "proc/sys/net/ipv4/tcp_wmem",
        "proc/sys/net/netfilter/nf_conntrack_count",
        "proc/sys/net/netfilter/nf_conntrack_max",
        "proc/sys/vm/overcommit_memory",
        "proc/sys/vm/swappiness",
        "sys/class/net/eth0/device/msi_irqs/1",
        "sys/class/net/eth0/queues/rx-0/rps_cpus",
        "proc/irq/1/effective_affinity_list",
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
        "sys/devices/system/cpu/online",
        "sys/devices/system/node/node0/cpulist",
        "sys/fs/cgroup/cpu.max",
        "sys/fs/cgroup/memory.max",
        "sys/fs/cgroup/pids.max",
        "sys/kernel/mm/transparent_hugepage/enabled",
    ];
}
