//! Prints the tables of `bench/SCALE.md`.

use std::io;

use crate::load::{Load, Spread, skew};
use crate::machine::Machine;

const SHARDS: [u16; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Clients per shard.
const CLIENTS: usize = 100;

/// Publications of each backend.
const PUBLICATIONS: usize = 200;

const SEED: u64 = 1;

pub fn print() -> io::Result<()> {
    // Unlike `print!`, which the runner of tests catches.
    let mut out = io::stdout().lock();
    print_messages(&mut out)?;
    for batch in [4, 100] {
        print_rings(&mut out, batch)?;
    }
    print_hot(&mut out)
}

/// Messages, and how even the shards are.
fn print_messages(out: &mut impl io::Write) -> io::Result<()> {
    writeln!(
        out,
        "\nseed {SEED}; {CLIENTS} clients per shard; messages per publication; greatest of the shards over the mean\n"
    )?;
    writeln!(
        out,
        "| shards | messages | to listening shards | clients, hashed | balanced | channels | frames | work |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    for shards in SHARDS {
        let clients = CLIENTS * usize::from(shards);
        let hashed = Load::new(shards, Spread::Hashed, clients, SEED).connections();
        let load = loaded(shards, 4);
        let (counts, publications) = (&load.machine.counts, load.publications as f64);
        let messages = (counts.publishes + counts.answers + counts.deliveries + counts.other) as f64 / publications;
        let deliveries = counts.deliveries as f64 / publications;
        let (balanced, channels) = (load.connections(), load.homes());
        let (frames, work) = (skew(load.machine.frames()), skew(load.machine.busy()));
        write!(out, "| {shards} | {messages:.1} | {deliveries:.1} | {hashed:.2} | {balanced:.2} ")?;
        writeln!(out, "| {channels:.2} | {frames:.2} | {work:.2} |")?;
    }
    Ok(())
}

/// How full the rings are when every backend publishes so many times in each turn.
fn print_rings(out: &mut impl io::Write, batch: usize) -> io::Result<()> {
    writeln!(out, "\n{PUBLICATIONS} publications of every backend, {batch} in a turn\n")?;
    writeln!(
        out,
        "| shards | room of a ring | fullest | p99 | messages waited for room, pairs and turns | turns until quiet |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    for shards in SHARDS {
        let machine = loaded(shards, batch).machine;
        let (room, rings) = (machine.ring_messages, machine.occupancy());
        let (fullest, p99, held_back, rounds) = (rings.max, rings.p99, rings.held_back, rings.rounds);
        writeln!(out, "| {shards} | {room} | {fullest} | {p99} | {held_back} | {rounds} |")?;
    }
    Ok(())
}

fn loaded(shards: u16, batch: usize) -> Load {
    let mut load = Load::new(shards, Spread::Balanced, CLIENTS * usize::from(shards), SEED);
    load.publish(PUBLICATIONS / batch, batch);
    load
}

/// One channel with ten subscribers on every shard, published to from every shard in turn.
fn print_hot(out: &mut impl io::Write) -> io::Result<()> {
    const SUBSCRIBERS: usize = 10;
    const OF_ALL: usize = 6400;
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
        for publication in 0..OF_ALL {
            machine.publish(publication % usize::from(shards), "hot");
            if publication % 64 == 63 {
                machine.round();
            }
        }
        machine.settle();
        let busy = machine.busy();
        let per = |nanoseconds: f64| nanoseconds / OF_ALL as f64;
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
