//! The opening handshake. Source: RFC 6455 §4.

use crate::http::{Head, Limits, Version, parse_response};
use base64::Engine;
use std::fmt;
use tungstenite::handshake::derive_accept_key;

/// A request that may be upgraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Value for `Sec-WebSocket-Accept`.
    pub accept_key: String,
    /// What the client offers, in its order.
    pub subprotocols: Vec<String>,
}

/// Why a request is not upgraded. The answer is [`write_refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeError {
    /// HTTP status of the answer.
    pub status: u16,
    /// What is wrong, for the operator's log.
    pub reason: &'static str,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for HandshakeError {}

/// Checks a request for an upgrade.
pub fn accept(head: &Head<'_>) -> Result<Accepted, HandshakeError> {
    let refuse = |reason| {
        Err(HandshakeError {
            status: 400,
            reason,
        })
    };
    if head.method() != "GET" {
        return refuse("not a GET request");
    }
    if head.version() != Version::Http11 {
        return refuse("not HTTP/1.1");
    }
    if !head.has_token("connection", "upgrade") {
        return refuse("no upgrade in the Connection header");
    }
    if !head.has_token("upgrade", "websocket") {
        return refuse("no websocket in the Upgrade header");
    }
    if single(head, "sec-websocket-version") != Some(b"13") {
        return refuse("not version 13");
    }
    let Some(key) = single(head, "sec-websocket-key").filter(|key| is_key(key)) else {
        return refuse("not one key of 16 bytes");
    };
    if head.content_length().is_some_and(|length| length > 0) || head.chunked() {
        return refuse("body in an upgrade request");
    }
    let Some(subprotocols) = subprotocols(head) else {
        return refuse("subprotocol that is no token");
    };
    Ok(Accepted {
        accept_key: derive_accept_key(key),
        subprotocols,
    })
}

/// The value of a header that must come once.
fn single<'a>(head: &Head<'a>, name: &str) -> Option<&'a [u8]> {
    let mut values = head.headers(name);
    values.next().filter(|_| values.next().is_none())
}

fn is_key(key: &[u8]) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24
        && base64::engine::general_purpose::STANDARD.decode_slice(key, &mut bytes) == Ok(16)
}

fn subprotocols(head: &Head<'_>) -> Option<Vec<String>> {
    let mut subprotocols = Vec::new();
    for value in head.headers("sec-websocket-protocol") {
        for token in value.split(|byte| *byte == b',') {
            let token = str::from_utf8(token).ok()?.trim_matches([' ', '\t']);
            if token.is_empty() || token.bytes().any(|byte| !is_token_byte(byte)) {
                return None;
            }
            subprotocols.push(token.to_owned());
        }
    }
    Some(subprotocols)
}

/// Source: RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Appends the answer that upgrades the connection.
pub fn write_response(out: &mut Vec<u8>, accept_key: &str, subprotocol: Option<&str>) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    out.extend_from_slice(accept_key.as_bytes());
    if let Some(subprotocol) = subprotocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(subprotocol.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends the answer to a request that is not upgraded; the connection is closed behind it.
pub fn write_refusal(out: &mut Vec<u8>, error: &HandshakeError) {
    let headers = [
        ("Sec-Websocket-Version", "13"),
        ("Content-Type", "text/plain; charset=utf-8"),
    ];
    crate::http::write_response(out, error.status, &headers, b"Bad Request\n", false);
}

/// Appends the request of a client. `key` is random and checked again in [`check_response`].
pub fn write_request(
    out: &mut Vec<u8>,
    host: &str,
    target: &str,
    key: [u8; 16],
    subprotocol: Option<&str>,
) {
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    let subprotocol = subprotocol.map_or(String::new(), |name| {
        format!("Sec-WebSocket-Protocol: {name}\r\n")
    });
    out.extend_from_slice(
        format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{subprotocol}\r\n"
        )
        .as_bytes(),
    );
}

/// Checks the server's answer to [`write_request`] and gives its length; frames follow. `None` when it is not complete.
pub fn check_response(
    bytes: &[u8],
    key: [u8; 16],
    limits: &Limits,
) -> Result<Option<usize>, HandshakeError> {
    let refuse = |status, reason| Err(HandshakeError { status, reason });
    let Ok(parsed) = parse_response(bytes, limits) else {
        return refuse(400, "not an HTTP response");
    };
    let Some((response, head_len)) = parsed else {
        return Ok(None);
    };
    if response.status() != 101 {
        return refuse(response.status(), "not upgraded");
    }
    let key = derive_accept_key(
        base64::engine::general_purpose::STANDARD
            .encode(key)
            .as_bytes(),
    );
    let mut accept_keys = response.headers("sec-websocket-accept");
    if accept_keys.next() != Some(key.as_bytes()) || accept_keys.next().is_some() {
        return refuse(400, "wrong accept key");
    }
    Ok(Some(head_len))
}
