//! What a subscriber that comes again gets of what it missed. Source: protocol §6, behaviour §5.

use crate::room::{Room, kept, options, recovering};
use ringcast_state::namespace::{ChannelOptions, RecoveryMode};

fn cache() -> ChannelOptions {
    ChannelOptions { force_recovery_mode: RecoveryMode::Cache, ..recovering() }
}

/// A room where `published` were published to a channel of each namespace with tag `k`, as their data.
fn room(published: &[&str]) -> Room {
    let filtered = |options: ChannelOptions| ChannelOptions { allow_tags_filter: true, ..options };
    let auto = ChannelOptions { auto_cache_recover: true, ..cache() };
    let namespaces = [
        ("rec", filtered(recovering())),
        ("cache", filtered(cache())),
        ("auto", auto),
        ("asks", ChannelOptions { allow_recovery: true, ..kept() }),
    ];
    let mut room = Room::new(options(namespaces));
    for data in published {
        for channel in ["rec:1", "cache:1", "auto:1", "asks:1"] {
            room.publish(channel, &format!(r#""{data}""#), &format!(r#","tags":{{"k":"{data}"}}"#));
        }
    }
    room.enter("ann");
    room
}

/// A subscribe reply with this after the epoch.
#[track_caller]
fn check(published: &[&str], channel: &str, fields: &str, want: &str) {
    let got = room(published).subscribe("ann", channel, fields);
    let want = format!(r#"{{"id":9,"subscribe":{{{want}}}}}"#);
    assert_eq!(got.replace(r#","positioned":true"#, "").replace(r#""epoch":"E","#, ""), want, "{channel} {fields}");
}

const FILTER: &str = r#","tf":{"cmp":"eq","key":"k","val":"y"}"#;

/// H04
#[test]
fn what_was_missed_comes_with_the_reply() {
    let a = r#"{"data":"a","offset":1,"tags":{"k":"a"}}"#;
    let b = r#"{"data":"b","offset":2,"tags":{"k":"b"}}"#;
    let from = |offset: u64| format!(r#","recover":true,"offset":{offset}"#);
    let all = format!(r#""recoverable":true,"publications":[{a},{b}],"recovered":true,"was_recovering":true"#);
    check(&["a", "b"], "rec:1", &from(0), &all);
    let one = format!(r#""recoverable":true,"publications":[{b}],"recovered":true,"offset":1,"was_recovering":true"#);
    check(&["a", "b"], "rec:1", &from(1), &one);
    let level = r#""recoverable":true,"recovered":true,"offset":2,"was_recovering":true"#;
    check(&["a", "b"], "rec:1", &from(2), level);
    let lost = r#""recoverable":true,"offset":2,"was_recovering":true"#;
    check(&["a", "b"], "rec:1", &from(3), lost);
    check(&["a", "b"], "rec:1", &format!(r#"{},"epoch":"other""#, from(1)), lost);
    let asked = format!(r#"{},"recoverable":true"#, from(1));
    check(&["a", "b"], "asks:1", &asked, &one);
}

/// H12
#[test]
fn client_may_rather_fail_than_come_back_without_what_it_missed() {
    let lost = |flag: u64| format!(r#","recover":true,"offset":7,"epoch":"other","flag":{flag}"#);
    let refused = r#"{"id":9,"error":{"code":112,"message":"unrecoverable position"}}"#;
    assert_eq!(room(&["a"]).subscribe("ann", "rec:1", &lost(2)), refused);
    check(&["a"], "rec:1", &lost(4), r#""recoverable":true,"offset":1,"was_recovering":true"#);
    // Of a cache nothing is missed.
    check(&[], "cache:1", &lost(2), r#""recoverable":true,"was_recovering":true"#);
}

/// H07
#[test]
fn cache_brings_the_latest_only() {
    let b = r#"{"data":"b","offset":2,"tags":{"k":"b"}}"#;
    let latest = format!(r#""recoverable":true,"publications":[{b}],"recovered":true,"was_recovering":true"#);
    check(&["a", "b"], "cache:1", r#","recover":true"#, &latest);
    check(&[], "cache:1", r#","recover":true"#, r#""recoverable":true,"was_recovering":true"#);
    check(&["a", "b"], "cache:1", "", r#""recoverable":true,"offset":2"#);
}

/// H08
#[test]
fn cache_can_bring_the_latest_unasked() {
    let b = r#"{"data":"b","offset":2,"tags":{"k":"b"}}"#;
    let latest = format!(r#""recoverable":true,"publications":[{b}],"recovered":true,"was_recovering":true"#);
    check(&["a", "b"], "auto:1", "", &latest);
    check(&[], "auto:1", "", r#""recoverable":true,"was_recovering":true"#);
}

/// H04, D05
#[test]
fn filter_holds_for_what_was_missed() {
    let y = r#"{"data":"y","offset":2,"tags":{"k":"y"}}"#;
    let fields = format!(r#","recover":true,"offset":1{FILTER}"#);
    let want = format!(r#""recoverable":true,"publications":[{y}],"recovered":true,"offset":1,"was_recovering":true"#);
    check(&["n", "y", "n"], "rec:1", &fields, &want);
    let nothing = r#""recoverable":true,"recovered":true,"offset":1,"was_recovering":true"#;
    check(&["n", "n", "n"], "rec:1", &fields, nothing);
}

/// H07, D05
#[test]
fn filtered_cache_brings_the_latest_that_is_wanted() {
    let y = r#"{"data":"y","offset":2,"tags":{"k":"y"}}"#;
    let fields = format!(r#","recover":true{FILTER}"#);
    let want = format!(r#""recoverable":true,"publications":[{y}],"recovered":true,"was_recovering":true"#);
    check(&["y", "y", "n"], "cache:1", &fields, &want);
    check(&["n", "n"], "cache:1", &fields, r#""recoverable":true,"offset":2,"was_recovering":true"#);
}
