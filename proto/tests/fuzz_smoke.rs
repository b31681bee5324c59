//! Runs every fuzz target over its seeds and over mutations of them. The real search is in `fuzz/`.
#![expect(clippy::disallowed_methods, reason = "reads the seeds")]

#[path = "../fuzz/differential.rs"]
mod differential;

use ringcast_proto::fuzz::{TARGETS, Target};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Mutations of each target. The same ones on every run.
const MUTATIONS: u64 = 5_000;

/// A small generator (xorshift) with a fixed seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a folder of seeds").flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).expect("a seed")).collect()
}

/// Flips, cuts, repeats and splices, a few at once.
fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const TOKENS: [&[u8]; 12] =
        [b"\"", b"\\", b"{", b"}", b"[", b"]", b"\n", b"\r\n", b"\xff", b"\x00", b"\\ud800", b"9999999999999999999"];
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 => drop(bytes.splice(at..at, TOKENS[random.below(TOKENS.len())].iter().copied())),
            4 => {
                let end = at + random.below(bytes.len() - at);
                bytes.drain(at..end);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

#[track_caller]
fn check(name: &str, target: Target) {
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "{name} has no seeds");
    target(b"");
    seeds.iter().for_each(|seed| target(seed));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for number in 0..MUTATIONS {
        let bytes = mutate(&seeds, &mut random);
        let outcome = std::panic::catch_unwind(|| target(&bytes));
        assert!(outcome.is_ok(), "{name}: mutation {number} fails: {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn every_target_holds_for_its_seeds_and_their_mutations() {
    for (name, target) in TARGETS.into_iter().chain(differential::TARGETS) {
        check(name, target);
    }
}

/// The long search begins with the seeds of each target, and has no others.
#[test]
fn every_target_has_a_folder_of_seeds() {
    let all = TARGETS.into_iter().chain(differential::TARGETS);
    let named: BTreeSet<_> = all.map(|(name, _)| name.to_owned()).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let entries = fs::read_dir(folder).expect("the folder of all seeds").flatten();
    let found: BTreeSet<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(found, named);
}

/// A target that must fail, or the harness finds nothing.
#[test]
fn a_planted_bug_is_found() {
    fn planted(data: &[u8]) {
        assert!(!data.windows(2).any(|pair| pair == b"\\\\"), "planted");
    }
    let found = std::panic::catch_unwind(|| check("command_json", planted));
    assert!(found.is_err());
}
