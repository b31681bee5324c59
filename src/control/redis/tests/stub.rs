//! Servers that stand for Redis where no real one can be made to do what is tested.

use super::*;
use bytes::BytesMut;
use ringcast_proto::redis::{Decoder, Value};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// Serves on a port of its own for as long as the tests run. Each command is answered with what its words lead to, in RESP 2.
pub fn serve(answer: impl Fn(&[String]) -> String + Send + Sync + 'static) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = Address::Tcp(listener.local_addr().expect("it is bound").to_string());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || converse(stream, &*answer));
        }
    });
    address
}

fn converse(mut stream: TcpStream, answer: &dyn Fn(&[String]) -> String) -> std::io::Result<()> {
    let (mut buffer, mut decoder) = (BytesMut::new(), Decoder::default());
    loop {
        while let Some(command) = decoder.decode(&mut buffer).expect("a command") {
            let words = command.into_array().expect("a command");
            let words: Vec<_> =
                words.iter().filter_map(Value::text).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            stream.write_all(answer(&words).as_bytes())?;
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            length => buffer.extend_from_slice(&bytes[..length]),
        }
    }
}

/// What a server says that takes everything and is alone.
pub fn default_answer(words: &[String]) -> String {
    match words[0].as_str() {
        "HELLO" | "CLUSTER" => "-ERR unknown command\r\n".into(),
        "SUBSCRIBE" | "SSUBSCRIBE" => "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n".repeat(words.len() - 1),
        _ => "+OK\r\n".into(),
    }
}
