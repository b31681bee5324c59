//! Limits of the process and of the whole machine: locked memory, descriptors, ports below 1024.

use super::finding::Finding;
use super::machine::Machine;
use super::wants::{Wants, size_text};
use ringcast_runtime::start::{DESCRIPTORS_MIN, MEMLOCK_BYTES_MIN};

/// Bit of CAP_NET_BIND_SERVICE.
const BIND_SERVICE: u64 = 1 << 10;

/// All of them.
pub fn check(machine: &Machine, wants: &Wants) -> Vec<Finding> {
    let mut findings: Vec<_> =
        [locked_memory(machine, wants), descriptors(machine, wants)].into_iter().flatten().collect();
    findings.extend(of_the_machine(machine, wants, "fs.file-max", "proc/sys/fs/file-max"));
    findings.extend(of_the_machine(machine, wants, "fs.nr_open", "proc/sys/fs/nr_open"));
    findings.extend(low_ports(machine, wants));
    findings
}

fn locked_memory(machine: &Machine, wants: &Wants) -> Option<Finding> {
    let (limit, _) = machine.limits("Max locked memory")?;
    let needed = MEMLOCK_BYTES_MIN * wants.shards as u64;
    if limit == u64::MAX {
        return Some(Finding::ok("memlock", "no limit"));
    }
    let found = format!("{} may be locked", size_text(limit));
    let least = size_text(MEMLOCK_BYTES_MIN);
    let remedy = "LimitMEMLOCK=64M in the unit, memlock in /etc/security/limits.d, or ulimit -l 65536";
    Some(match limit {
        _ if limit < MEMLOCK_BYTES_MIN => {
            let why = format!("the executor of a shard asks for {least} and does not start with less");
            Finding::fail("memlock", found).why(why).remedy(remedy)
        }
        _ if limit < needed => {
            let why = format!("{} shards ask for {least} each, and others of this user count too", wants.shards);
            Finding::warn("memlock", found).why(why).remedy(remedy)
        }
        _ => Finding::ok("memlock", format!("{found}, {} are needed", size_text(needed))),
    })
}

fn descriptors(machine: &Machine, wants: &Wants) -> Option<Finding> {
    let (soft, hard) = machine.limits("Max open files")?;
    let needed = wants.descriptors();
    let raised = if soft < hard { ", to which the server raises its soft one" } else { "" };
    let found = format!("hard limit {hard}{raised}; {} clients need {needed}", wants.connections);
    let remedy = "LimitNOFILE=1048576 in the unit, nofile in /etc/security/limits.d, or ulimit -Hn 1048576";
    let why = "a connection is a descriptor; beyond the limit new clients are answered with 503";
    Some(match hard {
        _ if hard < DESCRIPTORS_MIN => Finding::fail("nofile", found).why(why).remedy(remedy),
        _ if hard < needed => Finding::warn("nofile", found).why(why).remedy(remedy),
        _ => Finding::ok("nofile", found),
    })
}

fn of_the_machine(machine: &Machine, wants: &Wants, name: &'static str, path: &str) -> Option<Finding> {
    let limit = machine.number(path)?;
    if limit >= wants.descriptors() {
        return Some(Finding::ok(name, limit.to_string()));
    }
    let why = match name {
        "fs.nr_open" => "no limit of open files can be set above it",
        _ => "all processes together can have no more files open; beyond it nobody on the machine can accept or open",
    };
    let enough = wants.descriptors().next_power_of_two().max(2 << 20);
    let found = format!("{limit}, {} clients need {}", wants.connections, wants.descriptors());
    Some(Finding::warn(name, found).why(why).remedy(format!("sysctl -w {name}={enough}")))
}

fn low_ports(machine: &Machine, wants: &Wants) -> Option<Finding> {
    let first_free = machine.number("proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or(1024);
    let port = *wants.ports.iter().find(|port| **port != 0 && u64::from(**port) < first_free)?;
    let effective = machine.field("proc/self/status", "CapEff")?;
    let effective = u64::from_str_radix(&effective, 16).ok()?;
    let found = format!("port {port} is below {first_free}");
    if effective & BIND_SERVICE != 0 {
        return Some(Finding::ok("low ports", format!("{found}, and this user may listen there")));
    }
    let why = "only with CAP_NET_BIND_SERVICE may one listen there; this shell does not have it";
    let remedy = "systemd/ringcast.socket, or systemd/low-ports.conf, or http_server.port above 1023";
    Some(Finding::warn("low ports", found).why(why).remedy(remedy))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::{expect, wants};
    use super::*;

    #[track_caller]
    fn limit(line: &str, shards: usize, clients: u64, name: &str, want: Level, words: &[&str]) {
        expect(check, &[("proc/self/limits", line)], &wants(shards, clients), name, Some(want), words);
    }

    #[test]
    fn locked_memory_is_needed_by_each_shard() {
        limit("Max locked memory 65536 65536 bytes", 2, 1, "memlock", Level::Fail, &["64 KiB", "LimitMEMLOCK"]);
        limit("Max locked memory 8388608 8388608 bytes", 32, 1, "memlock", Level::Warn, &["8 MiB", "32 shards"]);
        limit("Max locked memory 8388608 8388608 bytes", 16, 1, "memlock", Level::Ok, &[]);
        limit("Max locked memory unlimited unlimited bytes", 16, 1, "memlock", Level::Ok, &[]);
    }

    #[test]
    fn descriptors_are_needed_by_each_client() {
        limit("Max open files 32 32 files", 2, 1, "nofile", Level::Fail, &["32"]);
        limit("Max open files 1024 4096 files", 2, 10_000, "nofile", Level::Warn, &["4096", "10080", "LimitNOFILE"]);
        limit("Max open files 1024 20000 files", 2, 10_000, "nofile", Level::Ok, &["raises"]);
        expect(check, &[("proc/self/limits", "nonsense")], &wants(2, 1), "nofile", None, &[]);
    }

    #[test]
    fn limits_of_the_machine_are_compared_with_the_clients() {
        let (file, open) = ("proc/sys/fs/file-max", "proc/sys/fs/nr_open");
        expect(check, &[(file, "1000")], &wants(2, 5000), "fs.file-max", Some(Level::Warn), &["fs.file-max=2097152"]);
        expect(check, &[(file, "9223372036854775807")], &wants(2, 5000), "fs.file-max", Some(Level::Ok), &[]);
        let many = wants(2, 3_000_000);
        expect(check, &[(open, "1048576")], &many, "fs.nr_open", Some(Level::Warn), &["fs.nr_open=4194304"]);
    }

    #[test]
    fn ports_below_1024_need_a_capability() {
        let low = Wants { ports: vec![443], ..wants(2, 1) };
        let status = "proc/self/status";
        expect(check, &[(status, "CapEff:\t0")], &low, "low ports", Some(Level::Warn), &["443", "ringcast.socket"]);
        expect(check, &[(status, "CapEff:\t0000000000000400")], &low, "low ports", Some(Level::Ok), &[]);
        expect(check, &[(status, "CapEff:\t0")], &wants(2, 1), "low ports", None, &[]);
        let open = [(status, "CapEff:\t0"), ("proc/sys/net/ipv4/ip_unprivileged_port_start", "0")];
        expect(check, &open, &low, "low ports", None, &[]);
    }
}
