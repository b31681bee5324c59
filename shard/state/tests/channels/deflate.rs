//! Connections that negotiated permessage-deflate.

use crate::room::{Room, open, options, recovering, token};
use ringcast_proto::client::Encoding;
use ringcast_proto::websocket::{Decoder, Event, Inflater, Role};
use ringcast_state::metrics::FrameType;
use ringcast_state::options::DeflateOptions;
use ringcast_state::{
    ConnectionId, Farewell, Frame, Frames, Framing, Options, Pings, Transport, TransportKind, Visitor,
};
use std::ops::ControlFlow;
use std::rc::Rc;

/// First bytes of frames.
const PLAIN: u8 = 0x81;
const DEFLATED: u8 = 0xc1;

/// Clients that inflate, in these slots.
const SLOTS: [u32; 2] = [100, 101];

/// A channel with a plain subscriber, and one in each of `SLOTS`.
struct Setting {
    room: Room,
}

impl Setting {
    fn new(websocket: DeflateOptions) -> Setting {
        let mut room = Room::new(Options { websocket, ..options([("open", open()), ("kept", recovering())]) });
        room.enter("ann");
        room.subscribe("ann", "open:a", "");
        for slot in SLOTS {
            let transport = Transport {
                encoding: Encoding::Json,
                framing: Framing::WebSocketDeflated,
                kind: TransportKind::WebSocket,
                pings: Pings::Messages,
                visitor: Visitor::UNKNOWN,
                farewell: Farewell::Push,
            };
            room.shard.handle_open(room.now, connection(slot), transport);
            let connect = format!(r#"{{"id":1,"connect":{{"token":"{}"}}}}"#, token(r#"{"sub":"bob"}"#));
            room.shard.handle_frame(room.now, connection(slot), connect.as_bytes());
            room.shard.handle_frame(room.now, connection(slot), br#"{"id":2,"subscribe":{"channel":"open:a"}}"#);
            room.shard.take_frames(connection(slot)).expect("two replies");
            room.shard.handle_flushed(connection(slot));
        }
        Setting { room }
    }

    /// The one frame that waits for a connection.
    fn take(&mut self, slot: u32) -> Frame {
        let frames = self.room.shard.take_frames(connection(slot)).expect("output");
        self.room.shard.handle_flushed(connection(slot));
        let Frames::One(frame) = frames else { panic!("several frames") };
        frame
    }

    /// Publishes text of this length; gives the push as the plain subscriber got it, and the frame of the others.
    fn publish(&mut self, length: usize) -> (String, Rc<[u8]>) {
        self.room.publish("open:a", &format!("\"{}\"", "a".repeat(length)), "");
        let [Frame::Shared(one), Frame::Shared(two)] = SLOTS.map(|slot| self.take(slot)) else { panic!("not shared") };
        assert!(Rc::ptr_eq(&one, &two), "made twice");
        (self.room.news("ann"), one)
    }
}

fn connection(slot: u32) -> ConnectionId {
    ConnectionId { slot, generation: 0 }
}

fn text(frame: &[u8]) -> String {
    let (mut decoder, mut inflater) = (Decoder::new(Role::Client, 1 << 20).with_deflate(1 << 20), Inflater::default());
    let mut text = String::new();
    let read = decoder.decode_with(&mut frame.to_vec(), &mut inflater, &mut |event| {
        let Event::Text(message) = event else { panic!("{event:?}") };
        text.push_str(str::from_utf8(message).expect("checked"));
        ControlFlow::Continue(())
    });
    assert_eq!(read, Ok(ControlFlow::Continue(())));
    text
}

/// T05, T24
#[test]
fn publication_is_deflated_once_for_all_and_says_the_same() {
    let mut setting = Setting::new(DeflateOptions::default());
    for length in [60, 500, 5000, 100_000] {
        let (plain, frame) = setting.publish(length);
        assert_eq!((frame[0], text(&frame)), (DEFLATED, plain.clone()));
        assert!(frame.len() < plain.len());
    }
}

#[test]
fn what_is_short_or_would_not_become_shorter_stays_as_it_is() {
    let (push, _) = Setting::new(DeflateOptions::default()).publish(200);
    for (compression_min_size, first) in [(0, DEFLATED), (push.len() - 1, DEFLATED), (push.len(), PLAIN)] {
        let options = DeflateOptions { compression_min_size, ..DeflateOptions::default() };
        let (plain, frame) = Setting::new(options).publish(200);
        assert_eq!((frame[0], text(&frame)), (first, plain), "{compression_min_size}");
    }
    let without = DeflateOptions { compression_level: 0, ..DeflateOptions::default() };
    assert_eq!(Setting::new(without).publish(200).1[0], PLAIN);
    assert_eq!(Setting::new(DeflateOptions::default()).publish(0).1[0], PLAIN);
}

#[test]
fn replies_of_one_connection_are_deflated_too() {
    let mut setting = Setting::new(DeflateOptions::default());
    setting.room.publish("kept:a", &format!("\"{}\"", "a".repeat(300)), "");
    let ask = br#"{"id":4,"subscribe":{"channel":"kept:a","recover":true}}"#;
    setting.room.shard.handle_frame(setting.room.now, connection(SLOTS[0]), ask);
    let Frame::Owned(reply) = setting.take(SLOTS[0]) else { panic!("its own") };
    assert_eq!(reply[0], DEFLATED);
    assert!(text(&reply).starts_with(r#"{"id":4,"subscribe":"#), "{}", text(&reply));
}

#[test]
fn bytes_of_messages_are_counted_as_they_are_not_as_they_go() {
    let mut setting = Setting::new(DeflateOptions::default());
    let (plain, _) = setting.publish(1000);
    let sent = setting.room.counted().metrics.of(TransportKind::WebSocket).sent[FrameType::PushPublication as usize];
    assert_eq!((sent.messages, sent.bytes), (3, 3 * plain.len() as u64));
}
