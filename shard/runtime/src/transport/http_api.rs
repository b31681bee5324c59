//! Who may call the server API over HTTP, and how errors are told. Source: Centrifugo docs, "Server API".

use ringcast_proto::api::is_key;
use ringcast_proto::http::Head;

use crate::options::HttpApiOptions;

/// Whether errors are to be HTTP statuses, or the status of a refusal.
pub fn check(options: &HttpApiOptions, head: &Head<'_>) -> Result<bool, u16> {
    if head.method() != "POST" {
        return Err(405);
    }
    if !options.insecure && !is_authorized(&options.key, head) {
        return Err(401);
    }
    let asked = head.header("X-Centrifugo-Error-Mode") == Some(b"transport");
    Ok(asked || options.transport_errors)
}

/// A wrong X-API-Key is not made good by Authorization; the query always counts.
fn is_authorized(key: &str, head: &Head<'_>) -> bool {
    if key.is_empty() {
        return false;
    }
    let from_header = match head.header("X-API-Key").filter(|value| !value.is_empty()) {
        Some(given) => is_key(key, given),
        None => head.header("Authorization").and_then(key_of).is_some_and(|given| is_key(key, given)),
    };
    from_header || head.query().get("api_key").is_some_and(|given| is_key(key, given.as_bytes()))
}

/// `apikey KEY`, exactly two words.
fn key_of(authorization: &[u8]) -> Option<&[u8]> {
    let mut words = authorization.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (scheme, key) = (words.next()?, words.next()?);
    (scheme.eq_ignore_ascii_case(b"apikey") && words.next().is_none()).then_some(key)
}

#[cfg(test)]
mod tests {
    use ringcast_proto::http::{Limits, parse_head};

    use super::*;

    #[track_caller]
    fn check_request(request: &str, want: Result<bool, u16>) {
        let options = HttpApiOptions { key: "secret".into(), ..HttpApiOptions::default() };
        check_with(&options, request, want);
    }

    #[track_caller]
    fn check_with(options: &HttpApiOptions, request: &str, want: Result<bool, u16>) {
        let text = format!("{request}\r\n\r\n").replace('|', "\r\nHost: h\r\n");
        let (head, _) = parse_head(text.as_bytes(), &Limits::default()).unwrap().unwrap();
        assert_eq!(check(options, &head), want, "{request}");
    }

    /// A10
    #[test]
    fn key_may_come_in_three_places() {
        check_request("POST /api HTTP/1.1|X-API-Key: secret", Ok(false));
        check_request("POST /api HTTP/1.1|Authorization: ApiKey  secret", Ok(false));
        check_request("POST /api?a=b&api_key=se%63ret HTTP/1.1|A: b", Ok(false));
        check_request("POST /api?api_key=secret HTTP/1.1|X-API-Key: wrong", Ok(false));
        check_request("POST /api HTTP/1.1|X-API-Key:\r\nAuthorization: apikey secret", Ok(false));
    }

    #[test]
    fn anything_else_is_unauthorized() {
        for headers in [
            "A: b",
            "X-API-Key: wrong",
            "X-API-Key: secre",
            "X-API-Key: secrets",
            "X-API-Key: wrong\r\nAuthorization: apikey secret",
            "Authorization: secret",
            "Authorization: Bearer secret",
            "Authorization: apikey secret more",
        ] {
            check_request(&format!("POST /api HTTP/1.1|{headers}"), Err(401));
        }
        check_request("POST /api?api_key= HTTP/1.1|A: b", Err(401));
        let open = HttpApiOptions { insecure: true, ..HttpApiOptions::default() };
        check_with(&HttpApiOptions::default(), "POST /api?api_key= HTTP/1.1|X-API-Key:", Err(401));
        check_with(&open, "POST /api HTTP/1.1|A: b", Ok(false));
    }

    #[test]
    fn only_post_is_served() {
        check_request("GET /api HTTP/1.1|X-API-Key: secret", Err(405));
        check_request("OPTIONS /api HTTP/1.1|A: b", Err(405));
    }

    /// A09
    #[test]
    fn error_mode_is_asked_for_by_option_or_header() {
        let header = "POST /api HTTP/1.1|X-API-Key: secret\r\nX-Centrifugo-Error-Mode: transport";
        check_request(header, Ok(true));
        check_request(&header.replace("transport", "other"), Ok(false));
        let options = HttpApiOptions { insecure: true, transport_errors: true, ..HttpApiOptions::default() };
        check_with(&options, "POST /api HTTP/1.1|A: b", Ok(true));
    }
}
