//! What many shards ask of each other: a machine of 1 to 64 shards in one thread, under a seed. Counts messages per
//! publication, how full the rings get, how even connections, channels and work are, and what a hot channel costs its home.
//!
//! It is a model: the state machines are the real ones, rings hold as many messages as the real ones, and every shard has one turn
//! after the other; sockets, caches and the kernel are not in it. The table of `bench/SCALE.md`:
//!
//! `cargo test --release --test scale -- --ignored --nocapture`

mod load;
mod machine;
mod table;

use load::{Load, Spread};
use machine::{Counts, Machine};

/// Publications of a backend in one turn.
const BATCH: usize = 4;

/// Of one hot channel with subscribers on every shard.
struct Hot {
    counts: Counts,
    publications: u64,
}

/// Publishes `rounds` times from every shard into one channel.
fn hot(shards: u16, subscribers_per_shard: usize, rounds: usize) -> Hot {
    let mut machine = Machine::new(shards, 1);
    for shard in 0..usize::from(shards) {
        for _ in 0..subscribers_per_shard {
            machine.connect(shard, &["hot".to_owned()]);
        }
    }
    machine.reset();
    for _ in 0..rounds {
        (0..usize::from(shards)).for_each(|shard| machine.publish(shard, "hot"));
        machine.round();
    }
    machine.settle();
    Hot { counts: machine.counts, publications: (rounds * usize::from(shards)) as u64 }
}

#[test]
fn publication_is_one_message_to_the_home_and_one_to_each_listening_shard() {
    for shards in [1_u16, 2, 4, 16, 64] {
        let others = u64::from(shards) - 1;
        for subscribers in [1, 10] {
            let Hot { counts, publications } = hot(shards, subscribers, 3);
            // One of as many publishing shards is the home itself.
            assert_eq!(counts.publishes, publications / u64::from(shards) * others, "{shards} shards");
            assert_eq!(counts.answers, counts.publishes);
            assert_eq!(counts.deliveries, publications * others, "{shards} shards, {subscribers} subscribers on each");
            assert_eq!(counts.frames, publications * u64::from(shards) * subscribers as u64);
            assert_eq!(counts.other, 0);
        }
    }
}

/// The same with channels that few listen to, and homes wherever the hash puts them.
#[test]
fn shards_without_subscribers_of_a_channel_hear_nothing_of_it() {
    for shards in [1, 4, 16, 64] {
        let mut load = Load::new(shards, Spread::Balanced, 500, 7);
        let expected = load.publish(20, BATCH);
        let counts = &load.machine.counts;
        assert_eq!((counts.publishes, counts.deliveries, counts.frames), expected, "{shards} shards");
        assert_eq!(counts.api_answers, load.publications);
    }
}

#[test]
fn rings_have_room_for_a_busy_turn_of_every_shard() {
    for shards in [2, 8, 64] {
        let mut load = Load::new(shards, Spread::Balanced, 500, 11);
        load.publish(20, BATCH);
        let rings = load.machine.occupancy();
        assert!(rings.max > 0 && rings.max < load.machine.ring_messages / 2, "{shards} shards: {rings:?}");
        assert_eq!(rings.held_back, 0, "nothing waited for room");
    }
}

/// More than the rings hold waits in the sender, and all of it arrives.
#[test]
fn messages_over_the_room_of_a_ring_wait_and_arrive() {
    let mut load = Load::new(64, Spread::Balanced, 500, 11);
    let expected = load.publish(1, 200);
    let counts = &load.machine.counts;
    assert_eq!((counts.publishes, counts.deliveries, counts.frames), expected);
    let rings = load.machine.occupancy();
    assert!(rings.held_back > 0 && rings.max == load.machine.ring_messages, "{rings:?}");
}

#[test]
fn balanced_connections_are_more_even_than_hashed_ones() {
    for shards in [4, 16, 64] {
        let [hashed, balanced] =
            [Spread::Hashed, Spread::Balanced].map(|spread| Load::new(shards, spread, 1000, 3).connections());
        assert!(balanced < hashed && balanced <= 1.1, "{shards} shards: {balanced} against {hashed}");
    }
}

#[test]
#[ignore = "measures for minutes; the table of bench/SCALE.md"]
fn print_the_tables() {
    table::print().expect("the tables can be written");
}
