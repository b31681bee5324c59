//! Parameters of a query.

use std::borrow::Cow;

/// The part of a target behind the question mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    text: &'a str,
}

impl<'a> Query<'a> {
    /// What stands behind a question mark, or the content of a form.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// As sent.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// Names and values, decoded. Pairs that cannot be decoded are left out, as in the reference.
    pub fn pairs(self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        let pairs = self.text.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
        pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode_percent(name)?, decode_percent(value)?))
        })
    }

    /// First value of a name.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Cow<'a, str>> {
        self.pairs().find(|(found, _)| found == name).map(|(_, value)| value)
    }
}

/// Decodes `%xx`, and `+` to a blank. `None` when an escape is broken or the result is not UTF-8.
#[must_use]
pub fn decode_percent(text: &str) -> Option<Cow<'_, str>> {
    decode(text, b' ')
}

/// Decodes `%xx` in a path. `None` as in [`decode_percent`].
#[must_use]
pub fn decode_path(path: &str) -> Option<Cow<'_, str>> {
    decode(path, b'+')
}

/// A path as it is written in a target.
#[must_use]
pub fn encode_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn decode(text: &str, plus: u8) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+' && plus != b'+') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            b'+' => plus,
            byte => byte,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, want: &[(&str, &str)]) {
        let got: Vec<_> =
            Query::new(query).pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        let want: Vec<_> = want.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(got, want, "{query}");
    }

    #[test]
    fn pairs_are_decoded() {
        check("", &[]);
        check("a=1&b=2", &[("a", "1"), ("b", "2")]);
        check("a&b=&=c&&", &[("a", ""), ("b", ""), ("", "c")]);
        check("cf_connect=%7B%22id%22%3A1%7D+x", &[("cf_connect", "{\"id\":1} x")]);
        check("a=b=c&%C3%a9=%E2%82%AC", &[("a", "b=c"), ("é", "€")]);
    }

    #[test]
    fn pairs_that_cannot_be_decoded_are_left_out() {
        for query in ["a=%", "a=%4", "a=%zz", "a=%ff", "%c3=1", "a=%+1", "a;b"] {
            check(query, &[]);
        }
        check("a=%zz&b=1", &[("b", "1")]);
    }

    #[test]
    fn paths_are_decoded_and_encoded_again() {
        for (encoded, path) in [("/a+b/c", "/a+b/c"), ("/%C3%A9%20x", "/\u{e9} x"), ("/a%3Fb%25", "/a?b%")] {
            assert_eq!(decode_path(encoded).as_deref(), Some(path));
            assert_eq!(encode_path(path), encoded);
        }
        for path in ["/%", "/%4", "/%zz", "/%ff"] {
            assert_eq!(decode_path(path), None, "{path}");
        }
    }

    #[test]
    fn the_first_value_of_a_name_is_got() {
        let query = Query::new("a=1&b=2&a=3");
        assert_eq!(query.get("a").as_deref(), Some("1"));
        assert_eq!(query.get("c"), None);
    }
}
