//! The delivery check while the broker is silent, and presence where no broker keeps it.

use crate::delivery::{checked, last};
use crate::room::{Room, open, options};
use ringcast_state::Options;
use ringcast_state::namespace::ChannelOptions;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// B03
#[test]
fn nothing_comes_back_while_the_broker_is_silent_and_all_does_afterwards() {
    // From the start on, and later.
    for seconds in [0, 3] {
        let mut room = checked();
        for _ in 0..seconds {
            room.wait(SECOND);
            room.call("info", "{}");
        }
        room.is_deaf = true;
        let before = last(&room);
        for _ in 0..5 {
            room.wait(SECOND);
        }
        assert_eq!(last(&room), before);
        room.is_deaf = false;
        for _ in 0..4 {
            room.wait(SECOND);
            room.call("info", "{}");
        }
        assert!(last(&room) > before, "deaf after {seconds} s: {:?} after {before:?}", last(&room));
    }
}

/// E07
#[test]
fn presence_that_no_broker_keeps_is_what_the_node_knows() {
    let seen = ChannelOptions { presence: true, allow_presence_for_client: true, ..open() };
    let mut room = Room::new(Options { presence_is_local: true, ..options([("seen", seen)]) });
    room.enter("anna");
    room.enter("otto");
    room.subscribe("anna", "seen:1", "");
    room.subscribe("otto", "seen:1", "");
    let stats = |room: &mut Room| room.call("presence_stats", r#"{"channel":"seen:1"}"#);
    assert_eq!(stats(&mut room), r#"{"result":{"num_clients":2,"num_users":2}}"#);
    room.lose("otto");
    assert_eq!(stats(&mut room), r#"{"result":{"num_clients":1,"num_users":1}}"#);
    // Nobody was asked.
    assert!(room.store.is_nobody_present());
}
