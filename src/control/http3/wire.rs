//! Numbers and frames on the streams of HTTP/3. Source: RFC 9000 section 16, RFC 9114 section 7.

use super::qpack::{self, DecodeError, Field};
use quinn::RecvStream;
use tokio::sync::Semaphore;

/// Types of frames, streams and settings that are of use here.
pub mod kind {
    /// Frame: part of a body.
    pub const DATA: u64 = 0x0;
    /// Frame: header fields.
    pub const HEADERS: u64 = 0x1;
    /// Frame: settings, the first on a control stream.
    pub const SETTINGS: u64 = 0x4;
    /// The first number of a bidirectional stream of a WebTransport session; the session's id follows.
    pub const WEBTRANSPORT_STREAM: u64 = 0x41;
    /// Unidirectional stream: control.
    pub const CONTROL_STREAM: u64 = 0x0;
    /// Unidirectional streams: QPACK's encoder and decoder.
    pub const QPACK_STREAMS: [u64; 2] = [0x2, 0x3];
}

/// Error codes. Source: RFC 9114 section 8.1, RFC 9204 section 6, draft-ietf-webtrans-http3.
pub mod code {
    use quinn::VarInt;

    /// Nothing is wrong.
    pub const NO_ERROR: VarInt = VarInt::from_u32(0x100);
    /// A stream that is not of HTTP/3.
    pub const STREAM_CREATION_ERROR: VarInt = VarInt::from_u32(0x103);
    /// A stream that has to stay has ended.
    pub const CLOSED_CRITICAL_STREAM: VarInt = VarInt::from_u32(0x104);
    /// A frame where it may not be.
    pub const FRAME_UNEXPECTED: VarInt = VarInt::from_u32(0x105);
    /// More work than a peer may make.
    pub const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);
    /// The control stream does not begin with settings.
    pub const MISSING_SETTINGS: VarInt = VarInt::from_u32(0x10a);
    /// No part of the request was served.
    pub const REQUEST_REJECTED: VarInt = VarInt::from_u32(0x10b);
    /// The response ends before its end.
    pub const REQUEST_CANCELLED: VarInt = VarInt::from_u32(0x10c);
    /// A request that breaks rules.
    pub const MESSAGE_ERROR: VarInt = VarInt::from_u32(0x10e);
    /// A field section that cannot be read.
    pub const DECOMPRESSION_FAILED: VarInt = VarInt::from_u32(0x200);
    /// A stream of a session that wants no more of them.
    pub const BUFFERED_STREAM_REJECTED: VarInt = VarInt::from_u32(0x3994_bd84);
    /// A stream of a session that is over.
    pub const SESSION_GONE: VarInt = VarInt::from_u32(0x170d_7b68);
}

/// Most bytes of the header fields of a request, as of one of HTTP/1.1 and HTTP/2.
pub const FIELDS_BYTES_MAX: usize = 64 << 10;

/// Appends a number of variable length.
pub fn write_number(number: u64, out: &mut Vec<u8>) {
    match number {
        0..0x40 => out.push(number as u8),
        0x40..0x4000 => out.extend_from_slice(&(number as u16 | 0x4000).to_be_bytes()),
        0x4000..0x4000_0000 => out.extend_from_slice(&(number as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(number | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Appends a frame.
pub fn write_frame(kind: u64, payload: &[u8], out: &mut Vec<u8>) {
    write_number(kind, out);
    write_number(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

/// The settings of our side, as a control stream begins with them.
///
/// WebTransport is announced as drafts 2 and 7 do, which is what browsers look for; the number of sessions is one. The dynamic
/// table of QPACK is not: its capacity is 0 by default.
pub fn control_stream(has_webtransport: bool) -> Vec<u8> {
    const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
    const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
    const H3_DATAGRAM: u64 = 0x33;
    const ENABLE_WEBTRANSPORT: u64 = 0x2b60_3742;
    const WEBTRANSPORT_MAX_SESSIONS: u64 = 0xc671_706a;
    let mut settings = Vec::new();
    let mut set = |setting, value| {
        write_number(setting, &mut settings);
        write_number(value, &mut settings);
    };
    set(MAX_FIELD_SECTION_SIZE, FIELDS_BYTES_MAX as u64);
    if has_webtransport {
        for setting in [ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, ENABLE_WEBTRANSPORT, WEBTRANSPORT_MAX_SESSIONS] {
            set(setting, 1);
        }
    }
    let mut stream = Vec::new();
    write_number(kind::CONTROL_STREAM, &mut stream);
    write_frame(kind::SETTINGS, &settings, &mut stream);
    stream
}

/// A response without a body, or the head of one.
pub fn response<'a>(status: u16, fields: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let status = status.to_string();
    let mut section = Vec::new();
    qpack::encode([(":status", status.as_bytes())], &mut section);
    fields.into_iter().for_each(|(name, value)| qpack::encode_field(name, value, &mut section));
    let mut out = Vec::new();
    write_frame(kind::HEADERS, &section, &mut out);
    out
}

/// The end of a WebTransport session, with the reason: a capsule in a frame.
pub fn close_session(code: u32, reason: &str) -> Vec<u8> {
    const CLOSE_WEBTRANSPORT_SESSION: u64 = 0x2843;
    const REASON_BYTES_MAX: usize = 1024;
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let (mut capsule, mut out) = (Vec::new(), Vec::new());
    write_frame(CLOSE_WEBTRANSPORT_SESSION, &[&code.to_be_bytes(), reason].concat(), &mut capsule);
    write_frame(kind::DATA, &capsule, &mut out);
    out
}

/// Why nothing could be read.
#[derive(Debug)]
pub enum ReadError {
    /// The stream has ended, or was given up.
    Ended,
    /// Longer than is its due.
    TooLong,
    /// Not what it should be.
    Broken,
}

/// A number of variable length.
pub async fn read_number(stream: &mut RecvStream) -> Result<u64, ReadError> {
    let mut first = [0];
    read_exact(stream, &mut first).await?;
    read_rest(first[0], stream).await
}

async fn read_rest(first: u8, stream: &mut RecvStream) -> Result<u64, ReadError> {
    let mut bytes = [0; 8];
    let length = 1 << (first >> 6);
    bytes[0] = first & 0x3f;
    read_exact(stream, &mut bytes[1..length]).await?;
    Ok(u64::from_be_bytes(bytes) >> (64 - 8 * length))
}

/// The type of the next frame; none at the end of the stream.
pub async fn next_frame(stream: &mut RecvStream) -> Result<Option<u64>, ReadError> {
    let mut first = [0];
    match stream.read(&mut first).await {
        Ok(Some(_)) => Ok(Some(read_rest(first[0], stream).await?)),
        Ok(None) => Ok(None),
        Err(_) => Err(ReadError::Ended),
    }
}

/// Whether a frame of this type may not be on the stream of a request: settings, and what HTTP/2 has beside them.
pub fn is_unexpected(kind: u64) -> bool {
    matches!(kind, 0x2..0xa | 0xd)
}

/// The fields of a frame whose type was read; they take their bytes from `room` while they come.
pub async fn read_fields(stream: &mut RecvStream, room: &Semaphore) -> Result<Vec<Field>, ReadError> {
    let length = read_number(stream).await? as usize;
    if length > FIELDS_BYTES_MAX {
        return Err(ReadError::TooLong);
    }
    let _taken = room.acquire_many(length as u32).await.map_err(|_| ReadError::Ended)?;
    let mut section = vec![0; length];
    read_exact(stream, &mut section).await?;
    qpack::decode(&section, FIELDS_BYTES_MAX).map_err(|error| match error {
        DecodeError::Broken => ReadError::Broken,
        DecodeError::TooLong => ReadError::TooLong,
    })
}

/// Reads over a frame whose type was read.
pub async fn skip_frame(stream: &mut RecvStream) -> Result<(), ReadError> {
    let mut left = read_number(stream).await?;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let chunk = stream.read_chunk(most, true).await.map_err(|_| ReadError::Ended)?;
        left -= chunk.ok_or(ReadError::Ended)?.bytes.len() as u64;
    }
    Ok(())
}

/// Reads and forgets until the end.
pub async fn discard(stream: &mut RecvStream) {
    while let Ok(Some(_)) = stream.read_chunk(usize::MAX, true).await {}
}

async fn read_exact(stream: &mut RecvStream, bytes: &mut [u8]) -> Result<(), ReadError> {
    stream.read_exact(bytes).await.map_err(|_| ReadError::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9000, appendix A.1.
    #[test]
    fn numbers_are_written_as_the_rfc_shows_them() {
        let check = |number, want: &[u8]| {
            let mut out = Vec::new();
            write_number(number, &mut out);
            assert_eq!(out, want, "{number}");
        };
        check(37, b"\x25");
        check(15_293, b"\x7b\xbd");
        check(494_878_333, b"\x9d\x7f\x3e\x7d");
        check(151_288_809_941_952_652, b"\xc2\x19\x7c\x5e\xff\x14\xe8\x8c");
        check(63, b"\x3f");
        check(64, b"\x40\x40");
        check(16_384, b"\x80\x00\x40\x00");
    }

    #[test]
    fn end_of_a_session_carries_code_and_reason() {
        assert_eq!(close_session(3001, "shutdown"), b"\x00\x0f\x68\x43\x0c\x00\x00\x0b\xb9shutdown");
        let long = close_session(1, &"\u{e9}".repeat(600));
        assert!(long.ends_with("\u{e9}".as_bytes()));
        assert_eq!(long.len(), 1024 + 4 + 4 + 3);
    }
}
