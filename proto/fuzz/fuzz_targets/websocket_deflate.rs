//! Searches for bytes that break `fuzz::websocket_deflate`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringcast_proto::fuzz::websocket_deflate(data));
