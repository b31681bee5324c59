//! The control plane's threads that need a driver of their own: what is slow, or speaks through libraries written for tokio.

pub mod acme;
pub mod engine;
pub mod grpc;
pub mod http3;
pub mod nats;
pub mod node;
mod ports;
pub mod proxy;
pub mod redis;
mod socket;
mod webtransport;

pub use ports::Ports;
pub use webtransport::WebTransportOptions;
