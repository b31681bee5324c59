//! HTTP/1.1 on the shard: requests of a connection, one after the other, and what serves them.

pub(crate) mod exchange;
mod origin;
mod routes;

use std::sync::Arc;

pub(crate) use origin::AllowedOrigins;
pub(crate) use routes::{Route, Routes, endpoint};

use crate::options::Options;

/// What is served where; the same for all connections of a shard.
pub(crate) struct Site {
    pub options: Arc<Options>,
    /// One per listener.
    pub routes: Vec<Routes>,
    pub origins: AllowedOrigins,
}

impl Site {
    pub fn new(options: Arc<Options>) -> Self {
        let listeners = options.listeners.iter();
        let routes = listeners.map(|listener| Routes::new(&options, listener.endpoints)).collect();
        let origins = AllowedOrigins::new(&options.allowed_origins);
        Self { options, routes, origins }
    }
}
