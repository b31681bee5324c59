//! Writing responses.

use ringcast_proto::http::{self, Head, HttpError, Version};

use super::exchange::Step;

/// Answers what is not HTTP, or too much of it.
pub fn refuse(error: HttpError, out: &mut Vec<u8>) -> Step<'static> {
    tracing::debug!(status = error.status, reason = error.reason, "bad HTTP request");
    let headers = [("Content-Type", "text/plain; charset=utf-8")];
    let text = match error.status {
        413 => "Request Entity Too Large\n",
        _ => "Bad Request\n",
    };
    http::write_response(out, error.status, &headers, text.as_bytes(), false);
    Step::Close
}

/// Goes with every plain text, as the reference sends it.
pub const NO_SNIFF: (&str, &str) = ("X-Content-Type-Options", "nosniff");

/// Writes what would go before the body.
pub fn write_head_only(out: &mut Vec<u8>, status: u16, headers: &[(&str, &str)], length: usize, keep_alive: bool) {
    let (mut headers, length) = (headers.to_vec(), length.to_string());
    if length != "0" {
        headers.push(("Content-Length", &length));
    }
    if !keep_alive {
        headers.push(("Connection", "close"));
    }
    http::write_response_head(out, status, &headers);
}

/// Puts `Alt-Svc` into the response that begins at `from`, unless it is an interim one or there is none. Source: RFC 7838.
pub fn advertise(alt_svc: &str, from: usize, out: &mut Vec<u8>) {
    const STATUS_AT: usize = "HTTP/1.1 ".len();
    let response = &out[from..];
    let is_final = response.get(STATUS_AT).is_some_and(|digit| *digit != b'1');
    let Some(line) = response.windows(2).position(|pair| pair == b"\r\n").filter(|_| is_final) else { return };
    let header = format!("\r\nAlt-Svc: {alt_svc}");
    out.splice(from + line..from + line, header.into_bytes());
}

/// Writes the response to one request.
pub struct Reply<'a, 'h> {
    pub head: &'a Head<'h>,
    pub keep_alive: bool,
    pub out: &'a mut Vec<u8>,
    /// Of the response; 0 before it is written.
    pub status: u16,
}

impl Reply<'_, '_> {
    /// A response with these headers; to HEAD without the body.
    pub fn respond(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Step<'static> {
        self.status = status;
        let mut headers = headers.to_vec();
        if self.head.version() == Version::Http10 && self.keep_alive {
            headers.push(("Connection", "keep-alive"));
        }
        if self.head.method() == "HEAD" {
            write_head_only(self.out, status, &headers, body.len(), self.keep_alive);
        } else {
            http::write_response(self.out, status, &headers, body, self.keep_alive);
        }
        if self.keep_alive { Step::Next } else { Step::Close }
    }

    /// A status and nothing else.
    pub fn empty(&mut self, status: u16) -> Step<'static> {
        self.respond(status, &[], b"")
    }

    /// Text.
    pub fn plain(&mut self, status: u16, text: &str) -> Step<'static> {
        self.respond(status, &[("Content-Type", "text/plain; charset=utf-8"), NO_SNIFF], text.as_bytes())
    }
}
