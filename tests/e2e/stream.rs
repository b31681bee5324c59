//! A client of the HTTP streams: sends one request and reads the response piece by piece.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::server::PATIENCE;

/// A response that goes on.
pub struct Stream {
    socket: BufReader<TcpStream>,
    /// Status of the response.
    pub status: u16,
    /// Lines of its head, in lower case.
    pub head: Vec<String>,
    /// Content that was not read yet.
    content: Vec<u8>,
}

impl Stream {
    /// Posts a body.
    #[track_caller]
    pub fn post(address: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Stream {
        let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        Stream::request(address, &[head.as_bytes(), body].concat())
    }

    /// Gets a path.
    #[track_caller]
    pub fn get(address: SocketAddr, path: &str) -> Stream {
        Stream::request(address, format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes())
    }

    /// Sends a request as it is and reads the head of the response.
    #[track_caller]
    pub fn request(address: SocketAddr, request: &[u8]) -> Stream {
        let socket = TcpStream::connect(address).expect("the server listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
        (&socket).write_all(request).expect("the server reads");
        let mut socket = BufReader::new(socket);
        let head = read_head(&mut socket);
        let status = head[0].split(' ').nth(1).and_then(|status| status.parse().ok());
        Stream { socket, status: status.expect("a status line"), head, content: Vec::new() }
    }

    /// The next message of a stream of lines or events; `None` at the end.
    #[track_caller]
    pub fn next(&mut self) -> Option<Value> {
        loop {
            let line = self.line()?;
            let text = line.strip_prefix("data: ").unwrap_or(&line).trim();
            if !text.is_empty() {
                return Some(serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")));
            }
        }
    }

    /// The next message, which must be there.
    #[track_caller]
    pub fn message(&mut self) -> Value {
        self.next().expect("the stream goes on")
    }

    /// The next line; `None` at the end.
    #[track_caller]
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.content.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.content.drain(..=end).collect();
                return Some(String::from_utf8(line).expect("text is UTF-8").trim_end().to_owned());
            }
            let chunk = self.chunk()?;
            self.content.extend_from_slice(&chunk);
        }
    }

    /// The next chunk; `None` at the end.
    #[track_caller]
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        if self.socket.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let length =
            usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("no length of a chunk: {line:?}"));
        let mut chunk = vec![0; length + 2];
        self.socket.read_exact(&mut chunk).ok()?;
        assert!(chunk.ends_with(b"\r\n"), "{chunk:?}");
        chunk.truncate(length);
        (length > 0).then_some(chunk)
    }

    /// The content of a response that tells its length; empty without one.
    #[track_caller]
    pub fn content(&mut self) -> String {
        let length = self.head.iter().find_map(|line| line.strip_prefix("content-length: "));
        let mut content = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
        self.socket.read_exact(&mut content).expect("the content comes");
        String::from_utf8(content).expect("text is UTF-8")
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = self.socket.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

fn read_head(socket: &mut BufReader<TcpStream>) -> Vec<String> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        let length = socket.read_line(&mut line).expect("the server answers");
        assert!(length > 0, "the connection ended in the head: {head:?}");
        match line.trim_end() {
            "" => return head,
            text => head.push(text.to_ascii_lowercase()),
        }
    }
}
