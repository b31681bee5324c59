//! Searches for bytes that break `fuzz::delta`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringcast_proto::fuzz::delta(data));
