//! Decides on which CPU each shard runs, how many there are by default, and what is left to the control plane. A function of
//! the [`Machine`]; `apply` carries it out.

mod apply;
mod cpu_list;
mod machine;

use std::fmt;

pub use cpu_list::{CpuListError, parse_cpu_list};
pub use machine::{Cpu, Machine};

pub(crate) use apply::keep_control_plane_on;

use cpu_list::ranges;

/// Config group `shard_placement`, ours. The default: a shard on every CPU that the process may use, physical cores first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementOptions {
    /// Key `shard_placement.cpus`: the CPU of each shard, in order, written as `0-3,8`. Empty, the default, chooses.
    pub cpus: Vec<usize>,
    /// Key `shard_placement.one_per_core`: no two shards on hyperthreads of one core. Default false.
    pub one_per_core: bool,
    /// Key `shard_placement.reserve`: cores, the lowest numbered ones, that get no shard. The control plane runs there, and
    /// interrupts can be sent there. Default 0.
    pub reserve: usize,
    /// Key `shard_placement.follow_interrupts`: a connection goes to the shard whose CPU took its first packet
    /// (SO_INCOMING_CPU, which Linux heeds here from 6.2 on). Default false: the kernel hashes the addresses.
    pub follow_interrupts: bool,
}

/// Which shard runs where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// CPU of each shard.
    pub shards: Vec<usize>,
    /// CPUs of every other thread, in ascending order.
    pub control: Vec<usize>,
    /// Why it came out like that, for the log.
    pub why: String,
}

/// What was asked for does not fit the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacementError {
    /// A CPU outside of the affinity mask of the process.
    NotAllowed {
        /// The CPU.
        cpu: usize,
        /// Those inside.
        allowed: Vec<usize>,
    },
    /// Another number of CPUs than of shards.
    Length {
        /// Key `shards`.
        shards: usize,
        /// In the list.
        cpus: usize,
    },
    /// No core would be left.
    Reserve {
        /// Key `shard_placement.reserve`.
        reserve: usize,
        /// Cores that the process may use.
        cores: usize,
    },
}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed { cpu, allowed } => write!(
                f,
                "shard_placement.cpus names CPU {cpu}, expected some of {}: the affinity mask of the process (taskset, \
                 a cpuset, CPUAffinity= or AllowedCPUs= of systemd) has no others",
                ranges(allowed)
            ),
            Self::Length { shards, cpus } => write!(
                f,
                "shard_placement.cpus names {cpus} CPUs and shards is {shards}: expected one CPU for each shard, or shards 0"
            ),
            Self::Reserve { reserve, cores } => write!(
                f,
                "shard_placement.reserve is {reserve}, expected less than the number of cores that the process may use, \
                 which is {cores}"
            ),
        }
    }
}

/// Places `shards` shards; 0 for as many as the machine has room for.
pub fn place(options: &PlacementOptions, shards: usize, machine: &Machine) -> Result<Placement, PlacementError> {
    if options.cpus.is_empty() { choose(options, shards, machine) } else { take_list(&options.cpus, shards, machine) }
}

/// The operator knows best.
fn take_list(cpus: &[usize], shards: usize, machine: &Machine) -> Result<Placement, PlacementError> {
    let allowed = machine.ids();
    if let Some(&cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(PlacementError::NotAllowed { cpu, allowed });
    }
    if shards != 0 && shards != cpus.len() {
        return Err(PlacementError::Length { shards, cpus: cpus.len() });
    }
    let why = "shard_placement.cpus".to_owned();
    Ok(Placement { shards: cpus.to_vec(), control: rest(&allowed, cpus), why })
}

fn choose(options: &PlacementOptions, shards: usize, machine: &Machine) -> Result<Placement, PlacementError> {
    let cores = cores(machine);
    if options.reserve >= cores.len().max(1) {
        return Err(PlacementError::Reserve { reserve: options.reserve, cores: cores.len() });
    }
    let (reserved, free) = cores.split_at(options.reserve);
    let cpus = in_order(free, options.one_per_core);
    let room = machine.quota.map_or(cpus.len(), |quota| cpus.len().min((quota.ceil() as usize).max(1)));
    let count = if shards == 0 { room } else { shards };
    let reserved: Vec<_> = reserved.iter().flatten().map(|cpu| cpu.id).collect();
    Ok(Placement {
        shards: cpus.iter().cycle().take(count).copied().collect(),
        control: if reserved.is_empty() { machine.ids() } else { sorted(reserved) },
        why: reasons(options, shards, &cpus, machine),
    })
}

/// Physical cores in ascending order, each with those of its hyperthreads that the process may use.
fn cores(machine: &Machine) -> Vec<Vec<&Cpu>> {
    let mut cpus: Vec<_> = machine.cpus.iter().collect();
    cpus.sort_by_key(|cpu| (cpu.core, cpu.id));
    cpus.chunk_by(|a, b| a.core == b.core).map(<[_]>::to_vec).collect()
}

/// First one hyperthread of every core, node by node; then the second ones: two shards on a core slow each other down more than
/// memory of another node does.
fn in_order(cores: &[Vec<&Cpu>], one_per_core: bool) -> Vec<usize> {
    let ranked = cores.iter().flat_map(|core| core.iter().enumerate());
    let mut ranked: Vec<_> = ranked.filter(|(rank, _)| *rank == 0 || !one_per_core).collect();
    ranked.sort_by_key(|(rank, cpu)| (*rank, cpu.node, cpu.id));
    ranked.into_iter().map(|(_, cpu)| cpu.id).collect()
}

/// What the list leaves; everything where it leaves nothing.
fn rest(allowed: &[usize], taken: &[usize]) -> Vec<usize> {
    let rest: Vec<_> = allowed.iter().filter(|cpu| !taken.contains(cpu)).copied().collect();
    if rest.is_empty() { allowed.to_vec() } else { rest }
}

fn sorted(mut cpus: Vec<usize>) -> Vec<usize> {
    cpus.sort_unstable();
    cpus
}

fn reasons(options: &PlacementOptions, shards: usize, cpus: &[usize], machine: &Machine) -> String {
    let mut reasons = Vec::new();
    let room = machine.quota.filter(|quota| (quota.ceil() as usize) < cpus.len().max(shards));
    match (shards, room) {
        (0, Some(quota)) => reasons.push(format!("as many as the quota of {quota} CPUs (cpu.max)")),
        (0, None) if options.one_per_core => reasons.push("one on every core".to_owned()),
        (0, None) => reasons.push("one on every CPU".to_owned()),
        (_, Some(quota)) => reasons.push(format!("shards, though the quota (cpu.max) is {quota} CPUs")),
        (_, None) if shards > cpus.len() => reasons.push(format!("shards, though there are {} CPUs", cpus.len())),
        (_, None) => reasons.push("shards".to_owned()),
    }
    if options.one_per_core {
        reasons.push("shard_placement.one_per_core".to_owned());
    }
    if options.reserve > 0 {
        reasons.push(format!("shard_placement.reserve {}", options.reserve));
    }
    reasons.join(", ")
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shards: Vec<_> = self.shards.iter().enumerate().map(|(shard, cpu)| format!("{shard} on {cpu}")).collect();
        write!(f, "shards on CPUs: {}; control plane on {} ({})", shards.join(", "), ranges(&self.control), self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPUs as (core, node), numbered in this order.
    fn machine(cpus: &[(usize, usize)]) -> Machine {
        let cpu = |(id, &(core, node)): (usize, &(usize, usize))| Cpu { id, core, node };
        Machine { cpus: cpus.iter().enumerate().map(cpu).collect(), quota: None }
    }

    /// One socket, four cores; the second hyperthreads are numbered behind the first, as on bare metal.
    fn one_socket() -> Machine {
        machine(&[(0, 0), (1, 0), (2, 0), (3, 0), (0, 0), (1, 0), (2, 0), (3, 0)])
    }

    /// Two nodes of two cores, hyperthreads numbered side by side, nodes in turn.
    fn two_nodes() -> Machine {
        machine(&[(0, 0), (0, 0), (2, 1), (2, 1), (4, 0), (4, 0), (6, 1), (6, 1)])
    }

    fn only(mut machine: Machine, allowed: &[usize]) -> Machine {
        machine.cpus.retain(|cpu| allowed.contains(&cpu.id));
        machine
    }

    fn options() -> PlacementOptions {
        PlacementOptions::default()
    }

    /// Where the shards and the control plane come to be.
    #[track_caller]
    fn check(options: &PlacementOptions, shards: usize, machine: &Machine, want: (&[usize], &[usize])) {
        let got = place(options, shards, machine).unwrap();
        assert_eq!((&*got.shards, &*got.control), want, "{got}");
    }

    #[track_caller]
    fn check_error(options: &PlacementOptions, shards: usize, machine: &Machine, want: &str) {
        assert_eq!(place(options, shards, machine).unwrap_err().to_string(), want);
    }

    #[test]
    fn every_cpu_gets_a_shard_by_default_and_the_control_plane_runs_everywhere() {
        let all = &[0, 1, 2, 3, 4, 5, 6, 7];
        check(&options(), 0, &one_socket(), (all, all));
        check(&options(), 0, &machine(&[(0, 0)]), (&[0], &[0]));
    }

    #[test]
    fn physical_cores_come_before_their_second_threads_and_a_node_before_the_next() {
        let all = &[0, 1, 2, 3, 4, 5, 6, 7];
        check(&options(), 0, &two_nodes(), (&[0, 4, 2, 6, 1, 5, 3, 7], all));
        check(&options(), 2, &two_nodes(), (&[0, 4], all));
        check(&options(), 3, &one_socket(), (&[0, 1, 2], all));
    }

    #[test]
    fn one_per_core_leaves_the_second_threads_idle() {
        let options = PlacementOptions { one_per_core: true, ..options() };
        let all = &[0, 1, 2, 3, 4, 5, 6, 7];
        check(&options, 0, &one_socket(), (&[0, 1, 2, 3], all));
        check(&options, 0, &two_nodes(), (&[0, 4, 2, 6], all));
        // The first thread of core 1 is not ours: the second is then the only one.
        check(&options, 0, &only(one_socket(), &[0, 4, 5]), (&[0, 5], &[0, 4, 5]));
    }

    #[test]
    fn reserved_cores_with_all_their_threads_are_the_control_planes() {
        let options = PlacementOptions { reserve: 1, ..options() };
        check(&options, 0, &one_socket(), (&[1, 2, 3, 5, 6, 7], &[0, 4]));
        check(&options, 0, &two_nodes(), (&[4, 2, 6, 5, 3, 7], &[0, 1]));
        let both = PlacementOptions { one_per_core: true, ..options.clone() };
        check(&both, 0, &one_socket(), (&[1, 2, 3], &[0, 4]));
        check(&options, 5, &only(one_socket(), &[2, 3]), (&[3, 3, 3, 3, 3], &[2]));
        let error =
            "shard_placement.reserve is 1, expected less than the number of cores that the process may use, which is 1";
        check_error(&options, 0, &only(one_socket(), &[2, 6]), error);
    }

    #[test]
    fn more_shards_than_cpus_share_them_in_turn() {
        check(&options(), 5, &only(one_socket(), &[1, 6]), (&[1, 6, 1, 6, 1], &[1, 6]));
    }

    #[test]
    fn quota_bounds_the_default_number_and_no_other() {
        let with = |quota| Machine { quota: Some(quota), ..one_socket() };
        let all = &[0, 1, 2, 3, 4, 5, 6, 7];
        check(&options(), 0, &with(2.5), (&[0, 1, 2], all));
        check(&options(), 0, &with(0.1), (&[0], all));
        check(&options(), 0, &with(64.0), (all, all));
        check(&options(), 4, &with(1.0), (&[0, 1, 2, 3], all));
    }

    #[test]
    fn list_decides_and_leaves_the_rest_to_the_control_plane() {
        let options = PlacementOptions { cpus: vec![6, 2], ..options() };
        check(&options, 0, &one_socket(), (&[6, 2], &[0, 1, 3, 4, 5, 7]));
        check(&options, 2, &only(one_socket(), &[2, 6]), (&[6, 2], &[2, 6]));
        check_error(
            &options,
            3,
            &one_socket(),
            "shard_placement.cpus names 2 CPUs and shards is 3: expected one CPU for each shard, or shards 0",
        );
        check_error(
            &options,
            0,
            &only(one_socket(), &[0, 1, 2, 4]),
            "shard_placement.cpus names CPU 6, expected some of 0-2,4: the affinity mask of the process (taskset, a \
             cpuset, CPUAffinity= or AllowedCPUs= of systemd) has no others",
        );
    }

    #[test]
    fn log_says_where_and_why() {
        let check = |options: PlacementOptions, shards, machine: Machine, want: &str| {
            assert_eq!(place(&options, shards, &machine).unwrap().to_string(), want);
        };
        let where_they_are = "shards on CPUs: 0 on 0, 1 on 1; control plane on 0-7";
        let quota = Machine { quota: Some(1.5), ..one_socket() };
        check(options(), 0, quota.clone(), &format!("{where_they_are} (as many as the quota of 1.5 CPUs (cpu.max))"));
        check(options(), 2, one_socket(), &format!("{where_they_are} (shards)"));
        let quota = Machine { quota: Some(1.0), ..quota };
        check(options(), 2, quota, &format!("{where_they_are} (shards, though the quota (cpu.max) is 1 CPUs)"));
        let few = PlacementOptions { one_per_core: true, reserve: 3, ..options() };
        let want = "shards on CPUs: 0 on 3; control plane on 0-2,4-6 (one on every core, \
                    shard_placement.one_per_core, shard_placement.reserve 3)";
        check(few, 0, one_socket(), want);
    }
}
