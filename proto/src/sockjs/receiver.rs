//! How frames go into the response that a client receives them by.

use crate::json::write_json_string;

/// A response that carries frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// One frame, read by XMLHttpRequest.
    Xhr,
    /// Many frames, read while they come.
    XhrStreaming,
    /// Events of `text/event-stream`.
    EventSource,
    /// A page that never ends, with a script for each frame.
    HtmlFile(Callback),
    /// One frame, as a script that calls a function of the page.
    Jsonp(Callback),
}

/// Name of a JavaScript function that is safe to put into a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback(String);

/// Not the name of a function: nothing, too long, or with characters that could be something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCallback {
    /// There was none.
    pub is_missing: bool,
}

/// Longest name of a callback; clients make up about 15 characters.
const CALLBACK_BYTES_MAX: usize = 128;

/// Text before the first frame where browsers hold back the beginning of a response.
const PRELUDE_BYTES: usize = 2048;

impl Callback {
    fn new(name: &str) -> Result<Self, InvalidCallback> {
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        match name.bytes().all(is_safe) && name.len() <= CALLBACK_BYTES_MAX && !name.is_empty() {
            true => Ok(Self(name.to_owned())),
            false => Err(InvalidCallback { is_missing: name.is_empty() }),
        }
    }
}

impl Form {
    /// A page that never ends. `callback`: query parameter `c`.
    pub fn html_file(callback: &str) -> Result<Self, InvalidCallback> {
        Callback::new(callback).map(Form::HtmlFile)
    }

    /// A script. `callback`: query parameter `c`.
    pub fn jsonp(callback: &str) -> Result<Self, InvalidCallback> {
        Callback::new(callback).map(Form::Jsonp)
    }

    /// The response holds one frame.
    #[must_use]
    pub fn is_poll(&self) -> bool {
        matches!(self, Form::Xhr | Form::Jsonp(_))
    }

    /// Content type of the response.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self {
            Form::Xhr | Form::XhrStreaming | Form::Jsonp(_) => "application/javascript; charset=UTF-8",
            Form::EventSource => "text/event-stream; charset=UTF-8",
            Form::HtmlFile(_) => "text/html; charset=UTF-8",
        }
    }

    /// Appends what goes before the first frame.
    pub fn begin(&self, out: &mut Vec<u8>) {
        match self {
            Form::Xhr | Form::Jsonp(_) => {}
            Form::XhrStreaming => {
                out.resize(out.len() + PRELUDE_BYTES, b'h');
                out.push(b'\n');
            }
            Form::EventSource => out.extend_from_slice(b"\r\n"),
            Form::HtmlFile(Callback(callback)) => {
                let page = HTML_FILE.replace("CALLBACK", callback);
                out.extend_from_slice(page.as_bytes());
                out.resize(out.len() + PRELUDE_BYTES.saturating_sub(page.len()), b' ');
                out.extend_from_slice(b"\r\n\r\n");
            }
        }
    }

    /// Appends one frame.
    pub fn wrap(&self, frame: &[u8], out: &mut Vec<u8>) {
        match self {
            Form::Xhr | Form::XhrStreaming => {
                out.extend_from_slice(frame);
                out.push(b'\n');
            }
            Form::EventSource => {
                out.extend_from_slice(b"data: ");
                write_event(frame, out);
                out.extend_from_slice(b"\r\n\r\n");
            }
            Form::HtmlFile(_) => {
                out.extend_from_slice(b"<script>\np(");
                write_script_string(frame, out);
                out.extend_from_slice(b");\n</script>\r\n");
            }
            Form::Jsonp(Callback(callback)) => {
                out.extend_from_slice(callback.as_bytes());
                out.push(b'(');
                write_script_string(frame, out);
                out.extend_from_slice(b");\r\n");
            }
        }
    }
}

/// Clients read the data of an event as an encoded URI.
fn write_event(frame: &[u8], out: &mut Vec<u8>) {
    for byte in frame {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            b'\r' => out.extend_from_slice(b"%0D"),
            b'\n' => out.extend_from_slice(b"%0A"),
            0 => out.extend_from_slice(b"%00"),
            byte => out.push(*byte),
        }
    }
}

/// A string in a script, in which no tag of HTML can begin.
fn write_script_string(frame: &[u8], out: &mut Vec<u8>) {
    write_json_string(&String::from_utf8_lossy(frame), out);
}

/// Begins the page that never ends: each script behind it calls `p`.
const HTML_FILE: &str = r#"<!doctype html>
<html><head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
</head><body><h2>Don't panic!</h2>
  <script>
    document.domain = document.domain;
    var c = parent.CALLBACK;
    c.start();
    function p(d) {c.message(d);};
    window.onload = c.stop;
  </script>"#;

/// A page that loads the client from `url` and lets it speak for a page of another origin.
#[must_use]
pub fn iframe_page(url: &str) -> String {
    let url = url.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    IFRAME.replace("URL", &url)
}

const IFRAME: &str = r#"<!DOCTYPE html>
<html>
<head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
  <script>
    document.domain = document.domain;
    _sockjs_onload = function(){SockJS.bootstrap_iframe();};
  </script>
  <script src="URL"></script>
</head>
<body>
  <h2>Don't panic!</h2>
  <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>
</body>
</html>
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(form: &Form, frame: &str) -> String {
        let mut out = Vec::new();
        form.wrap(frame.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn frames_are_wrapped_for_their_receivers() {
        let page = Form::html_file("_jp.a1").unwrap();
        let script = Form::jsonp("cb").unwrap();
        assert_eq!(written(&Form::Xhr, "o"), "o\n");
        assert_eq!(written(&Form::XhrStreaming, r#"a["x"]"#), "a[\"x\"]\n");
        assert_eq!(written(&Form::EventSource, r#"a["5%\u0000"]"#), "data: a[\"5%25\\u0000\"]\r\n\r\n");
        assert_eq!(written(&page, r#"a["x"]"#), "<script>\np(\"a[\\\"x\\\"]\");\n</script>\r\n");
        assert_eq!(written(&script, "o"), "cb(\"o\");\r\n");
    }

    #[test]
    fn no_tag_begins_in_a_script() {
        for form in [Form::html_file("c").unwrap(), Form::jsonp("c").unwrap()] {
            let text = written(&form, r#"a["</script><b>"]"#);
            assert!(text.contains(r"\u003c/script\u003e"), "{text}");
        }
    }

    #[test]
    fn preludes_are_long_enough_for_browsers() {
        for (form, bytes) in
            [(Form::XhrStreaming, 2049), (Form::html_file("c").unwrap(), 2052), (Form::EventSource, 2), (Form::Xhr, 0)]
        {
            let mut out = Vec::new();
            form.begin(&mut out);
            assert_eq!(out.len(), bytes, "{form:?}");
        }
        let mut out = Vec::new();
        Form::html_file("a.b").unwrap().begin(&mut out);
        assert!(String::from_utf8(out).unwrap().contains("parent.a.b;"));
    }

    #[test]
    fn callbacks_are_names_of_functions() {
        assert!(Form::jsonp("a-Z_0.9").is_ok() && Form::jsonp(&"a".repeat(128)).is_ok());
        for name in ["a b", "a(", "abc;", "é", "a\n", "%20", &"a".repeat(129)] {
            assert_eq!(Form::jsonp(name), Err(InvalidCallback { is_missing: false }), "{name}");
            assert_eq!(Form::html_file(name), Err(InvalidCallback { is_missing: false }), "{name}");
        }
        assert_eq!(Form::jsonp(""), Err(InvalidCallback { is_missing: true }));
    }

    #[test]
    fn address_of_the_client_cannot_leave_its_attribute() {
        let page = iframe_page(r#"https://h/a?b&c"><script>"#);
        assert!(page.contains(r#"<script src="https://h/a?b&amp;c&quot;>&lt;script>"></script>"#), "{page}");
    }

    proptest! {
        #[test]
        fn any_message_survives_every_form(message: String) {
            let mut frame = super::super::MESSAGE.0.to_vec();
            super::super::escape(message.as_bytes(), &mut frame);
            frame.extend_from_slice(super::super::MESSAGE.1);
            let frame = String::from_utf8(frame).unwrap();
            let event = written(&Form::EventSource, &frame);
            let data = event.strip_prefix("data: ").unwrap().strip_suffix("\r\n\r\n").unwrap();
            prop_assert!(!data.contains(['\r', '\n', '\0']));
            prop_assert_eq!(data.replace("%25", "%"), &frame[..]);
            let script = written(&Form::jsonp("c").unwrap(), &frame);
            let string = script.strip_prefix("c(").unwrap().strip_suffix(");\r\n").unwrap();
            prop_assert!(!string.contains('<'));
            prop_assert_eq!(serde_json::from_str::<String>(string).unwrap(), frame);
        }
    }
}
