//! Memory: room for every client, swap, overcommit, huge pages.

use super::finding::Finding;
use super::machine::Machine;
use super::wants::{Wants, size_text};

/// All of it.
pub fn check(machine: &Machine, wants: &Wants) -> Vec<Finding> {
    let checks = [room(machine, wants), swap(machine), overcommit(machine), huge_pages(machine)];
    checks.into_iter().flatten().collect()
}

fn room(machine: &Machine, wants: &Wants) -> Option<Finding> {
    let available = machine.memory("MemAvailable")?;
    let needed = wants.memory_bytes();
    let found = format!(
        "{} available; {} idle clients and {} shards need some {}",
        size_text(available),
        wants.connections,
        wants.shards,
        size_text(needed)
    );
    if available >= needed {
        return Some(Finding::ok("memory", found));
    }
    let why = "the kernel ends a process when memory runs out, as a rule the largest: this one";
    let remedy = format!("set key client.connection_limit to {} at most", affordable(wants, available));
    Some(Finding::warn("memory", found).why(why).remedy(remedy))
}

/// Clients that some memory has room for.
pub fn affordable(wants: &Wants, bytes: u64) -> u64 {
    let none = Wants { connections: 0, ports: Vec::new(), certificates: Vec::new(), ..*wants };
    let one = Wants { connections: 1, ports: Vec::new(), certificates: Vec::new(), ..*wants }.memory_bytes()
        - none.memory_bytes();
    bytes.saturating_sub(none.memory_bytes()) / one
}

fn swap(machine: &Machine) -> Option<Finding> {
    let total = machine.memory("SwapTotal")?;
    let swappiness = machine.number("proc/sys/vm/swappiness").unwrap_or(60);
    let found = format!("{} of swap, vm.swappiness {swappiness}", size_text(total));
    if total == 0 || swappiness <= 10 {
        return Some(Finding::ok("swap", found));
    }
    let why = "a shard whose memory was moved to disk waits milliseconds for each page, and all its clients with it";
    Some(Finding::note("swap", found).why(why).remedy("sysctl -w vm.swappiness=1, or MemorySwapMax=0 in the unit"))
}

fn overcommit(machine: &Machine) -> Option<Finding> {
    match machine.number("proc/sys/vm/overcommit_memory")? {
        2 => Some(
            Finding::warn("overcommit", "vm.overcommit_memory is 2")
                .why("the allocator reserves address space ahead of use, which counts as used here: allocations fail early")
                .remedy("sysctl -w vm.overcommit_memory=0"),
        ),
        value => Some(Finding::ok("overcommit", format!("vm.overcommit_memory is {value}"))),
    }
}

fn huge_pages(machine: &Machine) -> Option<Finding> {
    let text = machine.text("sys/kernel/mm/transparent_hugepage/enabled")?;
    let chosen = text.split(['[', ']']).nth(1)?.to_owned();
    // Measured, see `main.rs`: with them an idle client costs half as much again.
    Some(Finding::ok("huge pages", format!("transparent huge pages {chosen}; the server refuses them for itself")))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::{expect, wants};
    use super::*;

    #[track_caller]
    fn of(files: &[(&str, &str)], clients: u64, name: &str, want: Option<Level>, words: &[&str]) {
        expect(check, files, &wants(2, clients), name, want, words);
    }

    #[test]
    fn every_client_needs_room() {
        let files = [("proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable:    1048576 kB\n")];
        of(&files, 100_000, "memory", Some(Level::Ok), &["1024 MiB", "617 MiB"]);
        of(&files, 1_000_000, "memory", Some(Level::Warn), &["5 GiB", "connection_limit to 169301"]);
        of(&[], 1, "memory", None, &[]);
    }

    #[test]
    fn swap_is_noted_if_it_is_used_readily() {
        let meminfo = ("proc/meminfo", "SwapTotal: 1048576 kB\n");
        let file = "proc/sys/vm/swappiness";
        of(&[meminfo, (file, "60")], 1, "swap", Some(Level::Note), &["vm.swappiness=1"]);
        of(&[meminfo, (file, "1")], 1, "swap", Some(Level::Ok), &[]);
        of(&[("proc/meminfo", "SwapTotal: 0 kB\n"), (file, "60")], 1, "swap", Some(Level::Ok), &[]);
    }

    #[test]
    fn strict_accounting_of_memory_is_warned_of() {
        of(&[("proc/sys/vm/overcommit_memory", "2")], 1, "overcommit", Some(Level::Warn), &["overcommit_memory=0"]);
        of(&[("proc/sys/vm/overcommit_memory", "0")], 1, "overcommit", Some(Level::Ok), &[]);
    }

    #[test]
    fn huge_pages_do_not_matter() {
        let file = "sys/kernel/mm/transparent_hugepage/enabled";
        of(&[(file, "[always] madvise never\n")], 1, "huge pages", Some(Level::Ok), &["always"]);
        of(&[(file, "nonsense")], 1, "huge pages", None, &[]);
    }
}
