//! Replies and pushes of Redis, in RESP 2 or 3. Source: the RESP specification.

use crate::DecodeError;
use bytes::{Bytes, BytesMut};

/// Longest message that is taken: what Redis itself allows for one string, and room around it.
const MESSAGE_BYTES_MAX: usize = 513 << 20;

/// Deepest nesting that is taken; scripts of ours answer with three.
const DEPTH_MAX: usize = 16;

/// Longest line that is taken: type, and a number or a short text such as an error.
const LINE_BYTES_MAX: usize = 64 << 10;

/// What Redis says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number.
    Integer(i64),
    /// A string, a status, or one of the types of RESP 3 that are written as text.
    Text(Bytes),
    /// What was asked cannot be done; `CODE text`.
    Error(Bytes),
    /// A list, a set, or a map as a list of keys and values.
    Array(Vec<Value>),
    /// Said unasked; RESP 3 only.
    Push(Vec<Value>),
}

impl Value {
    /// The bytes of a text.
    pub fn text(&self) -> Option<&Bytes> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number, written as one or as text.
    pub fn number(&self) -> Option<u64> {
        match self {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Text(text) => number(text),
            _ => None,
        }
    }

    /// The parts of a list.
    pub fn into_array(self) -> Option<Vec<Value>> {
        match self {
            Value::Array(values) | Value::Push(values) => Some(values),
            _ => None,
        }
    }
}

/// A decimal number without sign.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

/// Finds messages in a stream of bytes. A message that comes in many pieces is looked at once.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of the buffer that were looked at.
    seen: usize,
    /// Values that are still to come, for each aggregate that is open; empty between messages.
    open: Vec<usize>,
}

impl Decoder {
    /// The next message, once all of it is there; its bytes are taken from the buffer and shared by its parts.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Value>, DecodeError> {
        if !self.scan(buffer)? {
            return Ok(None);
        }
        let message = buffer.split_to(self.seen).freeze();
        *self = Self::default();
        build(&message, &mut 0).map(Some)
    }

    /// Moves over whole values until the message ends; false if it does not yet.
    fn scan(&mut self, buffer: &[u8]) -> Result<bool, DecodeError> {
        if self.seen == 0 && self.open.is_empty() {
            self.open.push(1);
        }
        while let Some(left) = self.open.last_mut() {
            if *left == 0 {
                self.open.pop();
                continue;
            }
            let Some((head, after)) = head(buffer, self.seen)? else { return Ok(false) };
            match head {
                Head::Line | Head::Null => self.seen = after,
                Head::Blob(length) => {
                    let end = after + length + 2;
                    if end > MESSAGE_BYTES_MAX {
                        return Err(DecodeError::new("message of Redis too long", self.seen));
                    }
                    if buffer.len() < end {
                        return Ok(false);
                    }
                    self.seen = end;
                }
                Head::Many(count) => {
                    self.seen = after;
                    *left -= 1;
                    if self.open.len() > DEPTH_MAX {
                        return Err(DecodeError::new("message of Redis nested too deep", self.seen));
                    }
                    self.open.push(count);
                    continue;
                }
            }
            *left -= 1;
        }
        Ok(true)
    }
}

enum Head {
    Line,
    Null,
    /// A string of so many bytes.
    Blob(usize),
    /// So many values.
    Many(usize),
}

/// The line at `at`, and where it ends; nothing if it is not whole.
fn line(buffer: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, DecodeError> {
    let rest = &buffer[at..];
    match memchr::memchr(b'\n', &rest[..rest.len().min(LINE_BYTES_MAX)]) {
        Some(end) if end >= 2 && rest[end - 1] == b'\r' => Ok(Some((&rest[..end - 1], at + end + 1))),
        Some(_) => Err(DecodeError::new("line of Redis without type or end", at)),
        None if rest.len() >= LINE_BYTES_MAX => Err(DecodeError::new("line of Redis too long", at)),
        None => Ok(None),
    }
}

fn head(buffer: &[u8], at: usize) -> Result<Option<(Head, usize)>, DecodeError> {
    let Some((line, after)) = line(buffer, at)? else { return Ok(None) };
    let (kind, rest) = (line[0], &line[1..]);
    let head = match kind {
        b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => Head::Line,
        b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' if rest == b"-1" => Head::Null,
        b'$' | b'=' | b'!' => Head::Blob(length(rest, at)?),
        b'*' | b'~' | b'>' => Head::Many(length(rest, at)?),
        b'%' => Head::Many(length(rest, at)? * 2),
        _ => return Err(DecodeError::new("not a type of RESP", at)),
    };
    Ok(Some((head, after)))
}

fn length(text: &[u8], at: usize) -> Result<usize, DecodeError> {
    let length = number(text).and_then(|number| usize::try_from(number).ok());
    length.filter(|length| *length <= MESSAGE_BYTES_MAX).ok_or(DecodeError::new("length of Redis out of range", at))
}

/// The value at `at` of a message that was scanned whole.
fn build(message: &Bytes, at: &mut usize) -> Result<Value, DecodeError> {
    let start = *at;
    let (head, after) = head(message, start)?.ok_or(DecodeError::new("message of Redis cut short", start))?;
    *at = after;
    let line = start + 1..after - 2;
    let kind = message[start];
    Ok(match head {
        Head::Null => Value::Null,
        Head::Blob(length) => {
            *at = after + length + 2;
            let text = message.slice(after..after + length);
            match kind {
                b'!' => Value::Error(text),
                // A verbatim text starts with its format, three letters and a colon.
                b'=' if length >= 4 => Value::Text(text.slice(4..)),
                _ => Value::Text(text),
            }
        }
        Head::Many(count) => {
            // Each value has three bytes at least, so that a count that lies reserves nothing.
            let mut values = Vec::with_capacity(count.min((message.len() - after) / 3 + 1));
            for _ in 0..count {
                values.push(build(message, at)?);
            }
            if kind == b'>' { Value::Push(values) } else { Value::Array(values) }
        }
        Head::Line => match kind {
            b'_' => Value::Null,
            b'-' => Value::Error(message.slice(line)),
            b':' => {
                let number = std::str::from_utf8(&message[line]).ok().and_then(|number| number.parse().ok());
                Value::Integer(number.ok_or(DecodeError::new("not a number", start))?)
            }
            _ => Value::Text(message.slice(line)),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Value {
        Value::Text(Bytes::from_static(text.as_bytes()))
    }

    /// Whole, and byte by byte.
    #[track_caller]
    fn check(bytes: &[u8], want: &Value) {
        let mut buffer = BytesMut::from(bytes);
        assert_eq!(Decoder::default().decode(&mut buffer).unwrap().as_ref(), Some(want));
        assert!(buffer.is_empty());
        let mut decoder = Decoder::default();
        for (index, byte) in bytes.iter().enumerate() {
            buffer.extend_from_slice(&[*byte]);
            let got = decoder.decode(&mut buffer).unwrap();
            assert_eq!(got.as_ref(), (index + 1 == bytes.len()).then_some(want), "byte {index}");
        }
    }

    /// E02
    #[test]
    fn values_of_both_versions_are_read_however_they_are_cut() {
        check(b"+OK\r\n", &text("OK"));
        check(b"$-1\r\n", &Value::Null);
        check(b"_\r\n", &Value::Null);
        check(b":-3\r\n", &Value::Integer(-3));
        check(b"-ERR no\r\n", &Value::Error(Bytes::from_static(b"ERR no")));
        check(b"$4\r\na\r\nb\r\n", &text("a\r\nb"));
        check(b"$0\r\n\r\n", &text(""));
        check(b"*0\r\n", &Value::Array(vec![]));
        check(b"*-1\r\n", &Value::Null);
        check(b"=5\r\ntxt:x\r\n", &text("x"));
        check(b"%1\r\n+a\r\n:1\r\n", &Value::Array(vec![text("a"), Value::Integer(1)]));
        check(
            b"*3\r\n:7\r\n*2\r\n$1\r\nx\r\n*0\r\n$-1\r\n",
            &Value::Array(vec![Value::Integer(7), Value::Array(vec![text("x"), Value::Array(vec![])]), Value::Null]),
        );
        check(b">2\r\n$3\r\nabc\r\n:1\r\n", &Value::Push(vec![text("abc"), Value::Integer(1)]));
    }

    /// E02
    #[test]
    fn bytes_that_are_not_resp_are_refused() {
        let deep = b"*1\r\n".repeat(DEPTH_MAX + 2);
        for bad in [&b"\r\n"[..], b"?\r\n", b"$x\r\n", b"$-2\r\n", b"*99999999999\r\n", b":a\r\n", b"+\n", &deep] {
            assert!(Decoder::default().decode(&mut BytesMut::from(bad)).is_err(), "{bad:?}");
        }
    }
}
