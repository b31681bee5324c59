//! HTTP on the shard: requests of a connection, one after the other or each on a stream of HTTP/2, and what serves them.

pub(crate) mod body;
pub(crate) mod exchange;
pub(crate) mod forwarded;
pub(crate) mod http2;
pub(crate) mod origin;
pub(crate) mod reply;
mod routes;

use std::rc::Rc;
use std::sync::Arc;

use origin::{AllowedOrigins, Cors};
pub(crate) use routes::{Route, Routes, endpoint};

use ringcast_proto::http::Head;

use crate::options::Options;
use crate::transport::sockjs::IframePage;

/// What is served where; the same for all connections of a shard.
pub(crate) struct Site {
    pub options: Arc<Options>,
    /// One per listener.
    pub routes: Vec<Routes>,
    pub origins: AllowedOrigins,
    /// Header `Alt-Svc` of responses, one per listener.
    alt_svc: Vec<Option<Rc<str>>>,
    /// Of SockJS.
    pub iframe: IframePage,
}

impl Site {
    pub fn new(options: Arc<Options>) -> Self {
        let listeners = options.listeners.iter();
        let routes = listeners.map(|listener| Routes::new(&options, listener.endpoints)).collect();
        let alt_svc = options.listeners.iter().map(|listener| listener.http3.map(alt_svc)).collect();
        let origins = AllowedOrigins::new(&options.allowed_origins);
        let iframe = IframePage::new(&options.sockjs.url);
        Self { options, routes, origins, alt_svc, iframe }
    }

    /// What responses on a listener say of HTTP/3, if that is served.
    pub fn alt_svc(&self, listener: usize) -> Option<Rc<str>> {
        self.alt_svc[listener].clone()
    }

    /// Whether a request to a client endpoint that is not an upgrade may be served, and the headers for its response. `None`: 403.
    pub fn admit(&self, head: &Head<'_>) -> Option<Cors> {
        match self.origins.allow(head.header("Origin")) {
            true => Some(Cors::new(head)),
            false if self.options.http_origin_check_disabled => Some(Cors::default()),
            false => None,
        }
    }
}

/// For 30 days, as the reference has it.
fn alt_svc(port: u16) -> Rc<str> {
    format!("h3=\":{port}\"; ma=2592000").into()
}
