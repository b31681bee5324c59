//! Frame headers: two to fourteen bytes. Source: RFC 6455 §5.2.

use super::{ProtocolError, Role, mask};

/// Longest payload of a control frame.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// Longest header: two bytes, eight of length, four of mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// Goes on with a fragmented message.
    Continuation = 0,
    /// Message in UTF-8.
    Text = 1,
    /// Message of any bytes.
    Binary = 2,
    /// End of the connection.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    pub(super) fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// A header that keeps all rules that can be checked without knowing what came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    /// The message that begins with this frame is deflated.
    pub(super) deflated: bool,
    pub(super) opcode: Opcode,
    /// Zero when the frame is not masked, which changes nothing.
    pub(super) mask: [u8; 4],
    pub(super) payload_len: u64,
}

/// Bit of a first frame whose message is deflated.
pub(super) const DEFLATED: u8 = 0x40;

/// Reads the header at the start of `bytes` as it came from the peer of `role`; also gives its length. `None` when it is not
/// complete. Rules are checked as soon as their bytes are there. `may_deflate`: the extension was negotiated.
pub(super) fn parse(bytes: &[u8], role: Role, may_deflate: bool) -> Result<Option<(Header, usize)>, ProtocolError> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let deflated = first & DEFLATED != 0;
    if first & 0x30 != 0 || deflated && !may_deflate {
        return Err(ProtocolError::Framing("reserved bit without an extension"));
    }
    let opcode = Opcode::from_bits(first & 0x0f).ok_or(ProtocolError::Framing("reserved opcode"))?;
    if deflated && !matches!(opcode, Opcode::Text | Opcode::Binary) {
        return Err(ProtocolError::Framing("frame that begins no message is marked as deflated"));
    }
    let fin = first & 0x80 != 0;
    if opcode.is_control() && !fin {
        return Err(ProtocolError::Framing("fragmented control frame"));
    }
    let Some(&second) = bytes.get(1) else {
        return Ok(None);
    };
    let masked = second & 0x80 != 0;
    if masked != (role == Role::Server) {
        return Err(ProtocolError::Framing(if masked {
            "masked frame from a server"
        } else {
            "unmasked frame from a client"
        }));
    }
    let short_len = second & 0x7f;
    if opcode.is_control() && usize::from(short_len) > CONTROL_BYTES_MAX {
        return Err(ProtocolError::Framing("control frame over 125 bytes"));
    }
    let Some((payload_len, mask_at)) = parse_len(&bytes[2..], short_len)? else {
        return Ok(None);
    };
    if !masked {
        return Ok(Some((Header { fin, deflated, opcode, mask: [0; 4], payload_len }, mask_at)));
    }
    let Some(&mask) = bytes.get(mask_at..).and_then(|rest| rest.first_chunk::<4>()) else {
        return Ok(None);
    };
    Ok(Some((Header { fin, deflated, opcode, mask, payload_len }, mask_at + 4)))
}

/// The payload length and the length of the header up to the mask.
pub(super) fn parse_len(rest: &[u8], short_len: u8) -> Result<Option<(u64, usize)>, ProtocolError> {
    let (payload_len, mask_at, least) = match short_len {
        126 => match rest.first_chunk() {
            Some(bytes) => (u16::from_be_bytes(*bytes).into(), 4, 126),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 10, 1 << 16),
            None => return Ok(None),
        },
        short_len => (short_len.into(), 2, 0),
    };
    if payload_len < least || payload_len > i64::MAX as u64 {
        return Err(ProtocolError::Framing("length not in its shortest form"));
    }
    Ok(Some((payload_len, mask_at)))
}

/// Appends the header of a whole, unmasked frame. The payload follows.
#[inline]
pub fn encode_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    write_header(out, opcode as u8, payload_len, 0);
}

/// Appends the header of a whole, unmasked frame with a deflated message. The payload follows.
pub fn encode_deflated_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    write_header(out, DEFLATED | opcode as u8, payload_len, 0);
}

fn write_header(out: &mut Vec<u8>, kind: u8, payload_len: usize, mask_bit: u8) {
    out.push(0x80 | kind);
    if payload_len < 126 {
        out.push(mask_bit | payload_len as u8);
    } else if let Ok(payload_len) = u16::try_from(payload_len) {
        out.push(mask_bit | 126);
        out.extend_from_slice(&payload_len.to_be_bytes());
    } else {
        out.push(mask_bit | 127);
        out.extend_from_slice(&(payload_len as u64).to_be_bytes());
    }
}

/// Appends a whole frame, as a server sends it.
pub fn encode_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.reserve(payload.len() + HEADER_BYTES_MAX);
    encode_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a whole frame, as a client sends it.
pub fn encode_masked_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    out.reserve(payload.len() + HEADER_BYTES_MAX);
    write_header(out, opcode as u8, payload.len(), 0x80);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[start..], mask, 0);
}

/// Appends a close frame, as a server sends it. The reason is cut to 123 bytes at the border of a character.
pub fn encode_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    encode_frame(out, Opcode::Close, &close_payload(code, reason));
}

/// Appends a close frame, as a client sends it. The reason is cut to 123 bytes at the border of a character.
pub fn encode_masked_close(out: &mut Vec<u8>, code: u16, reason: &str, mask: [u8; 4]) {
    encode_masked_frame(out, Opcode::Close, &close_payload(code, reason), mask);
}

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(role: Role, bytes: &[u8], want: Result<Option<(bool, Opcode, u64, usize)>, &str>) {
        check_with(false, role, bytes, want);
    }

    #[track_caller]
    fn check_with(may_deflate: bool, role: Role, bytes: &[u8], want: Result<Option<(bool, Opcode, u64, usize)>, &str>) {
        let got = parse(bytes, role, may_deflate)
            .map(|parsed| parsed.map(|(header, len)| (header.fin, header.opcode, header.payload_len, len)))
            .map_err(|error| error.to_string());
        assert_eq!(got, want.map_err(str::to_owned), "{bytes:x?}");
    }

    #[test]
    fn headers_are_read_once_complete() {
        check(Role::Client, &[], Ok(None));
        check(Role::Client, &[0x81], Ok(None));
        check(Role::Client, &[0x81, 5], Ok(Some((true, Opcode::Text, 5, 2))));
        check(Role::Client, &[0x02, 126, 0], Ok(None));
        check(Role::Client, &[0x02, 126, 0, 126], Ok(Some((false, Opcode::Binary, 126, 4))));
        check(Role::Client, &[0x80, 127, 0, 0, 0, 0, 0, 1, 0], Ok(None));
        check(Role::Client, &[0x80, 127, 0, 0, 0, 0, 0, 1, 0, 0], Ok(Some((true, Opcode::Continuation, 65536, 10))));
        check(Role::Server, &[0x89, 0x80, 1, 2, 3], Ok(None));
        check(Role::Server, &[0x89, 0x80, 1, 2, 3, 4], Ok(Some((true, Opcode::Ping, 0, 6))));
    }

    #[test]
    fn broken_headers_are_refused_at_the_first_byte_that_shows_it() {
        for first in [0xc1, 0xa1, 0x91, 0xf1] {
            check(Role::Server, &[first], Err("reserved bit without an extension"));
        }
        for first in [0x83, 0x87, 0x8b, 0x8f] {
            check(Role::Server, &[first], Err("reserved opcode"));
        }
        for first in [0x08, 0x09, 0x0a] {
            check(Role::Server, &[first], Err("fragmented control frame"));
        }
        check(Role::Server, &[0x81, 0x05], Err("unmasked frame from a client"));
        check(Role::Client, &[0x81, 0x85], Err("masked frame from a server"));
        check(Role::Server, &[0x89, 0xfe], Err("control frame over 125 bytes"));
        check(Role::Server, &[0x88, 0xff], Err("control frame over 125 bytes"));
        check(Role::Client, &[0x81, 126, 0, 125], Err("length not in its shortest form"));
        check(Role::Client, &[0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Err("length not in its shortest form"));
        check(Role::Client, &[0x81, 127, 0x80, 0, 0, 0, 0, 1, 0, 0], Err("length not in its shortest form"));
    }

    /// T05
    #[test]
    fn mark_of_deflated_messages_is_taken_where_they_begin_and_only_when_negotiated() {
        for first in [0xc0, 0x40, 0xc8, 0xc9, 0xca] {
            check_with(true, Role::Server, &[first], Err("frame that begins no message is marked as deflated"));
        }
        for first in [0xe1, 0xd1, 0xa1, 0x91] {
            check_with(true, Role::Server, &[first], Err("reserved bit without an extension"));
        }
        for first in [0xc1, 0xc2] {
            check(Role::Server, &[first], Err("reserved bit without an extension"));
            assert!(parse(&[first, 0], Role::Client, true).unwrap().unwrap().0.deflated);
        }
        let mut out = Vec::new();
        encode_deflated_header(&mut out, Opcode::Binary, 300);
        check_with(true, Role::Client, &out, Ok(Some((true, Opcode::Binary, 300, 4))));
        assert_eq!(out[0], 0xc2);
    }

    #[test]
    fn close_reasons_are_cut_between_characters() {
        for (reason, want) in
            [("", 0), ("bye", 3), (&"a".repeat(200), 123), (&"é".repeat(100), 122), (&"€".repeat(60), 123)]
        {
            let mut out = Vec::new();
            encode_close(&mut out, 3501, reason);
            assert_eq!(out[..2], [0x88, want as u8 + 2]);
            assert_eq!(out[2..4], 3501_u16.to_be_bytes());
            assert_eq!(str::from_utf8(&out[4..]).unwrap(), &reason[..want]);
        }
    }

    #[test]
    fn every_form_of_length_is_written_and_read_back() {
        for length in [0, 1, 125, 126, 65535, 65536, 70_000] {
            let mut out = Vec::new();
            encode_masked_frame(&mut out, Opcode::Binary, &vec![7; length], [1, 2, 3, 4]);
            let (header, at) = parse(&out, Role::Server, false).unwrap().unwrap();
            assert_eq!((header.payload_len, header.mask), (length as u64, [1, 2, 3, 4]));
            assert_eq!(out.len(), at + length);
        }
    }
}
