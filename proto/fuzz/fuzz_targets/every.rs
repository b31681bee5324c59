//! Searches for bytes that break the target named by the variable `FUZZ_TARGET`. One binary for all of them: it is built in a
//! tenth of the time.

#![no_main]

#[path = "../differential.rs"]
mod differential;

use ringcast_proto::fuzz::{TARGETS, Target};
use std::sync::LazyLock;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let mut all = TARGETS.into_iter().chain(differential::TARGETS);
    all.find(|(known, _)| *known == name).unwrap_or_else(|| panic!("FUZZ_TARGET={name} is no target")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
