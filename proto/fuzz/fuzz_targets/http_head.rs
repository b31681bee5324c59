//! Searches for bytes that break `fuzz::http_head`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringcast_proto::fuzz::http_head(data));
