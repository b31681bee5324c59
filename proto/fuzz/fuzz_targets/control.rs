//! Searches for bytes that break `fuzz::control`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringcast_proto::fuzz::control(data));
