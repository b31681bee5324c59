//! Deflates and inflates messages, each by itself. Source: RFC 7692 §7.2.
//!
//! No state lives from one message to the next, so that one [`Deflater`] and one [`Inflater`] serve all connections of a thread.

use super::ProtocolError;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What a sender leaves out at the end of each message.
const SYNC_TAIL: &[u8] = b"\x00\x00\xff\xff";

/// The same, and an empty last block: what is whole ends with it.
const LAST_TAIL: &[u8] = b"\x00\x00\xff\xff\x01\x00\x00\xff\xff";

/// First room for an inflated message.
const INFLATED_BYTES_MIN: usize = 1 << 10;

/// Room that is kept for the next message.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Levels of compression, beginning with 0, which is none.
const LEVELS: usize = 10;

/// Inflates the messages of many peers.
///
/// Bound: its window of 32 KiB, 64 KiB of room, and while a message is handed out what that may have. Before the first message
/// it holds nothing.
#[derive(Default)]
pub struct Inflater {
    stream: Option<Decompress>,
    inflated: Vec<u8>,
}

impl Inflater {
    /// Inflates a message; one that would be longer than `bytes_max` is given up as soon as it is. What follows a block that
    /// says it is the last is not read, as in the reference.
    pub fn inflate(&mut self, message: &[u8], bytes_max: usize) -> Result<&[u8], ProtocolError> {
        self.inflated.clear();
        match &mut self.stream {
            Some(stream) => stream.reset(false),
            stream @ None => *stream = Some(Decompress::new(false)),
        }
        let ended = self.take(message, bytes_max)? || self.take(LAST_TAIL, bytes_max)?;
        if ended { Ok(&self.inflated) } else { Err(ProtocolError::Deflate) }
    }

    /// Takes the next bytes of a message. True behind its last block.
    fn take(&mut self, mut input: &[u8], bytes_max: usize) -> Result<bool, ProtocolError> {
        let (stream, inflated) = (self.stream.as_mut().expect("made by the caller"), &mut self.inflated);
        loop {
            if inflated.len() == inflated.capacity() {
                // One byte more than allowed shows that there are too many.
                let capacity =
                    (2 * inflated.len()).clamp(INFLATED_BYTES_MIN, bytes_max.saturating_add(1).max(INFLATED_BYTES_MIN));
                inflated.reserve_exact(capacity - inflated.len());
            }
            let before = stream.total_in();
            let status =
                stream.decompress_vec(input, inflated, FlushDecompress::None).map_err(|_| ProtocolError::Deflate)?;
            input = &input[(stream.total_in() - before) as usize..];
            if inflated.len() > bytes_max {
                return Err(ProtocolError::TooBigInflated);
            }
            if status == Status::StreamEnd {
                return Ok(true);
            }
            // All that could be inflated has been.
            if inflated.len() < inflated.capacity() {
                return Ok(false);
            }
        }
    }

    /// Gives back the room of a large message.
    pub(super) fn tidy(&mut self) {
        self.inflated.clear();
        self.inflated.shrink_to(KEPT_BYTES_MAX);
    }
}

/// Deflates messages for many peers.
///
/// Bound: about 300 KiB for each level that is used.
#[derive(Default)]
pub struct Deflater {
    streams: [Option<Compress>; LEVELS],
}

impl Deflater {
    /// Replaces `out` by the deflated message. False, with anything in `out`, when that is not shorter; so always at level 0.
    pub fn deflate(&mut self, level: u8, message: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        let level = usize::from(level).min(LEVELS - 1);
        if level == 0 {
            return false;
        }
        let stream = &mut self.streams[level];
        let compress = stream.get_or_insert_with(|| Compress::new(Compression::new(level as u32), false));
        // Room for the longest that comes out. zlib-rs 0.6 does not survive an output that fills up at level 1: it panics in
        // the next message.
        out.reserve(message.len() + message.len() / 8 + 64);
        let flushed = compress.compress_vec(message, out, FlushCompress::Sync).is_ok();
        let is_whole = flushed && compress.total_in() == message.len() as u64 && out.ends_with(SYNC_TAIL);
        if is_whole {
            compress.reset();
        } else {
            *stream = None;
        }
        out.truncate(out.len().saturating_sub(SYNC_TAIL.len()));
        is_whole && out.len() < message.len()
    }
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflater").field("levels", &self.streams.iter().flatten().count()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflate(message: &[u8], bytes_max: usize) -> Result<Vec<u8>, ProtocolError> {
        Inflater::default().inflate(message, bytes_max).map(<[u8]>::to_vec)
    }

    /// Bytes without any order.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    /// Source: RFC 7692 §7.2.3.
    #[test]
    fn examples_of_the_specification_are_read() {
        for example in [
            &b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..],
            b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
            b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
            b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        ] {
            assert_eq!(inflate(example, 5).as_deref(), Ok(&b"Hello"[..]), "{example:x?}");
        }
        assert_eq!(inflate(b"\x00", 0).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn every_level_and_length_comes_back() {
        let (mut deflater, mut inflater, mut out) = (Deflater::default(), Inflater::default(), Vec::new());
        for level in 1..=9 {
            for len in [100, 1000, 40_000, 300_000] {
                let message: Vec<u8> = (0..len).map(|at| b"{\"value\":[1,2,3]}"[at * at % 17]).collect();
                assert!(deflater.deflate(level, &message, &mut out), "{level} {len}");
                assert!(out.len() < message.len() / 2);
                assert!(inflater.inflate(&out, len).as_deref() == Ok(&message), "{level} {len}");
            }
        }
    }

    #[test]
    fn what_does_not_become_shorter_is_not_deflated() {
        let (mut deflater, mut out) = (Deflater::default(), Vec::new());
        for message in [&b""[..], b"{}", b"\x00", &noise(10), &noise(5000), &noise(100_000)] {
            for level in 0..=9 {
                assert!(!deflater.deflate(level, message, &mut out), "{level} {}", message.len());
            }
        }
        assert!(!deflater.deflate(0, &[b'a'; 1000], &mut out));
        // The refused ones left nothing behind.
        assert!(deflater.deflate(1, &[b'a'; 1000], &mut out));
        assert_eq!(inflate(&out, 1000), Ok(vec![b'a'; 1000]));
    }

    #[test]
    fn broken_messages_are_refused() {
        let (mut deflater, mut whole) = (Deflater::default(), Vec::new());
        assert!(deflater.deflate(6, "some text, some text again, some other text".as_bytes(), &mut whole));
        // Copies from before its begin.
        let reaches_back = b"\x4a\x04\xa1\x00";
        for broken in [&b""[..], b"\xff\xff\xff\xff", b"\x06", reaches_back, &whole[..whole.len() / 2]] {
            assert_eq!(inflate(broken, 1000), Err(ProtocolError::Deflate), "{broken:x?}");
        }
    }

    #[test]
    fn what_inflates_beyond_the_limit_is_given_up_without_taking_the_memory() {
        let (mut deflater, mut bomb) = (Deflater::default(), Vec::new());
        assert!(deflater.deflate(9, &vec![b'a'; 10 << 20], &mut bomb) && bomb.len() < 11_000);
        let mut inflater = Inflater::default();
        for bytes_max in [0, 1000, 4096, 100_000] {
            assert_eq!(inflater.inflate(&bomb, bytes_max).err(), Some(ProtocolError::TooBigInflated));
            assert!(inflater.inflated.capacity() <= (2 * bytes_max).max(INFLATED_BYTES_MIN));
        }
        assert_eq!(inflater.inflate(&bomb, 10 << 20).map(<[u8]>::len), Ok(10 << 20));
        inflater.tidy();
        assert!(inflater.inflated.capacity() <= KEPT_BYTES_MAX);
    }

    #[test]
    fn nothing_is_held_before_the_first_message() {
        assert!(Inflater::default().stream.is_none() && Deflater::default().streams.iter().all(Option::is_none));
    }
}
