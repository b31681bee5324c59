//! Prints the tables of `bench/SCALE.md`.

use std::io::{self, Write as _};

use crate::load::{Load, Spread, skew};
use crate::machine::Machine;

const SHARDS: [u16; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Clients per shard.
const CLIENTS: usize = 100;

const ROUNDS: usize = 50;

const SEED: u64 = 1;

pub fn print() -> io::Result<()> {
    // Unlike `print!`, which the runner of tests catches.
    let mut out = io::stdout().lock();
    writeln!(out, "\n{CLIENTS} clients per shard; seed {SEED}; max/mean of the shards unless said otherwise\n")?;
    writeln!(
        out,
        "| shards | messages per publication | of these to listening shards | ring holds | fullest | p99 | held back | clients hashed | clients balanced | channels by home | frames | work |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
    for shards in SHARDS {
        let hashed = Load::new(shards, Spread::Hashed, CLIENTS * usize::from(shards), SEED).connections();
        let mut load = Load::new(shards, Spread::Balanced, CLIENTS * usize::from(shards), SEED);
        load.publish(ROUNDS);
        let (machine, publications) = (&load.machine, load.publications as f64);
        let (counts, rings) = (&machine.counts, machine.occupancy());
        let messages = (counts.publishes + counts.answers + counts.deliveries + counts.other) as f64;
        writeln!(
            out,
            "| {shards} | {:.1} | {:.1} | {} | {} | {} | {} | {hashed:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            messages / publications,
            counts.deliveries as f64 / publications,
            machine.ring_messages,
            rings.max,
            rings.p99,
            rings.held_back,
            load.connections(),
            load.homes(),
            skew(machine.frames()),
            skew(machine.busy()),
        )?;
    }
    print_hot(&mut out)
}

/// One channel with ten subscribers on every shard, published to from every shard in turn.
fn print_hot(out: &mut impl io::Write) -> io::Result<()> {
    const SUBSCRIBERS: usize = 10;
    const PUBLICATIONS: usize = 6400;
    writeln!(out, "\none hot channel, {SUBSCRIBERS} subscribers on every shard\n")?;
    writeln!(out, "| shards | home, µs per publication | another shard | more at home, ns per listening shard |")?;
    writeln!(out, "|---|---|---|---|")?;
    for shards in SHARDS {
        let mut machine = Machine::new(shards, SEED);
        for client in 0..SUBSCRIBERS * usize::from(shards) {
            machine.connect(client % usize::from(shards), &["hot".to_owned()]);
        }
        let home = machine.homes.get("hot").copied().unwrap_or(0);
        machine.reset();
        for publication in 0..PUBLICATIONS {
            machine.publish(publication % usize::from(shards), "hot");
            if publication % 64 == 63 {
                machine.round();
            }
        }
        machine.settle();
        let busy = machine.busy();
        let per = |nanoseconds: f64| nanoseconds / PUBLICATIONS as f64;
        let others = (busy.iter().sum::<f64>() - busy[home]) / (busy.len() - 1).max(1) as f64;
        let more = (per(busy[home] - others)) / (busy.len() - 1).max(1) as f64;
        let (home, others) = (per(busy[home]) / 1000.0, per(others) / 1000.0);
        match shards {
            1 => writeln!(out, "| 1 | {home:.2} | - | - |")?,
            _ => writeln!(out, "| {shards} | {home:.2} | {others:.2} | {more:.0} |")?,
        }
    }
    Ok(())
}
