//! What lies between a socket and the wire: buffers of sockets, queues of packets, busy polling.

use super::finding::Finding;
use super::machine::Machine;
use super::wants::{Wants, size_text};

/// Send buffer above which a slow reader holds more in the kernel than its queue in the server may (1 MiB by default).
const SEND_BUFFER: u64 = 4 << 20;

/// Unsent bytes above which a socket should report no room.
const UNSENT: u64 = 128 << 10;

/// Packets that may wait for a core.
const PACKETS: u64 = 4096;

/// All of it.
pub fn check(machine: &Machine, wants: &Wants) -> Vec<Finding> {
    let checks = [
        send_buffers(machine, wants),
        receive_buffers(machine),
        unsent(machine),
        idle_restart(machine),
        backlog(machine),
        budget(machine),
        busy_poll(machine),
    ];
    checks.into_iter().flatten().collect()
}

fn send_buffers(machine: &Machine, wants: &Wants) -> Option<Finding> {
    let [least, default, most] = machine.numbers("proc/sys/net/ipv4/tcp_wmem")[..] else {
        return None;
    };
    let found = format!("net.ipv4.tcp_wmem is {least} {default} {most}");
    if most < SEND_BUFFER {
        return Some(Finding::ok("tcp_wmem", found));
    }
    let why = format!(
        "a client that reads slowly ties up as much as {} in the kernel, besides client.queue_max_size in the server; {} \
         of them, {}",
        size_text(most),
        wants.connections,
        size_text(most.saturating_mul(wants.connections))
    );
    let remedy = "sysctl -w net.ipv4.tcp_wmem='4096 16384 1048576'";
    Some(Finding::note("tcp_wmem", found).why(why).remedy(remedy))
}

fn receive_buffers(machine: &Machine) -> Option<Finding> {
    let [least, default, most] = machine.numbers("proc/sys/net/ipv4/tcp_rmem")[..] else {
        return None;
    };
    let found = format!("net.ipv4.tcp_rmem is {least} {default} {most}");
    if most >= UNSENT {
        return Some(Finding::ok("tcp_rmem", found));
    }
    let why = "larger messages and requests wait for a round trip after every so many bytes";
    let remedy = "sysctl -w net.ipv4.tcp_rmem='4096 131072 1048576'";
    Some(Finding::note("tcp_rmem", found).why(why).remedy(remedy))
}

fn unsent(machine: &Machine) -> Option<Finding> {
    let limit = machine.number("proc/sys/net/ipv4/tcp_notsent_lowat")?;
    let found = format!("net.ipv4.tcp_notsent_lowat is {limit}");
    if limit <= 2 * UNSENT {
        return Some(Finding::ok("notsent_lowat", found));
    }
    let why = "a socket takes bytes until its send buffer is full, so a slow client gets messages that are seconds old and \
               is noticed late";
    Some(
        Finding::note("notsent_lowat", found).why(why).remedy(format!("sysctl -w net.ipv4.tcp_notsent_lowat={UNSENT}")),
    )
}

fn idle_restart(machine: &Machine) -> Option<Finding> {
    match machine.number("proc/sys/net/ipv4/tcp_slow_start_after_idle")? {
        0 => Some(Finding::ok("slow start", "net.ipv4.tcp_slow_start_after_idle is 0")),
        value => Some(
            Finding::note("slow start", format!("net.ipv4.tcp_slow_start_after_idle is {value}"))
                .why("after a silence of one timeout a connection sends 10 packets (14 KB) and waits for a round trip, as if new")
                .remedy("sysctl -w net.ipv4.tcp_slow_start_after_idle=0"),
        ),
    }
}

fn backlog(machine: &Machine) -> Option<Finding> {
    let max = machine.number("proc/sys/net/core/netdev_max_backlog")?;
    let dropped = softnet(machine, 1);
    let found = format!("net.core.netdev_max_backlog is {max}, {dropped} packets dropped since boot");
    if dropped == 0 {
        return Some(Finding::ok("packet backlog", found));
    }
    let why = "the queue of a core for packets of RPS, loopback and virtual cards was full; each lost packet delays its \
               connection by 200 ms or more";
    let more = PACKETS.max(max.saturating_mul(2));
    Some(
        Finding::warn("packet backlog", found).why(why).remedy(format!("sysctl -w net.core.netdev_max_backlog={more}")),
    )
}

fn budget(machine: &Machine) -> Option<Finding> {
    let packets = machine.number("proc/sys/net/core/netdev_budget")?;
    let span = machine.number("proc/sys/net/core/netdev_budget_usecs").unwrap_or_default();
    let squeezed = softnet(machine, 2);
    let processed = softnet(machine, 0);
    let found =
        format!("net.core.netdev_budget is {packets}, netdev_budget_usecs {span}; spent {squeezed} times since boot");
    // One round in some ten thousand packets is nothing.
    if squeezed <= processed / 10_000 {
        return Some(Finding::ok("packet budget", found));
    }
    let why =
        format!("of {processed} packets so many waited for another round of their core because the budget was spent");
    let remedy =
        "sysctl -w net.core.netdev_budget=600 net.core.netdev_budget_usecs=8000, and spread interrupts: tuning/irq.sh";
    Some(Finding::note("packet budget", found).why(why).remedy(remedy))
}

/// Sum of a column of `softnet_stat` over all CPUs; its numbers are hexadecimal.
fn softnet(machine: &Machine, column: usize) -> u64 {
    let text = machine.text("proc/net/softnet_stat").unwrap_or_default();
    let values = text.lines().filter_map(|line| line.split_whitespace().nth(column));
    values.filter_map(|value| u64::from_str_radix(value, 16).ok()).fold(0, u64::saturating_add)
}

fn busy_poll(machine: &Machine) -> Option<Finding> {
    let read = machine.number("proc/sys/net/core/busy_read")?;
    let poll = machine.number("proc/sys/net/core/busy_poll").unwrap_or(0);
    let found = format!("net.core.busy_read is {read}, busy_poll {poll}");
    if read == 0 && poll == 0 {
        return Some(Finding::ok("busy poll", found));
    }
    let why = "these make other programs spin in poll and read; a shard waits in its ring, which does not heed them";
    let remedy = "sysctl -w net.core.busy_read=0 net.core.busy_poll=0, unless another program here is tuned by them";
    Some(Finding::note("busy poll", found).why(why).remedy(remedy))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::{expect, wants};
    use super::*;

    #[track_caller]
    fn of(files: &[(&str, &str)], name: &str, want: Option<Level>, words: &[&str]) {
        expect(check, files, &wants(2, 10_000), name, want, words);
    }

    #[test]
    fn buffers_of_sockets_are_bounded() {
        let (send, receive) = ("proc/sys/net/ipv4/tcp_wmem", "proc/sys/net/ipv4/tcp_rmem");
        of(&[(send, "4096\t16384\t4194304\n")], "tcp_wmem", Some(Level::Note), &["4 MiB", "39 GiB", "1048576"]);
        of(&[(send, "4096\t16384\t1048576\n")], "tcp_wmem", Some(Level::Ok), &[]);
        of(&[(send, "4096\n")], "tcp_wmem", None, &[]);
        of(&[(receive, "4096\t131072\t6291456\n")], "tcp_rmem", Some(Level::Ok), &[]);
        of(&[(receive, "4096\t8192\t65536\n")], "tcp_rmem", Some(Level::Note), &["65536"]);
    }

    #[test]
    fn unsent_bytes_and_slow_starts_are_noted() {
        let file = "proc/sys/net/ipv4/tcp_notsent_lowat";
        of(&[(file, "4294967295\n")], "notsent_lowat", Some(Level::Note), &["tcp_notsent_lowat=131072"]);
        of(&[(file, "131072\n")], "notsent_lowat", Some(Level::Ok), &[]);
        let file = "proc/sys/net/ipv4/tcp_slow_start_after_idle";
        of(&[(file, "1\n")], "slow start", Some(Level::Note), &["tcp_slow_start_after_idle=0"]);
        of(&[(file, "0\n")], "slow start", Some(Level::Ok), &[]);
    }

    #[test]
    fn dropped_and_late_packets_are_counted() {
        let stat = "proc/net/softnet_stat";
        let (backlog, budget) = ("proc/sys/net/core/netdev_max_backlog", "proc/sys/net/core/netdev_budget");
        let lost = "0000ffff 00000001 00000000 0\n0000ffff 00000010 000000ff 0\n";
        of(&[(stat, lost), (backlog, "1000")], "packet backlog", Some(Level::Warn), &["17", "netdev_max_backlog=4096"]);
        of(&[(stat, lost), (budget, "300")], "packet budget", Some(Level::Note), &["255", "netdev_budget=600"]);
        let fine = "0000ffff 00000000 00000001\n";
        of(&[(stat, fine), (backlog, "1000")], "packet backlog", Some(Level::Ok), &[]);
        of(&[(stat, fine), (budget, "300")], "packet budget", Some(Level::Ok), &[]);
    }

    #[test]
    fn busy_polling_by_sysctl_is_no_use() {
        let (read, poll) = ("proc/sys/net/core/busy_read", "proc/sys/net/core/busy_poll");
        of(&[(read, "50"), (poll, "50")], "busy poll", Some(Level::Note), &["busy_read=0"]);
        of(&[(read, "0"), (poll, "0")], "busy poll", Some(Level::Ok), &[]);
    }
}
