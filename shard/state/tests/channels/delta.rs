//! Publications as the difference to the one before. Source: protocol §9.

use crate::room::{Room, kept, options, recovering};
use ringcast_state::namespace::{ChannelOptions, DeltaType};

fn room() -> Room {
    let fossil = |options: ChannelOptions| ChannelOptions {
        allowed_delta_types: vec![DeltaType::Fossil],
        allow_tags_filter: true,
        ..options
    };
    let always = |options: ChannelOptions| ChannelOptions { delta_publish: true, ..fossil(options) };
    let namespaces = [
        ("rec", always(recovering())),
        ("flag", fossil(recovering())),
        ("unpositioned", always(kept())),
        ("refused", ChannelOptions { delta_publish: true, ..recovering() }),
    ];
    let mut room = Room::new(options(namespaces));
    room.enter("ann");
    room
}

/// A payload long enough for a patch to be shorter.
fn payload(number: u32) -> String {
    format!(r#""{}{number}""#, "lorem ipsum ".repeat(6))
}

const DELTA: &str = r#","delta":"fossil""#;

/// Which of the publications in a text are patches.
fn patches(heard: &str) -> Vec<bool> {
    let publications = heard.split(r#"{"data":"#).skip(1);
    publications.map(|publication| publication.contains(r#""delta":true"#)).collect()
}

/// Publishes with these fields and wants patches where they are due.
#[track_caller]
fn check(channel: &str, subscribe: &str, publications: &[&str], want: &[bool]) {
    let mut room = room();
    room.subscribe("ann", channel, subscribe);
    for (number, fields) in publications.iter().enumerate() {
        room.publish(channel, &payload(number as u32), fields);
    }
    let heard = room.news("ann");
    assert_eq!(patches(&heard), want, "{channel} {subscribe} {publications:?}: {heard}");
}

/// D01
#[test]
fn patch_follows_a_publication_that_the_subscriber_has() {
    check("rec:1", DELTA, &["", "", ""], &[false, true, true]);
    check("rec:1", "", &["", "", ""], &[false, false, false]);
    check("refused:1", DELTA, &["", "", ""], &[false, false, false]);
    let delta = r#","delta":true"#;
    check("flag:1", DELTA, &["", "", delta, "", delta], &[false, false, true, false, true]);
    // Who has no position may have missed the one before.
    check("unpositioned:1", DELTA, &["", "", delta], &[false, false, false]);
    // One past the history is nobody's base.
    check("rec:1", DELTA, &["", r#","skip_history":true"#, "", ""], &[false, false, false, true]);
}

/// D01
#[test]
fn payload_of_a_delta_subscription_is_text_in_a_string() {
    let mut room = room();
    let granted = room.subscribe("ann", "rec:1", DELTA);
    let want = r#"{"id":9,"subscribe":{"recoverable":true,"epoch":"E","positioned":true,"delta":true}}"#;
    assert_eq!(granted, want);
    room.publish("rec:1", r#"{"n":1}"#, "");
    assert_eq!(room.news("ann"), r#"{"push":{"channel":"rec:1","pub":{"data":"{\"n\":1}","offset":1}}}"#);
    let refused = room.subscribe("ann", "rec:2", r#","delta":"vcdiff""#);
    assert_eq!(refused, "closed 3501 bad request");
}

/// D02
#[test]
fn recovered_publications_are_patches_of_each_other() {
    let mut room = room();
    for number in 1..=4 {
        let tag = if number == 3 { "n" } else { "y" };
        room.publish("rec:1", &payload(number), &format!(r#","tags":{{"k":"{tag}"}}"#));
    }
    let reply = room.subscribe("ann", "rec:1", &format!(r#"{DELTA},"recover":true,"offset":1"#));
    assert_eq!(patches(&reply), [false, true, true], "{reply}");
    room.publish("rec:1", &payload(5), "");
    assert_eq!(patches(&room.news("ann")), [true]);
    // What a filter leaves out is no base either.
    room.enter("bob");
    let filter = r#","tf":{"cmp":"eq","key":"k","val":"y"}"#;
    let reply = room.subscribe("bob", "rec:1", &format!(r#"{DELTA},"recover":true,"offset":1{filter}"#));
    assert_eq!(patches(&reply), [false, true], "{reply}");
    room.publish("rec:1", &payload(6), "");
    assert_eq!(patches(&room.news("bob")), [false], "the last publication was not among the recovered ones");
}

/// D01, D02
#[test]
fn subscription_at_connect_can_have_deltas() {
    let mut room = room();
    room.publish("rec:1", &payload(1), "");
    room.publish("rec:1", &payload(2), "");
    let claims = r#"{"sub":"bob","channels":["rec:1"]}"#;
    let reply = room.enter_with("bob", claims, r#","subs":{"rec:1":{"recover":true,"delta":"fossil"}}"#);
    assert_eq!(patches(&reply), [false, true], "{reply}");
    room.publish("rec:1", &payload(3), "");
    assert_eq!(patches(&room.news("bob")), [true]);
}
