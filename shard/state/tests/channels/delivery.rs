//! The delivery check: with memory, and with a broker.

use crate::room::{Room, options};
use ringcast_state::metrics::Trip;
use ringcast_state::{Options, Time};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A room where delivery is checked.
pub fn checked() -> Room {
    Room::new(Options { delivery_check: 1, ..options([]) })
}

/// When the last publication that came back was sent.
#[track_caller]
pub fn last(room: &Room) -> Option<Time> {
    let delivery = room.counted().delivery;
    assert_eq!(delivery.len(), 1);
    delivery[0].sent_at
}

/// B03
#[test]
fn a_publication_a_second_comes_back_and_shows_nowhere() {
    let mut room = checked();
    assert_eq!(room.counted().delivery, [Trip::default()]);
    let mut before = None;
    room.wait(SECOND);
    for _ in 0..5 {
        room.wait(SECOND);
        room.call("info", "{}");
        let now = last(&room);
        assert!(now.is_some() && now > before, "{now:?} after {before:?}");
        before = now;
    }
    assert_eq!(room.call("channels", "{}"), r#"{"result":{"channels":{}}}"#);
    assert_eq!(room.counted().channels, 0);
    assert!(Room::new(options([])).counted().delivery.is_empty());
}
