//! A response without end, taken apart as it comes: head, chunks, and in them lines, lengths or events.

use memchr::{memchr, memrchr};
use ringcast_proto::client::Encoding;
use ringcast_proto::http::{ChunkedDecoder, HttpError, Limits, parse_response};

use crate::scan;

/// Largest message, and largest head.
const PENDING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What stands between messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A newline behind each in JSON, its length before each in Protobuf.
    Messages(Encoding),
    /// Server-sent events: each line of data is a message.
    Events,
}

/// The response to one client.
pub struct Stream {
    framing: Framing,
    state: State,
    /// Start of the head, or of a message. Bound: [`PENDING_BYTES_MAX`].
    pending: Vec<u8>,
}

enum State {
    Head,
    Chunked(ChunkedDecoder),
    /// Up to the end of the connection.
    Plain,
}

impl Stream {
    /// One that has not begun.
    pub fn new(framing: Framing) -> Self {
        Self { framing, state: State::Head, pending: Vec::new() }
    }

    /// Whether the head has come.
    pub fn has_begun(&self) -> bool {
        !matches!(self.state, State::Head)
    }

    /// Whether the response is over, whatever becomes of the connection.
    pub fn has_ended(&self) -> bool {
        matches!(&self.state, State::Chunked(decoder) if decoder.is_done())
    }

    /// Puts the whole messages that `bytes` end into `body`, in place of what is there; they are told apart by [`Self::frames`].
    pub fn take(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<(), String> {
        body.clear();
        if self.has_begun() {
            body.append(&mut self.pending);
            self.decode(bytes, body)?;
        } else {
            self.pending.extend_from_slice(bytes);
            let Some(length) = self.begin()? else { return Ok(()) };
            let bytes = std::mem::take(&mut self.pending);
            self.decode(&bytes[length..], body)?;
        }
        let whole = self.framing.whole(body);
        self.pending.extend_from_slice(&body[whole..]);
        body.truncate(whole);
        if self.pending.len() > PENDING_BYTES_MAX { Err("endless message".to_owned()) } else { Ok(()) }
    }

    /// What is handed over together: all messages, or those of one event after the other.
    pub fn frames(framing: Framing, body: &[u8]) -> impl Iterator<Item = &[u8]> {
        let mut rest = body;
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                if framing != Framing::Events {
                    return Some(std::mem::take(&mut rest));
                }
                let end = memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
                let (line, after) = rest.split_at(end);
                rest = after;
                if let Some(data) = line.trim_ascii_end().strip_prefix(b"data:") {
                    return Some(data.strip_prefix(b" ").unwrap_or(data));
                }
            }
            None
        })
    }

    /// How its messages stand.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Length of the head, once it is whole.
    fn begin(&mut self) -> Result<Option<usize>, String> {
        let Some((head, length)) = parse_response(&self.pending, &Limits::default()).map_err(told)? else {
            return Ok(None);
        };
        if head.status() != 200 {
            let body = String::from_utf8_lossy(&self.pending[length..]);
            let body: String = body.chars().take(200).collect();
            return Err(format!("the stream was answered with {} {body}", head.status()).trim_end().to_owned());
        }
        let is_chunked = head.headers("transfer-encoding").any(|value| value.eq_ignore_ascii_case(b"chunked"));
        self.state = if is_chunked { State::Chunked(ChunkedDecoder::new(usize::MAX)) } else { State::Plain };
        Ok(Some(length))
    }

    fn decode(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<(), String> {
        match &mut self.state {
            State::Head => {}
            State::Plain => body.extend_from_slice(bytes),
            State::Chunked(decoder) => {
                decoder.decode(bytes, body).map_err(told)?;
            }
        }
        Ok(())
    }
}

impl Framing {
    /// Length of the messages in `body` that are whole.
    fn whole(self, body: &[u8]) -> usize {
        match self {
            Self::Messages(Encoding::Protobuf) => scan::whole(body),
            Self::Messages(Encoding::Json) | Self::Events => memrchr(b'\n', body).map_or(0, |newline| newline + 1),
        }
    }
}

fn told(error: HttpError) -> String {
    format!("response of the stream: {}", error.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// The messages, however the response is cut.
    #[track_caller]
    fn check(framing: Framing, response: &[u8], want: &[&str]) {
        for step in [1, 2, 3, 7, response.len()] {
            let (mut stream, mut body, mut got) = (Stream::new(framing), Vec::new(), Vec::new());
            for part in response.chunks(step) {
                stream.take(part, &mut body).expect("a sound response");
                for frame in Stream::frames(framing, &body) {
                    let encoding = if let Framing::Messages(encoding) = framing { encoding } else { Encoding::Json };
                    let messages = scan::Messages::of(encoding, frame);
                    got.extend(messages.map(|message| message.expect("sound messages").escape_ascii().to_string()));
                }
            }
            assert_eq!(got, want, "{step}");
        }
    }

    fn chunked(chunks: &[&[u8]]) -> Vec<u8> {
        let mut response = HEAD.as_bytes().to_vec();
        for chunk in chunks {
            response.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            response.extend_from_slice(chunk);
            response.extend_from_slice(b"\r\n");
        }
        response
    }

    #[test]
    fn messages_are_found_across_chunks_and_reads() {
        let json = Framing::Messages(Encoding::Json);
        check(json, &chunked(&[b"{\"id\":1}\n{\"a", b"\":2}\n", b"{}"]), &["{\\\"id\\\":1}", "{\\\"a\\\":2}"]);
        check(json, b"HTTP/1.1 200 OK\r\n\r\n{}\n[]\n", &["{}", "[]"]);
        let protobuf = Framing::Messages(Encoding::Protobuf);
        check(protobuf, &chunked(&[b"\x03ab", b"c\0\x02a"]), &["\\x03abc", "\\x00"]);
        let events = chunked(&[b"\r\n", b"data: {}\n\nda", b"ta:[]\r\n\r\n: comment\nevent: x\ndata: 1\n", b"data: 2"]);
        check(Framing::Events, &events, &["{}", "[]", "1"]);
    }

    #[test]
    fn refusals_are_told_with_their_status_and_words() {
        let mut stream = Stream::new(Framing::Events);
        let refused = stream.take(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nno\n", &mut Vec::new());
        assert_eq!(refused, Err("the stream was answered with 400 no".to_owned()));
    }

    #[test]
    fn last_chunk_ends_the_response() {
        let mut stream = Stream::new(Framing::Events);
        let taken = stream.take(&[HEAD.as_bytes(), b"0\r\n\r\n"].concat(), &mut Vec::new());
        assert!(taken.is_ok() && stream.has_ended());
    }
}
