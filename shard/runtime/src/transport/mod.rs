//! One file per endpoint: what a request must fulfil, and what it gets.

pub(crate) mod asset;
pub(crate) mod emulation;
pub(crate) mod health;
pub(crate) mod http_api;
pub(crate) mod init;
pub(crate) mod page;
pub(crate) mod sockjs;
pub(crate) mod stream;
pub(crate) mod websocket;
