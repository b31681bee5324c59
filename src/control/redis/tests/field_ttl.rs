//! Expiry of the fields of a hash, which Redis has since 7.4: what is said to a server that takes everything.

use super::*;
use bytes::BytesMut;
use ringcast_proto::redis::{Decoder, Value};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Sender as Told;

/// Speaks RESP 2, and tells the words of each command.
fn serve(mut stream: TcpStream, told: &Told<Vec<String>>) -> std::io::Result<()> {
    let (mut buffer, mut decoder) = (BytesMut::new(), Decoder::default());
    loop {
        while let Some(command) = decoder.decode(&mut buffer).expect("a command") {
            let words = command.into_array().expect("a command");
            let words: Vec<_> =
                words.iter().filter_map(Value::text).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            let answer = match words[0].as_str() {
                "HELLO" | "CLUSTER" => "-ERR unknown command\r\n",
                "SUBSCRIBE" => "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n",
                _ => "+OK\r\n",
            };
            let count = if words[0] == "SUBSCRIBE" { words.len() - 1 } else { 1 };
            stream.write_all(answer.repeat(count).as_bytes())?;
            let _ = told.send(words);
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            length => buffer.extend_from_slice(&bytes[..length]),
        }
    }
}

/// O04
#[test]
fn entries_of_presence_expire_by_themselves_where_redis_can_do_that() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let place = Place::Fixed(Address::Tcp(listener.local_addr().expect("it is bound").to_string()));
    let (told, words) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let told = told.clone();
            std::thread::spawn(move || serve(stream, &told));
        }
    });
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
