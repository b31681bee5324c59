//! Why a scenario could not be carried out. What it finds wrong with the server is part of its report instead.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::endpoint::EndpointError;
use crate::process::ProcessError;

/// Told to the operator; exit status 2.
#[derive(Debug)]
pub enum Failure {
    /// An address on the command line.
    Endpoint(EndpointError),
    /// The measured process.
    Process(ProcessError),
    /// Something the tool itself needs from the system.
    System { doing: &'static str, source: io::Error },
    /// Clients that did not get in, so that there is nothing to measure.
    Refused { problems: u64, first: String },
    /// A server that stopped answering.
    Stalled { waiting_for: String },
    /// The API refuses to publish.
    Api(String),
    /// TLS cannot be spoken as the command line asks.
    Tls(String),
    /// A saved report cannot be compared.
    Saved { path: PathBuf, reason: String },
    /// Options that do not go together.
    Usage(String),
}

impl Failure {
    /// For `map_err` of a connection that cannot be opened; says what helps where the ports have run out.
    pub fn dialing(source: io::Error) -> Self {
        let doing = match source.kind() {
            io::ErrorKind::AddrNotAvailable => {
                "opening a connection (the ports of one address are used up: name more with --source-addresses)"
            }
            _ => "opening a connection",
        };
        Self::System { doing, source }
    }

    /// For `map_err`: what the tool was doing when the system refused.
    pub fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(error) => error.fmt(f),
            Self::Process(error) => error.fmt(f),
            Self::System { doing, source } => write!(f, "{doing}: {source}"),
            Self::Refused { problems, first } => {
                write!(f, "{problems} clients did not get in, the first: {first}")
            }
            Self::Stalled { waiting_for } => write!(f, "no progress while {waiting_for}"),
            Self::Api(reason) | Self::Usage(reason) => f.write_str(reason),
            Self::Tls(reason) => write!(f, "TLS: {reason}"),
            Self::Saved { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        Self::Endpoint(error)
    }
}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Self {
        Self::Process(error)
    }
}
