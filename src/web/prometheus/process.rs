//! What every process has: `process_*` as client_golang shows it. Source: its process collector; proc(5).

use super::model::Families;
use std::fs;

/// Adds what the kernel tells; what it does not is left out.
pub fn add(families: &mut Families) {
    let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::read(&text));
    if let Some(stat) = stat {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let help = "Total user and system CPU time spent in seconds.";
        // Not a whole number, so no counter of ours.
        let seconds = (Vec::new(), stat.cpu_ticks as f64 / ticks);
        families.numbers("process_cpu_seconds_total", help, super::model::Kind::Counter, [seconds]);
        let memory = stat.resident_pages * rustix::param::page_size() as u64;
        families.level("process_resident_memory_bytes", "Resident memory size in bytes.", memory as f64);
        families.level("process_virtual_memory_bytes", "Virtual memory size in bytes.", stat.virtual_bytes as f64);
        if let Some(boot) = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text)) {
            let help = "Start time of the process since unix epoch in seconds.";
            families.level("process_start_time_seconds", help, boot as f64 + stat.start_ticks as f64 / ticks);
        }
    }
    // The kernel tells the number as the size of the folder, since Linux 6.2.
    if let Some(open) = fs::metadata("/proc/self/fd").ok().map(|folder| folder.len()).filter(|open| *open > 0) {
        families.level("process_open_fds", "Number of open file descriptors.", open as f64);
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    for (name, help, limit) in [
        ("process_max_fds", "Maximum number of open file descriptors.", "Max open files"),
        (
            "process_virtual_memory_max_bytes",
            "Maximum amount of virtual memory available in bytes.",
            "Max address space",
        ),
    ] {
        if let Some(value) = soft_limit(&limits, limit) {
            families.level(name, help, value);
        }
    }
    if let Some((received, sent)) = fs::read_to_string("/proc/self/net/dev").ok().map(|text| network(&text)) {
        let help = "Number of bytes received by the process over the network.";
        families.count("process_network_receive_bytes_total", help, received);
        let help = "Number of bytes sent by the process over the network.";
        families.count("process_network_transmit_bytes_total", help, sent);
    }
}

/// Some fields of `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// The name of the process, in parentheses, may hold anything.
    fn read(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // proc(5) counts from 1, and two fields are before these.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn soft_limit(limits: &str, name: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}

/// Bytes received and sent by all interfaces.
fn network(devices: &str) -> (u64, u64) {
    let interfaces = devices.lines().filter_map(|line| {
        let mut fields = line.split_once(':')?.1.split_ascii_whitespace();
        Some((fields.next()?.parse::<u64>().ok()?, fields.nth(7)?.parse::<u64>().ok()?))
    });
    interfaces.fold((0, 0), |(received, sent), (more, too)| (received + more, sent + too))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_process_is_called() {
        let text = "42 (a ) b (c) S 1 2 3 4 5 6 7 8 9 10 111 222 13 14 15 16 17 18 999 4096 7 20";
        let want = Stat { cpu_ticks: 333, start_ticks: 999, virtual_bytes: 4096, resident_pages: 7 };
        assert_eq!(Stat::read(text), Some(want));
        assert_eq!(Stat::read("42 (a) S 1"), None);
    }

    #[test]
    fn limits_and_networks_are_read() {
        let limits = "Limit Soft Hard Units\nMax open files            20000                20001  files\nMax address space  unlimited unlimited bytes\n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(20000.0));
        assert_eq!(soft_limit(limits, "Max address space"), Some(u64::MAX as f64));
        assert_eq!(soft_limit(limits, "Max nothing"), None);
        let devices =
            "Inter-|   Receive\n face |bytes\n    lo: 10 2 0 0 0 0 0 0 20 2 0\n  eth0: 5 1 0 0 0 0 0 0 7 1 0\n";
        assert_eq!(network(devices), (15, 27));
        assert_eq!(boot_time("cpu 1\nbtime 1700000000\n"), Some(1_700_000_000));
    }

    #[test]
    fn this_process_has_them_all() {
        let mut families = Families::new(super::super::model::Shape::Classic);
        add(&mut families);
        assert_eq!(families.finish().len(), 9);
    }
}
