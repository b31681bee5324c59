//! The head of a request: request line and headers.

use super::{HEADER_LINES_MAX, HttpError, Limits, Query};
use httparse::{EMPTY_HEADER, Header};

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: closed after the response unless asked otherwise.
    Http10,
    /// HTTP/1.1: kept open unless asked otherwise.
    Http11,
}

/// A request but for its body.
#[derive(Debug)]
pub struct Head<'a> {
    method: &'a str,
    target: &'a str,
    version: Version,
    headers: Vec<Header<'a>>,
    content_length: Option<u64>,
    chunked: bool,
}

/// Reads the head at the start of `buf`; also gives its length. `None` when it is not complete.
pub fn parse_head<'a>(
    buf: &'a [u8],
    limits: &Limits,
) -> Result<Option<(Head<'a>, usize)>, HttpError> {
    let mut headers = [EMPTY_HEADER; HEADER_LINES_MAX];
    let lines_max = limits.header_lines_max.min(HEADER_LINES_MAX);
    let mut request = httparse::Request::new(&mut headers[..lines_max]);
    let head_len = match request.parse(buf) {
        Ok(httparse::Status::Complete(head_len)) if head_len <= limits.head_bytes_max => head_len,
        Ok(httparse::Status::Partial) if buf.len() < limits.head_bytes_max => {
            check_target_so_far(buf, request.path, limits)?;
            return Ok(None);
        }
        Ok(_) => return Err(HttpError::new(431, "head over the size limit")),
        Err(error) => return Err(parse_error(error)),
    };
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(HttpError::bad("request line cut short"));
    };
    if target.len() > limits.target_bytes_max {
        return Err(HttpError::new(414, "target over the size limit"));
    }
    let mut head = Head {
        method,
        target,
        version: if version == 0 {
            Version::Http10
        } else {
            Version::Http11
        },
        headers: request.headers.to_vec(),
        content_length: None,
        chunked: false,
    };
    head.check(&buf[..head_len])?;
    Ok(Some((head, head_len)))
}

fn parse_error(error: httparse::Error) -> HttpError {
    match error {
        httparse::Error::TooManyHeaders => HttpError::new(431, "too many header lines"),
        httparse::Error::Version => HttpError::new(505, "not HTTP/1.0 or HTTP/1.1"),
        httparse::Error::HeaderName => HttpError::bad("bad header name"),
        httparse::Error::HeaderValue => HttpError::bad("bad header value"),
        httparse::Error::NewLine => HttpError::bad("bad line end"),
        httparse::Error::Token | httparse::Error::Status => HttpError::bad("bad request line"),
    }
}

/// A target without an end is refused before the whole head has been read.
fn check_target_so_far(buf: &[u8], target: Option<&str>, limits: &Limits) -> Result<(), HttpError> {
    let long = target.map_or(buf.len() > limits.target_bytes_max + 64, |target| {
        target.len() > limits.target_bytes_max
    });
    if long {
        Err(HttpError::new(414, "target over the size limit"))
    } else {
        Ok(())
    }
}

impl<'a> Head<'a> {
    /// Checks what decides where the request ends and whom it is for.
    fn check(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        if has_bare_line_end(bytes) {
            return Err(HttpError::bad("line that does not end in CR LF"));
        }
        if !self.target.starts_with('/')
            && self.target != "*"
            && self.method != "CONNECT"
            && !self.target.contains("://")
        {
            return Err(HttpError::bad("bad target"));
        }
        match (self.headers("host").count(), self.version) {
            (1, _) | (0, Version::Http10) => {}
            _ => return Err(HttpError::bad("not one Host header")),
        }
        self.chunked = self.parse_transfer_encoding()?;
        self.content_length = self.parse_content_length()?;
        if self.chunked && self.content_length.is_some() {
            return Err(HttpError::bad("both Content-Length and Transfer-Encoding"));
        }
        Ok(())
    }

    fn parse_transfer_encoding(&self) -> Result<bool, HttpError> {
        let mut values = self.headers("transfer-encoding");
        let Some(value) = values.next() else {
            return Ok(false);
        };
        if self.version == Version::Http10 {
            return Err(HttpError::bad("Transfer-Encoding in HTTP/1.0"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") || values.next().is_some() {
            return Err(HttpError::new(501, "transfer coding other than chunked"));
        }
        Ok(true)
    }

    /// Several equal lengths are one; several different ones are an attack.
    fn parse_content_length(&self) -> Result<Option<u64>, HttpError> {
        let mut length = None;
        for value in self
            .headers("content-length")
            .flat_map(|value| value.split(|byte| *byte == b','))
        {
            let one =
                parse_decimal(value.trim_ascii()).ok_or(HttpError::bad("bad Content-Length"))?;
            if length.is_some_and(|length| length != one) {
                return Err(HttpError::bad("different Content-Lengths"));
            }
            length = Some(one);
        }
        Ok(length)
    }

    /// Method, as sent.
    #[must_use]
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// Version of the protocol.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Target without the query, and without scheme and host if they were sent. Not percent-decoded.
    #[must_use]
    pub fn path(&self) -> &'a str {
        let target = self.origin_form();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// What follows the first question mark; empty without one.
    #[must_use]
    pub fn query(&self) -> Query<'a> {
        Query::new(
            self.origin_form()
                .split_once('?')
                .map_or("", |(_, query)| query),
        )
    }

    fn origin_form(&self) -> &'a str {
        let Some((_, rest)) = self
            .target
            .split_once("://")
            .filter(|_| !self.target.starts_with('/'))
        else {
            return self.target;
        };
        match rest.find(['/', '?']) {
            Some(at) if rest.as_bytes()[at] == b'/' => &rest[at..],
            Some(at) => &rest[at..],
            None => "/",
        }
    }

    /// First value of a header, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers(name).next()
    }

    /// All values of a header, in any case.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// All header lines.
    pub fn header_lines(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers
            .iter()
            .map(|header| (header.name, header.value))
    }

    /// Whether a header that holds a list of tokens names this one.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        let mut tokens = self
            .headers(name)
            .flat_map(|value| value.split(|byte| *byte == b','));
        tokens.any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Length of the body; `None` when not given.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The body comes in chunks; see [`ChunkedDecoder`](super::ChunkedDecoder).
    #[must_use]
    pub fn chunked(&self) -> bool {
        self.chunked
    }

    /// The client will send another request on this connection.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        match self.version {
            Version::Http10 => {
                self.has_token("connection", "keep-alive") && !self.has_token("connection", "close")
            }
            Version::Http11 => !self.has_token("connection", "close"),
        }
    }

    /// The client waits for `100 Continue` before it sends the body.
    #[must_use]
    pub fn expect_continue(&self) -> bool {
        self.version == Version::Http11 && self.has_token("expect", "100-continue")
    }
}

/// Digits only: no sign, no blanks.
pub(super) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

/// httparse takes a lone LF as a line end; others do not, and could see another request in it.
fn has_bare_line_end(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}
