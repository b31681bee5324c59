//! HTTP/1.1 as small as the tests need it: one request per connection, the answer read to its end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::server::PATIENCE;

/// An answer.
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Body without its transfer coding.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Posts a body of JSON.
#[track_caller]
pub fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    request.push_str("Content-Type: application/json\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    raw(address, &bytes).unwrap_or_else(|| panic!("no answer to POST {path}"))
}

/// Gets a path; nothing when nobody answers.
pub fn try_get(address: SocketAddr, path: &str) -> Option<Reply> {
    raw(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
}

/// An upgrade to WebSocket: the connection, or nothing when it is refused for now.
pub fn upgrade(address: SocketAddr) -> Option<TcpStream> {
    const REQUEST: &[u8] =
        b"GET /connection/websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(REQUEST).ok()?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).ok()?;
    match &status[9..] {
        b"101" => Some(stream),
        b"503" => None,
        other => panic!("neither 101 nor 503: {}", String::from_utf8_lossy(other)),
    }
}

/// Sends bytes as they are and reads one answer; nothing when what came is none.
pub fn raw(address: SocketAddr, request: &[u8]) -> Option<Reply> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    // The other side may refuse before it has read everything: its answer counts, not our broken pipe.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return parse(&answer, true),
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
        }
        if let Some(reply) = parse(&answer, false) {
            return Some(reply);
        }
    }
}

/// The answer when all of it is there. One that tells no length ends where the connection `ended`.
fn parse(answer: &[u8], ended: bool) -> Option<Reply> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &answer[end + 4..];
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body = if head.contains("transfer-encoding: chunked") {
        joined(body)?
    } else if let Some(length) = length {
        body.get(..length.trim().parse().ok()?)?.to_vec()
    } else if ended {
        body.to_vec()
    } else {
        return None;
    };
    Some(Reply { status, body })
}

/// The content of a chunked body.
fn joined(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(content);
        }
        content.extend_from_slice(body.get(end + 2..end + 2 + length)?);
        body = body.get(end + 2 + length + 2..)?;
    }
}
