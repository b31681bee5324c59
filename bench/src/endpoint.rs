//! Where the server listens: the parts of a `ws://`, `wss://`, `http://` or `https://` address.

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
    /// The host alone, for its certificate.
    pub host: String,
    /// Whether TLS is spoken there.
    pub tls: bool,
    /// Path and query, starting with a slash.
    pub target: String,
}

/// Why an address is not usable.
#[derive(Debug)]
pub enum EndpointError {
    /// Not of the form `scheme://host[:port][/path]`.
    Form { url: String, scheme: &'static str },
    /// The host has no address.
    Resolve { url: String, source: io::Error },
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form { url, scheme } => {
                write!(f, "{url}: expected {scheme}://host[:port][/path], or {scheme}s:// for TLS")
            }
            Self::Resolve { url, source } => write!(f, "{url}: {source}"),
        }
    }
}

impl std::error::Error for EndpointError {}

impl Endpoint {
    /// Parses and resolves an address of the given scheme, `ws` or `http`, or the same with an `s` for TLS.
    pub fn resolve(url: &str, scheme: &'static str) -> Result<Self, EndpointError> {
        let Parts { tls, authority, target } =
            split(url, scheme).ok_or_else(|| EndpointError::Form { url: url.to_owned(), scheme })?;
        let (host, port) = host_and_port(authority);
        let default_port = if tls { "443" } else { "80" };
        let address = first_address(host, port.unwrap_or(default_port))
            .map_err(|source| EndpointError::Resolve { url: url.to_owned(), source })?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { address, authority: authority.to_owned(), host, tls, target: target.to_owned() })
    }
}

struct Parts<'a> {
    tls: bool,
    authority: &'a str,
    target: &'a str,
}

/// Refuses what could smuggle a line into a request.
fn split<'a>(url: &'a str, scheme: &str) -> Option<Parts<'a>> {
    let rest = url.strip_prefix(scheme)?;
    let (tls, rest) = rest.strip_prefix('s').map_or((false, rest), |rest| (true, rest));
    let rest = rest.strip_prefix("://")?;
    let (authority, target) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let printable = url.bytes().all(|byte| byte.is_ascii_graphic());
    (printable && !authority.is_empty()).then_some(Parts { tls, authority, target })
}

fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        _ => (authority, None),
    }
}

fn first_address(host: &str, port: &str) -> io::Result<SocketAddr> {
    let mut addresses = format!("{host}:{port}").to_socket_addrs()?;
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
    fn secure_schemes_ask_for_tls() {
        for (url, want) in
            [("ws://127.0.0.1", (false, 80)), ("wss://127.0.0.1/x", (true, 443)), ("wss://[::1]:9", (true, 9))]
        {
            let endpoint = Endpoint::resolve(url, "ws").expect(url);
            assert_eq!((endpoint.tls, endpoint.address.port()), want, "{url}");
            assert_eq!(endpoint.host, endpoint.address.ip().to_string(), "{url}");
        }
    }

    #[test]
    fn other_schemes_and_broken_addresses_are_refused() {
        for url in [
            "",
            "ws://",
            "ws:///x",
            "wsss://127.0.0.1",
            "https://127.0.0.1",
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
