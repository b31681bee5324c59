//! Several shards in one thread under a seed: rings delay and are full, sockets block and take parts of a write, buffers and
//! descriptors run out, clients come, go and are cut, shards stall, time jumps, the wall clock is turned, options are loaded,
//! the process is killed and begins anew; and whatever clients and callers of the API are told is checked against a model of the truth.
//!
//! - `RINGCAST_SIM_SEED=7` runs one seed and prints what happens in it.
//! - `RINGCAST_SIM_OPERATIONS=10000` goes on in each seed until clients and backend have asked for so much.
//! - `RINGCAST_SIM_SEEDS=100000` sets the number of seeds, default 2000; `RINGCAST_SIM_FIRST=1` the first of them.
//!
//! `planted/run` breaks the code in known ways and expects the seeds to notice.

mod answers;
mod backend;
mod client;
mod content;
mod deeds;
mod excuses;
mod model;
mod options;
mod random;
mod rest;
mod scenario;
mod sleep;
mod subscribing;
mod token;
mod told;
mod trace;
mod transport;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use trace::Detail;
use world::World;

/// Seeds of the gate.
const SEEDS: u64 = 2000;
/// One seed in so many is run twice.
const TWICE_EVERY: u64 = 50;
/// Steps for each operation that is wanted, at most.
const STEPS_OF_AN_OPERATION: usize = 100;

#[test]
fn shards_behave_as_one_server_whatever_happens_between_them() {
    if let Some(seed) = number("RINGCAST_SIM_SEED") {
        run(seed, Detail::Words);
        return;
    }
    let first = number("RINGCAST_SIM_FIRST").unwrap_or(1);
    let end = first + number("RINGCAST_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let failure = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    if let Err(message) = check(seed) {
                        next.store(end, Ordering::Relaxed);
                        let mut failure = failure.lock().expect("no thread panics with the lock");
                        let known = failure.as_ref().is_some_and(|(known, _)| *known < seed);
                        if !known {
                            *failure = Some((seed, message));
                        }
                    }
                }
            });
        }
    });
    if let Some((seed, message)) = failure.into_inner().expect("no thread panics with the lock") {
        panic!("seed {seed}: {message}\nsee it: RINGCAST_SIM_SEED={seed} cargo test --test sim");
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Runs a seed; some of them twice, for the same seed must do the same.
fn check(seed: u64) -> Result<(), String> {
    let guarded = |detail| {
        catch_unwind(AssertUnwindSafe(|| run(seed, detail))).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
        })
    };
    if !seed.is_multiple_of(TWICE_EVERY) {
        return guarded(Detail::Nothing).map(|_| ());
    }
    let (first, second) = (guarded(Detail::Hash)?, guarded(Detail::Hash)?);
    if first == second { Ok(()) } else { Err(format!("two runs differ: {first:x}, {second:x}")) }
}

#[test]
fn the_same_seed_does_the_same_and_another_does_not() {
    let hashes = [1, 2, 3].map(|seed| run(seed, Detail::Hash));
    assert_eq!(hashes, [1, 2, 3].map(|seed| run(seed, Detail::Hash)));
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2]);
}

/// One world from beginning to end; the hash of its trace.
fn run(seed: u64, detail: Detail) -> u64 {
    let mut world = World::new(seed, detail);
    let operations = number("RINGCAST_SIM_OPERATIONS").unwrap_or(0);
    // In some worlds nobody can do much.
    let steps_max = world.scenario.steps.max(operations as usize * STEPS_OF_AN_OPERATION);
    for step in 1..=steps_max {
        world.step();
        if step % world.scenario.rest_every == 0 {
            world.rest();
        }
        if step >= world.scenario.steps && world.operations >= operations {
            break;
        }
    }
    world.rest();
    world.end();
    world.trace.hash()
}
