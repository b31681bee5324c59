//! The real binary from outside, over loopback: official clients, a browser, broken input, start and end.
//!
//! `RINGCAST_BIN` names another server to test instead of the binary of this build.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod bench;
mod browser;
mod bystander;
mod client;
mod cluster;
mod cut;
mod deflate;
mod grpc;
mod http;
mod http2;
mod http3;
mod isolation;
mod key_server;
mod late;
mod lifecycle;
mod memory;
mod metrics;
mod nats;
mod proxies;
mod ready;
mod redis;
mod sdk;
mod server;
mod session;
mod shards;
mod sockjs;
mod stream;
mod streams;
mod tls;
mod tokens;
mod transports;
mod upgrade;
mod webtransport;
