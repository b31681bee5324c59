//! Walks over the messages of a received frame without decoding them: deliveries and pings are told, the rest is handed on.

use memchr::memchr;
use ringcast_proto::client::Encoding;

use crate::payload::{Found, Reader, Stamp};

/// One message of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A publication of this bench.
    Delivery(Stamp),
    /// A publication of this bench, damaged; or bytes that are no messages.
    Corrupt,
    /// The server asks for a pong.
    Ping,
    /// Anything else, still encoded, in Protobuf with its length.
    Other(&'a [u8]),
}

/// Tells the messages of a frame in their order.
pub fn scan<'a>(encoding: Encoding, frame: &'a [u8], reader: &mut Reader, mut on: impl FnMut(Message<'a>)) {
    let mut rest = frame;
    while !rest.is_empty() {
        let Some(message) = split(encoding, &mut rest) else {
            on(Message::Corrupt);
            return;
        };
        on(judge(encoding, message, reader));
    }
}

fn judge<'a>(encoding: Encoding, message: &'a [u8], reader: &mut Reader) -> Message<'a> {
    let ping: &[u8] = match encoding {
        Encoding::Json => b"{}",
        Encoding::Protobuf => b"\0",
    };
    if message == ping {
        return Message::Ping;
    }
    match reader.read(message) {
        Found::Stamp(stamp) => Message::Delivery(stamp),
        Found::Corrupt => Message::Corrupt,
        Found::Nothing => Message::Other(message),
    }
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
    use crate::payload;
    use Message::{Corrupt, Delivery, Other, Ping};

    const STAMP: Stamp = Stamp { publisher: 3, sequence: 7, sent_ns: 9 };

    fn delivery() -> Vec<u8> {
        let mut payload = payload::template(60);
        payload::stamp(&mut payload, STAMP);
        payload
    }

    #[track_caller]
    fn check(encoding: Encoding, frame: &[u8], want: &[Message<'_>]) {
        let mut got = Vec::new();
        scan(encoding, frame, &mut Reader::new(60), |message| {
            got.push(message);
        });
        assert_eq!(got, want, "{}", frame.escape_ascii());
    }

    #[test]
    fn json_messages_are_lines() {
        check(Encoding::Json, b"{}", &[Ping]);
        check(Encoding::Json, &delivery(), &[Delivery(STAMP)]);
        let frame = [&delivery()[..], b"\n{}\n{\"id\":1}\n", &delivery(), b"\n"].concat();
        check(Encoding::Json, &frame, &[Delivery(STAMP), Ping, Other(b"{\"id\":1}"), Delivery(STAMP)]);
    }

    #[test]
    fn protobuf_messages_carry_their_lengths() {
        check(Encoding::Protobuf, b"\0", &[Ping]);
        let frame = [b"\x3d.", &delivery()[..], b"\0\x02ab"].concat();
        check(Encoding::Protobuf, &frame, &[Delivery(STAMP), Ping, Other(b"\x02ab")]);
        let long = [&b"\x80\x01"[..], &[b'a'; 128]].concat();
        check(Encoding::Protobuf, &long, &[Other(&long)]);
    }

    #[test]
    fn damaged_frames_are_corrupt() {
        check(Encoding::Json, &delivery()[..59], &[Corrupt]);
        for frame in [&b"\x05ab"[..], b"\x80", b"\xff\xff\xff\xff\xff", b"\0\x01"] {
            let mut got = Vec::new();
            scan(Encoding::Protobuf, frame, &mut Reader::new(60), |message| {
                got.push(message);
            });
            assert_eq!(got.last(), Some(&Corrupt), "{}", frame.escape_ascii());
        }
    }
}
