//! The head of a request: pseudo-headers and headers. Source: RFC 9114 section 4.3, RFC 9220.

use super::qpack::Field;
use ringcast_runtime::RequestHead;
use std::net::IpAddr;

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// `:method`.
    pub method: String,
    /// `:protocol` of an extended CONNECT.
    pub protocol: Option<String>,
    /// `:path`, with the query.
    pub target: String,
    /// Host and port that the client means.
    pub authority: String,
    /// The other fields, in their order.
    pub headers: Vec<Field>,
}

/// Fields that make no request. The stream ends with `H3_MESSAGE_ERROR`.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

impl Request {
    /// Reads the fields of a head.
    pub fn new(fields: Vec<Field>) -> Result<Self, Malformed> {
        let mut pseudo = Pseudo::default();
        let mut headers = Vec::new();
        for field in fields {
            if field.name.starts_with(':') {
                // All of them come before the others.
                if !headers.is_empty() {
                    return Err(Malformed);
                }
                pseudo.take(field)?;
            } else if is_name(&field.name) && is_value(&field.value) && !is_of_connection(&field) {
                headers.push(field);
            } else {
                return Err(Malformed);
            }
        }
        pseudo.request(headers)
    }

    /// The first header with this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|field| field.name == name).map(|field| field.value.as_slice())
    }

    /// All header lines, names in lower case.
    pub fn header_lines(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|field| (&*field.name, &*field.value))
    }

    /// `:path` without the query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// What follows the question mark; empty without one.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Bytes of the body, if they are announced in a way that can be read.
    pub fn content_length(&self) -> Option<u64> {
        str::from_utf8(self.header("content-length")?).ok()?.parse().ok()
    }

    /// For the shards; `peer` asks.
    pub fn into_head(self, peer: IpAddr) -> RequestHead {
        let headers = self.headers.into_iter().map(|field| (field.name, field.value)).collect();
        RequestHead { method: self.method, target: self.target, authority: self.authority, headers, peer: Some(peer) }
    }

    /// Asks for a WebTransport session.
    pub fn is_webtransport(&self) -> bool {
        self.method == "CONNECT" && self.protocol.as_deref() == Some("webtransport")
    }
}

#[derive(Default)]
struct Pseudo {
    method: Option<String>,
    scheme: Option<String>,
    authority: Option<String>,
    path: Option<String>,
    protocol: Option<String>,
}

impl Pseudo {
    fn take(&mut self, field: Field) -> Result<(), Malformed> {
        let place = match field.name.as_str() {
            ":method" => &mut self.method,
            ":scheme" => &mut self.scheme,
            ":authority" => &mut self.authority,
            ":path" => &mut self.path,
            ":protocol" => &mut self.protocol,
            _ => return Err(Malformed),
        };
        let value = String::from_utf8(field.value).map_err(|_| Malformed)?;
        let is_clean = !value.bytes().any(|byte| byte <= b' ' || byte == 0x7f);
        match place.replace(value) {
            None if is_clean => Ok(()),
            Some(_) | None => Err(Malformed),
        }
    }

    fn request(self, headers: Vec<Field>) -> Result<Request, Malformed> {
        let method = self.method.filter(|method| is_name(&method.to_ascii_lowercase())).ok_or(Malformed)?;
        let is_extended = method == "CONNECT" && self.protocol.is_some();
        if self.protocol.is_some() && !is_extended {
            return Err(Malformed);
        }
        let target = match self.path {
            Some(path) if self.scheme.is_some() && (path.starts_with('/') || path == "*") => path,
            // A plain CONNECT names a host to reach.
            None if method == "CONNECT" && !is_extended && self.scheme.is_none() => String::new(),
            Some(_) | None => return Err(Malformed),
        };
        let authority = self.authority.unwrap_or_default();
        Ok(Request { method, protocol: self.protocol, target, authority, headers })
    }
}

/// A token of RFC 9110 without capitals.
fn is_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

/// What only HTTP/1 has. Source: RFC 9114 section 4.2.
fn is_of_connection(field: &Field) -> bool {
    match field.name.as_str() {
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => true,
        "te" => field.value != b"trailers",
        _ => false,
    }
}

fn is_value(value: &[u8]) -> bool {
    !value.iter().any(|byte| [b'\0', b'\r', b'\n'].contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields written as `name value` lines.
    fn read(lines: &str) -> Result<Request, Malformed> {
        let field = |line: &str| {
            let (name, value) = line.split_once(' ').expect("name and value");
            Field { name: name.to_owned(), value: value.as_bytes().to_vec() }
        };
        Request::new(lines.split('|').map(field).collect())
    }

    #[test]
    fn session_is_asked_for_by_an_extended_connect() {
        let lines = ":method CONNECT|:protocol webtransport|:scheme https|:authority a:1|:path /c?x=1|origin o";
        let request = read(lines).expect("a request");
        assert!(request.is_webtransport());
        assert_eq!((request.path(), request.query(), &*request.authority), ("/c", "x=1", "a:1"));
        assert_eq!((request.header("origin"), request.header("cookie")), (Some(&b"o"[..]), None));
        assert!(!read(":method GET|:scheme https|:authority a|:path /").expect("a request").is_webtransport());
        assert!(!read(":method CONNECT|:authority a:1").expect("a request").is_webtransport());
    }

    #[test]
    fn malformed_heads_are_refused() {
        for lines in [
            ":method GET",
            ":scheme https|:path /",
            ":method GET|:scheme https|:path x",
            ":method GET|:scheme https|:path /|:path /",
            ":method GET|:scheme https|:path /|:other x",
            ":method GET|:scheme https|:path /|:protocol webtransport",
            ":method GET|:scheme https|:path / x",
            ":method G T|:scheme https|:path /",
            ":method GET|origin o|:scheme https|:path /",
            ":method GET|:scheme https|:path /|Origin o",
            ":method GET|:scheme https|:path /|origin o\r\nx: y",
            ":method CONNECT|:protocol webtransport|:authority a:1",
            ":method GET|:scheme https|:path /|transfer-encoding chunked",
            ":method GET|:scheme https|:path /|te gzip",
        ] {
            assert_eq!(read(lines), Err(Malformed), "{lines}");
        }
    }
}
