//! Transports of the simulated clients: how bytes become replies, and whether commands go by the emulation endpoint.

use crate::random::Random;
use ringcast_proto::client::{Encoding, Reply, decode_replies};
use ringcast_proto::websocket::{Decoder, Event, Role};
use ringcast_state::{Farewell, Framing, Pings, Transport, TransportKind, Visitor};
use std::ops::ControlFlow;

/// Largest frame from the server; generous.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// What a client connects by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    pub encoding: Encoding,
    pub framing: Framing,
}

impl Means {
    /// Two of three have a WebSocket.
    pub fn draw(random: &mut Random) -> Self {
        let encoding = if random.one_in(2) { Encoding::Json } else { Encoding::Protobuf };
        let framing = match encoding {
            _ if !random.one_in(3) => Framing::WebSocket,
            Encoding::Json if random.one_in(2) => Framing::Events,
            _ => Framing::Lines,
        };
        Means { encoding, framing }
    }

    /// Commands but for the first are requests of their own.
    pub fn is_emulated(self) -> bool {
        self.framing != Framing::WebSocket
    }

    pub fn transport(self) -> Transport {
        let kind = match self.framing {
            Framing::Lines => TransportKind::HttpStream,
            Framing::Events => TransportKind::Sse,
            _ => TransportKind::WebSocket,
        };
        Transport {
            encoding: self.encoding,
            framing: self.framing,
            kind,
            pings: Pings::Messages,
            visitor: Visitor::UNKNOWN,
            farewell: Farewell::Push,
        }
    }

    pub fn reader(self) -> Reader {
        match self.framing {
            Framing::WebSocket => {
                Reader::WebSocket(self.encoding, Box::new(Decoder::new(Role::Client, FRAME_BYTES_MAX)))
            }
            _ => Reader::Stream(self, Vec::new()),
        }
    }
}

/// Reads what the server writes.
pub enum Reader {
    WebSocket(Encoding, Box<Decoder>),
    /// With what is not a whole message yet.
    Stream(Means, Vec<u8>),
}

impl Reader {
    /// The replies that are whole now.
    pub fn read(&mut self, bytes: &mut [u8]) -> Vec<Reply> {
        match self {
            Reader::WebSocket(encoding, decoder) => read_frames(*encoding, decoder, bytes),
            Reader::Stream(means, waiting) => {
                waiting.extend_from_slice(bytes);
                let mut replies = Vec::new();
                while let Some(message) = take_message(*means, waiting) {
                    replies.extend(decode(means.encoding, &message));
                }
                replies
            }
        }
    }
}

fn read_frames(encoding: Encoding, decoder: &mut Decoder, bytes: &mut [u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    let read = decoder.decode(bytes, &mut |event| {
        let message = match (event, encoding) {
            (Event::Text(message), Encoding::Json) | (Event::Binary(message), Encoding::Protobuf) => message,
            (event, _) => panic!("a frame of the wrong kind: {event:?}"),
        };
        replies.extend(decode(encoding, message));
        ControlFlow::Continue(())
    });
    let read = read.expect("the server keeps to the framing");
    assert_eq!(read, ControlFlow::Continue(()), "close frames are not sent here");
    replies
}

/// Takes the first whole message off a stream.
fn take_message(means: Means, waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = match (means.encoding, means.framing) {
        (Encoding::Protobuf, _) => {
            let mut rest = &waiting[..];
            let length = prost::decode_length_delimiter(&mut rest).ok()?;
            waiting.len() - rest.len() + length
        }
        (Encoding::Json, Framing::Events) => waiting.windows(2).position(|pair| pair == b"\n\n")? + 2,
        (Encoding::Json, _) => waiting.iter().position(|byte| *byte == b'\n')? + 1,
    };
    if waiting.len() < end {
        return None;
    }
    let message: Vec<u8> = waiting.drain(..end).collect();
    Some(match (means.encoding, means.framing) {
        (Encoding::Protobuf, _) => message,
        (Encoding::Json, Framing::Events) => {
            message.strip_prefix(b"data: ").expect("an event has data")[..end - 8].to_vec()
        }
        (Encoding::Json, _) => message[..end - 1].to_vec(),
    })
}

fn decode(encoding: Encoding, message: &[u8]) -> Vec<Reply> {
    decode_replies(encoding, message).map(|reply| reply.expect("the server speaks the protocol")).collect()
}
