//! Finds where a JSON value ends and checks its grammar on the way. Iterative: one bit per level of nesting.

use super::DEPTH_MAX;
use crate::DecodeError;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Position of the first byte at or after `at` that is not white space.
#[inline]
pub(super) fn space_end(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// Position of the first quote, backslash or control character at or after `at`, or the length of the text.
#[inline]
pub(super) fn plain_end(text: &[u8], mut at: usize) -> usize {
    while let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(&byte) = text.get(at) {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            return at;
        }
        at += 1;
    }
    at
}

/// High bit set in each byte that ends a plain run. A borrow may mark a byte above the first marked one, so only the lowest
/// mark counts.
#[inline]
fn special_bytes(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (control | quote | backslash) & HIGHS
}

/// Position after the closing quote of the string whose opening quote is at `at`.
pub(super) fn string_end(text: &[u8], at: usize) -> Result<usize, DecodeError> {
    let mut at = plain_end(text, at + 1);
    loop {
        match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = plain_end(text, escape_end(text, at)?),
            Some(_) => return Err(DecodeError::new("control character in a string", at)),
            None => return Err(DecodeError::new("string without an end", at)),
        }
    }
}

/// Position after the escape whose backslash is at `at`.
fn escape_end(text: &[u8], at: usize) -> Result<usize, DecodeError> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') if hex4(text, at + 2).is_some() => Ok(at + 6),
        _ => Err(DecodeError::new("bad escape in a string", at)),
    }
}

/// The value of four hexadecimal digits.
pub(super) fn hex4(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 4)?;
    digits.iter().try_fold(0_u16, |value, &digit| Some(value << 4 | (digit as char).to_digit(16)? as u16))
}

/// Position after the number that starts at `at`.
pub(super) fn number_end(text: &[u8], at: usize) -> Result<usize, DecodeError> {
    let mut end = at + usize::from(text.get(at) == Some(&b'-'));
    end = match text.get(end) {
        Some(b'0') => end + 1,
        _ => digits_end(text, end)?,
    };
    if text.get(end) == Some(&b'.') {
        end = digits_end(text, end + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        end = digits_end(text, end + 1 + sign)?;
    }
    Ok(end)
}

fn digits_end(text: &[u8], at: usize) -> Result<usize, DecodeError> {
    let count = text.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 { Err(DecodeError::new("digit expected", at)) } else { Ok(at + count) }
}

/// Position after the string, number, `true`, `false` or `null` that starts at `at`.
#[inline]
fn scalar_end(text: &[u8], at: usize) -> Result<usize, DecodeError> {
    match text.get(at) {
        Some(b'"') => string_end(text, at),
        Some(b'-' | b'0'..=b'9') => number_end(text, at),
        Some(b't') => word_end(text, at, b"true"),
        Some(b'f') => word_end(text, at, b"false"),
        Some(b'n') => word_end(text, at, b"null"),
        Some(_) => Err(DecodeError::new("value expected", at)),
        None => Err(DecodeError::new("unexpected end", at)),
    }
}

fn word_end(text: &[u8], at: usize, word: &[u8]) -> Result<usize, DecodeError> {
    if text[at..].starts_with(word) { Ok(at + word.len()) } else { Err(DecodeError::new("value expected", at)) }
}

/// Position after the value that starts at `at`, where no white space may stand.
#[inline]
pub(super) fn value_end(text: &[u8], at: usize) -> Result<usize, DecodeError> {
    match text.get(at) {
        Some(b'{' | b'[') => nested_end(text, at),
        _ => scalar_end(text, at),
    }
}

/// Position after the array or object that starts at `at`.
fn nested_end(text: &[u8], mut at: usize) -> Result<usize, DecodeError> {
    let mut nesting = Nesting::default();
    'value: loop {
        match text.get(at) {
            Some(b'{') => {
                nesting.open(true, at)?;
                at = space_end(text, at + 1);
                if text.get(at) != Some(&b'}') {
                    at = key_end(text, at)?;
                    continue 'value;
                }
            }
            Some(b'[') => {
                nesting.open(false, at)?;
                at = space_end(text, at + 1);
                if text.get(at) != Some(&b']') {
                    continue 'value;
                }
            }
            _ => at = space_end(text, scalar_end(text, at)?),
        }
        // A value is complete, or a container is about to close.
        loop {
            let in_object = nesting.in_object();
            match text.get(at) {
                Some(b',') => {
                    at = space_end(text, at + 1);
                    if in_object {
                        at = key_end(text, at)?;
                    }
                    continue 'value;
                }
                Some(b'}') if in_object => {}
                Some(b']') if !in_object => {}
                Some(_) => return Err(DecodeError::new("comma or end expected", at)),
                None => return Err(DecodeError::new("unexpected end", at)),
            }
            at += 1;
            if nesting.close() {
                return Ok(at);
            }
            at = space_end(text, at);
        }
    }
}

/// Position of the value behind the key at `at`.
fn key_end(text: &[u8], at: usize) -> Result<usize, DecodeError> {
    if text.get(at) != Some(&b'"') {
        return Err(DecodeError::new("key expected", at));
    }
    let at = space_end(text, string_end(text, at)?);
    if text.get(at) != Some(&b':') {
        return Err(DecodeError::new("colon expected", at));
    }
    Ok(space_end(text, at + 1))
}

/// Which of the open containers are objects. Bound: [`DEPTH_MAX`].
#[derive(Default)]
struct Nesting {
    depth: usize,
    objects: [u64; DEPTH_MAX / 64],
}

impl Nesting {
    #[inline]
    fn open(&mut self, object: bool, at: usize) -> Result<(), DecodeError> {
        if self.depth == DEPTH_MAX {
            return Err(DecodeError::new("nested too deeply", at));
        }
        let bit = 1 << (self.depth % 64);
        let word = &mut self.objects[self.depth / 64];
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        Ok(())
    }

    /// Only called while something is open.
    #[inline]
    fn in_object(&self) -> bool {
        let top = self.depth - 1;
        self.objects[top / 64] & (1 << (top % 64)) != 0
    }

    /// True when the outermost container has closed.
    #[inline]
    fn close(&mut self) -> bool {
        self.depth -= 1;
        self.depth == 0
    }
}

/// Checks that the text is one value with nothing but white space around it.
pub(super) fn value_alone(text: &[u8]) -> Result<(), DecodeError> {
    let end = space_end(text, value_end(text, space_end(text, 0))?);
    if end == text.len() { Ok(()) } else { Err(DecodeError::new("text behind the value", end)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Accepted by us if and only if accepted by serde_json, and then with the same end. serde_json looks at what stands
    /// behind a number or word before it accepts it, so ends are compared for the other kinds only.
    #[track_caller]
    fn check(text: &str) {
        let start = space_end(text.as_bytes(), 0);
        if let Some(b'{' | b'[' | b'"') = text.as_bytes().get(start) {
            let mut values = serde_json::Deserializer::from_str(text).into_iter::<Box<serde_json::value::RawValue>>();
            let theirs = values.next().and_then(Result::ok).map(|_| values.byte_offset());
            assert_eq!(value_end(text.as_bytes(), start).ok(), theirs, "{text:?}");
        }
        let alone = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
        assert_eq!(value_alone(text.as_bytes()).is_ok(), alone, "{text:?}");
    }

    #[test]
    fn the_grammar_is_that_of_serde_json() {
        for text in [
            "",
            " ",
            "null",
            "nul",
            "true",
            "tru",
            "false",
            "0",
            "-0",
            "-",
            "01",
            "1.",
            "1.5",
            ".5",
            "1e",
            "1e5",
            "1E+5",
            "1e-",
            "-1.5e-7",
            "\"\"",
            "\"",
            "\"a",
            "\"\\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\uD800\"",
            "\"\\ud800\\udc00\"",
            "\"\u{1}\"",
            "\"\u{7f}\"",
            "\"\t\"",
            "\"é\u{2028}\"",
            "[]",
            "[ ]",
            "[1]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1,2",
            "[",
            "]",
            "{}",
            "{ }",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":{\"b\":[{}]}}",
            "{a:1}",
            "{1:1}",
            "{\"a\":1]",
            "[1}",
            "[[]",
            "{\"a\" : [ 1 , 2 ] }",
            "nullx",
            "1 2",
            "{}{}",
            "\"a\"b",
            "\u{feff}{}",
            "[1,\n2]",
            "\u{b}1",
            "\"0123456789\\\"abcdef\"",
            "\"01234567\u{1f}\"",
        ] {
            check(text);
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        for (depth, want) in [(DEPTH_MAX, true), (DEPTH_MAX + 1, false), (100_000, false)] {
            let arrays = "[".repeat(depth) + &"]".repeat(depth);
            assert_eq!(value_alone(arrays.as_bytes()).is_ok(), want, "{depth} arrays");
            let objects = "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
            assert_eq!(value_alone(objects.as_bytes()).is_ok(), want, "{depth} objects");
        }
    }

    #[test]
    fn plain_runs_end_at_the_first_special_byte_wherever_it_stands() {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for length in 0..24 {
                for position in 0..length {
                    for filler in [b'a', b'!', b'#', b'[', b']', 0x20, 0x7f, 0x80, 0xff] {
                        let mut text = vec![filler; length];
                        text[position] = special;
                        assert_eq!(plain_end(&text, 0), position, "{special} in {length} x {filler}");
                    }
                }
            }
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn random_values_end_where_they_end(value in json(), pretty: bool, tail in "[ ,}x]{0,3}") {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(value_end(text.as_bytes(), 0).ok(), Some(text.len()));
            check(&(text + &tail));
        }

        #[test]
        fn damaged_values_are_judged_as_serde_json_does(value in json(), cut: prop::sample::Index, put in "[\\[\\]{}:,\"\\\\0a \n\u{1}é-]?") {
            let text = value.to_string();
            let chars: Vec<char> = text.chars().collect();
            let at = cut.index(chars.len());
            let damaged: String = chars[..at].iter().copied().chain(put.chars()).chain(chars[at + 1..].iter().copied()).collect();
            check(&damaged);
        }
    }
}
