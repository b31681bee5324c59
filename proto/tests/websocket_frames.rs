//! Random frames: any split of the bytes gives the same events, and valid ones are those of tungstenite.

use proptest::collection::vec;
use proptest::prelude::*;
use ringcast_proto::websocket::{Decoder, Deflater, Event, Inflater, Opcode, ProtocolError, Role};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use tungstenite::protocol::{Role as TheirRole, WebSocket, WebSocketConfig};

const LIMIT: usize = 1000;

/// An event that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(bytes) => Self::Text(bytes.to_vec()),
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Event::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Event::Close { code, reason } => Self::Close(code, reason.to_vec()),
        }
    }
}

/// Decodes a stream that comes in the given pieces, over and over. Gives the events and how it ended: open, closed or
/// broken.
fn decode(stream: &[u8], pieces: &[usize]) -> (Vec<Seen>, Result<ControlFlow<()>, ProtocolError>) {
    decode_by(Decoder::new(Role::Server, LIMIT), stream, pieces)
}

fn decode_by(
    mut decoder: Decoder,
    stream: &[u8],
    pieces: &[usize],
) -> (Vec<Seen>, Result<ControlFlow<()>, ProtocolError>) {
    let mut inflater = Inflater::default();
    let mut seen = Vec::new();
    let mut rest = stream.to_vec();
    let mut flow = Ok(ControlFlow::Continue(()));
    for piece in pieces.iter().cycle() {
        if rest.is_empty() || flow != Ok(ControlFlow::Continue(())) {
            break;
        }
        let mut input: Vec<u8> = rest.drain(..(*piece).clamp(1, rest.len())).collect();
        flow = decoder.decode_with(&mut input, &mut inflater, &mut |event| {
            seen.push(event.into());
            ControlFlow::Continue(())
        });
    }
    (seen, flow)
}

/// A stream that can be read to its end and swallows what is written.
struct Stream<'a>(&'a [u8]);

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn decode_theirs(stream: &[u8]) -> Vec<Seen> {
    let config = WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
    let mut socket = WebSocket::from_raw_socket(Stream(stream), TheirRole::Server, Some(config));
    let mut seen = Vec::new();
    while let Ok(message) = socket.read() {
        seen.push(match message {
            tungstenite::Message::Text(text) => Seen::Text(text.as_bytes().to_vec()),
            tungstenite::Message::Binary(bytes) => Seen::Binary(bytes.to_vec()),
            tungstenite::Message::Ping(bytes) => Seen::Ping(bytes.to_vec()),
            tungstenite::Message::Pong(bytes) => Seen::Pong(bytes.to_vec()),
            tungstenite::Message::Close(Some(frame)) => {
                Seen::Close(Some(frame.code.into()), frame.reason.as_bytes().to_vec())
            }
            tungstenite::Message::Close(None) => Seen::Close(None, Vec::new()),
            tungstenite::Message::Frame(_) => panic!("a raw frame is never read"),
        });
    }
    seen
}

/// A frame of a client, fragmented or not.
fn write_frame(out: &mut Vec<u8>, fin: bool, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    let start = out.len();
    ringcast_proto::websocket::encode_masked_frame(out, opcode, payload, mask);
    if !fin {
        out[start] &= 0x7f;
    }
}

/// What a well-behaved client sends at a time: a message in fragments with a ping between each two, or a pong.
#[derive(Clone, Debug)]
struct Sent {
    text: bool,
    payload: Vec<u8>,
    cuts: Vec<prop::sample::Index>,
    ping: Option<Vec<u8>>,
    mask: [u8; 4],
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = prop_oneof![
        any::<String>().prop_map(|text| (true, text.into_bytes())),
        "[a-zé€😀]{0,200}".prop_map(|text| (true, text.into_bytes())),
        vec(any::<u8>(), 0..300).prop_map(|bytes| (false, bytes)),
    ];
    let ping = prop::option::of(vec(any::<u8>(), 0..=125));
    (payload, vec(any::<prop::sample::Index>(), 0..4), ping, any::<[u8; 4]>())
        .prop_map(|((text, payload), cuts, ping, mask)| Sent { text, payload, cuts, ping, mask })
}

fn write_sent(out: &mut Vec<u8>, sent: &Sent) {
    let mut cuts: Vec<usize> = sent.cuts.iter().map(|cut| cut.index(sent.payload.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(sent.payload.len());
    let mut start = 0;
    for (number, &end) in cuts.iter().enumerate() {
        let opcode = match (number, sent.text) {
            (0, true) => Opcode::Text,
            (0, false) => Opcode::Binary,
            _ => Opcode::Continuation,
        };
        write_frame(out, number + 1 == cuts.len(), opcode, &sent.payload[start..end], sent.mask);
        start = end;
        if let Some(ping) = &sent.ping {
            write_frame(out, true, Opcode::Ping, ping, sent.mask);
        }
    }
}

/// The same, deflated if it becomes shorter by that.
fn write_deflated(out: &mut Vec<u8>, sent: &Sent) {
    let mut payload = Vec::new();
    if !Deflater::default().deflate(1, &sent.payload, &mut payload) {
        return write_sent(out, sent);
    }
    let start = out.len();
    write_sent(out, &Sent { payload, ..sent.clone() });
    out[start] |= 0x40;
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    (vec(sent(), 0..5), any::<bool>()).prop_map(|(all, close)| {
        let mut out = Vec::new();
        all.iter().for_each(|sent| write_sent(&mut out, sent));
        if close {
            ringcast_proto::websocket::encode_masked_close(&mut out, 1000, "bye", [9, 8, 7, 6]);
        }
        out
    })
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), vec(1_usize..40, 1..8), vec(1_usize..400, 1..4)]
}

proptest! {
    #[test]
    fn valid_streams_give_the_events_of_tungstenite(stream in stream(), pieces in pieces()) {
        let theirs = decode_theirs(&stream);
        for pieces in [&[usize::MAX][..], &pieces] {
            let (seen, end) = decode(&stream, pieces);
            prop_assert!(end.is_ok());
            prop_assert_eq!(&seen, &theirs);
        }
    }

    #[test]
    fn deflated_streams_give_the_events_of_plain_ones(all in vec(sent(), 0..5), pieces in pieces()) {
        let (mut plain, mut deflated) = (Vec::new(), Vec::new());
        for sent in &all {
            // What is worth deflating.
            let sent = Sent { payload: sent.payload.repeat(3), ..sent.clone() };
            write_sent(&mut plain, &sent);
            write_deflated(&mut deflated, &sent);
        }
        let decoder = Decoder::new(Role::Server, 4 * LIMIT);
        let want = decode_by(decoder, &plain, &[usize::MAX]);
        let decoder = Decoder::new(Role::Server, 4 * LIMIT).with_deflate(4 * LIMIT);
        prop_assert_eq!(decode_by(decoder, &deflated, &pieces), want);
    }

    #[test]
    fn any_split_of_damaged_deflated_streams_gives_the_same(all in vec(sent(), 1..4), pieces in pieces(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut stream = Vec::new();
        all.iter().for_each(|sent| write_deflated(&mut stream, sent));
        let at = at.index(stream.len());
        stream[at] = byte;
        let decoder = || Decoder::new(Role::Server, LIMIT).with_deflate(LIMIT);
        prop_assert_eq!(decode_by(decoder(), &stream, &pieces), decode_by(decoder(), &stream, &[usize::MAX]));
    }

    #[test]
    fn any_split_of_damaged_streams_gives_the_same(stream in stream(), pieces in pieces(), flips in vec(any::<(prop::sample::Index, u8)>(), 1..4)) {
        let mut stream = stream;
        for (at, byte) in flips {
            if !stream.is_empty() {
                let at = at.index(stream.len());
                stream[at] = byte;
            }
        }
        prop_assert_eq!(decode(&stream, &pieces), decode(&stream, &[usize::MAX]));
    }

    #[test]
    fn any_bytes_are_survived(stream in vec(any::<u8>(), 0..64), pieces in pieces()) {
        prop_assert_eq!(decode(&stream, &pieces), decode(&stream, &[usize::MAX]));
    }
}
