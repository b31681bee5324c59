//! Cuts the bytes of a peer into messages.

use super::header::{self, CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Header, Opcode};
use super::{Event, Inflater, ProtocolError, Role, mask};
use std::num::NonZeroU32;
use std::ops::ControlFlow;

/// What a byte of a deflated message may become beyond the limit of plain ones, where that is in proportion.
const INFLATION_MAX: usize = 4;

/// Decodes what one peer sends.
///
/// Between messages it holds nothing on the heap. Whole messages are handed out from the input itself; only what an input
/// leaves unfinished is copied.
pub struct Decoder {
    role: Role,
    closed: bool,
    /// Bound of a message as it comes, config key `websocket.message_size_limit`.
    message_bytes_max: u32,
    /// An inflated message is bound by what it took, too.
    is_proportionate: bool,
    /// Bound of an inflated message, config key `websocket.decompressed_message_size_limit`; `None` when none may be deflated.
    inflated_bytes_max: Option<NonZeroU32>,
    unfinished: Option<Box<Unfinished>>,
}

/// What an input left unfinished: a header, a frame, a fragmented message, or several of these.
#[derive(Default)]
struct Unfinished {
    header: ShortBuffer<HEADER_BYTES_MAX>,
    /// Frame whose payload is being received, with the payload bytes that came.
    frame: Option<(Header, usize)>,
    /// Payload of an unfinished control frame.
    control: ShortBuffer<CONTROL_BYTES_MAX>,
    message: Option<Message>,
}

/// A message that came in part. Bound: `message_bytes_max`.
struct Message {
    text: bool,
    deflated: bool,
    bytes: Vec<u8>,
    /// Length of the prefix that is known to be UTF-8. A character may be cut at its end.
    valid_len: usize,
}

/// Where messages go.
struct Output<'a> {
    on: &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    inflater: &'a mut Inflater,
    inflated_bytes_max: usize,
    /// What a message may inflate to beside [`INFLATION_MAX`] times its length, if that is limited.
    allowance: Option<usize>,
}

struct ShortBuffer<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl Decoder {
    /// Messages of more than `message_bytes_max` bytes are refused, and such as are deflated.
    #[must_use]
    pub fn new(role: Role, message_bytes_max: usize) -> Self {
        let message_bytes_max = u32::try_from(message_bytes_max).unwrap_or(u32::MAX);
        Self {
            role,
            closed: false,
            is_proportionate: false,
            message_bytes_max,
            inflated_bytes_max: None,
            unfinished: None,
        }
    }

    /// Messages may be deflated; those of more than `bytes_max` bytes, but at least one, once they are inflated are refused.
    #[must_use]
    pub fn with_deflate(self, bytes_max: usize) -> Self {
        let bytes_max = NonZeroU32::new(u32::try_from(bytes_max).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN);
        Self { inflated_bytes_max: Some(bytes_max), ..self }
    }

    /// Refuses messages, too, that inflate to more than the limit of plain ones and [`INFLATION_MAX`] times what they took, so
    /// that few bytes never cost much memory.
    #[must_use]
    pub fn with_proportion(self) -> Self {
        Self { is_proportionate: true, ..self }
    }

    /// As [`decode_with`](Self::decode_with), for peers whose messages are not deflated, or rarely.
    pub fn decode(
        &mut self,
        input: &mut [u8],
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        self.decode_with(input, &mut Inflater::default(), on)
    }

    /// Decodes all of `input`, which is unmasked in place, and calls `on` for each event until it breaks. After a close, a
    /// break or an error nothing is decoded any more. The inflater keeps nothing between two calls.
    pub fn decode_with(
        &mut self,
        mut input: &mut [u8],
        inflater: &mut Inflater,
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        let inflated_bytes_max = self.inflated_bytes_max.map_or(0, |bytes_max| bytes_max.get() as usize);
        let allowance = self.is_proportionate.then_some(self.message_bytes_max as usize);
        let mut out = Output { on, inflater, inflated_bytes_max, allowance };
        while !input.is_empty() && !self.closed {
            match self.decode_some(input, &mut out) {
                Ok((ControlFlow::Continue(()), used)) => input = &mut input[used..],
                Ok((ControlFlow::Break(()), _)) => self.close(),
                Err(error) => {
                    self.close();
                    return Err(error);
                }
            }
        }
        Ok(if self.closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn close(&mut self) {
        self.closed = true;
        self.unfinished = None;
    }

    /// Decodes one header or payload, or the part of it that is there. Also gives the number of bytes used, at least one.
    fn decode_some(
        &mut self,
        input: &mut [u8],
        out: &mut Output<'_>,
    ) -> Result<(ControlFlow<()>, usize), ProtocolError> {
        if let Some(unfinished) = &mut self.unfinished {
            if let Some((header, received)) = unfinished.frame {
                return self.decode_payload(header, received, input, out);
            }
            if unfinished.header.len > 0 {
                return self.decode_cut_header(input, out);
            }
        }
        match header::parse(input, self.role, self.inflated_bytes_max.is_some())? {
            Some((header, used)) => {
                self.check(&header)?;
                let (flow, payload_used) = self.decode_payload(header, 0, &mut input[used..], out)?;
                Ok((flow, used + payload_used))
            }
            None => {
                self.unfinished().header.push(input);
                Ok((ControlFlow::Continue(()), input.len()))
            }
        }
    }

    /// Goes on with a header of which some bytes came before.
    fn decode_cut_header(
        &mut self,
        input: &mut [u8],
        out: &mut Output<'_>,
    ) -> Result<(ControlFlow<()>, usize), ProtocolError> {
        let (role, may_deflate) = (self.role, self.inflated_bytes_max.is_some());
        let cut = &mut self.unfinished().header;
        let before = cut.len;
        cut.push(&input[..input.len().min(HEADER_BYTES_MAX - before)]);
        let Some((header, len)) = header::parse(cut.as_slice(), role, may_deflate)? else {
            return Ok((ControlFlow::Continue(()), cut.len - before));
        };
        cut.len = 0;
        self.check(&header)?;
        let used = len - before;
        let (flow, payload_used) = self.decode_payload(header, 0, &mut input[used..], out)?;
        Ok((flow, used + payload_used))
    }

    /// Checks a header against the message before it and the limit.
    fn check(&self, header: &Header) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let message = self.unfinished.as_ref().and_then(|unfinished| unfinished.message.as_ref());
        match (header.opcode, message) {
            (Opcode::Continuation, None) => {
                return Err(ProtocolError::Framing("continuation of nothing"));
            }
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(ProtocolError::Framing("message inside a message"));
            }
            _ => {}
        }
        let before = message.map_or(0, |message| message.bytes.len());
        if header.payload_len > (self.message_bytes_max as usize - before) as u64 {
            return Err(ProtocolError::TooBig);
        }
        Ok(())
    }

    /// Decodes the payload of a checked frame of which `received` bytes came before.
    fn decode_payload(
        &mut self,
        header: Header,
        received: usize,
        input: &mut [u8],
        out: &mut Output<'_>,
    ) -> Result<(ControlFlow<()>, usize), ProtocolError> {
        let missing = header.payload_len as usize - received;
        let used = missing.min(input.len());
        let payload = &mut input[..used];
        mask::apply(payload, header.mask, received);
        let complete = used == missing;
        let fragmented = self.unfinished.as_ref().is_some_and(|unfinished| unfinished.message.is_some());
        let whole = complete && received == 0;
        let flow = if whole && header.opcode.is_control() {
            self.settle(None);
            emit_control(header.opcode, payload, out)?
        } else if whole && header.fin && !fragmented {
            self.settle(None);
            out.emit(header.opcode == Opcode::Text, header.deflated, payload)?
        } else {
            let flow = self.keep_payload(header, payload, complete, out)?;
            self.settle((!complete).then_some((header, received + used)));
            flow
        };
        Ok((flow, used))
    }

    /// Notes the frame that goes on with the next input, and frees what is not needed any more.
    fn settle(&mut self, frame: Option<(Header, usize)>) {
        if frame.is_some() {
            self.unfinished().frame = frame;
        } else if let Some(unfinished) = &mut self.unfinished {
            unfinished.frame = None;
            if unfinished.message.is_none() {
                self.unfinished = None;
            }
        }
    }

    /// Keeps a payload that cannot be handed out from the input, and hands out what it completes.
    fn keep_payload(
        &mut self,
        header: Header,
        payload: &[u8],
        complete: bool,
        out: &mut Output<'_>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        let message_bytes_max = self.message_bytes_max as usize;
        let unfinished = self.unfinished();
        if header.opcode.is_control() {
            unfinished.control.push(payload);
            if !complete {
                return Ok(ControlFlow::Continue(()));
            }
            let control = std::mem::take(&mut unfinished.control);
            return emit_control(header.opcode, control.as_slice(), out);
        }
        let message = unfinished.message.get_or_insert_with(|| Message::new(&header));
        message.push(payload, message_bytes_max)?;
        if !complete || !header.fin {
            return Ok(ControlFlow::Continue(()));
        }
        let flow = message.emit(out)?;
        unfinished.message = None;
        Ok(flow)
    }

    fn unfinished(&mut self) -> &mut Unfinished {
        self.unfinished.get_or_insert_default()
    }
}

impl Message {
    fn new(header: &Header) -> Self {
        Self { text: header.opcode == Opcode::Text, deflated: header.deflated, bytes: Vec::new(), valid_len: 0 }
    }

    /// Grows with the bytes that came, not with those a header announced.
    fn push(&mut self, payload: &[u8], message_bytes_max: usize) -> Result<(), ProtocolError> {
        let len = self.bytes.len() + payload.len();
        if len > self.bytes.capacity() {
            let capacity = len.max(2 * self.bytes.capacity()).min(message_bytes_max);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
        if self.text && !self.deflated { self.check_utf8() } else { Ok(()) }
    }

    /// Checks what came since the last check. Fails as soon as no further bytes could make it valid.
    fn check_utf8(&mut self) -> Result<(), ProtocolError> {
        if let Err(error) = simdutf8::compat::from_utf8(&self.bytes[self.valid_len..]) {
            if error.error_len().is_some() {
                return Err(ProtocolError::InvalidUtf8);
            }
            self.valid_len += error.valid_up_to();
        } else {
            self.valid_len = self.bytes.len();
        }
        Ok(())
    }

    fn emit(&self, out: &mut Output<'_>) -> Result<ControlFlow<()>, ProtocolError> {
        match self.text {
            _ if self.deflated => out.emit(self.text, true, &self.bytes),
            true if self.valid_len < self.bytes.len() => Err(ProtocolError::InvalidUtf8),
            true => Ok((out.on)(Event::Text(&self.bytes))),
            false => Ok((out.on)(Event::Binary(&self.bytes))),
        }
    }
}

impl Output<'_> {
    /// Hands out a message whose text has not been checked.
    fn emit(&mut self, text: bool, deflated: bool, payload: &[u8]) -> Result<ControlFlow<()>, ProtocolError> {
        if !deflated {
            return emit_message(text, payload, self.on);
        }
        let proportionate = self.allowance.map_or(usize::MAX, |allowance| allowance + INFLATION_MAX * payload.len());
        let message = self.inflater.inflate(payload, self.inflated_bytes_max.min(proportionate));
        let flow = message.and_then(|message| emit_message(text, message, self.on));
        self.inflater.tidy();
        flow
    }
}

fn emit_message(
    text: bool,
    payload: &[u8],
    on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ProtocolError> {
    if !text {
        return Ok(on(Event::Binary(payload)));
    }
    match simdutf8::basic::from_utf8(payload) {
        Ok(_) => Ok(on(Event::Text(payload))),
        Err(_) => Err(ProtocolError::InvalidUtf8),
    }
}

fn emit_control(opcode: Opcode, payload: &[u8], out: &mut Output<'_>) -> Result<ControlFlow<()>, ProtocolError> {
    match opcode {
        Opcode::Ping => Ok((out.on)(Event::Ping(payload))),
        Opcode::Pong => Ok((out.on)(Event::Pong(payload))),
        _ => {
            let _ = (out.on)(close_event(payload)?);
            Ok(ControlFlow::Break(()))
        }
    }
}

fn close_event(payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Event::Close { code: None, reason: &[] }),
            _ => Err(ProtocolError::Framing("close frame with half a code")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(ProtocolError::Framing("close code that may not be sent"));
    }
    match simdutf8::basic::from_utf8(reason) {
        Ok(_) => Ok(Event::Close { code: Some(code), reason }),
        Err(_) => Err(ProtocolError::InvalidUtf8),
    }
}

impl<const N: usize> ShortBuffer<N> {
    /// Only called with what fits: a header or the payload of a control frame.
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<const N: usize> Default for ShortBuffer<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::{Deflater, encode_masked_frame};

    const LIMIT: usize = 200;
    const INFLATED_LIMIT: usize = 2000;

    /// A frame of a client. The first byte holds the opcode and, in the high bit, whether it is the last fragment.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_masked_frame(&mut out, Opcode::Text, payload, [0xa1, 0x5e, 0x33, 0xff]);
        out[0] = first;
        out
    }

    /// Decodes frames in one piece and byte by byte; both must agree. Gives the events, then the close code of the error.
    #[track_caller]
    fn check(frames: &[Vec<u8>], want: &[&str]) {
        check_with(|| Decoder::new(Role::Server, LIMIT), frames, want);
    }

    /// The same where messages may be deflated, and inflate to no more than `INFLATED_LIMIT`.
    #[track_caller]
    fn check_deflated(frames: &[Vec<u8>], want: &[&str]) {
        check_with(|| Decoder::new(Role::Server, LIMIT).with_deflate(INFLATED_LIMIT), frames, want);
    }

    #[track_caller]
    fn check_with(decoder: impl Fn() -> Decoder, frames: &[Vec<u8>], want: &[&str]) {
        let stream = frames.concat();
        let mut inflater = Inflater::default();
        for step in [stream.len().max(1), 1, 3] {
            let (mut decoder, mut got) = (decoder(), Vec::new());
            for piece in stream.chunks(step) {
                let mut input = piece.to_vec();
                let flow = decoder.decode_with(&mut input, &mut inflater, &mut |event| {
                    got.push(describe(event));
                    ControlFlow::Continue(())
                });
                if let Err(error) = flow {
                    got.push(error.close_code().to_string());
                }
            }
            assert_eq!(got, want, "in steps of {step}");
        }
    }

    fn describe(event: Event<'_>) -> String {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        match event {
            Event::Text(bytes) => format!("text {}", text(bytes)),
            Event::Binary(bytes) => format!("binary {}", bytes.len()),
            Event::Ping(bytes) => format!("ping {}", text(bytes)),
            Event::Pong(bytes) => format!("pong {}", text(bytes)),
            Event::Close { code, reason } => format!("close {code:?} {}", text(reason)),
        }
    }

    #[test]
    fn an_idle_decoder_is_small() {
        assert!(size_of::<Decoder>() <= 24);
    }

    fn deflated(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(Deflater::default().deflate(6, message, &mut out), "{message:?}");
        out
    }

    /// T05
    #[test]
    fn deflated_messages_come_inflated_whole_or_in_fragments() {
        let message = "a".repeat(30);
        let (whole, text) = (deflated(message.as_bytes()), format!("text {message}"));
        let (one, two) = whole.split_at(2);
        check_deflated(&[frame(0xc1, &whole), frame(0xc2, &whole)], &[&text, "binary 30"]);
        check_deflated(&[frame(0x41, one), frame(0x89, b"p"), frame(0x00, b""), frame(0x80, two)], &["ping p", &text]);
        check_deflated(
            &[frame(0x81, b"hi"), frame(0xc1, &whole), frame(0x01, b"h"), frame(0x80, b"o")],
            &["text hi", &text, "text ho"],
        );
        check_deflated(&[frame(0xc1, b"\0"), frame(0x88, b"")], &["text ", "close None "]);
    }

    /// T05
    #[test]
    fn mark_of_a_deflated_message_elsewhere_than_at_its_begin_is_refused() {
        let whole = deflated(&[b'a'; 30]);
        check(&[frame(0xc1, &whole)], &["1002"]);
        check_deflated(&[frame(0x41, &whole[..2]), frame(0xc0, &whole[2..])], &["1002"]);
        check_deflated(&[frame(0x01, b"a"), frame(0x40, b"b")], &["1002"]);
        for control in [0xc8, 0xc9, 0xca, 0xa1, 0x91] {
            check_deflated(&[frame(control, b"")], &["1002"]);
        }
    }

    #[test]
    fn text_is_checked_once_it_is_inflated() {
        let message = [&[b'a'; 30][..], b"\xce\xba"].concat();
        check_deflated(&[frame(0xc1, &deflated(&message))], &[&format!("text {}κ", "a".repeat(30))]);
        check_deflated(&[frame(0xc1, &deflated(&message[..31]))], &["1007"]);
        check_deflated(&[frame(0xc2, &deflated(&message[..31]))], &["binary 31"]);
        // Bytes that are no text themselves.
        check_deflated(&[frame(0x41, b"\xf2\x48\xcd"), frame(0x80, b"\xc9\xc9\x07\x00")], &["text Hello"]);
    }

    /// T06
    #[test]
    fn both_sizes_of_a_deflated_message_are_limited() {
        check_deflated(&[frame(0xc2, &deflated(&[7; INFLATED_LIMIT]))], &["binary 2000"]);
        check_deflated(&[frame(0xc2, &deflated(&[7; INFLATED_LIMIT + 1]))], &["1009"]);
        check_deflated(&[frame(0xc2, &deflated(&[7; 100 * INFLATED_LIMIT]))], &["1009"]);
        check_deflated(&[frame(0x42, &[0; LIMIT]), frame(0x80, b"1")[..6].to_vec()], &["1009"]);
        check_deflated(&[frame(0x82, &[0; LIMIT])], &["binary 200"]);
        check_deflated(&[frame(0x82, &[0; LIMIT + 1])[..8].to_vec()], &["1009"]);
    }

    /// T06
    #[test]
    fn few_bytes_inflate_to_the_limit_of_plain_messages_and_little_more() {
        let decoder = || Decoder::new(Role::Server, LIMIT).with_deflate(INFLATED_LIMIT).with_proportion();
        for (len, want) in [(LIMIT, "binary 200"), (INFLATED_LIMIT / 2, "1009"), (100 * INFLATED_LIMIT, "1009")] {
            check_with(decoder, &[frame(0xc2, &deflated(&vec![7; len]))], &[want]);
        }
        // Letters and digits in no order: a quarter is gained.
        let letters = (0..240_u32).map(|at| b"0123456789abcdef"[(at.wrapping_mul(2_654_435_761) >> 28) as usize]);
        let message: Vec<u8> = letters.collect();
        assert!(deflated(&message).len() <= LIMIT);
        check_with(decoder, &[frame(0xc2, &deflated(&message))], &["binary 240"]);
    }

    #[test]
    fn what_cannot_be_inflated_is_invalid_payload() {
        let whole = deflated(&[b'a'; 30]);
        check_deflated(&[frame(0xc1, b"\xff\xff\xff"), frame(0x81, b"late")], &["1007"]);
        check_deflated(&[frame(0x41, &whole[..2]), frame(0x80, b"")], &["1007"]);
        check_deflated(&[frame(0xc1, b"")], &["1007"]);
    }

    #[test]
    fn messages_come_whole_with_control_frames_between_their_fragments() {
        check(&[frame(0x81, b"")], &["text "]);
        check(&[frame(0x81, b"hi"), frame(0x82, b"\xff\x00")], &["text hi", "binary 2"]);
        check(&[frame(0x01, b"h"), frame(0x89, b"p"), frame(0x00, b""), frame(0x80, b"i")], &["ping p", "text hi"]);
        check(&[frame(0x02, b""), frame(0x80, b"")], &["binary 0"]);
        check(&[frame(0x8a, b""), frame(0x89, &[b'p'; 125])], &["pong ", &format!("ping {}", "p".repeat(125))]);
        check(&[frame(0x01, "€".as_bytes()[..1].into()), frame(0x80, &"€".as_bytes()[1..])], &["text €"]);
    }

    #[test]
    fn a_close_ends_everything() {
        check(&[frame(0x88, b""), frame(0x81, b"late")], &["close None "]);
        check(&[frame(0x88, b"\x0d\xadbye"), frame(0x81, b"late")], &["close Some(3501) bye"]);
        check(&[frame(0x01, b"half"), frame(0x88, b"\x03\xe8")], &["close Some(1000) "]);
    }

    #[test]
    fn fragments_out_of_order_are_refused() {
        check(&[frame(0x80, b"x")], &["1002"]);
        check(&[frame(0x00, b"x")], &["1002"]);
        check(&[frame(0x01, b"x"), frame(0x81, b"y")], &["1002"]);
        check(&[frame(0x01, b"x"), frame(0x02, b"y")], &["1002"]);
        check(&[frame(0x01, b"x"), frame(0x80, b"y"), frame(0x80, b"z")], &["text xy", "1002"]);
    }

    #[test]
    fn bad_close_payloads_are_refused() {
        check(&[frame(0x88, b"\x03")], &["1002"]);
        for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535] {
            check(&[frame(0x88, &code.to_be_bytes())], &["1002"]);
        }
        for code in [1000_u16, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999] {
            check(&[frame(0x88, &code.to_be_bytes())], &[&format!("close Some({code}) ")]);
        }
        check(&[frame(0x88, b"\x03\xe8\xff")], &["1007"]);
    }

    #[test]
    fn text_must_be_utf8_and_is_refused_as_soon_as_it_cannot_be() {
        check(&[frame(0x81, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80")], &["1007"]);
        check(&[frame(0x81, b"\xe2\x82")], &["1007"]);
        check(&[frame(0x01, b"a\xf4"), frame(0x00, b"\x90"), frame(0x00, b"never")], &["1007"]);
        check(&[frame(0x01, b"\xe2\x82"), frame(0x80, b"")], &["1007"]);
        let mut cut = frame(0x81, b"ok\xff and more");
        cut.truncate(10);
        check(&[cut], &["1007"]);
    }

    #[test]
    fn messages_over_the_limit_are_refused_by_their_header() {
        check(&[frame(0x82, &[0; LIMIT])], &["binary 200"]);
        let header = |payload: &[u8]| frame(0x82, payload)[..8].to_vec();
        check(&[header(&[0; LIMIT + 1])], &["1009"]);
        check(&[frame(0x02, &[0; LIMIT]), frame(0x80, b"")], &["binary 200"]);
        check(&[frame(0x02, &[0; LIMIT]), frame(0x80, b"1")[..6].to_vec()], &["1009"]);
        check(&[vec![0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4]], &["1009"]);
    }

    #[test]
    fn nothing_is_decoded_behind_an_error_or_a_break() {
        check(&[frame(0xc1, b"x"), frame(0x81, b"late")], &["1002"]);
        let mut decoder = Decoder::new(Role::Server, LIMIT);
        let mut input = [frame(0x81, b"a"), frame(0x81, b"b")].concat();
        let mut count = 0;
        let mut on = |_: Event<'_>| {
            count += 1;
            ControlFlow::Break(())
        };
        assert_eq!(decoder.decode(&mut input, &mut on), Ok(ControlFlow::Break(())));
        assert_eq!(decoder.decode(&mut frame(0x81, b"c"), &mut on), Ok(ControlFlow::Break(())));
        assert_eq!(count, 1);
    }

    #[test]
    fn memory_grows_with_what_came_and_is_freed_with_the_message() {
        let limit = 1 << 20;
        let mut decoder = Decoder::new(Role::Server, limit);
        let whole = frame(0x82, &vec![7; limit]);
        let mut on = |_: Event<'_>| ControlFlow::Continue(());
        let capacity = |decoder: &Decoder| {
            let message = decoder.unfinished.as_ref().and_then(|unfinished| unfinished.message.as_ref());
            message.map_or(0, |message| message.bytes.capacity())
        };
        for (number, piece) in whole.chunks(1000).enumerate() {
            assert!(decoder.decode(&mut piece.to_vec(), &mut on).is_ok());
            assert!(capacity(&decoder) <= (2 * (number + 1) * 1000).min(limit));
        }
        assert!(decoder.unfinished.is_none());
    }
}
