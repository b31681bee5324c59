//! The opening handshake. Source: RFC 6455 §4, and RFC 8441 for HTTP/2.

use crate::http::{Head, Limits, Version, parse_response};
use base64::Engine;
use std::fmt;
use tungstenite::handshake::derive_accept_key;

/// A request that may be upgraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Value for `Sec-WebSocket-Accept`; empty on HTTP/2, which has none.
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
    let refuse = |reason| Err(HandshakeError { status: 400, reason });
    if head.version() == Version::Http2 {
        return accept_connect(head);
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
    if head.method() != "GET" {
        return Err(HandshakeError { status: 405, reason: "not a GET request" });
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
    Ok(Accepted { accept_key: derive_accept_key(key), subprotocols })
}

/// The same for an extended CONNECT: the stream itself says what the other headers do.
fn accept_connect(head: &Head<'_>) -> Result<Accepted, HandshakeError> {
    let refuse = |reason| Err(HandshakeError { status: 400, reason });
    if head.connect_protocol() != Some("websocket") {
        return refuse("not an extended CONNECT for websocket");
    }
    if single(head, "sec-websocket-version") != Some(b"13") {
        return refuse("not version 13");
    }
    let Some(subprotocols) = subprotocols(head) else {
        return refuse("subprotocol that is no token");
    };
    Ok(Accepted { accept_key: String::new(), subprotocols })
}

/// The value of a header that must come once.
fn single<'a>(head: &Head<'a>, name: &str) -> Option<&'a [u8]> {
    let mut values = head.headers(name);
    values.next().filter(|_| values.next().is_none())
}

fn is_key(key: &[u8]) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24 && base64::engine::general_purpose::STANDARD.decode_slice(key, &mut bytes) == Ok(16)
}

fn subprotocols(head: &Head<'_>) -> Option<Vec<String>> {
    let mut subprotocols = Vec::new();
    for value in head.headers("sec-websocket-protocol") {
        for token in value.split(|byte| *byte == b',') {
            let token = str::from_utf8(token).ok()?.trim_matches([' ', '\t']);
            if !token.bytes().all(is_token_byte) {
                return None;
            }
            // An empty entry of a list means nothing.
            if !token.is_empty() {
                subprotocols.push(token.to_owned());
            }
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
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept_key.as_bytes());
    if let Some(subprotocol) = subprotocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(subprotocol.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends the answer to a request that is not upgraded; the connection is closed behind it.
pub fn write_refusal(out: &mut Vec<u8>, status: u16, headers: &[(&str, &str)]) {
    const OURS: [(&str, &str); 3] = [
        ("Sec-Websocket-Version", "13"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
    ];
    let text: &[u8] = match status {
        403 => b"Forbidden\n",
        405 => b"Method Not Allowed\n",
        _ => b"Bad Request\n",
    };
    crate::http::write_response(out, status, &[headers, &OURS].concat(), text, false);
}

/// Appends the request of a client. `key` is random and checked again in [`check_response`].
pub fn write_request(out: &mut Vec<u8>, host: &str, target: &str, key: [u8; 16], subprotocol: Option<&str>) {
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    let subprotocol = subprotocol.map_or(String::new(), |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    out.extend_from_slice(
        format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{subprotocol}\r\n"
        )
        .as_bytes(),
    );
}

/// Checks the server's answer to [`write_request`] and gives its length; frames follow. `None` when it is not complete.
pub fn check_response(bytes: &[u8], key: [u8; 16], limits: &Limits) -> Result<Option<usize>, HandshakeError> {
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
    let key = derive_accept_key(base64::engine::general_purpose::STANDARD.encode(key).as_bytes());
    let mut accept_keys = response.headers("sec-websocket-accept");
    if accept_keys.next() != Some(key.as_bytes()) || accept_keys.next().is_some() {
        return refuse(400, "wrong accept key");
    }
    Ok(Some(head_len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{StreamRequest, parse_head};

    const REQUEST: &str = "GET /connection/websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    /// Replaces a part of a good request. `None` when it is refused.
    #[track_caller]
    fn check(from: &str, to: &str, want: Option<&[&str]>) {
        assert!(REQUEST.contains(from));
        let request = REQUEST.replace(from, to);
        let (head, _) = parse_head(request.as_bytes(), &Limits::default()).unwrap().unwrap();
        let got = accept(&head);
        match want {
            Some(subprotocols) => {
                let accept_key = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
                let subprotocols = subprotocols.iter().map(|name| (*name).to_owned()).collect();
                assert_eq!(got, Ok(Accepted { accept_key, subprotocols }), "{request}");
            }
            None => assert_eq!(got.map_err(|error| error.status), Err(400), "{request}"),
        }
    }

    #[test]
    fn good_requests_are_accepted() {
        check("GET", "GET", Some(&[]));
        check("Connection: Upgrade", "connection: keep-alive, UPGRADE", Some(&[]));
        check("Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade", Some(&[]));
        check("Upgrade: websocket", "Upgrade: h2c, WebSocket", Some(&[]));
        check(
            "\r\n\r\n",
            "\r\nSec-WebSocket-Protocol: centrifuge-json, centrifuge-protobuf\r\n\r\n",
            Some(&["centrifuge-json", "centrifuge-protobuf"]),
        );
        check("\r\n\r\n", "\r\nSec-WebSocket-Protocol: , a ,\r\n\r\n", Some(&["a"]));
        check("\r\n\r\n", "\r\nSec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n\r\n", Some(&["a", "b"]));
    }

    #[test]
    fn only_get_is_upgraded() {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let (head, _) = parse_head(request.as_bytes(), &Limits::default()).unwrap().unwrap();
        assert_eq!(accept(&head).map_err(|error| error.status), Err(405));
    }

    #[test]
    fn anything_else_is_refused() {
        for (from, to) in [
            ("HTTP/1.1", "HTTP/1.0"),
            ("Connection: Upgrade\r\n", ""),
            ("Connection: Upgrade", "Connection: close"),
            ("Upgrade: websocket\r\n", ""),
            ("Upgrade: websocket", "Upgrade: websockets"),
            ("Version: 13", "Version: 12"),
            ("Version: 13", "Version: 13, 8"),
            ("Sec-WebSocket-Version: 13\r\n", ""),
            ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n"),
            ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
            ("Sec-WebSocket-Key: ", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: "),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=!"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZTEy"),
            ("dGhlIHNhbXBsZSBub25jZQ==", ""),
            ("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n"),
            ("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: a b\r\n\r\n"),
        ] {
            check(from, to, None);
        }
    }

    #[track_caller]
    fn check_connect(method: &str, connect_protocol: Option<&str>, lines: &[(&str, &str)], want: Result<&[&str], u16>) {
        let request = StreamRequest { method, target: "/", authority: "a", connect_protocol };
        let lines = lines.iter().map(|(name, value)| (*name, value.as_bytes()));
        let head = Head::of_stream(request, lines, &Limits::default()).unwrap();
        let want = want.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(accept(&head).map(|accepted| accepted.subprotocols).map_err(|error| error.status), want);
    }

    /// T07
    #[test]
    fn stream_of_http2_is_opened_by_an_extended_connect() {
        let version = ("sec-websocket-version", "13");
        check_connect("CONNECT", Some("websocket"), &[version], Ok(&[]));
        check_connect("CONNECT", Some("websocket"), &[version, ("sec-websocket-protocol", "a, b")], Ok(&["a", "b"]));
        check_connect("CONNECT", Some("websocket"), &[], Err(400));
        check_connect("CONNECT", Some("connect-udp"), &[version], Err(400));
        check_connect("CONNECT", Some("websocket"), &[version, ("sec-websocket-protocol", "a b")], Err(400));
        check_connect("GET", None, &[version, ("upgrade", "websocket")], Err(400));
    }

    #[test]
    fn client_and_server_understand_each_other() {
        let key = [7; 16];
        let mut request = Vec::new();
        write_request(&mut request, "localhost:8000", "/connection/websocket?a=b", key, Some("centrifuge-json"));
        let (head, head_len) = parse_head(&request, &Limits::default()).unwrap().unwrap();
        assert_eq!((head_len, head.path()), (request.len(), "/connection/websocket"));
        let accepted = accept(&head).unwrap();
        let mut response = Vec::new();
        write_response(&mut response, &accepted.accept_key, Some("centrifuge-json"));
        let response_len = response.len();
        response.extend_from_slice(&[0x81, 0]);
        for length in 0..response_len {
            assert_eq!(check_response(&response[..length], key, &Limits::default()), Ok(None));
        }
        assert_eq!(check_response(&response, key, &Limits::default()), Ok(Some(response_len)));
        let other = check_response(&response, [8; 16], &Limits::default());
        assert_eq!(other.map_err(|error| error.reason), Err("wrong accept key"));
    }

    #[test]
    fn refusals_name_the_version() {
        let mut out = Vec::new();
        write_refusal(&mut out, 400, &[]);
        let text = String::from_utf8(out.clone()).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 400 Bad Request\r\n") && text.contains("Sec-Websocket-Version: 13\r\n"),
            "{text}"
        );
        let refused = check_response(&out, [7; 16], &Limits::default());
        assert_eq!(refused.map_err(|error| error.status), Err(400));
    }
}
