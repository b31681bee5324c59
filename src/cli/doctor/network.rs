//! Connections on their way in and out: queues of new ones, ports, and the firewall's table.

use super::finding::Finding;
use super::machine::Machine;
use super::wants::Wants;

/// What each shard asks for when it listens.
const BACKLOG: u64 = 4096;

/// Ports for outgoing connections below which backends or load generators may run out.
const OUTGOING_PORTS: u64 = 28_000;

/// All of it.
pub fn check(machine: &Machine, wants: &Wants) -> Vec<Finding> {
    let checks = [
        accept_queue(machine),
        handshakes(machine),
        outgoing_ports(machine),
        reserved_ports(machine, wants),
        conntrack(machine, wants),
    ];
    checks.into_iter().flatten().collect()
}

fn accept_queue(machine: &Machine) -> Option<Finding> {
    let max = machine.number("proc/sys/net/core/somaxconn")?;
    let found = format!("net.core.somaxconn is {max}");
    if max >= BACKLOG {
        return Some(Finding::ok("somaxconn", found));
    }
    let why = format!(
        "each shard asks for a queue of {BACKLOG} connections that wait to be accepted, and the kernel cuts it to this; \
         in a storm of reconnecting clients the rest try again after 1, 3, 7 seconds"
    );
    Some(Finding::warn("somaxconn", found).why(why).remedy(format!("sysctl -w net.core.somaxconn={BACKLOG}")))
}

fn handshakes(machine: &Machine) -> Option<Finding> {
    let max = machine.number("proc/sys/net/ipv4/tcp_max_syn_backlog")?;
    let cookies = machine.number("proc/sys/net/ipv4/tcp_syncookies").unwrap_or(0);
    let found = format!("net.ipv4.tcp_max_syn_backlog is {max}, tcp_syncookies {cookies}");
    if max >= BACKLOG {
        return Some(Finding::ok("syn backlog", found));
    }
    let (finding, why) = match cookies {
        0 => {
            (Finding::warn("syn backlog", found), "more handshakes at a time are dropped, and there are no SYN cookies")
        }
        _ => (
            Finding::note("syn backlog", found),
            "more handshakes at a time are answered with SYN cookies, which forget window scaling and SACK",
        ),
    };
    Some(finding.why(why).remedy("sysctl -w net.ipv4.tcp_max_syn_backlog=16384"))
}

fn outgoing_ports(machine: &Machine) -> Option<Finding> {
    let (first, last) = port_range(machine)?;
    let ports = last.saturating_add(1).saturating_sub(first);
    let found = format!("net.ipv4.ip_local_port_range is {first} to {last}, {ports} ports");
    if ports >= OUTGOING_PORTS {
        return Some(Finding::ok("port range", found));
    }
    let why = "outgoing connections to one address and port: a proxy in front of the server on this machine, or a load \
               generator, has no more of them (clients that come in need none)";
    let remedy = "sysctl -w net.ipv4.ip_local_port_range='10240 65535'";
    Some(Finding::note("port range", found).why(why).remedy(remedy))
}

fn reserved_ports(machine: &Machine, wants: &Wants) -> Option<Finding> {
    let (first, last) = port_range(machine)?;
    let reserved = machine.cpus("proc/sys/net/ipv4/ip_local_reserved_ports");
    let is_loose =
        |port: &&u16| (first..=last).contains(&u64::from(**port)) && !reserved.contains(&usize::from(**port));
    let port = wants.ports.iter().find(is_loose)?;
    let found = format!("port {port} lies among the ports for outgoing connections, {first} to {last}");
    let why = "an outgoing connection of any process may hold it when the server starts, which then fails";
    let remedy = format!("sysctl -w net.ipv4.ip_local_reserved_ports={port}");
    Some(Finding::note("reserved ports", found).why(why).remedy(remedy))
}

fn port_range(machine: &Machine) -> Option<(u64, u64)> {
    match machine.numbers("proc/sys/net/ipv4/ip_local_port_range")[..] {
        [first, last] => Some((first, last)),
        _ => None,
    }
}

fn conntrack(machine: &Machine, wants: &Wants) -> Option<Finding> {
    let max = machine.number("proc/sys/net/netfilter/nf_conntrack_max")?;
    let used = machine.number("proc/sys/net/netfilter/nf_conntrack_count").unwrap_or(0);
    // Closed connections stay for two minutes, so the table holds more than there are clients.
    let needed = wants.connections + wants.connections / 4;
    let found = format!("the table of the firewall holds {max} connections, {used} now");
    if max == 0 || max >= needed.max(used.saturating_add(used / 4)) {
        return Some(Finding::ok("conntrack", found));
    }
    let why = format!(
        "packets of connections beyond it are dropped (\"nf_conntrack: table full\"); {} clients need some {needed}, and \
         each costs 320 bytes of the kernel and a look-up per packet",
        wants.connections
    );
    let enough = needed.max(used.saturating_mul(2)).checked_next_power_of_two().unwrap_or(u64::MAX);
    let port = wants.ports.first().copied().unwrap_or_default();
    let remedy = format!(
        "sysctl -w net.netfilter.nf_conntrack_max={enough}, or let the firewall not track these: nft add rule inet raw \
         prerouting tcp dport {port} notrack (and sport in output)"
    );
    Some(Finding::warn("conntrack", found).why(why).remedy(remedy))
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
    fn short_queues_are_named() {
        let file = "proc/sys/net/core/somaxconn";
        of(&[(file, "128\n")], 1, "somaxconn", Some(Level::Warn), &["128", "sysctl -w net.core.somaxconn=4096"]);
        of(&[(file, "4096\n")], 1, "somaxconn", Some(Level::Ok), &[]);
        of(&[], 1, "somaxconn", None, &[]);
    }

    #[test]
    fn short_queues_of_handshakes_matter_most_without_cookies() {
        let (file, cookies) = ("proc/sys/net/ipv4/tcp_max_syn_backlog", "proc/sys/net/ipv4/tcp_syncookies");
        of(&[(file, "512"), (cookies, "1")], 1, "syn backlog", Some(Level::Note), &["512", "16384"]);
        of(&[(file, "512"), (cookies, "0")], 1, "syn backlog", Some(Level::Warn), &["dropped"]);
        of(&[(file, "4096"), (cookies, "1")], 1, "syn backlog", Some(Level::Ok), &[]);
    }

    #[test]
    fn ports_are_many_and_none_is_taken_by_chance() {
        let (file, reserved) = ("proc/sys/net/ipv4/ip_local_port_range", "proc/sys/net/ipv4/ip_local_reserved_ports");
        of(&[(file, "32768\t60999\n")], 1, "port range", Some(Level::Ok), &["28232"]);
        of(&[(file, "50000\t60999\n")], 1, "port range", Some(Level::Note), &["11000", "sysctl"]);
        of(&[(file, "nonsense")], 1, "port range", None, &[]);
        of(&[(file, "32768\t60999\n")], 1, "reserved ports", None, &[]);
        of(&[(file, "1024\t65535\n")], 1, "reserved ports", Some(Level::Note), &["ip_local_reserved_ports=8000"]);
        of(&[(file, "1024\t65535\n"), (reserved, "7000,8000-8001\n")], 1, "reserved ports", None, &[]);
    }

    #[test]
    fn the_table_of_the_firewall_holds_every_client() {
        let (max, count) = ("proc/sys/net/netfilter/nf_conntrack_max", "proc/sys/net/netfilter/nf_conntrack_count");
        let words = ["65536", "nf_conntrack_max=131072", "dport 8000 notrack"];
        of(&[(max, "65536"), (count, "10")], 100_000, "conntrack", Some(Level::Warn), &words);
        of(&[(max, "262144"), (count, "10")], 100_000, "conntrack", Some(Level::Ok), &[]);
        of(&[(max, "262144"), (count, "262000")], 100, "conntrack", Some(Level::Warn), &["524288"]);
        of(&[], 100_000, "conntrack", None, &[]);
    }
}
