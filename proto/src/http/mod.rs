//! HTTP/1: request heads, bodies, responses; and the heads that HTTP/2 brings. Source: RFC 9110, RFC 9112, RFC 9113.
//!
//! Strict where two readers of the same bytes could disagree on where a request ends.

mod chunked;
mod query;
mod request;
mod response;

pub use chunked::{ChunkedDecoder, LAST_CHUNK, write_chunk};
pub use query::{Query, decode_path, decode_percent, encode_path};
pub use request::{Head, StreamRequest, Version, parse_head};
pub use response::{Response, parse_response, write_continue, write_response, write_response_head};

use std::fmt;

/// Most header lines of a head.
pub const HEADER_LINES_MAX: usize = 128;

/// Bounds of what a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and headers. Default 64 KiB.
    pub head_bytes_max: usize,
    /// Request target. Default 16 KiB.
    pub target_bytes_max: usize,
    /// Header lines, at most [`HEADER_LINES_MAX`]. Default 128.
    pub header_lines_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes_max: 64 << 10, target_bytes_max: 16 << 10, header_lines_max: HEADER_LINES_MAX }
    }
}

/// Why bytes are not a request we serve. The connection is closed behind the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// Status of the answer: 400, 413, 414, 431, 501 or 505.
    pub status: u16,
    /// What is wrong, for the operator's log.
    pub reason: &'static str,
}

impl HttpError {
    const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }

    const fn bad(reason: &'static str) -> Self {
        Self::new(400, reason)
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for HttpError {}
