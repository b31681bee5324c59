//! What a publication of the bench carries: who published it, its place in that publisher's sequence and when it was sent.
//!
//! A payload is a JSON object of an exact size, the same for every publication of a run. Its numbers have fixed widths at
//! fixed places, so that a template is stamped in place and a received one is read without decoding JSON:
//!
//! ```text
//! {"bench":"ppp.ssssssssss.tttttttttttttttt","pad":"xxx"}
//! ```

use memchr::memmem;

/// Smallest payload that holds the numbers, bytes.
pub const PAYLOAD_BYTES_MIN: usize = OPEN.len() + NUMBERS + MIDDLE.len() + CLOSE.len();

/// Largest payload; the protocol's default limit of one message is 64 KiB.
pub const PAYLOAD_BYTES_MAX: usize = 60 * 1024;

/// Publishers of one run: three digits.
pub const PUBLISHERS_MAX: usize = 1000;

const OPEN: &[u8] = br#"{"bench":""#;
const MIDDLE: &[u8] = br#"","pad":""#;
const CLOSE: &[u8] = br#""}"#;

const PUBLISHER_DIGITS: usize = 3;
const SEQUENCE_DIGITS: usize = 10;
const SENT_DIGITS: usize = 16;
const NUMBERS: usize = PUBLISHER_DIGITS + 1 + SEQUENCE_DIGITS + 1 + SENT_DIGITS;

/// The numbers of one publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Index of the publisher, below [`PUBLISHERS_MAX`].
    pub publisher: u16,
    /// Counts this publisher's publications from 0.
    pub sequence: u32,
    /// When it was due to be sent, nanoseconds since the start of the run.
    pub sent_ns: u64,
}

/// A payload of `bytes` bytes with all numbers zero, to be stamped with [`stamp`].
///
/// `bytes` is between [`PAYLOAD_BYTES_MIN`] and [`PAYLOAD_BYTES_MAX`]; the command line refuses others.
pub fn template(bytes: usize) -> Vec<u8> {
    assert!((PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&bytes));
    let zero = Stamp { publisher: 0, sequence: 0, sent_ns: 0 };
    let mut payload = OPEN.to_vec();
    payload.resize(OPEN.len() + NUMBERS, b'.');
    payload.extend_from_slice(MIDDLE);
    payload.resize(bytes - CLOSE.len(), b'x');
    payload.extend_from_slice(CLOSE);
    stamp(&mut payload, zero);
    payload
}

/// Writes the numbers into a payload made by [`template`].
pub fn stamp(payload: &mut [u8], stamp: Stamp) {
    let numbers = &mut payload[OPEN.len()..OPEN.len() + NUMBERS];
    let (publisher, rest) = numbers.split_at_mut(PUBLISHER_DIGITS);
    let (sequence, sent) = rest[1..].split_at_mut(SEQUENCE_DIGITS);
    write_digits(publisher, u64::from(stamp.publisher));
    write_digits(sequence, u64::from(stamp.sequence));
    write_digits(&mut sent[1..], stamp.sent_ns);
}

/// What [`Reader::read`] found in a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole payload.
    Stamp(Stamp),
    /// A payload of ours that is cut or changed.
    Corrupt,
    /// No payload of ours: some other message.
    Nothing,
}

/// Finds the payload in received messages. Remembers where the last one stood: all messages of a channel look alike.
pub struct Reader {
    /// What follows the numbers in every payload.
    tail: Vec<u8>,
    payload_bytes: usize,
    finder: memmem::Finder<'static>,
    likely_at: usize,
}

impl Reader {
    /// For payloads of exactly `payload_bytes` bytes.
    pub fn new(payload_bytes: usize) -> Self {
        Self {
            tail: template(payload_bytes).split_off(OPEN.len() + NUMBERS),
            payload_bytes,
            finder: memmem::Finder::new(OPEN),
            likely_at: 0,
        }
    }

    /// Reads the one payload of a message.
    pub fn read(&mut self, message: &[u8]) -> Found {
        if !message.get(self.likely_at..).is_some_and(|rest| rest.starts_with(OPEN)) {
            match self.finder.find(message) {
                Some(at) => self.likely_at = at,
                None => return Found::Nothing,
            }
        }
        let payload = message.get(self.likely_at..).and_then(|rest| rest.get(..self.payload_bytes));
        match payload.and_then(|payload| parse(payload, &self.tail)) {
            Some(stamp) => Found::Stamp(stamp),
            None => Found::Corrupt,
        }
    }
}

fn parse(payload: &[u8], tail: &[u8]) -> Option<Stamp> {
    let numbers = payload.strip_prefix(OPEN)?.strip_suffix(tail)?;
    if numbers.len() != NUMBERS {
        return None;
    }
    let (publisher, numbers) = numbers.split_at(PUBLISHER_DIGITS);
    let (sequence, sent) = numbers.strip_prefix(b".")?.split_at(SEQUENCE_DIGITS);
    let publisher = u16::try_from(read_digits(publisher)?).ok()?;
    let sequence = u32::try_from(read_digits(sequence)?).ok()?;
    let sent_ns = read_digits(sent.strip_prefix(b".")?)?;
    Some(Stamp { publisher, sequence, sent_ns })
}

/// Publisher and sequence in a payload that is known to be whole; `None` where they are no digits.
pub fn place(payload: &[u8]) -> Option<(usize, u32)> {
    let numbers = payload.get(OPEN.len()..)?;
    let publisher = read_digits(numbers.get(..PUBLISHER_DIGITS)?)?;
    let sequence = read_digits(numbers.get(PUBLISHER_DIGITS + 1..)?.get(..SEQUENCE_DIGITS)?)?;
    Some((publisher as usize, u32::try_from(sequence).ok()?))
}

/// Writes `value` with leading zeros over all of `out`; digits beyond the width are lost.
pub fn write_digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// At most 16 digits, so the sum cannot overflow.
fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { publisher: 15, sequence: 4_294_967_295, sent_ns: 1_234_567_890_123_456 };

    fn payload(bytes: usize) -> Vec<u8> {
        let mut payload = template(bytes);
        stamp(&mut payload, STAMP);
        payload
    }

    #[track_caller]
    fn check(message: &[u8], want: Found) {
        assert_eq!(Reader::new(128).read(message), want, "{}", message.escape_ascii());
    }

    #[test]
    fn payload_is_json_of_the_exact_size() {
        for bytes in [PAYLOAD_BYTES_MIN, 53, 128, 1000, PAYLOAD_BYTES_MAX] {
            let payload = payload(bytes);
            assert_eq!(payload.len(), bytes);
            serde_json::from_slice::<serde_json::Value>(&payload).expect("payload is JSON");
        }
    }

    #[test]
    fn stamp_is_read_back_wherever_it_stands() {
        let mut reader = Reader::new(128);
        for before in ["", "{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":", "{"] {
            let message = [before.as_bytes(), &payload(128), b"}}}"].concat();
            assert_eq!(reader.read(&message), Found::Stamp(STAMP), "{before}");
        }
    }

    #[test]
    fn other_messages_hold_nothing() {
        for message in ["", "{}", r#"{"id":1,"subscribe":{}}"#, r#"{"bench":1}"#] {
            check(message.as_bytes(), Found::Nothing);
        }
    }

    #[test]
    fn place_is_read_alone() {
        assert_eq!(place(&payload(128)), Some((15, 4_294_967_295)));
        assert_eq!(place(b"{}"), None);
    }

    #[test]
    fn changed_payload_is_corrupt() {
        let whole = payload(128);
        check(&whole[..127], Found::Corrupt);
        check(&payload(127), Found::Corrupt);
        check(&payload(129), Found::Corrupt);
        for at in [10, 13, 24, 40, 41, 60, 126, 127] {
            let mut payload = whole.clone();
            payload[at] = b'?';
            check(&payload, Found::Corrupt);
        }
    }
}
