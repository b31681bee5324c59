//! Walks over a JSON text whose shape is known.

use super::{MESSAGE_DEPTH_MAX, scan, text};
use crate::DecodeError;
use bytes::Bytes;
use std::borrow::Cow;

/// From here on a payload that is most of what is decoded is not copied: the memory of a large body is needed once.
const SHARED_BYTES_MIN: usize = 64 << 10;

/// A place in a text.
pub(crate) struct Reader<'a> {
    text: &'a str,
    position: usize,
    depth: usize,
    /// What the text is in, if payloads may keep it.
    whole: Option<&'a Bytes>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, position: 0, depth: 0, whole: None }
    }

    /// A large payload shares the bytes.
    pub(crate) fn sharing(bytes: &'a Bytes) -> Result<Self, DecodeError> {
        Ok(Self { whole: Some(bytes), ..Self::new(text(bytes)?) })
    }

    /// An error at the current place.
    pub(crate) fn error(&self, reason: &'static str) -> DecodeError {
        DecodeError::new(reason, self.position)
    }

    /// The next byte that is not white space.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.position = scan::space_end(self.text.as_bytes(), self.position);
        self.text.as_bytes().get(self.position).copied()
    }

    /// Fails unless only white space is left.
    pub(crate) fn end(&mut self) -> Result<(), DecodeError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.error("text behind the value")) }
    }

    #[inline]
    fn expect(&mut self, byte: u8, reason: &'static str) -> Result<(), DecodeError> {
        if self.peek() != Some(byte) {
            return Err(self.error(reason));
        }
        self.position += 1;
        Ok(())
    }

    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.position += usize::from(found);
        found
    }

    /// Takes a `null`.
    #[inline]
    pub(crate) fn null(&mut self) -> bool {
        let found = self.peek() == Some(b'n') && self.text.as_bytes()[self.position..].starts_with(b"null");
        self.position += if found { 4 } else { 0 };
        found
    }

    /// Takes a value of any kind and gives its text.
    #[inline]
    pub(crate) fn raw(&mut self) -> Result<&'a str, DecodeError> {
        self.peek();
        let start = self.position;
        self.position = scan::value_end(self.text.as_bytes(), start)?;
        Ok(&self.text[start..self.position])
    }

    /// Takes a value of any kind. What is kept is never much larger than the value, so that a small one does not hold a large body.
    pub(crate) fn payload(&mut self) -> Result<Bytes, DecodeError> {
        let value = self.raw()?.as_bytes();
        let is_most = |whole: &&Bytes| value.len() >= SHARED_BYTES_MIN && value.len() >= whole.len() - whole.len() / 8;
        Ok(self.whole.filter(is_most).map_or_else(|| Bytes::copy_from_slice(value), |whole| whole.slice_ref(value)))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        let value = match self.peek() {
            Some(b't') => true,
            Some(b'f') => false,
            _ => return Err(self.error("boolean expected")),
        };
        self.raw()?;
        Ok(value)
    }

    /// Takes a number and gives its text, in which no fraction or exponent stands unless the caller accepts them.
    pub(crate) fn number(&mut self) -> Result<&'a str, DecodeError> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.raw(),
            _ => Err(self.error("number expected")),
        }
    }

    /// Takes a string. Half a surrogate pair becomes U+FFFD, as in the reference.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        if self.peek() != Some(b'"') {
            return Err(self.error("string expected"));
        }
        let bytes = self.text.as_bytes();
        let start = self.position + 1;
        let plain = scan::plain_end(bytes, start);
        if bytes.get(plain) == Some(&b'"') {
            self.position = plain + 1;
            return Ok(Cow::Borrowed(&self.text[start..plain]));
        }
        let end = scan::string_end(bytes, self.position)?;
        self.position = end;
        Ok(Cow::Owned(unescape(&self.text[start..end - 1])))
    }

    /// Takes an object and calls `on` at each value; `on` takes it.
    #[inline]
    pub(crate) fn object(
        &mut self,
        mut on: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.enter(b'{', "object expected")?;
        if !self.take(b'}') {
            loop {
                let key = self.string()?;
                self.expect(b':', "colon expected")?;
                on(self, key)?;
                if !self.take(b',') {
                    break;
                }
            }
            self.expect(b'}', "comma or end of object expected")?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Takes an array and calls `on` at each entry; `on` takes it.
    pub(crate) fn array(
        &mut self,
        mut on: impl FnMut(&mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.enter(b'[', "array expected")?;
        if !self.take(b']') {
            loop {
                on(self)?;
                if !self.take(b',') {
                    break;
                }
            }
            self.expect(b']', "comma or end of array expected")?;
        }
        self.depth -= 1;
        Ok(())
    }

    #[inline]
    fn enter(&mut self, byte: u8, reason: &'static str) -> Result<(), DecodeError> {
        self.expect(byte, reason)?;
        self.depth += 1;
        if self.depth > 2 * MESSAGE_DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        Ok(())
    }
}

/// The content of a string that `scan` has accepted.
fn unescape(content: &str) -> String {
    let mut out = String::with_capacity(content.len());
    let mut rest = content;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let (character, length) = escaped(&rest.as_bytes()[at..]);
        out.push(character);
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    out
}

/// The character of the escape at the start of `text`, and the length of the escape.
fn escaped(text: &[u8]) -> (char, usize) {
    match text.get(1) {
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'n') => ('\n', 2),
        Some(b'r') => ('\r', 2),
        Some(b't') => ('\t', 2),
        Some(b'u') => escaped_unit(text),
        Some(&other) => (other as char, 2),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

fn escaped_unit(text: &[u8]) -> (char, usize) {
    let first = scan::hex4(text, 2).unwrap_or(0xfffd);
    let second = if text.get(6..8) == Some(b"\\u") { scan::hex4(text, 8) } else { None };
    match (char::from_u32(first.into()), second) {
        (Some(character), _) => (character, 6),
        (None, Some(second)) => match char::decode_utf16([first, second]).next() {
            Some(Ok(character)) => (character, 12),
            _ => (char::REPLACEMENT_CHARACTER, 6),
        },
        (None, None) => (char::REPLACEMENT_CHARACTER, 6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, want: Option<&str>) {
        let mut reader = Reader::new(text);
        let got = reader.string().ok();
        assert_eq!(got.as_deref(), want, "{text}");
    }

    #[test]
    fn escapes_become_their_characters() {
        check(r#""""#, Some(""));
        check(r#""plain""#, Some("plain"));
        check(r#""a\"\\\/\b\f\n\r\tz""#, Some("a\"\\/\u{8}\u{c}\n\r\tz"));
        check(r#""\u0041\u00e9\u2028""#, Some("Aé\u{2028}"));
        check(r#""\ud83d\ude00!""#, Some("😀!"));
    }

    #[test]
    fn half_a_surrogate_pair_becomes_a_replacement_character() {
        check(r#""\ud800""#, Some("\u{fffd}"));
        check(r#""\ud800 \udc00x""#, Some("\u{fffd} \u{fffd}x"));
        check(r#""\ud800\u0041""#, Some("\u{fffd}A"));
        check(r#""\ud800\ud800\udc00""#, Some("\u{fffd}\u{10000}"));
        check(r#""\ud800\n""#, Some("\u{fffd}\n"));
    }

    #[test]
    fn other_things_than_strings_are_refused() {
        for text in ["", "1", "null", "\"", "\"\\", "\"\\x\"", "\"\u{1}\"", "\"\\u12\""] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn strings_are_read_as_serde_json_reads_them(text: String) {
            let written = serde_json::to_string(&text).unwrap();
            check(&written, Some(&text));
        }
    }
}
