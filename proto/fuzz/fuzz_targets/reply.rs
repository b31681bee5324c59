//! Searches for bytes that break `fuzz::reply`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringcast_proto::fuzz::reply(data));
