//! What publications carry, all of it told by their ids: payloads and tags. And filters of tags, with a matcher of their own.

use crate::random::Random;
use ringcast_proto::client::FilterNode;
use std::collections::BTreeMap;

/// Id of a publication; every payload carries its own.
pub type PublicationId = u64;

const KINDS: [&str; 3] = ["a", "ab", "c"];

/// The payload of an id: one of twenty is long, and long ones have much in common.
pub fn payload(id: PublicationId, is_binary: bool) -> Vec<u8> {
    let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let words = if mixed.is_multiple_of(20) { 500 } else { mixed % 12 };
    let mut pad = String::with_capacity(words as usize * 8);
    for word in 0..words {
        if (id + word).is_multiple_of(61) { pad.push_str(&format!("{id:08}")) } else { pad.push_str("the same") }
    }
    if is_binary { format!("id {id} {pad}\u{0}") } else { format!(r#"{{"id":{id},"pad":"{pad}"}}"#) }.into_bytes()
}

/// The id in a payload.
pub fn payload_id(data: &[u8]) -> PublicationId {
    let digits = data.iter().skip_while(|byte| !byte.is_ascii_digit()).take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(None, |number, digit| Some(number.unwrap_or(0) * 10 + u64::from(digit - b'0')));
    number.unwrap_or_else(|| panic!("a payload that nobody sent: {}", String::from_utf8_lossy(data)))
}

/// The tags of an id that is published with tags; one of four has none all the same.
pub fn tags(id: PublicationId) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    if !id.is_multiple_of(4) {
        tags.insert("kind".to_owned(), KINDS[(id % 3) as usize].to_owned());
    }
    if !id.is_multiple_of(4) && !id.is_multiple_of(5) {
        tags.insert("number".to_owned(), (id % 13).to_string());
    }
    tags
}

/// Which publications a subscriber wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    Kind(&'static str),
    KindBegins(&'static str),
    Above(u64),
    HasNumber,
    Not(Box<Wanted>),
    Both(Box<[Wanted; 2]>),
    Either(Box<[Wanted; 2]>),
}

impl Wanted {
    pub fn random(random: &mut Random) -> Wanted {
        match random.below(10) {
            0..3 => Wanted::Kind(KINDS[random.below(KINDS.len())]),
            3 => Wanted::KindBegins("a"),
            4 | 5 => Wanted::Above(random.between(0, 12)),
            6 => Wanted::HasNumber,
            7 => Wanted::Not(Box::new(Wanted::random(random))),
            8 => Wanted::Both(Box::new([Wanted::random(random), Wanted::random(random)])),
            _ => Wanted::Either(Box::new([Wanted::random(random), Wanted::random(random)])),
        }
    }

    pub fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        let number = || tags.get("number").map(|number| number.parse::<u64>().expect("numbers of the simulation"));
        match self {
            Wanted::Kind(kind) => tags.get("kind").is_some_and(|tag| tag == kind),
            Wanted::KindBegins(start) => tags.get("kind").is_some_and(|tag| tag.starts_with(start)),
            Wanted::Above(bound) => number().is_some_and(|number| number > *bound),
            Wanted::HasNumber => number().is_some(),
            Wanted::Not(wanted) => !wanted.matches(tags),
            Wanted::Both(both) => both.iter().all(|wanted| wanted.matches(tags)),
            Wanted::Either(either) => either.iter().any(|wanted| wanted.matches(tags)),
        }
    }

    /// As the protocol has it.
    pub fn node(&self) -> FilterNode {
        let leaf = |key: &str, cmp: &str, val: &str| FilterNode {
            key: key.to_owned(),
            cmp: cmp.to_owned(),
            val: val.to_owned(),
            ..FilterNode::default()
        };
        let tree = |op: &str, nodes: &[Wanted]| FilterNode {
            op: op.to_owned(),
            nodes: nodes.iter().map(Wanted::node).collect(),
            ..FilterNode::default()
        };
        match self {
            Wanted::Kind(kind) => leaf("kind", "eq", kind),
            Wanted::KindBegins(start) => leaf("kind", "sw", start),
            Wanted::Above(bound) => leaf("number", "gt", &bound.to_string()),
            Wanted::HasNumber => leaf("number", "ex", ""),
            Wanted::Not(wanted) => tree("not", std::slice::from_ref(&**wanted)),
            Wanted::Both(both) => tree("and", &**both),
            Wanted::Either(either) => tree("or", &**either),
        }
    }
}
