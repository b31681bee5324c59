//! Bodies of unknown length, sent in chunks. Source: RFC 9112 §7.1.

use super::HttpError;

/// Longest size line, extensions included, and longest trailer section.
const LINE_BYTES_MAX: usize = 256;
const TRAILER_BYTES_MAX: usize = 4096;

/// Ends a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends one chunk; nothing for no content, which would end the body.
pub fn write_chunk(out: &mut Vec<u8>, content: &[u8]) {
    if !content.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", content.len()).as_bytes());
        out.extend_from_slice(content);
        out.extend_from_slice(b"\r\n");
    }
}

/// Takes a chunked body apart, as it comes.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Bound of the body.
    body_bytes_max: usize,
    /// Bytes of the body so far.
    body_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size.
    Size {
        size: usize,
        digits: u8,
    },
    /// Behind the digits, up to the CR.
    Extension {
        size: usize,
        bytes: usize,
    },
    /// Behind the CR of a size line.
    SizeEnd {
        size: usize,
    },
    Data {
        missing: usize,
    },
    /// Behind the data of a chunk.
    DataCr,
    DataLf,
    /// In the trailers. `line_bytes` of the current line came.
    Trailer {
        bytes: usize,
        line_bytes: usize,
    },
    TrailerLf {
        bytes: usize,
        last: bool,
    },
    Done,
}

impl ChunkedDecoder {
    /// Bodies of more than `body_bytes_max` bytes are refused with 413.
    #[must_use]
    pub fn new(body_bytes_max: usize) -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, body_bytes_max, body_bytes: 0 }
    }

    /// Decodes `input` up to the end of the body and appends its data to `body`. Gives the number of bytes used: fewer than
    /// there are only when the body has ended.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, HttpError> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if let State::Data { missing } = self.state {
                let data = &input[at..at + missing.min(input.len() - at)];
                body.extend_from_slice(data);
                at += data.len();
                self.state = match missing - data.len() {
                    0 => State::DataCr,
                    missing => State::Data { missing },
                };
            } else {
                self.state = self.next_state(input[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn next_state(&mut self, byte: u8) -> Result<State, HttpError> {
        let bad = |reason| Err(HttpError::bad(reason));
        Ok(match (self.state, byte) {
            (State::Size { digits: 1.., size }, b'\r') => State::SizeEnd { size },
            (State::Size { digits: 1.., size }, b';') => State::Extension { size, bytes: 0 },
            (State::Size { size, digits }, byte) => add_digit(size, digits, byte)?,
            (State::Extension { size, .. }, b'\r') => State::SizeEnd { size },
            (State::Extension { bytes: LINE_BYTES_MAX.., .. }, _) => return bad("chunk extension too long"),
            (State::Extension { .. }, 0..=0x08 | 0x0a..=0x1f | 0x7f) => {
                return bad("control character in a chunk extension");
            }
            (State::Extension { size, bytes }, _) => State::Extension { size, bytes: bytes + 1 },
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailer { bytes: 0, line_bytes: 0 },
            (State::SizeEnd { size }, b'\n') => self.begin_data(size)?,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::Trailer { bytes: TRAILER_BYTES_MAX.., .. }, _) => {
                return Err(HttpError::new(431, "trailers too long"));
            }
            (State::Trailer { bytes, line_bytes }, b'\r') => {
                State::TrailerLf { bytes: bytes + 1, last: line_bytes == 0 }
            }
            (State::Trailer { .. }, 0..=0x08 | 0x0a..=0x1f | 0x7f) => {
                return bad("control character in a trailer");
            }
            (State::Trailer { bytes, line_bytes }, _) => {
                State::Trailer { bytes: bytes + 1, line_bytes: line_bytes + 1 }
            }
            (State::TrailerLf { last: true, .. }, b'\n') => State::Done,
            (State::TrailerLf { bytes, last: false }, b'\n') => State::Trailer { bytes: bytes + 1, line_bytes: 0 },
            _ => return bad("bad line end in a chunked body"),
        })
    }

    fn begin_data(&mut self, size: usize) -> Result<State, HttpError> {
        if size > self.body_bytes_max - self.body_bytes {
            return Err(HttpError::new(413, "body over the size limit"));
        }
        self.body_bytes += size;
        Ok(State::Data { missing: size })
    }
}

/// Sixteen digits hold every size there is; leading zeros beyond that are refused too.
fn add_digit(size: usize, digits: u8, byte: u8) -> Result<State, HttpError> {
    match (byte as char).to_digit(16) {
        Some(digit) if digits < 16 => Ok(State::Size { size: size << 4 | digit as usize, digits: digits + 1 }),
        _ => Err(HttpError::bad("bad chunk size")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 64;

    /// Decodes in one piece and byte by byte; both must agree. Gives the body and what is left over.
    #[track_caller]
    fn check(input: &str, want: Result<(&str, &str), u16>) {
        let whole = decode(input.as_bytes(), input.len().max(1));
        assert_eq!(whole, want.map(|(body, rest)| (body.to_owned(), rest.to_owned())), "{input:?}");
        for step in 1..input.len().min(8) {
            assert_eq!(decode(input.as_bytes(), step), whole, "{input:?} in steps of {step}");
        }
    }

    fn decode(input: &[u8], step: usize) -> Result<(String, String), u16> {
        let mut decoder = ChunkedDecoder::new(LIMIT);
        let (mut body, mut at) = (Vec::new(), 0);
        for piece in input.chunks(step) {
            at += decoder.decode(piece, &mut body).map_err(|error| error.status)?;
        }
        let rest = if decoder.is_done() { &input[at..] } else { b"unfinished" };
        Ok((String::from_utf8(body).unwrap(), String::from_utf8(rest.to_vec()).unwrap()))
    }

    #[test]
    fn bodies_are_put_together() {
        check("0\r\n\r\n", Ok(("", "")));
        check("5\r\nhello\r\n0\r\n\r\nGET", Ok(("hello", "GET")));
        check("1\r\na\r\n00A\r\n0123456789\r\n0\r\n\r\n", Ok(("a0123456789", "")));
        check("2;name=value\r\nhi\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n", Ok(("hi", "")));
        check("40\r\n", Ok(("", "unfinished")));
        check("5\r\nhel", Ok(("hel", "unfinished")));
    }

    #[test]
    fn anything_two_readers_could_take_differently_is_refused() {
        for input in [
            "\r\n",
            ";\r\n",
            " 5\r\nhello",
            "-1\r\n",
            "0 3\r\nabc",
            "5 \r\nhello",
            "+1\r\na",
            "0x5\r\nhello",
            "5 5\n",
            "5\nhello",
            "5\r\rhello",
            "g\r\n",
            "5\r\nhelloX",
            "5\r\nhello\n0",
            "5\r\nhello\r0",
            "0\r\n\n",
            "0\r\nA: b\n\r\n",
            "1;\nx",
            "1;\u{1}\r\n",
            "0\r\nA\u{0}: b\r\n\r\n",
            "00000000000000001\r\na\r\n0\r\n\r\n",
            "fffffffffffffffff\r\n",
        ] {
            check(input, Err(400));
        }
    }

    #[test]
    fn everything_is_bounded() {
        check("41\r\n", Err(413));
        check("ffffffffffffffff\r\n", Err(413));
        let chunk = |length: usize| format!("{length:x}\r\n{}\r\n", "a".repeat(length));
        check(&(chunk(32) + "21\r\n"), Err(413));
        check(&(chunk(32) + &chunk(16) + "11\r\n"), Err(413));
        check(&(chunk(32) + &chunk(16) + &chunk(16) + "0\r\n\r\n"), Ok((&"a".repeat(LIMIT), "")));
        check(&("1;".to_owned() + &"x".repeat(LINE_BYTES_MAX + 1)), Err(400));
        check(&("0\r\n".to_owned() + &"A: b\r\n".repeat(1000)), Err(431));
    }
}
