//! Cuts the bytes of a peer into messages.

use super::header::{self, CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Header, Opcode};
use super::{Event, ProtocolError, Role, mask};
use std::ops::ControlFlow;

/// Decodes what one peer sends.
///
/// Between messages it holds nothing on the heap. Whole messages are handed out from the input itself; only what an input
/// leaves unfinished is copied.
pub struct Decoder {
    role: Role,
    closed: bool,
    /// Bound of a message, config key `websocket.message_size_limit`.
    message_bytes_max: usize,
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
    bytes: Vec<u8>,
    /// Length of the prefix that is known to be UTF-8. A character may be cut at its end.
    valid_len: usize,
}

struct ShortBuffer<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl Decoder {
    /// Messages of more than `message_bytes_max` bytes are refused.
    #[must_use]
    pub fn new(role: Role, message_bytes_max: usize) -> Self {
        Self {
            role,
            closed: false,
            message_bytes_max,
            unfinished: None,
        }
    }

    /// Decodes all of `input`, which is unmasked in place, and calls `on` for each event until it breaks. After a close, a
    /// break or an error nothing is decoded any more.
    pub fn decode(
        &mut self,
        mut input: &mut [u8],
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        while !input.is_empty() && !self.closed {
            match self.decode_some(input, on) {
                Ok((ControlFlow::Continue(()), used)) => input = &mut input[used..],
                Ok((ControlFlow::Break(()), _)) => self.close(),
                Err(error) => {
                    self.close();
                    return Err(error);
                }
            }
        }
        Ok(if self.closed {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    }

    fn close(&mut self) {
        self.closed = true;
        self.unfinished = None;
    }

    /// Decodes one header or payload, or the part of it that is there. Also gives the number of bytes used, at least one.
    fn decode_some(
        &mut self,
        input: &mut [u8],
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(ControlFlow<()>, usize), ProtocolError> {
        if let Some(unfinished) = &mut self.unfinished {
            if let Some((header, received)) = unfinished.frame {
                return self.decode_payload(header, received, input, on);
            }
            if unfinished.header.len > 0 {
                return self.decode_cut_header(input, on);
            }
        }
        match header::parse(input, self.role)? {
            Some((header, used)) => {
                self.check(&header)?;
                let (flow, payload_used) =
                    self.decode_payload(header, 0, &mut input[used..], on)?;
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
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(ControlFlow<()>, usize), ProtocolError> {
        let role = self.role;
        let cut = &mut self.unfinished().header;
        let before = cut.len;
        cut.push(&input[..input.len().min(HEADER_BYTES_MAX - before)]);
        let Some((header, len)) = header::parse(cut.as_slice(), role)? else {
            return Ok((ControlFlow::Continue(()), cut.len - before));
        };
        cut.len = 0;
        self.check(&header)?;
        let used = len - before;
        let (flow, payload_used) = self.decode_payload(header, 0, &mut input[used..], on)?;
        Ok((flow, used + payload_used))
    }

    /// Checks a header against the message before it and the limit.
    fn check(&self, header: &Header) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let message = self
            .unfinished
            .as_ref()
            .and_then(|unfinished| unfinished.message.as_ref());
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
        if header.payload_len > (self.message_bytes_max - before) as u64 {
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
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(ControlFlow<()>, usize), ProtocolError> {
        let missing = header.payload_len as usize - received;
        let used = missing.min(input.len());
        let payload = &mut input[..used];
        mask::apply(payload, header.mask, received);
        let complete = used == missing;
        let fragmented = self
            .unfinished
            .as_ref()
            .is_some_and(|unfinished| unfinished.message.is_some());
        let whole = complete && received == 0;
        let flow = if whole && header.opcode.is_control() {
            self.settle(None);
            emit_control(header.opcode, payload, on)?
        } else if whole && header.fin && !fragmented {
            self.settle(None);
            emit_message(header.opcode == Opcode::Text, payload, on)?
        } else {
            let flow = self.keep_payload(header, payload, complete, on)?;
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
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        let message_bytes_max = self.message_bytes_max;
        let unfinished = self.unfinished();
        if header.opcode.is_control() {
            unfinished.control.push(payload);
            if !complete {
                return Ok(ControlFlow::Continue(()));
            }
            let control = std::mem::take(&mut unfinished.control);
            return emit_control(header.opcode, control.as_slice(), on);
        }
        let message = unfinished
            .message
            .get_or_insert_with(|| Message::new(header.opcode == Opcode::Text));
        message.push(payload, message_bytes_max)?;
        if !complete || !header.fin {
            return Ok(ControlFlow::Continue(()));
        }
        let flow = message.emit(on)?;
        unfinished.message = None;
        Ok(flow)
    }

    fn unfinished(&mut self) -> &mut Unfinished {
        self.unfinished.get_or_insert_default()
    }
}

impl Message {
    fn new(text: bool) -> Self {
        Self {
            text,
            bytes: Vec::new(),
            valid_len: 0,
        }
    }

    /// Grows with the bytes that came, not with those a header announced.
    fn push(&mut self, payload: &[u8], message_bytes_max: usize) -> Result<(), ProtocolError> {
        let len = self.bytes.len() + payload.len();
        if len > self.bytes.capacity() {
            let capacity = len.max(2 * self.bytes.capacity()).min(message_bytes_max);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
        if self.text { self.check_utf8() } else { Ok(()) }
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

    fn emit(
        &self,
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        match self.text {
            true if self.valid_len < self.bytes.len() => Err(ProtocolError::InvalidUtf8),
            true => Ok(on(Event::Text(&self.bytes))),
            false => Ok(on(Event::Binary(&self.bytes))),
        }
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

fn emit_control(
    opcode: Opcode,
    payload: &[u8],
    on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ProtocolError> {
    match opcode {
        Opcode::Ping => Ok(on(Event::Ping(payload))),
        Opcode::Pong => Ok(on(Event::Pong(payload))),
        _ => {
            let _ = on(close_event(payload)?);
            Ok(ControlFlow::Break(()))
        }
    }
}

fn close_event(payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Event::Close {
                code: None,
                reason: &[],
            }),
            _ => Err(ProtocolError::Framing("close frame with half a code")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(ProtocolError::Framing("close code that may not be sent"));
    }
    match simdutf8::basic::from_utf8(reason) {
        Ok(_) => Ok(Event::Close {
            code: Some(code),
            reason,
        }),
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
        Self {
            bytes: [0; N],
            len: 0,
        }
    }
}
