//! Requests and responses of streams, as the rest of the server reads and writes them.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use ringcast_proto::http::{Head, HttpError, Limits, StreamRequest, parse_response};

/// Headers that belong to a connection of HTTP/1 and are malformed here. Source: RFC 9113 §8.2.2.
const OF_CONNECTION: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Whether a header, in lower case, is one of these.
pub fn is_of_connection(name: &str) -> bool {
    OF_CONNECTION.contains(&name)
}

/// The head of a request.
pub fn head(parts: &Parts) -> Result<Head<'_>, HttpError> {
    let uri = &parts.uri;
    let request = StreamRequest {
        method: parts.method.as_str(),
        target: uri.path_and_query().map_or("", |target| target.as_str()),
        authority: uri.authority().map_or("", |authority| authority.as_str()),
        connect_protocol: parts.extensions.get::<h2::ext::Protocol>().map(|protocol| protocol.as_str()),
    };
    let lines = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    Head::of_stream(request, lines, &Limits::default())
}

/// A response as HTTP/1 has it, and where its content begins. `None` only for bytes that are no response.
pub fn response(bytes: &[u8]) -> Option<(Response<()>, usize)> {
    let (parsed, length) = parse_response(bytes, &Limits::default()).ok()??;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(parsed.status()).ok()?;
    for (name, value) in parsed.header_lines() {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        if !is_of_connection(name.as_str()) {
            response.headers_mut().append(name, HeaderValue::from_bytes(value).ok()?);
        }
    }
    Some((response, length))
}

#[cfg(test)]
mod tests {
    use ringcast_proto::http::write_response;

    use super::*;

    #[test]
    fn response_keeps_what_is_not_of_the_connection() {
        let mut out = Vec::new();
        let headers = [("A", "b"), ("a", "c"), ("Transfer-Encoding", "x"), ("Keep-Alive", "1"), ("Upgrade", "y")];
        write_response(&mut out, 404, &headers, b"body", false);
        let (response, content) = response(&out).unwrap();
        assert_eq!((response.status().as_u16(), &out[content..]), (404, &b"body"[..]));
        let lines: Vec<_> = response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(lines, [("a", &b"b"[..]), ("a", b"c"), ("content-length", b"4")]);
    }

    #[test]
    fn request_is_read_like_one_of_http1() {
        let request = http::Request::post("http://h:1/a?b=c").header("x", "y").body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let head = head(&parts).unwrap();
        assert_eq!((head.method(), head.path(), head.query().as_str()), ("POST", "/a", "b=c"));
        assert_eq!((head.header("Host"), head.header("X")), (Some(&b"h:1"[..]), Some(&b"y"[..])));
    }
}
