//! Where the server listens: the parts of a `ws://` or `http://` address.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// An address on the command line, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// First address of the host.
    pub address: SocketAddr,
    /// Host and port as written, for the `Host` header.
    pub authority: String,
    /// Path and query, starting with a slash.
    pub target: String,
}

/// Why an address is not usable.
#[derive(Debug)]
pub enum EndpointError {
    /// Not of the form `scheme://host[:port][/path]`. TLS is not supported.
    Form { url: String, scheme: &'static str },
    /// The host has no address.
    Resolve { url: String, source: io::Error },
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form { url, scheme } => {
                write!(f, "{url}: expected {scheme}://host[:port][/path]")
            }
            Self::Resolve { url, source } => write!(f, "{url}: {source}"),
        }
    }
}

impl std::error::Error for EndpointError {}

impl Endpoint {
    /// Parses and resolves an address of the given scheme, `ws` or `http`.
    pub fn resolve(url: &str, scheme: &'static str) -> Result<Self, EndpointError> {
        let (authority, target) =
            split(url, scheme).ok_or_else(|| EndpointError::Form { url: url.to_owned(), scheme })?;
        let address =
            first_address(authority).map_err(|source| EndpointError::Resolve { url: url.to_owned(), source })?;
        Ok(Self { address, authority: authority.to_owned(), target: target.to_owned() })
    }
}

/// Authority and target; refuses what could smuggle a line into a request.
fn split<'a>(url: &'a str, scheme: &str) -> Option<(&'a str, &'a str)> {
    let rest = url.strip_prefix(scheme)?.strip_prefix("://")?;
    let (authority, target) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let printable = url.bytes().all(|byte| byte.is_ascii_graphic());
    (printable && !authority.is_empty()).then_some((authority, target))
}

fn first_address(authority: &str) -> io::Result<SocketAddr> {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let mut addresses =
        if has_port { authority.to_socket_addrs()? } else { format!("{authority}:80").to_socket_addrs()? };
    addresses.next().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, want: Option<(&str, &str, &str)>) {
        let endpoint = Endpoint::resolve(url, "ws").ok();
        let got = endpoint.map(|e| (e.address.to_string(), e.authority, e.target));
        let want = want.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(got, want, "{url}");
    }

    #[test]
    fn parts_of_an_address() {
        check(
            "ws://127.0.0.1:8000/connection/websocket?a=b",
            Some(("127.0.0.1:8000", "127.0.0.1:8000", "/connection/websocket?a=b")),
        );
        check("ws://127.0.0.1", Some(("127.0.0.1:80", "127.0.0.1", "/")));
        check("ws://[::1]:9/x", Some(("[::1]:9", "[::1]:9", "/x")));
        check("ws://[::1]/x", Some(("[::1]:80", "[::1]", "/x")));
    }

    #[test]
    fn other_schemes_and_broken_addresses_are_refused() {
        for url in [
            "",
            "ws://",
            "ws:///x",
            "wss://127.0.0.1",
            "http://127.0.0.1",
            "127.0.0.1:80",
            "ws://127.0.0.1:99999",
            "ws://127.0.0.1/a b",
            "ws://127.0.0.1/a\r\nX: y",
        ] {
            check(url, None);
        }
    }
}
