//! Searches for bytes that break `fuzz::redis`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringcast_proto::fuzz::redis(data));
