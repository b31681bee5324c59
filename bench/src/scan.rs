//! Walks over the messages of a received frame without decoding them.

use memchr::memchr;
use ringcast_proto::client::Encoding;

/// The messages of a frame, still encoded, in their order; in Protobuf each with its length.
pub struct Messages<'a> {
    encoding: Encoding,
    rest: &'a [u8],
}

/// Bytes that are no messages; nothing follows.
#[derive(Debug, PartialEq, Eq)]
pub struct Damaged;

impl<'a> Messages<'a> {
    /// Of a whole frame.
    pub fn of(encoding: Encoding, frame: &'a [u8]) -> Self {
        Self { encoding, rest: frame }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<&'a [u8], Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let message = split(self.encoding, &mut self.rest).ok_or(Damaged);
        if message.is_err() {
            self.rest = &[];
        }
        Some(message)
    }
}

/// Whether a message asks for a pong.
pub fn is_ping(encoding: Encoding, message: &[u8]) -> bool {
    match encoding {
        Encoding::Json => message == b"{}",
        Encoding::Protobuf => message == b"\0",
    }
}

/// Length of the messages in Protobuf at the start of `bytes` that are whole, or damaged.
pub fn whole(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while !rest.is_empty() {
        match split(Encoding::Protobuf, &mut rest) {
            Some(_) => {}
            None if rest.iter().take(4).all(|byte| byte & 0x80 != 0) && rest.len() >= 4 => return bytes.len(),
            None => break,
        }
    }
    bytes.len() - rest.len()
}

/// Takes the first message off a frame that is not empty.
fn split<'a>(encoding: Encoding, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    match encoding {
        Encoding::Json => {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let message = &rest[..end];
            *rest = rest.get(end + 1..).unwrap_or_default();
            Some(message)
        }
        Encoding::Protobuf => {
            let (length, width) = varint(rest)?;
            let end = width.checked_add(length)?;
            let (message, after) = rest.split_at_checked(end)?;
            *rest = after;
            Some(message)
        }
    }
}

/// Value and width of the length that starts `bytes`; lengths over 28 bits are none.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages, and at last `!` for damage.
    #[track_caller]
    fn check(encoding: Encoding, frame: &[u8], want: &[&[u8]]) {
        let got: Vec<&[u8]> = Messages::of(encoding, frame).map(|message| message.unwrap_or(b"!")).collect();
        assert_eq!(got, want, "{}", frame.escape_ascii());
    }

    #[test]
    fn json_messages_are_lines() {
        check(Encoding::Json, b"", &[]);
        check(Encoding::Json, b"{}", &[b"{}"]);
        check(Encoding::Json, b"{\"id\":1}\n{}\n", &[b"{\"id\":1}", b"{}"]);
    }

    #[test]
    fn protobuf_messages_carry_their_lengths() {
        check(Encoding::Protobuf, b"\0", &[b"\0"]);
        check(Encoding::Protobuf, b"\x03abc\0\x02ab", &[b"\x03abc", b"\0", b"\x02ab"]);
        let long = [&b"\x80\x01"[..], &[b'a'; 128]].concat();
        check(Encoding::Protobuf, &long, &[&long]);
    }

    #[test]
    fn whole_messages_end_before_the_one_that_is_cut() {
        for (bytes, want) in
            [(&b""[..], 0), (b"\0\x02ab", 4), (b"\0\x02a", 1), (b"\x80", 0), (b"\0\xff\xff\xff\xff", 5)]
        {
            assert_eq!(whole(bytes), want, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn damaged_frames_end_with_the_damage() {
        for frame in [&b"\x05ab"[..], b"\x80", b"\xff\xff\xff\xff\xff"] {
            check(Encoding::Protobuf, frame, &[b"!"]);
        }
        check(Encoding::Protobuf, b"\0\x01", &[b"\0", b"!"]);
    }

    #[test]
    fn pings_are_empty_messages() {
        assert!(is_ping(Encoding::Json, b"{}") && is_ping(Encoding::Protobuf, b"\0"));
        assert!(!is_ping(Encoding::Json, b"{\"id\":1}") && !is_ping(Encoding::Protobuf, b"\x02ab"));
    }
}
