//! Searches for bytes that break `differential::protobuf_as_prost`.

#![no_main]

#[path = "../differential.rs"]
#[expect(dead_code, reason = "each target runs one of the bodies")]
mod differential;

libfuzzer_sys::fuzz_target!(|data: &[u8]| differential::protobuf_as_prost(data));
