//! GRPC: the server API, and unidirectional streams to clients. Each has a port of its own, on threads of the control plane;
//! what is asked for is done by the shards.

mod api;
mod budget;
mod calls;
mod connection;
mod message;
mod port;
mod reflection;
mod stream;
mod threads;
mod uni;

pub use api::GrpcApiOptions;
pub use port::PortOptions;
pub use reflection::API_DESCRIPTOR;
pub use uni::UniGrpcOptions;

use crate::tls::Certificate;
use api::Api;
use budget::Budget;
use calls::Calls;
use port::Port;
use ringcast_runtime::{CallLine, CarryLine, StartError};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use threads::Threads;
use tokio::time::timeout;
use tracing::info;
use uni::Uni;

/// How long connections have to end when the server stops: last words to clients, and calls that go on.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Time for a call of the server API, from its metadata to the last byte of its answer that the client makes room for.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What GRPC needs to know.
pub struct GrpcOptions {
    /// Config group `grpc_api`, if it is enabled.
    pub api: Option<GrpcApiOptions>,
    /// Config group `uni_grpc`, if it is enabled.
    pub uni: Option<UniGrpcOptions>,
}

/// Where GRPC asks the shards.
pub struct Lines {
    /// Makes calls of the server API.
    pub call: CallLine,
    /// Opens clients.
    pub carry: CarryLine,
}

/// Why GRPC is not served.
#[derive(Debug)]
pub enum GrpcError {
    /// A port cannot be had.
    Listen(StartError),
    /// The system has no threads, or TLS cannot be set up.
    System(io::Error),
}

impl std::fmt::Display for GrpcError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(out),
            Self::System(error) => error.fmt(out),
        }
    }
}

impl From<io::Error> for GrpcError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// The running ports.
pub struct Grpc {
    threads: Threads,
    /// Of each thread.
    calls: Vec<Arc<Calls>>,
    api: Option<Port>,
    uni: Option<Port>,
}

impl Grpc {
    /// Serves from now on, where `take` gives a socket for the name of a port at that, else where it binds.
    pub fn start(
        options: GrpcOptions,
        lines: Lines,
        take: &mut dyn FnMut(&str) -> Option<OwnedFd>,
    ) -> Result<Self, GrpcError> {
        let threads = Threads::start()?;
        let calls: Vec<_> = threads.handles().map(|runtime| Calls::new(&lines.call, runtime)).collect();
        let budget = Budget::default();
        let api = options.api.map(|options| open_api(options, &budget, &threads, &calls, take)).transpose()?;
        let uni = options.uni.map(|options| open_uni(&options, budget, &threads, lines.carry, take)).transpose()?;
        Ok(Self { threads, calls, api, uni })
    }

    /// Shows other certificates to those who connect from now on: of the API, and of streams. A port neither gets nor loses TLS.
    pub fn set_certificates(&self, api: Option<&Certificate>, uni: Option<&Certificate>) -> io::Result<()> {
        for (port, certificate) in [(&self.api, api), (&self.uni, uni)] {
            if let (Some(port), Some(certificate)) = (port, certificate) {
                port.set_certificate(certificate)?;
            }
        }
        Ok(())
    }

    /// The sockets that others may go on with, by their names.
    pub fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        self.ports().filter_map(|port| port.socket().transpose()).collect()
    }

    /// Lets nobody in any more. What goes on, goes on.
    pub fn close(&mut self) {
        self.api.iter_mut().chain(&mut self.uni).for_each(Port::close);
    }

    /// Ends it, once the shards have ended: what they said last is passed on.
    pub fn stop(mut self) {
        self.close();
        self.calls.iter().for_each(|calls| calls.end());
        let ended = async {
            for port in self.ports() {
                port.ended().await;
            }
        };
        let _ = self.threads.first().block_on(async { timeout(STOP_PATIENCE, ended).await });
    }

    fn ports(&self) -> impl Iterator<Item = &Port> {
        self.api.iter().chain(&self.uni)
    }
}

fn open_api(
    options: GrpcApiOptions,
    budget: &Budget,
    threads: &Threads,
    calls: &[Arc<Calls>],
    take: &mut dyn FnMut(&str) -> Option<OwnedFd>,
) -> Result<Port, GrpcError> {
    let port = options.port.clone();
    let api = Arc::new(Api::new(options, budget.clone()));
    let workers = threads.handles().zip(calls).map(|(runtime, calls)| {
        let (api, calls) = (api.clone(), calls.clone());
        let serve = move |request| {
            let (api, calls) = (api.clone(), calls.clone());
            async move { api.serve(request, &calls).await }
        };
        (runtime.clone(), serve)
    });
    let port = Port::open(&port, Some(CALL_TIMEOUT), workers.collect(), take)?;
    info!("serving GRPC API on {}{}", port.address(), port.security());
    Ok(port)
}

fn open_uni(
    options: &UniGrpcOptions,
    budget: Budget,
    threads: &Threads,
    line: CarryLine,
    take: &mut dyn FnMut(&str) -> Option<OwnedFd>,
) -> Result<Port, GrpcError> {
    let uni = Arc::new(Uni::new(options, budget, line));
    let workers = threads.handles().map(|runtime| {
        let uni = uni.clone();
        let serve = move |request| {
            let uni = uni.clone();
            async move { uni.serve(request).await }
        };
        (runtime.clone(), serve)
    });
    let port = Port::open(&options.port, None, workers.collect(), take)?;
    info!("serving unidirectional GRPC on {}{}", port.address(), port.security());
    Ok(port)
}
