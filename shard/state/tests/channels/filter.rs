//! Which publications a subscriber wants. Source: protocol §10.

use crate::room::{Room, kept, open, options};
use ringcast_state::namespace::ChannelOptions;

fn room() -> Room {
    let filtered = |options: ChannelOptions| ChannelOptions { allow_tags_filter: true, ..options };
    let positioned = ChannelOptions { force_positioning: true, ..filtered(kept()) };
    let mut room = Room::new(options([("tags", filtered(open())), ("pos", positioned), ("plain", open())]));
    room.enter("ann");
    room
}

/// Publishes one publication for each set of tags, numbered from 1, and wants these to come.
#[track_caller]
fn check(filter: &str, tags: &[&str], want: &[usize]) {
    let mut room = room();
    let granted = room.subscribe("ann", "tags:1", &format!(r#","tf":{filter}"#));
    assert_eq!(granted, r#"{"id":9,"subscribe":{}}"#, "{filter}");
    let mut came = Vec::new();
    for (number, tags) in (1..).zip(tags) {
        room.publish("tags:1", "1", &format!(r#","tags":{tags}"#));
        if !room.news("ann").is_empty() {
            came.push(number);
        }
    }
    assert_eq!(came, want, "{filter} {tags:?}");
}

/// D05
#[test]
fn only_what_the_filter_wants_comes() {
    let tags = [r#"{"k":"a"}"#, r#"{"k":"b","n":"3"}"#, r#"{}"#];
    check(r#"{"cmp":"eq","key":"k","val":"a"}"#, &tags, &[1]);
    check(r#"{"cmp":"neq","key":"k","val":"a"}"#, &tags, &[2, 3]);
    check(r#"{"cmp":"in","key":"k","vals":["a","b"]}"#, &tags, &[1, 2]);
    check(r#"{"cmp":"nex","key":"k"}"#, &tags, &[3]);
    check(r#"{"cmp":"gte","key":"n","val":"2.9"}"#, &tags, &[2]);
    check(
        r#"{"op":"not","nodes":[{"op":"or","nodes":[{"cmp":"ex","key":"n"},{"cmp":"nex","key":"k"}]}]}"#,
        &tags,
        &[1],
    );
}

/// D05
#[test]
fn offsets_of_a_filtered_subscription_jump() {
    let mut room = room();
    room.subscribe("ann", "pos:1", r#","tf":{"cmp":"eq","key":"k","val":"y"}"#);
    for tag in ["y", "n", "y"] {
        room.publish("pos:1", "1", &format!(r#","tags":{{"k":"{tag}"}}"#));
    }
    let news = room.news("ann");
    assert!(news.contains(r#""offset":1,"#) && news.contains(r#""offset":3,"#) && news.lines().count() == 2, "{news}");
}

/// D05
#[test]
fn broken_filter_is_a_bad_request() {
    let leaf = |fields: &str| format!(r#"{{{fields}}}"#);
    for filter in [
        leaf(""),
        leaf(r#""cmp":"like","key":"k","val":"a""#),
        leaf(r#""cmp":"eq","key":"k""#),
        leaf(r#""cmp":"eq","val":"a""#),
        leaf(r#""cmp":"eq","key":"k","vals":["a"]"#),
        leaf(r#""cmp":"in","key":"k""#),
        leaf(r#""cmp":"in","key":"k","vals":[]"#),
        leaf(r#""cmp":"ex","key":"k","val":"a""#),
        leaf(r#""op":"xor","nodes":[]"#),
        leaf(r#""op":"and""#),
        leaf(r#""op":"not","nodes":[]"#),
        leaf(r#""op":"and","nodes":[null]"#),
        leaf(r#""op":"or","nodes":[{"cmp":"ex","key":"k"},{"op":"not","nodes":[{}]}]"#),
    ] {
        let refused = r#"{"id":9,"error":{"code":107,"message":"bad request"}}"#;
        assert_eq!(room().subscribe("ann", "tags:1", &format!(r#","tf":{filter}"#)), refused, "{filter}");
    }
}

/// D05
#[test]
fn filter_needs_permission_of_the_namespace() {
    let refused = r#"{"id":9,"error":{"code":107,"message":"bad request"}}"#;
    assert_eq!(room().subscribe("ann", "plain:1", r#","tf":{"cmp":"ex","key":"k"}"#), refused);
}
