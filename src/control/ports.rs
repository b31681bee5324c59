//! The ports that the control plane serves itself, on behalf of the shards: HTTP/3 and GRPC.

use super::grpc::{Grpc, Lines};
use super::http3::Http3;
use crate::config::{Settings, lower};
use ringcast_runtime::Pool;
use ringcast_state::metrics::ApiProtocol;
use std::io;
use std::os::fd::OwnedFd;
use tracing::error;

/// Those that are configured.
pub struct Ports {
    http3: Option<Http3>,
    grpc: Option<Grpc>,
    /// Of http-01, for another process.
    challenges: Option<(String, OwnedFd)>,
}

/// What cannot be done, and why.
type Failure = (&'static str, String);

impl Ports {
    /// Serves what is configured. `challenges`: the socket of http-01, which ACME serves; `take` gives sockets that another process has bound, by their names.
    pub fn start(
        settings: &Settings,
        pool: &Pool,
        challenges: Option<(String, OwnedFd)>,
        mut take: impl FnMut(&str) -> Option<OwnedFd>,
    ) -> Result<Self, Failure> {
        let http3 = start_http3(settings, pool, &mut take).map_err(|cause| ("error starting HTTP/3", cause))?;
        let grpc = start_grpc(settings, pool, &mut take).map_err(|cause| ("error starting GRPC", cause))?;
        Ok(Self { http3, grpc, challenges })
    }

    /// The certificates may be others; what is served, and how securely, changes with a restart only.
    pub fn reload(&self, settings: &Settings) {
        let http3 = self.http3.as_ref().map(|http3| reload_http3(http3, settings));
        if let Some(Err(error)) = http3 {
            error!("error reloading the certificate of HTTP/3: {error}");
        }
        let grpc = self.grpc.as_ref().map(|grpc| reload_grpc(grpc, settings));
        if let Some(Err(error)) = grpc {
            error!("error reloading the certificates of GRPC: {error}");
        }
    }

    /// The sockets that others may go on with, by their names.
    pub fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let mut sockets = self.grpc.as_ref().map_or_else(|| Ok(Vec::new()), Grpc::sockets)?;
        if let Some((name, socket)) = &self.challenges {
            sockets.push((name.clone(), socket.try_clone()?));
        }
        if let Some(http3) = &self.http3 {
            sockets.push(http3.socket()?);
        }
        Ok(sockets)
    }

    /// Nobody is let in any more, unless by the process that serves in place of this one. What goes on, goes on.
    pub fn close(&mut self, is_replaced: bool) {
        self.http3.iter().for_each(if is_replaced { Http3::leave } else { Http3::close });
        self.grpc.iter_mut().for_each(Grpc::close);
    }

    /// Ends them, once the shards have ended.
    pub fn stop(self) {
        self.http3.into_iter().for_each(Http3::stop);
        self.grpc.into_iter().for_each(Grpc::stop);
    }
}

/// HTTP/3 is where the external port is, on UDP.
fn start_http3(
    settings: &Settings,
    pool: &Pool,
    take: &mut dyn FnMut(&str) -> Option<OwnedFd>,
) -> Result<Option<Http3>, String> {
    let Some(options) = lower::http3(settings)? else { return Ok(None) };
    let address = *pool.addresses().first().expect("there is an external port");
    Http3::start(options, address, pool.carry_line(), take).map(Some).map_err(|error| error.to_string())
}

fn start_grpc(
    settings: &Settings,
    pool: &Pool,
    take: &mut dyn FnMut(&str) -> Option<OwnedFd>,
) -> Result<Option<Grpc>, String> {
    let Some(options) = lower::grpc(settings)? else { return Ok(None) };
    let lines = Lines { call: pool.call_line(ApiProtocol::Grpc), carry: pool.carry_line() };
    Grpc::start(options, lines, take).map(Some).map_err(|error| error.to_string())
}

fn reload_http3(http3: &Http3, settings: &Settings) -> Result<(), String> {
    let Some(options) = lower::http3(settings)? else { return Ok(()) };
    http3.set_certificate(&options.certificate).map_err(|error| error.to_string())
}

fn reload_grpc(grpc: &Grpc, settings: &Settings) -> Result<(), String> {
    let (api, uni) = lower::grpc(settings)?.map_or((None, None), |options| (options.api, options.uni));
    let (api, uni) = (api.and_then(|api| api.port.tls), uni.and_then(|uni| uni.port.tls));
    grpc.set_certificates(api.as_ref(), uni.as_ref()).map_err(|error| error.to_string())
}
