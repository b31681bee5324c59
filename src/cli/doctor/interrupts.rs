//! Which CPUs take the packets of each network card: interrupts, and receive packet steering (RPS) behind them.

use super::finding::Finding;
use super::machine::{Machine, cpu_text};
use super::wants::Wants;
use std::collections::BTreeSet;

const CARDS: &str = "sys/class/net";

/// One finding for each card.
pub fn check(machine: &Machine, wants: &Wants) -> Vec<Finding> {
    let is_card = |name: &String| !machine.names(&format!("{CARDS}/{name}/device")).is_empty();
    machine.names(CARDS).into_iter().filter(is_card).filter_map(|card| packets(machine, wants, &card)).collect()
}

fn packets(machine: &Machine, wants: &Wants, card: &str) -> Option<Finding> {
    let cpus = interrupted(machine, card);
    if cpus.is_empty() {
        return None;
    }
    let queues = machine.names(&format!("{CARDS}/{card}/queues"));
    let queues: Vec<_> = queues.iter().filter(|queue| queue.starts_with("rx-")).collect();
    let steered = queues.iter().any(|queue| {
        let mask = machine.text(&format!("{CARDS}/{card}/queues/{queue}/rps_cpus")).unwrap_or_default();
        mask.contains(|digit: char| digit.is_ascii_hexdigit() && digit != '0')
    });
    let allowed = machine.allowed_cpus();
    let shards: Vec<_> = allowed.iter().copied().take(wants.shards).collect();
    let spare: Vec<_> =
        machine.cpus("sys/devices/system/cpu/online").into_iter().filter(|cpu| !shards.contains(cpu)).collect();
    let found = format!(
        "{card}: receive queues {}, interrupts on CPUs {}, RPS {}",
        queues.len(),
        cpu_text(&cpus),
        if steered { "on" } else { "off" }
    );
    let shared = cpus.iter().any(|cpu| shards.contains(cpu));
    if queues.len() == 1 && !steered && shards.len() > 2 {
        let why = "every packet goes through one CPU, whose shard is slower than the others and which is the ceiling of \
                   them all";
        return Some(Finding::warn("interrupts", found).why(why).remedy(format!("tuning/irq.sh --rps --apply {card}")));
    }
    if shared && !spare.is_empty() {
        let why = format!(
            "shards run on CPUs {}, and CPUs {} have none: interrupts there would not interrupt a turn",
            cpu_text(&shards),
            cpu_text(&spare)
        );
        let remedy = format!("tuning/irq.sh --cpus {} --apply {card}", cpu_text(&spare));
        return Some(Finding::note("interrupts", found).why(why).remedy(remedy));
    }
    Some(Finding::ok("interrupts", found))
}

/// CPUs that take the interrupts of a card. A virtual card's belong to the device above it.
fn interrupted(machine: &Machine, card: &str) -> Vec<usize> {
    let own = machine.names(&format!("{CARDS}/{card}/device/msi_irqs"));
    let numbers = if own.is_empty() { machine.names(&format!("{CARDS}/{card}/device/../msi_irqs")) } else { own };
    let cpus = numbers.iter().flat_map(|number| {
        let effective = machine.cpus(&format!("proc/irq/{number}/effective_affinity_list"));
        if effective.is_empty() { machine.cpus(&format!("proc/irq/{number}/smp_affinity_list")) } else { effective }
    });
    cpus.collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tree::{expect, wants};
    use super::*;

    /// Eight CPUs, and a card with two queues whose interrupts go to CPUs 0 and 1.
    const FILES: [(&str, &str); 8] = [
        ("sys/devices/system/cpu/online", "0-7\n"),
        ("proc/self/status", "Cpus_allowed_list:\t0-7\n"),
        ("sys/class/net/eth0/device/msi_irqs/40", "msix\n"),
        ("sys/class/net/eth0/device/msi_irqs/41", "msix\n"),
        ("proc/irq/40/effective_affinity_list", "0\n"),
        ("proc/irq/41/smp_affinity_list", "1\n"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00\n"),
        ("sys/class/net/eth0/queues/rx-1/rps_cpus", "00\n"),
    ];

    #[test]
    fn interrupts_beside_shards_are_noted_where_cpus_are_free() {
        let words = ["receive queues 2", "CPUs 0-1", "RPS off", "--cpus 6-7", "eth0"];
        expect(check, &FILES, &wants(6, 1), "interrupts", Some(Level::Note), &words);
        expect(check, &FILES, &wants(8, 1), "interrupts", Some(Level::Ok), &[]);
    }

    #[test]
    fn a_card_with_one_queue_wants_steering() {
        let one = &FILES[..7];
        expect(check, one, &wants(8, 1), "interrupts", Some(Level::Warn), &["--rps", "eth0"]);
        let mut steered = one.to_vec();
        steered[6].1 = "00,000000f0\n";
        expect(check, &steered, &wants(8, 1), "interrupts", Some(Level::Ok), &["RPS on"]);
    }

    #[test]
    fn loopback_and_cards_without_interrupts_say_nothing() {
        expect(check, &[("sys/class/net/lo/mtu", "65536")], &wants(8, 1), "interrupts", None, &[]);
        expect(check, &[("sys/class/net/eth1/device/vendor", "1")], &wants(8, 1), "interrupts", None, &[]);
    }
}
