//! Where the keys of a token are published: an address that may depend on claims nobody has vouched for yet.

use std::fmt;
use std::sync::Arc;

/// Longest address that is asked.
const URL_BYTES_MAX: usize = 2048;

/// Key `jwks_public_endpoint`: a URL with `{{name}}` where the group of that name in `issuer_regex` or `audience_regex` comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    parts: Vec<Part>,
    is_guarded: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Arc<str>),
    Group(String),
}

/// Where a key set is, as it was made for one token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeySetAddress {
    /// The URL.
    pub url: Arc<str>,
    /// The host came out of a token: it may not be a private address.
    pub is_guarded: bool,
}

/// Why a text is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// It does not begin with `http://` or `https://`.
    Scheme,
    /// There is no host.
    Host,
    /// A `{{` is not closed.
    Placeholder,
}

impl Endpoint {
    /// `allow_private_addresses`: a host that comes out of a token may be a private address, too.
    pub fn parse(template: &str, allow_private_addresses: bool) -> Result<Endpoint, EndpointError> {
        let rest = template.strip_prefix("https://").or_else(|| template.strip_prefix("http://"));
        let rest = rest.ok_or(EndpointError::Scheme)?;
        let host = &rest[..host_end(rest)];
        if host.is_empty() {
            return Err(EndpointError::Host);
        }
        let is_guarded = host.contains("{{") && !allow_private_addresses;
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((text, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or(EndpointError::Placeholder)?;
            parts.extend((!text.is_empty()).then(|| Part::Text(text.into())));
            parts.push(Part::Group(name.to_owned()));
            rest = after;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.into())));
        Ok(Endpoint { parts, is_guarded })
    }

    /// Names between the braces.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Group(name) => Some(&**name),
            Part::Text(_) => None,
        })
    }

    /// The address for one token; `value` gives the text of a group, empty where it has none. `None` when a value would
    /// change the shape of the address, or walk in its path.
    pub(super) fn address<'v>(&self, value: impl Fn(&str) -> &'v str) -> Option<KeySetAddress> {
        let is_guarded = self.is_guarded;
        if let [Part::Text(url)] = &self.parts[..] {
            return Some(KeySetAddress { url: url.clone(), is_guarded });
        }
        let mut url = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => url.push_str(text),
                Part::Group(name) => {
                    let value = value(name);
                    if !value.bytes().all(is_plain) {
                        return None;
                    }
                    url.push_str(value);
                }
            }
        }
        (url.len() <= URL_BYTES_MAX && has_straight_path(&url)).then(|| KeySetAddress { url: url.into(), is_guarded })
    }
}

/// Where the host ends in what follows the scheme.
fn host_end(rest: &str) -> usize {
    rest.find(['/', '?', '#']).unwrap_or(rest.len())
}

/// What a claim may bring into an address: nothing that begins a query, a fragment or a host, and no escapes.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/:!$&'()*+,;=".contains(&byte)
}

/// No empty segment, `.` or `..` within the path.
fn has_straight_path(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let end = host_end(rest);
    let path = rest[end..].split(['?', '#']).next().unwrap_or_default();
    let mut segments = path.strip_prefix('/').unwrap_or_default().split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if matches!(segment, "." | "..") || segment.is_empty() && !is_last {
            return false;
        }
    }
    end > 0
}

/// As in the configuration.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Group(name) => write!(f, "{{{{{name}}}}}"),
        })
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndpointError::Scheme => "endpoint must have http:// or https:// scheme",
            EndpointError::Host => "endpoint has no host",
            EndpointError::Placeholder => "endpoint has a {{ without }}",
        })
    }
}

impl std::error::Error for EndpointError {}
