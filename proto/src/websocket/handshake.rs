//! The opening handshake. Source: RFC 6455 §4, and RFC 8441 for HTTP/2.

use super::extension::{self, Deflate, negotiate};
use crate::http::{Head, Limits, Version, parse_response};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use std::fmt;
use tungstenite::handshake::derive_accept_key;

/// A request that may be upgraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Value for `Sec-WebSocket-Accept`; empty on HTTP/2, which has none.
    pub accept_key: String,
    /// What the client offers, in its order.
    pub subprotocols: Vec<String>,
    /// The first offer of permessage-deflate that we can accept.
    pub deflate: Option<Deflate>,
}

/// The answer of a server that upgraded the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// Its length; frames follow.
    pub head_len: usize,
    /// Messages may be deflated.
    pub deflate: bool,
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

/// Reads the key of a client. Bits behind its last byte mean nothing.
const KEY_BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// How closely a request for an upgrade is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// As RFC 6455 §4.2.1 has it.
    Strict,
    /// As the reference does: HTTP/1.0, other versions beside 13 and a second key pass.
    Lax,
}

/// Checks a request for an upgrade. Even a lax one may have no body, behind which nobody could tell frames from it.
pub fn accept(head: &Head<'_>, strictness: Strictness) -> Result<Accepted, HandshakeError> {
    let refuse = |reason| Err(HandshakeError { status: 400, reason });
    if head.version() == Version::Http2 {
        return accept_connect(head);
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
    if !head.has_token("sec-websocket-version", "13") {
        return refuse("not version 13");
    }
    let Some(key) = head.header("sec-websocket-key").filter(|key| is_key(key)) else {
        return refuse("no key of 16 bytes");
    };
    if head.content_length().is_some_and(|length| length > 0) || head.chunked() {
        return refuse("body in an upgrade request");
    }
    if strictness == Strictness::Strict
        && let Some(reason) = fault(head)
    {
        return refuse(reason);
    }
    Ok(Accepted {
        accept_key: derive_accept_key(key),
        subprotocols: subprotocols(head),
        deflate: negotiate(head.headers("sec-websocket-extensions")),
    })
}

/// What RFC 6455 forbids and the reference forgives.
fn fault(head: &Head<'_>) -> Option<&'static str> {
    if head.version() == Version::Http10 {
        return Some("HTTP/1.0");
    }
    if head.headers("sec-websocket-key").count() > 1 {
        return Some("more than one key");
    }
    let mut versions = head.headers("sec-websocket-version");
    (versions.next() != Some(b"13") || versions.next().is_some()).then_some("other versions beside 13")
}

/// The same for an extended CONNECT: the stream itself says what the other headers do.
fn accept_connect(head: &Head<'_>) -> Result<Accepted, HandshakeError> {
    let refuse = |reason| Err(HandshakeError { status: 400, reason });
    if head.connect_protocol() != Some("websocket") {
        return refuse("not an extended CONNECT for websocket");
    }
    if !head.has_token("sec-websocket-version", "13") {
        return refuse("not version 13");
    }
    Ok(Accepted {
        accept_key: String::new(),
        subprotocols: subprotocols(head),
        deflate: negotiate(head.headers("sec-websocket-extensions")),
    })
}

fn is_key(key: &[u8]) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24 && KEY_BASE64.decode_slice(key, &mut bytes) == Ok(16)
}

/// What is no token is no name of ours either.
fn subprotocols(head: &Head<'_>) -> Vec<String> {
    let names = head.headers("sec-websocket-protocol").flat_map(|value| value.split(|byte| *byte == b','));
    let names = names.filter_map(|name| str::from_utf8(name.trim_ascii()).ok());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Appends the answer that upgrades the connection. `deflate`: the extension is accepted.
pub fn write_response(out: &mut Vec<u8>, accept_key: &str, subprotocol: Option<&str>, deflate: Option<Deflate>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept_key.as_bytes());
    write_agreed(out, subprotocol, deflate);
}

/// The same for an extended CONNECT; its head becomes that of the stream.
pub fn write_connected(out: &mut Vec<u8>, subprotocol: Option<&str>, deflate: Option<Deflate>) {
    out.extend_from_slice(b"HTTP/1.1 200 OK");
    write_agreed(out, subprotocol, deflate);
}

/// What client and server agree upon, and the end of the head.
fn write_agreed(out: &mut Vec<u8>, subprotocol: Option<&str>, deflate: Option<Deflate>) {
    if let Some(subprotocol) = subprotocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(subprotocol.as_bytes());
    }
    if let Some(deflate) = deflate {
        out.extend_from_slice(format!("\r\nSec-WebSocket-Extensions: {deflate}").as_bytes());
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
    let key = KEY_BASE64.encode(key);
    let subprotocol = subprotocol.map_or(String::new(), |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    out.extend_from_slice(
        format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{subprotocol}\r\n"
        )
        .as_bytes(),
    );
}

/// Adds to a whole request of [`write_request`] that messages may be deflated.
pub fn offer_deflate(request: &mut Vec<u8>) {
    request.truncate(request.len().saturating_sub(2));
    request.extend_from_slice(format!("Sec-WebSocket-Extensions: {}\r\n\r\n", extension::OFFER).as_bytes());
}

/// Checks the server's answer to [`write_request`]. `None` when it is not complete.
pub fn check_response(bytes: &[u8], key: [u8; 16], limits: &Limits) -> Result<Option<Upgraded>, HandshakeError> {
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
    let key = derive_accept_key(KEY_BASE64.encode(key).as_bytes());
    let mut accept_keys = response.headers("sec-websocket-accept");
    if accept_keys.next() != Some(key.as_bytes()) || accept_keys.next().is_some() {
        return refuse(400, "wrong accept key");
    }
    let Some(deflate) = extension::check_answer(response.headers("sec-websocket-extensions")) else {
        return refuse(400, "extension that was not offered");
    };
    Ok(Some(Upgraded { head_len, deflate }))
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
        check_with(Strictness::Strict, from, to, want);
    }

    #[track_caller]
    fn check_with(strictness: Strictness, from: &str, to: &str, want: Option<&[&str]>) {
        assert!(REQUEST.contains(from));
        let request = REQUEST.replace(from, to);
        let (head, _) = parse_head(request.as_bytes(), &Limits::default()).unwrap().unwrap();
        let got = accept(&head, strictness);
        match want {
            Some(subprotocols) => {
                let accept_key = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
                let subprotocols = subprotocols.iter().map(|name| (*name).to_owned()).collect();
                assert_eq!(got, Ok(Accepted { accept_key, subprotocols, deflate: None }), "{request}");
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
        check("\r\n\r\n", "\r\nSec-WebSocket-Protocol: a b, c;d, e\r\n\r\n", Some(&["a b", "c;d", "e"]));
        check("\r\n\r\n", "\r\nSec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n\r\n", Some(&["a", "b"]));
    }

    /// T01, T03
    #[test]
    fn what_the_reference_forgives_is_forgiven_by_a_lax_handshake_alone() {
        for (from, to) in [
            ("HTTP/1.1", "HTTP/1.0"),
            ("Version: 13", "Version: 8, 13"),
            ("Version: 13\r\n", "Version: 8\r\nSec-WebSocket-Version: 13\r\n"),
            ("Version: 13\r\n", "Version: 13\r\nSec-WebSocket-Version: 13\r\n"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Key: x\r\n\r\n"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
        ] {
            check_with(Strictness::Lax, from, to, Some(&[]));
            check_with(Strictness::Strict, from, to, None);
        }
        check("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n", Some(&[]));
        let request = REQUEST.replace("bSBub25jZQ==", "bSBub25jZX==");
        let (head, _) = parse_head(request.as_bytes(), &Limits::default()).unwrap().unwrap();
        assert!(accept(&head, Strictness::Strict).is_ok());
    }

    /// T05
    #[test]
    fn offers_of_all_extension_lines_are_looked_at() {
        let lines = "\r\nSec-WebSocket-Extensions: other\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        for (lines, want) in [(lines, true), ("\r\n\r\n", false)] {
            let request = REQUEST.replace("\r\n\r\n", lines);
            let (head, _) = parse_head(request.as_bytes(), &Limits::default()).unwrap().unwrap();
            assert_eq!(accept(&head, Strictness::Strict).unwrap().deflate.is_some(), want);
        }
    }

    #[test]
    fn only_get_is_upgraded() {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let (head, _) = parse_head(request.as_bytes(), &Limits::default()).unwrap().unwrap();
        assert_eq!(accept(&head, Strictness::Strict).map_err(|error| error.status), Err(405));
    }

    #[test]
    fn anything_else_is_refused() {
        for (from, to) in [
            ("Connection: Upgrade\r\n", ""),
            ("Connection: Upgrade", "Connection: close"),
            ("Upgrade: websocket\r\n", ""),
            ("Upgrade: websocket", "Upgrade: websockets"),
            ("Version: 13", "Version: 12"),
            ("Version: 13", "Version: 013"),
            ("Sec-WebSocket-Key: ", "Sec-WebSocket-Key: x\r\nSec-WebSocket-Key: "),
            ("Sec-WebSocket-Version: 13\r\n", ""),
            ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=!"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZTEy"),
            ("dGhlIHNhbXBsZSBub25jZQ==", ""),
            ("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n"),
            ("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ] {
            check_with(Strictness::Lax, from, to, None);
            check_with(Strictness::Strict, from, to, None);
        }
    }

    #[track_caller]
    fn check_connect(method: &str, connect_protocol: Option<&str>, lines: &[(&str, &str)], want: Result<&[&str], u16>) {
        let request = StreamRequest { method, target: "/", authority: "a", connect_protocol };
        let lines = lines.iter().map(|(name, value)| (*name, value.as_bytes()));
        let head = Head::of_stream(request, lines, &Limits::default()).unwrap();
        let want = want.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(
            accept(&head, Strictness::Strict).map(|accepted| accepted.subprotocols).map_err(|error| error.status),
            want
        );
    }

    /// T07
    #[test]
    fn stream_of_http2_is_opened_by_an_extended_connect() {
        let version = ("sec-websocket-version", "13");
        check_connect("CONNECT", Some("websocket"), &[version], Ok(&[]));
        check_connect("CONNECT", Some("websocket"), &[version, ("sec-websocket-protocol", "a, b")], Ok(&["a", "b"]));
        check_connect("CONNECT", Some("websocket"), &[], Err(400));
        check_connect("CONNECT", Some("connect-udp"), &[version], Err(400));
        check_connect("CONNECT", Some("websocket"), &[version, ("sec-websocket-protocol", "a b")], Ok(&["a b"]));
        check_connect("CONNECT", Some("websocket"), &[("sec-websocket-version", "12")], Err(400));
        check_connect("GET", None, &[version, ("upgrade", "websocket")], Err(400));
    }

    #[test]
    fn client_and_server_understand_each_other() {
        let key = [7; 16];
        let mut request = Vec::new();
        write_request(&mut request, "localhost:8000", "/connection/websocket?a=b", key, Some("centrifuge-json"));
        let (head, head_len) = parse_head(&request, &Limits::default()).unwrap().unwrap();
        assert_eq!((head_len, head.path()), (request.len(), "/connection/websocket"));
        let accepted = accept(&head, Strictness::Strict).unwrap();
        let mut response = Vec::new();
        write_response(&mut response, &accepted.accept_key, Some("centrifuge-json"), None);
        let response_len = response.len();
        response.extend_from_slice(&[0x81, 0]);
        for length in 0..response_len {
            assert_eq!(check_response(&response[..length], key, &Limits::default()), Ok(None));
        }
        let upgraded = Upgraded { head_len: response_len, deflate: false };
        assert_eq!(check_response(&response, key, &Limits::default()), Ok(Some(upgraded)));
        let other = check_response(&response, [8; 16], &Limits::default());
        assert_eq!(other.map_err(|error| error.reason), Err("wrong accept key"));
    }

    /// T05
    #[test]
    fn client_and_server_agree_to_deflate() {
        let (mut request, mut response) = (Vec::new(), Vec::new());
        write_request(&mut request, "localhost", "/", [7; 16], None);
        offer_deflate(&mut request);
        let (head, _) = parse_head(&request, &Limits::default()).unwrap().unwrap();
        let accepted = accept(&head, Strictness::Strict).unwrap();
        write_response(&mut response, &accepted.accept_key, None, accepted.deflate);
        let upgraded = check_response(&response, [7; 16], &Limits::default()).unwrap().unwrap();
        assert!(upgraded.deflate);
        let text = String::from_utf8(response).unwrap().replace("permessage-deflate", "permessage-bzip2");
        let refused = check_response(text.as_bytes(), [7; 16], &Limits::default());
        assert_eq!(refused.map_err(|error| error.reason), Err("extension that was not offered"));
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
