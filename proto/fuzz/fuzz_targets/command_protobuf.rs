//! Searches for bytes that break `fuzz::command_protobuf`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringcast_proto::fuzz::command_protobuf(data));
