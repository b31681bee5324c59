//! Order of a channel's questions while its slot moves, with nodes that answer when the test wants it.

use super::stub::{default_answer, serve};
use super::*;
use ringcast_proto::redis::slot_of_tag;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Two parts of `CLUSTER SLOTS`: the slot of `apart` is served at the first address, all others at the second.
fn slots(apart: u16, one: &Address, others: &Address) -> String {
    let part = |first: u16, last: u16, node: &Address| {
        let node = node.to_string();
        let (host, port) = node.rsplit_once(':').expect("host and port");
        format!("*3\r\n:{first}\r\n:{last}\r\n*2\r\n${}\r\n{host}\r\n:{port}\r\n", host.len())
    };
    ["*3\r\n".into(), part(0, apart - 1, others), part(apart, apart, one), part(apart + 1, 16383, others)].concat()
}

/// E05
/// A node tells where all slots are by now, while another still owes where to ask instead.
#[test]
fn questions_keep_their_order_when_the_new_place_is_known_before_the_old_one_has_answered() {
    let (early, late) = (slot_of_tag("early"), slot_of_tag("late"));
    let (told, words) = channel();
    let tell = Mutex::new(told);
    let new = serve(move |words| {
        let _ = tell.lock().expect("nobody panicked").send(words.to_vec());
        default_answer(words)
    });
    let other = serve(default_answer);
    let (release, released) = channel();
    let released = Mutex::new(released);
    let has_moved = AtomicBool::new(false);
    let own = Arc::new(Mutex::new(None));
    let (own_later, there, elsewhere) = (own.clone(), new.clone(), other.clone());
    let old = serve(move |words| match words[0].as_str() {
        "CLUSTER" => match has_moved.load(Ordering::Acquire) {
            true => slots(early, &elsewhere, &there),
            false => {
                let own = own_later.lock().expect("nobody panicked").clone().expect("it serves");
                slots(early, &own, &own)
            }
        },
        "EVALSHA" if words[3].contains("early") => {
            has_moved.store(true, Ordering::Release);
            format!("-MOVED {early} {elsewhere}\r\n")
        }
        "EVALSHA" => {
            let () = released.lock().expect("nobody panicked").recv_timeout(PATIENCE).expect("it is released");
            format!("-MOVED {late} {there}\r\n")
        }
        _ => default_answer(words),
    });
    *own.lock().expect("nobody panicked") = Some(old.clone());
    let mut node = Node::start(&options_at(vec![endpoint(Place::Cluster(vec![old]))]), "node");
    let (client, who) = info("u", 7);
    node.done(BrokerAsk::AddPresence { channel: "early".into(), client, info: who.clone() });
    let add = node.send(BrokerAsk::AddPresence { channel: "late".into(), client, info: who.clone() });
    let next = || words.recv_timeout(PATIENCE).expect("it is said in time");
    while next()[0] != "SCRIPT" {}
    let remove = node.send(BrokerAsk::RemovePresence { channel: "late".into(), client, info: who.clone() });
    // Once this is done, what was asked before is under way.
    node.done(BrokerAsk::RemovePresence { channel: "early".into(), client, info: who });
    release.send(()).expect("the node is there");
    let answered: Vec<_> = std::iter::repeat_with(|| node.news.recv_timeout(PATIENCE).expect("an answer").1)
        .filter_map(|news| match news {
            BrokerNews::Answer(request, answer) => Some((request, matches!(answer, BrokerAnswer::Done))),
            _ => None,
        })
        .take(2)
        .collect();
    assert_eq!(answered, [(add, true), (remove, true)]);
}
