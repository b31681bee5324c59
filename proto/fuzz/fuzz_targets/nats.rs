//! Searches for bytes that break `fuzz::nats`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringcast_proto::fuzz::nats(data));
