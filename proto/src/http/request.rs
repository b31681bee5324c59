//! The head of a request: request line and headers.

use super::{HEADER_LINES_MAX, HttpError, Limits, Query};
use httparse::Header;
use std::mem::MaybeUninit;

/// Longest method; those that are known are shorter.
const METHOD_BYTES_MAX: usize = 32;

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: closed after the response unless asked otherwise.
    Http10,
    /// HTTP/1.1: kept open unless asked otherwise.
    Http11,
    /// HTTP/2: a stream that ends with the response.
    Http2,
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
    connect_protocol: Option<&'a str>,
}

/// A request that HTTP/2 has taken apart already.
#[derive(Clone, Copy, Debug)]
pub struct StreamRequest<'a> {
    /// `:method`.
    pub method: &'a str,
    /// `:path`.
    pub target: &'a str,
    /// `:authority`; empty without one, where a `Host` header may take its place.
    pub authority: &'a str,
    /// `:protocol` of an extended CONNECT. Source: RFC 8441 §4.
    pub connect_protocol: Option<&'a str>,
}

/// Reads the head at the start of `buf`; also gives its length. `None` when it is not complete.
pub fn parse_head<'a>(buf: &'a [u8], limits: &Limits) -> Result<Option<(Head<'a>, usize)>, HttpError> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADER_LINES_MAX];
    let lines_max = limits.header_lines_max.min(HEADER_LINES_MAX);
    let mut request = httparse::Request::new(&mut []);
    let head_len = match request.parse_with_uninit_headers(buf, &mut headers[..lines_max]) {
        Ok(httparse::Status::Complete(head_len)) if head_len <= limits.head_bytes_max => head_len,
        Ok(httparse::Status::Partial) => {
            check_unfinished(buf, request.path, limits)?;
            return Ok(None);
        }
        Ok(httparse::Status::Complete(_)) => return Err(HttpError::new(431, "head over the size limit")),
        Err(error) => return Err(parse_error(error)),
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(HttpError::bad("request line cut short"));
    };
    if target.len() > limits.target_bytes_max {
        return Err(HttpError::new(414, "target over the size limit"));
    }
    let mut head = Head {
        method,
        target,
        version: if version == 0 { Version::Http10 } else { Version::Http11 },
        headers: request.headers.to_vec(),
        content_length: None,
        chunked: false,
        connect_protocol: None,
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

/// A head without an end is refused once it is too long.
fn check_unfinished(buf: &[u8], target: Option<&str>, limits: &Limits) -> Result<(), HttpError> {
    let target_len = target.map_or(buf.len().saturating_sub(METHOD_BYTES_MAX), str::len);
    if target_len > limits.target_bytes_max {
        return Err(HttpError::new(414, "target over the size limit"));
    }
    if buf.len() >= limits.head_bytes_max {
        return Err(HttpError::new(431, "head over the size limit"));
    }
    Ok(())
}

impl<'a> Head<'a> {
    /// The head of a stream of HTTP/2, held to the same limits as one of HTTP/1.
    pub fn of_stream(
        request: StreamRequest<'a>,
        lines: impl Iterator<Item = (&'a str, &'a [u8])>,
        limits: &Limits,
    ) -> Result<Self, HttpError> {
        let StreamRequest { method, target, authority, connect_protocol } = request;
        if target.len() > limits.target_bytes_max {
            return Err(HttpError::new(414, "target over the size limit"));
        }
        let host = (!authority.is_empty()).then_some(("host", authority.as_bytes()));
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        let lines = lines.filter(|(name, _)| host.is_none() || !is_host(name));
        let headers: Vec<_> = host.into_iter().chain(lines).map(|(name, value)| Header { name, value }).collect();
        if headers.len() > limits.header_lines_max.min(HEADER_LINES_MAX) {
            return Err(HttpError::new(431, "too many header lines"));
        }
        let version = Version::Http2;
        let mut head =
            Head { method, target, version, headers, content_length: None, chunked: false, connect_protocol };
        if method.len() > METHOD_BYTES_MAX || method == "CONNECT" && connect_protocol.is_none() {
            return Err(HttpError::new(501, "method we do not know"));
        }
        if !target.starts_with('/') && target != "*" {
            return Err(HttpError::bad("bad target"));
        }
        head.check_host()?;
        head.content_length = head.parse_content_length()?;
        Ok(head)
    }

    /// Checks what decides where the request ends and whom it is for.
    fn check(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        if has_bare_line_end(bytes) {
            return Err(HttpError::bad("line that does not end in CR LF"));
        }
        if self.method.len() > METHOD_BYTES_MAX || self.method == "CONNECT" {
            return Err(HttpError::new(501, "method we do not know"));
        }
        if !self.target.starts_with('/') && self.target != "*" && !self.target.contains("://") {
            return Err(HttpError::bad("bad target"));
        }
        self.check_host()?;
        self.chunked = self.parse_transfer_encoding()?;
        self.content_length = self.parse_content_length()?;
        if self.chunked && self.content_length.is_some() {
            return Err(HttpError::bad("both Content-Length and Transfer-Encoding"));
        }
        Ok(())
    }

    fn check_host(&self) -> Result<(), HttpError> {
        let mut hosts = self.headers("host");
        match (hosts.next(), hosts.next(), self.version) {
            (Some(host), None, _) if is_host(host) => Ok(()),
            (None, _, Version::Http10) => Ok(()),
            _ => Err(HttpError::bad("not one right Host header")),
        }
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
        for value in self.headers("content-length").flat_map(|value| value.split(|byte| *byte == b',')) {
            let one = parse_decimal(value.trim_ascii()).ok_or(HttpError::bad("bad Content-Length"))?;
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
        Query::new(self.origin_form().split_once('?').map_or("", |(_, query)| query))
    }

    fn origin_form(&self) -> &'a str {
        let Some((_, rest)) = self.target.split_once("://").filter(|_| !self.target.starts_with('/')) else {
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
        self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// All header lines.
    pub fn header_lines(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// Whether a header that holds a list of tokens names this one.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        let mut tokens = self.headers(name).flat_map(|value| value.split(|byte| *byte == b','));
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

    /// The protocol that an extended CONNECT asks for.
    #[must_use]
    pub fn connect_protocol(&self) -> Option<&'a str> {
        self.connect_protocol
    }

    /// The client will send another request on this connection.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        match self.version {
            Version::Http10 => self.has_token("connection", "keep-alive") && !self.has_token("connection", "close"),
            Version::Http11 => !self.has_token("connection", "close"),
            Version::Http2 => true,
        }
    }

    /// The client waits for `100 Continue` before it sends the body.
    #[must_use]
    pub fn expect_continue(&self) -> bool {
        self.version == Version::Http11 && self.has_token("expect", "100-continue")
    }
}

/// Name or address with a port, or nothing. Source: RFC 9110 §7.2.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(Head<'_>, usize)>, HttpError> {
        parse_head(text.as_bytes(), &Limits::default())
    }

    /// Method, path, query, body (`none`, a length or `chunked`) and whether the connection is kept.
    #[track_caller]
    fn check(text: &str, want: (&str, &str, &str, &str, bool)) {
        let (head, len) = parse(text).unwrap().unwrap();
        let body = match (head.chunked(), head.content_length()) {
            (true, _) => "chunked".to_owned(),
            (false, Some(length)) => length.to_string(),
            (false, None) => "none".to_owned(),
        };
        let got = (head.method(), head.path(), head.query().as_str(), &*body, head.keep_alive());
        assert_eq!((got, len), (want, text.len()), "{text}");
        for cut in 0..text.len() {
            assert!(matches!(parse(&text[..cut]), Ok(None)), "{:?}", &text[..cut]);
        }
    }

    #[track_caller]
    fn check_refused(text: &str, status: u16) {
        assert_eq!(parse(text).map(drop).map_err(|error| error.status), Err(status), "{text:?}");
    }

    #[test]
    fn heads_are_read() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", ("GET", "/", "", "none", true));
        check(
            "GET /a/b?c=d?e HTTP/1.1\r\nhost: a\r\nConnection: x, Close\r\n\r\n",
            ("GET", "/a/b", "c=d?e", "none", false),
        );
        check("POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n", ("POST", "/api", "", "12", true));
        check(
            "POST / HTTP/1.1\r\nHost:\r\nContent-Length: 5, 5\r\nContent-length: 5\r\n\r\n",
            ("POST", "/", "", "5", true),
        );
        check("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", ("POST", "/", "", "chunked", true));
        check("GET / HTTP/1.0\r\n\r\n", ("GET", "/", "", "none", false));
        check("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", ("GET", "/", "", "none", true));
        check("GET http://a.b:80/c?d HTTP/1.1\r\nHost: a\r\n\r\n", ("GET", "/c", "d", "none", true));
        check("GET http://a.b?d HTTP/1.1\r\nHost: a\r\n\r\n", ("GET", "", "d", "none", true));
        check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", ("OPTIONS", "*", "", "none", true));
        check("GET /r?u=http://x HTTP/1.1\r\nHost: a\r\n\r\n", ("GET", "/r", "u=http://x", "none", true));
    }

    #[test]
    fn what_readers_could_take_differently_is_refused() {
        for headers in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            "Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
            "Host: a\r\nContent-Length: 5, 6\r\n",
            "Host: a\r\nContent-Length:\r\n",
            "Host: a\r\nContent-Length: -1\r\n",
            "Host: a\r\nContent-Length: +1\r\n",
            "Host: a\r\nContent-Length: 1 1\r\n",
            "Host: a\r\nContent-Length: 0x5\r\n",
            "Host: a\r\nContent-Length: 18446744073709551616\r\n",
            "Host: a\r\nContent-Length : 5\r\n",
            "Host: a\r\n Folded: x\r\n",
            "Host: a\r\nA: b\r\n\tc\r\n",
            "Host: a\nA: b\r\n",
            "Host: a\r\nA: b\n",
            "Host: a\r\nA: b\rc\r\n",
            "Host: a\r\nA: b\u{0}c\r\n",
            "Host: a\r\nA b\r\n",
            "Host: a\r\n: b\r\n",
        ] {
            check_refused(&format!("POST / HTTP/1.1\r\n{headers}\r\n"), 400);
        }
        check_refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
        for host in ["a/b", "a b", "a@b", "a?b", "é", "a\\b"] {
            check_refused(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400);
        }
        check_refused("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400);
        check_refused("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400);
        check_refused("GET / HTTP/1.1\nHost: a\n\n", 400);
    }

    #[test]
    fn codings_methods_and_versions_we_do_not_know_have_their_own_status() {
        for coding in
            ["gzip", "gzip, chunked", "chunked, chunked", "identity", "xchunked", "\r\nTransfer-Encoding: chunked"]
        {
            check_refused(&format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n"), 501);
        }
        check_refused("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501);
        check_refused(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "G".repeat(33)), 501);
        check_refused("PRI * HTTP/2.0\r\n\r\n", 505);
        check_refused("GET / HTTP/1.2\r\n\r\n", 505);
    }

    #[test]
    fn heads_are_bounded_before_they_are_complete() {
        let limits = Limits { head_bytes_max: 200, target_bytes_max: 50, header_lines_max: 3 };
        let status = |text: String| {
            parse_head(text.as_bytes(), &limits).map(|head| head.is_some()).map_err(|error| error.status)
        };
        let head = |lines: usize| "GET / HTTP/1.1\r\nHost: a\r\n".to_owned() + &"A: b\r\n".repeat(lines);
        assert_eq!(status(head(2) + "\r\n"), Ok(true));
        assert_eq!(status(head(3)), Err(431));
        assert_eq!(status(head(0) + "A: " + &"b".repeat(100)), Ok(false));
        assert_eq!(status(head(0) + "A: " + &"b".repeat(200)), Err(431));
        assert_eq!(status(head(0) + "A: " + &"b".repeat(200) + "\r\n\r\n"), Err(431));
        assert_eq!(status(format!("GET /{} HTTP/1.1\r\n", "a".repeat(50))), Err(414));
        assert_eq!(status(format!("GET /{}", "a".repeat(115))), Err(414));
    }

    fn of_stream<'a>(method: &'a str, target: &'a str, lines: &[(&'a str, &'a str)]) -> Result<Head<'a>, HttpError> {
        let connect_protocol = (method == "CONNECT").then_some("websocket");
        let request = StreamRequest { method, target, authority: "a", connect_protocol };
        let lines = lines.iter().map(|(name, value)| (*name, value.as_bytes()));
        Head::of_stream(request, lines, &Limits::default())
    }

    #[test]
    fn heads_of_streams_read_like_others() {
        let head = of_stream("POST", "/a?b=c", &[("x-one", "1"), ("content-length", "5"), ("host", "b")]).unwrap();
        assert_eq!((head.method(), head.path(), head.query().as_str()), ("POST", "/a", "b=c"));
        assert_eq!((head.header("X-One"), head.content_length()), (Some(&b"1"[..]), Some(5)));
        assert_eq!(head.headers("Host").collect::<Vec<_>>(), [b"a"], "`:authority` counts");
        assert!(head.keep_alive() && !head.chunked() && head.version() == Version::Http2);
        assert_eq!(of_stream("CONNECT", "/w", &[]).unwrap().connect_protocol(), Some("websocket"));
    }

    #[test]
    fn heads_of_streams_have_the_same_limits() {
        let status = |method, target, lines: &[(&'static str, &'static str)]| {
            of_stream(method, target, lines).map(drop).map_err(|error| error.status)
        };
        assert_eq!(status("GET", "a", &[]), Err(400));
        assert_eq!(status("GET", "/", &[("content-length", "5"), ("content-length", "6")]), Err(400));
        assert_eq!(status("GET", "/", &[("a", "b"); HEADER_LINES_MAX]), Err(431));
        assert_eq!(status("GET", "/".repeat(20_000).leak(), &[]), Err(414));
        let plain = StreamRequest { method: "CONNECT", target: "/", authority: "a", connect_protocol: None };
        let status = |request| Head::of_stream(request, std::iter::empty(), &Limits::default()).map(drop);
        assert_eq!(status(plain).map_err(|error| error.status), Err(501));
        let odd = StreamRequest { method: "GET", authority: "a@b", ..plain };
        assert_eq!(status(odd).map_err(|error| error.status), Err(400));
        let nobody = StreamRequest { method: "GET", authority: "", ..plain };
        assert_eq!(status(nobody).map_err(|error| error.status), Err(400));
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-one: 2\r\nExpect: 100-Continue\r\n\r\n";
        let (head, _) = parse(text).unwrap().unwrap();
        assert_eq!(head.header("x-ONE"), Some(&b"1"[..]));
        assert_eq!(head.headers("X-one").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(head.header("x-two"), None);
        assert_eq!(head.header_lines().count(), 4);
        assert!(head.expect_continue());
    }
}
