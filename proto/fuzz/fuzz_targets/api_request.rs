//! Searches for bytes that break `fuzz::api_request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringcast_proto::fuzz::api_request(data));
