//! Cuts the bytes of a stream between messages.

use ringcast_proto::client::Encoding;

/// Bytes of one stream that came and are no whole message yet.
///
/// Bound: `webtransport.message_size_limit` for a message, and what is read at a time. Full: the session ends.
pub struct Messages {
    encoding: Encoding,
    /// Bytes of a message, without newline or length.
    size_limit: usize,
    waiting: Vec<u8>,
    /// How many of the waiting bytes were looked at and hold no end.
    searched: usize,
}

/// A message is longer than `webtransport.message_size_limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Messages {
    /// Nothing has come.
    pub fn new(encoding: Encoding, size_limit: usize) -> Self {
        Self { encoding, size_limit, waiting: Vec::new(), searched: 0 }
    }

    /// Takes bytes, and gives all messages that are whole now, one behind the other as they came; nothing if none is.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<u8>, TooLong> {
        self.waiting.extend_from_slice(bytes);
        let end = match self.encoding {
            Encoding::Json => self.end_of_lines()?,
            Encoding::Protobuf => self.end_of_lengths()?,
        };
        let rest = self.waiting.split_off(end);
        Ok(std::mem::replace(&mut self.waiting, rest))
    }

    fn end_of_lines(&mut self) -> Result<usize, TooLong> {
        let mut end = 0;
        let mut from = self.searched;
        while let Some(length) = self.waiting[from..].iter().position(|byte| *byte == b'\n') {
            let newline = from + length;
            self.check(newline - end)?;
            (end, from) = (newline + 1, newline + 1);
        }
        self.searched = self.waiting.len() - end;
        self.check(self.searched)?;
        Ok(end)
    }

    fn end_of_lengths(&self) -> Result<usize, TooLong> {
        let mut end = 0;
        while let Some((length, digits)) = length_of(&self.waiting[end..])? {
            self.check(length)?;
            if self.waiting.len() - end < digits + length {
                break;
            }
            end += digits + length;
        }
        Ok(end)
    }

    fn check(&self, length: usize) -> Result<(), TooLong> {
        if length > self.size_limit { Err(TooLong) } else { Ok(()) }
    }
}

/// The length that a message of Protobuf begins with, and its own bytes; none if they are not all here.
fn length_of(bytes: &[u8]) -> Result<Option<(usize, usize)>, TooLong> {
    /// Longer ones are of messages that no limit allows.
    const DIGITS_MAX: usize = 5;
    let mut length = 0;
    for (index, byte) in bytes.iter().enumerate().take(DIGITS_MAX) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    if bytes.len() < DIGITS_MAX { Ok(None) } else { Err(TooLong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds chunks to a stream whose messages have at most eight bytes.
    #[track_caller]
    fn check(encoding: Encoding, chunks: &[&[u8]], want: &[Result<&[u8], TooLong>]) {
        let mut messages = Messages::new(encoding, 8);
        let found: Vec<_> = chunks.iter().map(|chunk| messages.take(chunk)).collect();
        let found: Vec<_> = found.iter().map(|taken| taken.as_deref().map_err(|error| *error)).collect();
        assert_eq!(found, want, "{chunks:?}");
    }

    #[test]
    fn lines_come_whole() {
        let check = |chunks: &[&[u8]], want| check(Encoding::Json, chunks, want);
        check(&[b"{}\n"], &[Ok(b"{}\n")]);
        check(&[b"{", b"}", b"\n{"], &[Ok(b""), Ok(b""), Ok(b"{}\n")]);
        check(&[b"a\nb\nc", b"\n"], &[Ok(b"a\nb\n"), Ok(b"c\n")]);
        check(&[b"12345678\n12345678", b"\n"], &[Ok(b"12345678\n"), Ok(b"12345678\n")]);
        check(&[b"123456789\n"], &[Err(TooLong)]);
        check(&[b"1234", b"56789"], &[Ok(b""), Err(TooLong)]);
        check(&[b"a\n1234", b"56789\n"], &[Ok(b"a\n"), Err(TooLong)]);
    }

    #[test]
    fn messages_behind_their_lengths_come_whole() {
        let check = |chunks: &[&[u8]], want| check(Encoding::Protobuf, chunks, want);
        check(&[b"\x02ab"], &[Ok(b"\x02ab")]);
        check(&[b"\x02", b"a", b"b\x00\x01"], &[Ok(b""), Ok(b""), Ok(b"\x02ab\x00")]);
        check(&[b"\x81", b"\x00a"], &[Ok(b""), Ok(b"\x81\x00a")]);
        check(&[b"\x0812345678\x01", b"a"], &[Ok(b"\x0812345678"), Ok(b"\x01a")]);
        check(&[b"\x09"], &[Err(TooLong)]);
        check(&[b"\xff\xff\xff\xff\xff"], &[Err(TooLong)]);
        check(&[b"\xff\xff\xff\xff", b"\x7f"], &[Ok(b""), Err(TooLong)]);
    }
}
