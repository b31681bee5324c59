//! The control plane's threads that need a driver of their own: what is slow, or speaks through libraries written for tokio.

pub mod acme;
