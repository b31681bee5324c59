//! Searches for bytes that break `fuzz::proxy_reply`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringcast_proto::fuzz::proxy_reply(data));
