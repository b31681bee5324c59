//! Operations of the core protocol, text lines of which two carry a payload.

use crate::DecodeError;
use bytes::{Buf as _, Bytes, BytesMut};

/// Longest line that is taken; an `INFO` names all servers of a cluster.
const LINE_BYTES_MAX: usize = 256 << 10;

/// Longest payload that is taken: what a server can be configured to allow.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// About itself: an object of JSON.
    Info(Bytes),
    /// Somebody published.
    Message {
        /// Number of the subscription.
        sid: u64,
        /// Where it was published.
        subject: Bytes,
        /// What.
        payload: Bytes,
    },
    /// Is somebody there?
    Ping,
    /// Everything before the ping was carried out.
    Pong,
    /// Only to those who want to hear it.
    Ok,
    /// What it does not like.
    Error(Bytes),
}

/// Finds operations in a stream of bytes. A payload that comes in many pieces is looked at once.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of the buffer in which no line ends.
    seen: usize,
    /// A message of which the payload is awaited.
    open: Option<Head>,
}

#[derive(Debug)]
struct Head {
    sid: u64,
    subject: Bytes,
    length: usize,
}

enum Line {
    Whole(Operation),
    Head(Head),
}

const MALFORMED: DecodeError = DecodeError::new("not an operation of NATS", 0);

impl Decoder {
    /// The next operation, once all of it is there; its bytes are taken from the buffer. After an error nothing that follows is
    /// to be understood.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Operation>, DecodeError> {
        if self.open.is_none() {
            let Some(line) = self.line(buffer)? else { return Ok(None) };
            match read_line(&line)? {
                Line::Whole(operation) => return Ok(Some(operation)),
                Line::Head(head) => self.open = Some(head),
            }
        }
        let Some(Head { sid, subject, length }) = self.open.take_if(|head| buffer.len() >= head.length + 2) else {
            return Ok(None);
        };
        let payload = buffer.split_to(length).freeze();
        if !buffer.starts_with(b"\r\n") {
            return Err(MALFORMED);
        }
        buffer.advance(2);
        Ok(Some(Operation::Message { sid, subject, payload }))
    }

    /// The next line, without its end.
    fn line(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, DecodeError> {
        match memchr::memchr(b'\n', &buffer[self.seen..]) {
            None if buffer.len() > LINE_BYTES_MAX => Err(DecodeError::new("line of NATS too long", LINE_BYTES_MAX)),
            None => {
                self.seen = buffer.len();
                Ok(None)
            }
            Some(at) if self.seen + at > LINE_BYTES_MAX => {
                Err(DecodeError::new("line of NATS too long", LINE_BYTES_MAX))
            }
            Some(at) => {
                let mut line = buffer.split_to(self.seen + at + 1).freeze();
                self.seen = 0;
                line.truncate(line.len() - 1);
                if line.ends_with(b"\r") {
                    line.truncate(line.len() - 1);
                }
                Ok(Some(line))
            }
        }
    }
}

fn read_line(line: &Bytes) -> Result<Line, DecodeError> {
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let rest = || line.slice_ref(line[end..].trim_ascii());
    let operation = match line[..end].to_ascii_uppercase().as_slice() {
        b"MSG" => return message_head(&rest()).map(Line::Head),
        b"PING" => Operation::Ping,
        b"PONG" => Operation::Pong,
        b"+OK" => Operation::Ok,
        b"-ERR" => Operation::Error(unquoted(rest())),
        b"INFO" => Operation::Info(rest()),
        _ => return Err(MALFORMED),
    };
    Ok(Line::Whole(operation))
}

/// `subject sid [reply] length`
fn message_head(rest: &Bytes) -> Result<Head, DecodeError> {
    let mut words = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (subject, sid) = (words.next().ok_or(MALFORMED)?, words.next().and_then(number).ok_or(MALFORMED)?);
    let (third, fourth) = (words.next().ok_or(MALFORMED)?, words.next());
    let length = number(fourth.unwrap_or(third)).and_then(|length| usize::try_from(length).ok()).ok_or(MALFORMED)?;
    if length > PAYLOAD_BYTES_MAX || words.next().is_some() {
        return Err(MALFORMED);
    }
    Ok(Head { sid, subject: rest.slice_ref(subject), length })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

fn unquoted(text: Bytes) -> Bytes {
    let inside = text.strip_prefix(b"'").and_then(|text| text.strip_suffix(b"'"));
    inside.map_or_else(|| text.clone(), |inside| text.slice_ref(inside))
}

/// Who we are: an object of JSON in one line.
pub fn write_connect(options: &str, out: &mut Vec<u8>) {
    line(&[b"CONNECT", options.as_bytes()], out);
}

/// Asks for a pong.
pub fn write_ping(out: &mut Vec<u8>) {
    line(&[b"PING"], out);
}

/// Answers a ping.
pub fn write_pong(out: &mut Vec<u8>) {
    line(&[b"PONG"], out);
}

/// Messages on a subject come under the number from now on. The subject must be one of [`Subjects`](super::Subjects).
pub fn write_subscribe(subject: &str, sid: u64, out: &mut Vec<u8>) {
    line(&[b"SUB", subject.as_bytes(), itoa::Buffer::new().format(sid).as_bytes()], out);
}

/// They come no more.
pub fn write_unsubscribe(sid: u64, out: &mut Vec<u8>) {
    line(&[b"UNSUB", itoa::Buffer::new().format(sid).as_bytes()], out);
}

/// Publishes. The subject must be one of [`Subjects`](super::Subjects).
pub fn write_publish(subject: &str, payload: &[u8], out: &mut Vec<u8>) {
    line(&[b"PUB", subject.as_bytes(), itoa::Buffer::new().format(payload.len()).as_bytes()], out);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

fn line(words: &[&[u8]], out: &mut Vec<u8>) {
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], piece: usize) -> Result<Vec<Operation>, DecodeError> {
        let (mut decoder, mut buffer, mut operations) = (Decoder::default(), BytesMut::new(), Vec::new());
        for piece in text.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(operation) = decoder.decode(&mut buffer)? {
                operations.push(operation);
            }
        }
        Ok(operations)
    }

    fn message(sid: u64, subject: &'static str, payload: &'static str) -> Operation {
        Operation::Message { sid, subject: subject.into(), payload: payload.into() }
    }

    /// E07
    #[test]
    fn operations_are_found_however_they_are_cut() {
        let text =
            b"INFO {\"max_payload\":1} \r\nMSG a.b 7 3\r\n1\r\n\r\nPING\r\nmsg c 8 reply.to 0\r\n\r\n+OK\r\nPONG\r\n\
            -ERR 'Stale Connection'\r\n";
        let want = [
            Operation::Info("{\"max_payload\":1}".into()),
            message(7, "a.b", "1\r\n"),
            Operation::Ping,
            message(8, "c", ""),
            Operation::Ok,
            Operation::Pong,
            Operation::Error("Stale Connection".into()),
        ];
        for piece in [1, 2, 3, 7, text.len()] {
            assert_eq!(read(text, piece).as_deref(), Ok(&want[..]), "in pieces of {piece}");
        }
    }

    /// E07
    #[test]
    fn what_is_no_operation_is_refused() {
        for bad in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            "MSG a 1\r\n",
            "MSG a x 1\r\n",
            "MSG a 1 +1\r\n",
            "MSG a 1 b 2 3\r\n",
            "MSG a 1 99999999999\r\n",
            "MSG a 1 1\r\n123",
        ] {
            assert!(read(bad.as_bytes(), bad.len()).is_err(), "{bad:?}");
        }
        assert!(read(&vec![b'a'; LINE_BYTES_MAX + 1], 4096).is_err());
    }

    /// E07
    #[test]
    fn operations_are_written() {
        let mut out = Vec::new();
        write_connect("{}", &mut out);
        write_subscribe("a.*", 3, &mut out);
        write_publish("a.b", b"x\r\n", &mut out);
        write_unsubscribe(3, &mut out);
        write_ping(&mut out);
        write_pong(&mut out);
        let want = "CONNECT {}\r\nSUB a.* 3\r\nPUB a.b 3\r\nx\r\n\r\nUNSUB 3\r\nPING\r\nPONG\r\n";
        assert_eq!(String::from_utf8_lossy(&out), want);
    }
}
