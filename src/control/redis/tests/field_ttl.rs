//! Expiry of the fields of a hash, which Redis has since 7.4: what is said to a server that takes everything.

use super::stub::{default_answer, serve};
use super::*;

/// O04
#[test]
fn entries_of_presence_expire_by_themselves_where_redis_can_do_that() {
    let (told, words) = channel();
    let address = serve(move |words| {
        let answer = default_answer(words);
        let _ = told.send(words.to_vec());
        answer
    });
    let place = Place::Fixed(address);
    let options = RedisOptions { presence_hash_field_ttl: true, ..options_at(vec![endpoint(place)]) };
    let mut node = Node::start(&options, "node");
    let (client, who) = info("u", 7);
    node.done(BrokerAsk::AddPresence { channel: "ch".into(), client, info: who.clone() });
    node.done(BrokerAsk::RemovePresence { channel: "ch".into(), client, info: who });
    let next = |name: &str| loop {
        let words = words.recv_timeout(PATIENCE).expect("it is said in time");
        if words[0] == name {
            break words;
        }
    };
    let scripts = std::iter::repeat_with(|| next("SCRIPT")).take(super::super::scripts::ALL.len());
    let with_expiry = scripts.filter(|words| words[2].contains("HEXPIRE")).count();
    assert_eq!(with_expiry, 1);
    let [add, remove] = [next("EVALSHA"), next("EVALSHA")];
    assert_eq!((add[7].as_str(), add.last().map(String::as_str)), ("60", Some("1")), "{add:?}");
    assert_eq!(remove.last().map(String::as_str), Some("1"), "{remove:?}");
}
