//! Makes one frame of several: the messages of one connection that leave together.

use super::header::{Opcode, encode_header, parse_len};

/// First byte of a whole frame with text.
const TEXT: u8 = 0x80 | Opcode::Text as u8;
/// First byte of a whole frame with bytes.
const BINARY: u8 = 0x80 | Opcode::Binary as u8;

/// Appends whole, unmasked frames, of which each element of `encoded` holds one or more, so that up to `messages_max`
/// neighbours of one kind share a frame: text is joined by line feeds, binary messages carry their length. Control frames
/// and those with reserved bits stay as they are.
pub fn merge_frames<'a>(encoded: impl Iterator<Item = &'a [u8]> + Clone, messages_max: usize, out: &mut Vec<u8>) {
    let mut frames = encoded.flat_map(|bytes| Frames { bytes });
    while let Some(first) = frames.clone().next() {
        let alike =
            frames.clone().take(messages_max).take_while(|frame| frame.is_message() && frame.kind == first.kind);
        let (count, bytes) = alike.fold((0, 0), |(count, bytes), frame| (count + 1, bytes + frame.payload.len()));
        if count < 2 {
            out.extend_from_slice(first.whole);
            frames.next();
            continue;
        }
        let is_text = first.kind == TEXT;
        let opcode = if is_text { Opcode::Text } else { Opcode::Binary };
        encode_header(out, opcode, bytes + if is_text { count - 1 } else { 0 });
        for (number, frame) in frames.by_ref().take(count).enumerate() {
            if is_text && number > 0 {
                out.push(b'\n');
            }
            out.extend_from_slice(frame.payload);
        }
    }
}

/// Cuts frames apart.
#[derive(Clone)]
struct Frames<'a> {
    bytes: &'a [u8],
}

struct Frame<'a> {
    /// Its first byte.
    kind: u8,
    whole: &'a [u8],
    payload: &'a [u8],
}

impl Frame<'_> {
    fn is_message(&self) -> bool {
        matches!(self.kind, TEXT | BINARY)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let kind = *self.bytes.first()?;
        let (whole, payload) = split(self.bytes).unwrap_or((self.bytes, &[]));
        self.bytes = &self.bytes[whole.len()..];
        Some(Frame { kind, whole, payload })
    }
}

/// The first frame and its payload; `None` when there is no whole one.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let short_len = bytes.get(1)? & 0x7f;
    let (payload_len, header_len) = parse_len(&bytes[2..], short_len).ok().flatten()?;
    let whole = bytes.get(..header_len.checked_add(usize::try_from(payload_len).ok()?)?)?;
    Some((whole, &whole[header_len..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::encode_frame;

    /// Encodes frames, `t` for text, `b` for bytes, `p` for a ping; a `+` glues one to the bytes of the one before.
    fn encoded(frames: &str) -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = Vec::new();
        for frame in frames.split(' ').filter(|frame| !frame.is_empty()) {
            let (is_glued, frame) = frame.strip_prefix('+').map_or((false, frame), |rest| (true, rest));
            let (kind, payload) = frame.split_at(1);
            let opcode = match kind {
                "t" => Opcode::Text,
                "b" => Opcode::Binary,
                _ => Opcode::Ping,
            };
            if !is_glued {
                all.push(Vec::new());
            }
            encode_frame(all.last_mut().unwrap(), opcode, payload.as_bytes());
        }
        all
    }

    #[track_caller]
    fn check(messages_max: usize, frames: &str, want: &str) {
        let mut out = Vec::new();
        merge_frames(encoded(frames).iter().map(Vec::as_slice), messages_max, &mut out);
        let want = encoded(want).concat();
        // The line feed stands for itself in neither of the two.
        let want: Vec<u8> = want.iter().map(|byte| if *byte == b'|' { b'\n' } else { *byte }).collect();
        assert_eq!(out, want, "{messages_max} {frames}");
    }

    #[test]
    fn neighbours_of_one_kind_share_a_frame() {
        check(16, "", "");
        check(16, "tone", "tone");
        check(16, "tone ttwo tthree", "tone|two|three");
        check(16, "bone btwo", "bonetwo");
        check(16, "tone bx by ttwo", "tone bxy ttwo");
    }

    #[test]
    fn frames_in_one_piece_are_cut_apart() {
        check(16, "tone +ttwo tthree +tfour", "tone|two|three|four");
        check(2, "tone +ttwo +tthree", "tone|two tthree");
    }

    #[test]
    fn no_frame_has_more_messages_than_allowed() {
        check(2, "ta tb tc td te", "ta|b tc|d te");
        check(1, "ta +tb tc", "ta tb tc");
        check(usize::MAX, "ta tb tc", "ta|b|c");
    }

    #[test]
    fn control_frames_stay_apart() {
        check(16, "ta tb p p tc td", "ta|b p p tc|d");
    }

    #[test]
    fn compressed_frame_stays_as_it_is() {
        let mut compressed = encoded("tpacked").concat();
        compressed[0] |= 0x40;
        let frames = [encoded("ta").concat(), compressed.clone(), compressed.clone(), encoded("tb").concat()];
        let mut out = Vec::new();
        merge_frames(frames.iter().map(Vec::as_slice), 16, &mut out);
        assert_eq!(out, frames.concat());
    }

    #[test]
    fn lengths_of_all_sizes_are_read_and_written() {
        for lengths in [[100, 20], [200, 70_000], [65_535, 1], [0, 0]] {
            let frames: Vec<Vec<u8>> =
                lengths.map(|length| encoded(&format!("b{}", "x".repeat(length))).concat()).into();
            let mut out = Vec::new();
            merge_frames(frames.iter().map(Vec::as_slice), 16, &mut out);
            let want = encoded(&format!("b{}", "x".repeat(lengths.iter().sum()))).concat();
            assert!(out == want, "{lengths:?}");
        }
    }
}
