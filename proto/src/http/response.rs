//! Responses: written for clients, and read by the bench and the tests.

use super::request::parse_decimal;
use super::{HEADER_LINES_MAX, HttpError, Limits};
use httparse::{EMPTY_HEADER, Header};

/// Appends a whole response.
pub fn write_response(out: &mut Vec<u8>, status: u16, headers: &[(&str, &str)], body: &[u8], keep_alive: bool) {
    out.reserve(body.len() + 128);
    write_status_and_headers(out, status, headers);
    if allows_body(status) {
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(if keep_alive { b"\r\n" } else { b"Connection: close\r\n\r\n" });
    if allows_body(status) {
        out.extend_from_slice(body);
    }
}

/// Appends a head without a length: what follows is delimited by `headers` or by the end of the connection.
pub fn write_response_head(out: &mut Vec<u8>, status: u16, headers: &[(&str, &str)]) {
    write_status_and_headers(out, status, headers);
    out.extend_from_slice(b"\r\n");
}

/// Appends the answer to `Expect: 100-continue`.
pub fn write_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

fn write_status_and_headers(out: &mut Vec<u8>, status: u16, headers: &[(&str, &str)]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        write_header(out, name, value);
    }
}

/// Line ends in a value would start a new header, so they are left out. An `Origin` is echoed, for example.
fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
    out.extend_from_slice(b"\r\n");
}

fn allows_body(status: u16) -> bool {
    !matches!(status, 100..200 | 204 | 304)
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

/// The head of a response.
#[derive(Debug)]
pub struct Response<'a> {
    status: u16,
    headers: Vec<Header<'a>>,
    content_length: Option<u64>,
}

/// Reads the head of a response at the start of `buf`; also gives its length. `None` when it is not complete.
pub fn parse_response<'a>(buf: &'a [u8], limits: &Limits) -> Result<Option<(Response<'a>, usize)>, HttpError> {
    let mut headers = [EMPTY_HEADER; HEADER_LINES_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head_len = match response.parse(buf) {
        Ok(httparse::Status::Complete(head_len)) => head_len,
        Ok(httparse::Status::Partial) if buf.len() < limits.head_bytes_max => return Ok(None),
        Ok(httparse::Status::Partial) => {
            return Err(HttpError::new(431, "head over the size limit"));
        }
        Err(_) => return Err(HttpError::bad("not an HTTP response")),
    };
    let status = response.code.ok_or(HttpError::bad("no status"))?;
    let mut parsed = Response { status, headers: response.headers.to_vec(), content_length: None };
    let length = parsed.headers("content-length").next();
    let length = length.map(|value| parse_decimal(value).ok_or(HttpError::bad("bad Content-Length")));
    parsed.content_length = length.transpose()?;
    Ok(Some((parsed, head_len)))
}

impl<'a> Response<'a> {
    /// Status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// All values of a header, in any case.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// All header lines.
    pub fn header_lines(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// Length of the body; `None` when it ends with the connection.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, headers: &[(&str, &str)], body: &[u8], keep_alive: bool, want: &str) {
        let mut out = Vec::new();
        write_response(&mut out, status, headers, body, keep_alive);
        assert_eq!(str::from_utf8(&out).unwrap(), want);
        let (response, head_len) = parse_response(&out, &Limits::default()).unwrap().unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.content_length().unwrap_or_default() as usize, out.len() - head_len);
    }

    #[test]
    fn responses_are_written_and_read_back() {
        check(
            200,
            &[("Content-Type", "application/json")],
            b"{}",
            true,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        );
        check(400, &[], b"", false, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        check(204, &[], b"ignored", true, "HTTP/1.1 204 No Content\r\n\r\n");
    }

    #[test]
    fn values_cannot_start_another_header() {
        check(
            200,
            &[("A", "b\r\nSet-Cookie: c\n\u{0}")],
            b"",
            true,
            "HTTP/1.1 200 OK\r\nA: bSet-Cookie: c\r\nContent-Length: 0\r\n\r\n",
        );
    }

    #[test]
    fn broken_responses_are_refused() {
        for text in ["HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/3 200 OK\r\n\r\n", "garbage\r\n\r\n"] {
            assert!(parse_response(text.as_bytes(), &Limits::default()).is_err(), "{text}");
        }
        assert!(matches!(parse_response(b"HTTP/1.1 200 OK\r\n", &Limits::default()), Ok(None)));
    }
}
