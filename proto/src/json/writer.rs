//! Appends JSON to a buffer.

use super::scan;
use std::fmt;

/// A payload that must stand in JSON is not JSON. The client it was for is closed with
/// [`INAPPROPRIATE_PROTOCOL`](crate::codes::Disconnect::INAPPROPRIATE_PROTOCOL).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidJson;

impl fmt::Display for InvalidJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a payload is not valid JSON")
    }
}

impl std::error::Error for InvalidJson {}

/// The reference writes JSON with two libraries; clients and callers may compare bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Client protocol: payloads as they are but for newlines, which separate messages.
    Client,
    /// Server API: payloads without white space and safe inside HTML; short escapes for backspace and form feed.
    Api,
}

/// Writes messages in one dialect.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    dialect: Dialect,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, dialect: Dialect) -> Self {
        Self { out, dialect }
    }

    /// Bytes in the buffer, what stood there before included.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Takes back what was written since the buffer had `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.out.truncate(len);
    }

    /// Appends text that is JSON already.
    #[inline]
    pub(crate) fn text(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    /// Appends a comma unless this is the first entry of an array or object.
    #[inline]
    pub(crate) fn separate(&mut self) {
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }

    /// Appends a key given as `"name":`, with a comma if needed.
    #[inline]
    pub(crate) fn key(&mut self, quoted: &str) {
        self.separate();
        self.text(quoted.as_bytes());
    }

    pub(crate) fn integer(&mut self, value: impl itoa::Integer) {
        self.text(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Appends a float as the reference does: with an exponent below 1e-6 and from 1e21 on. JSON knows no infinities; they
    /// are written as 0.
    pub(crate) fn float(&mut self, value: f64) {
        let size = value.abs();
        let text = if !value.is_finite() || size == 0.0 {
            "0".to_owned()
        } else if (1e-6..1e21).contains(&size) {
            value.to_string()
        } else {
            let text = format!("{value:e}");
            if size < 1.0 { text } else { text.replace('e', "e+") }
        };
        self.text(text.as_bytes());
    }

    #[inline]
    pub(crate) fn string(&mut self, text: &str) {
        write_string(text, self.dialect, self.out);
    }

    /// Appends a payload.
    pub(crate) fn payload(&mut self, payload: &[u8]) -> Result<(), InvalidJson> {
        if !super::is_json(payload) {
            return Err(InvalidJson);
        }
        match self.dialect {
            Dialect::Client => write_without_newlines(payload, self.out),
            Dialect::Api => write_compact(payload, self.out),
        }
        Ok(())
    }
}

/// A raw newline in valid JSON is white space between tokens, so leaving it out changes nothing.
fn write_without_newlines(payload: &[u8], out: &mut Vec<u8>) {
    let mut rest = payload;
    while let Some(at) = memchr::memchr(b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn write_compact(payload: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(&byte) = payload.get(at) {
        match byte {
            b'"' => {
                let end = scan::string_end(payload, at).unwrap_or(payload.len());
                write_html_safe(&payload[at..end], out);
                at = end;
            }
            b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

/// Copies the text of a string, escaping only what HTML or JavaScript would misread.
fn write_html_safe(string: &[u8], out: &mut Vec<u8>) {
    let mut start = 0;
    for (at, &byte) in string.iter().enumerate() {
        let length = match byte {
            b'<' | b'>' | b'&' => 1,
            0xe2 if is_line_separator(&string[at..]) => 3,
            _ => continue,
        };
        out.extend_from_slice(&string[start..at]);
        write_unit(if length == 1 { byte.into() } else { 0x2000 | u16::from(string[at + 2] & 0x2f) }, out);
        start = at + length;
    }
    out.extend_from_slice(&string[start..]);
}

/// U+2028 and U+2029 end a line in old JavaScript.
fn is_line_separator(text: &[u8]) -> bool {
    matches!(text, [0xe2, 0x80, 0xa8 | 0xa9, ..])
}

/// What must be looked at in a string: escapes, HTML, and the first byte of the line separators.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        special[byte] = true;
        byte += 1;
    }
    special[b'"' as usize] = true;
    special[b'\\' as usize] = true;
    special[b'<' as usize] = true;
    special[b'>' as usize] = true;
    special[b'&' as usize] = true;
    special[0xe2] = true;
    special
};

/// Appends `text` as a string, escaped as the reference does.
pub(super) fn write_string(text: &str, dialect: Dialect, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut start = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if !SPECIAL[byte as usize] || (byte == 0xe2 && !is_line_separator(&bytes[at..])) {
            continue;
        }
        out.extend_from_slice(&bytes[start..at]);
        start = at + if byte == 0xe2 { 3 } else { 1 };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x8 if dialect == Dialect::Api => out.extend_from_slice(b"\\b"),
            0xc if dialect == Dialect::Api => out.extend_from_slice(b"\\f"),
            0xe2 => write_unit(0x2000 | u16::from(bytes[at + 2] & 0x2f), out),
            _ => write_unit(byte.into(), out),
        }
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

/// Appends `\u` and four hexadecimal digits.
fn write_unit(unit: u16, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |shift: u16| DIGITS[usize::from(unit >> shift & 0xf)];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(dialect: Dialect, write: impl FnOnce(&mut Writer<'_>), want: &str) {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out, dialect));
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn strings_are_escaped_as_the_reference_does() {
        let text = "<a>&\u{2028}\u{2029}\u{1}\u{7f}\"\\/\n\t\u{8}\u{c}\ré\u{20ac}";
        let common = r#""\u003ca\u003e\u0026\u2028\u2029\u0001"#.to_owned() + "\u{7f}" + r#"\"\\/\n\t"#;
        check(Dialect::Client, |writer| writer.string(text), &(common.clone() + r#"\u0008\u000c\ré€""#));
        check(Dialect::Api, |writer| writer.string(text), &(common + r#"\b\f\ré€""#));
    }

    #[test]
    fn payloads_keep_their_white_space_for_clients_but_for_newlines() {
        let payload = b"{\"a\":\n [1, \"<\xe2\x80\xa8 \\n\" ]\n}";
        check(Dialect::Client, |writer| writer.payload(payload).unwrap(), "{\"a\": [1, \"<\u{2028} \\n\" ]}");
    }

    #[test]
    fn payloads_are_compact_and_html_safe_in_the_api() {
        let payload = b" {\"a\" :\n [1, \"<\xe2\x80\xa8 \\n\\\"&\" ]\n}";
        check(Dialect::Api, |writer| writer.payload(payload).unwrap(), r#"{"a":[1,"\u003c\u2028 \n\"\u0026"]}"#);
    }

    #[test]
    fn payloads_that_are_not_json_are_refused() {
        for payload in [&b""[..], b"{", b"\xff", b"\"\xff\"", b"1 2", b"19\n16@0,3:1}}2Z3i4o;"] {
            let mut out = Vec::new();
            assert_eq!(Writer::new(&mut out, Dialect::Client).payload(payload), Err(InvalidJson), "{payload:?}");
            assert!(out.is_empty());
        }
    }

    #[test]
    fn floats_have_the_form_of_the_reference() {
        for (value, want) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (123_456_789.5, "123456789.5"),
            (-1.5e300, "-1.5e+300"),
            (5e-324, "5e-324"),
            (f64::NAN, "0"),
            (f64::INFINITY, "0"),
        ] {
            check(Dialect::Api, |writer| writer.float(value), want);
        }
    }

    proptest! {
        #[test]
        fn strings_survive_both_dialects(text: String) {
            for dialect in [Dialect::Client, Dialect::Api] {
                let mut out = Vec::new();
                write_string(&text, dialect, &mut out);
                prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text.clone());
                prop_assert!(!out.contains(&b'\n') && !out.contains(&b'<'));
            }
        }
    }
}
