//! What stands behind the prefix in a path.

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// The prefix itself: a line of text.
    Greeting,
    /// `/info`
    Info,
    /// `/iframe.html`, with any version in the name.
    Iframe,
    /// `/websocket`, without the frames of SockJS.
    RawWebSocket,
    /// `/<server>/<session>/<call>`
    Session {
        /// Name that the client gave its session. 1 to 128 bytes.
        name: &'a str,
        /// What is asked of it.
        call: Call,
    },
}

/// What a request asks of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the last part of its path")]
pub enum Call {
    WebSocket,
    Xhr,
    XhrStreaming,
    XhrSend,
    EventSource,
    HtmlFile,
    Jsonp,
    JsonpSend,
}

/// Longest name of a server or session; clients make up 3 and 8 characters.
const NAME_BYTES_MAX: usize = 128;

/// What stands behind the prefix, with its slash; the prefix alone is the empty text. `None`: 404.
#[must_use]
pub fn parse_path(path: &str) -> Option<Endpoint<'_>> {
    match path {
        "" | "/" => return Some(Endpoint::Greeting),
        "/info" => return Some(Endpoint::Info),
        "/websocket" => return Some(Endpoint::RawWebSocket),
        _ => {}
    }
    let path = path.strip_prefix('/')?;
    if let Some(version) = path.strip_prefix("iframe").and_then(|rest| rest.strip_suffix(".html")) {
        let is_version = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-' | b'.' | b'_');
        return version.bytes().all(is_version).then_some(Endpoint::Iframe);
    }
    let mut parts = path.split('/');
    let (server, name, call) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !is_name(server) || !is_name(name) {
        return None;
    }
    let call = match call {
        "websocket" => Call::WebSocket,
        "xhr" => Call::Xhr,
        "xhr_streaming" => Call::XhrStreaming,
        "xhr_send" => Call::XhrSend,
        "eventsource" => Call::EventSource,
        "htmlfile" => Call::HtmlFile,
        "jsonp" => Call::Jsonp,
        "jsonp_send" => Call::JsonpSend,
        _ => return None,
    };
    Some(Endpoint::Session { name, call })
}

fn is_name(part: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&part.len()) && !part.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_endpoints() {
        assert_eq!(parse_path(""), Some(Endpoint::Greeting));
        assert_eq!(parse_path("/"), Some(Endpoint::Greeting));
        assert_eq!(parse_path("/info"), Some(Endpoint::Info));
        assert_eq!(parse_path("/websocket"), Some(Endpoint::RawWebSocket));
        for page in ["/iframe.html", "/iframe-a.html", "/iframe-0.1.2-abc_1.html"] {
            assert_eq!(parse_path(page), Some(Endpoint::Iframe), "{page}");
        }
        let session = |call| Some(Endpoint::Session { name: "abc", call });
        for (last, call) in [
            ("websocket", Call::WebSocket),
            ("xhr", Call::Xhr),
            ("xhr_streaming", Call::XhrStreaming),
            ("xhr_send", Call::XhrSend),
            ("eventsource", Call::EventSource),
            ("htmlfile", Call::HtmlFile),
            ("jsonp", Call::Jsonp),
            ("jsonp_send", Call::JsonpSend),
        ] {
            assert_eq!(parse_path(&format!("/000/abc/{last}")), session(call), "{last}");
        }
        assert_eq!(parse_path("/é/abc/xhr"), session(Call::Xhr));
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in [
            "info",
            "//",
            "/info/",
            "/websocket/",
            "/IFRAME.html",
            "/iframe-A.html",
            "/iframe",
            "/iframe.htm",
            "/a/b",
            "/a/b/",
            "/a/b/c",
            "/a/b/xhr/",
            "/a.b/c/xhr",
            "/a/b.c/xhr",
            "//b/xhr",
            "/a//xhr",
        ] {
            assert_eq!(parse_path(path), None, "{path}");
        }
        assert_eq!(parse_path(&format!("/a/{}/xhr", "b".repeat(129))), None);
        assert!(parse_path(&format!("/a/{}/xhr", "b".repeat(128))).is_some());
    }
}
