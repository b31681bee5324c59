//! The process that answers HTTP requests without reading them: it waits for as many bytes as a request has and writes a fixed answer.
//! Where the publications of a request have subscribers, it writes each of them a frame before.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::AsRawFd;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};

use super::writer::{accept, read_block, write_all};
use crate::drive::Own;
use crate::payload;

/// What it has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The first connections are those of the subscribers.
    pub channels: Own,
    pub request_bytes: usize,
    /// Where the payloads stand in a request.
    pub payloads: Vec<usize>,
    pub payload_bytes: usize,
    pub answer: Vec<u8>,
    /// What a subscriber is written.
    pub frame: Vec<u8>,
    /// Where the payload stands in the frame.
    pub payload_at: usize,
}

impl Setup {
    /// As the block that starts the process.
    pub fn to_block(&self) -> Vec<u8> {
        let Own { lanes, each, subscribers } = self.channels;
        let value = json!({
            "lanes": lanes,
            "each": each,
            "subscribers": subscribers,
            "request_bytes": self.request_bytes,
            "payloads": self.payloads,
            "payload_bytes": self.payload_bytes,
            "answer": self.answer,
            "frame": self.frame,
            "payload_at": self.payload_at,
        });
        value.to_string().into_bytes()
    }

    /// `None` for other blocks.
    fn of_block(block: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(block).ok()?;
        let number = |key: &str| usize::try_from(value[key].as_u64()?).ok();
        let small = |key: &str| u32::try_from(number(key)?).ok();
        let bytes = |key: &str| -> Option<Vec<u8>> {
            value[key].as_array()?.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect()
        };
        let payloads = value["payloads"].as_array()?.iter().map(|at| Some(at.as_u64()? as usize));
        Some(Self {
            channels: Own { lanes: small("lanes")?, each: small("each")?, subscribers: small("subscribers")? },
            request_bytes: number("request_bytes")?,
            payloads: payloads.collect::<Option<_>>()?,
            payload_bytes: number("payload_bytes")?,
            answer: bytes("answer")?,
            frame: bytes("frame")?,
            payload_at: number("payload_at")?,
        })
    }
}

/// Who the subscribers are, in their order: a line each. The order of accepting is another one once the backlog was full.
pub fn addresses_block(addresses: &[SocketAddr]) -> Vec<u8> {
    addresses.iter().map(|address| format!("{address}\n")).collect::<String>().into_bytes()
}

/// Reads its setup from standard input, prints the port, and an empty line when all subscribers are there; reads who they are and
/// serves until standard input ends.
pub fn serve() -> io::Result<()> {
    let mut block = Vec::new();
    let mut input = io::stdin().lock();
    let setup = if read_block(&mut input, &mut block)? { Setup::of_block(&block) } else { None };
    let setup = setup.ok_or(ErrorKind::InvalidData)?;
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", listener.local_addr()?.port())?;
    out.flush()?;
    let count = (setup.channels.lanes * setup.channels.each * setup.channels.subscribers) as usize;
    let subscribers = accept(&listener, count)?;
    writeln!(out)?;
    out.flush()?;
    read_block(&mut input, &mut block)?;
    let subscribers = in_order(subscribers, &block)?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    poll.registry().register(&mut SourceFd(&io::stdin().as_raw_fd()), INPUT, Interest::READABLE)?;
    Answerer { poll, setup, listener, subscribers, connections: Vec::new() }.run()
}

fn in_order(subscribers: Vec<StdStream>, block: &[u8]) -> io::Result<Vec<StdStream>> {
    let mut by_address = HashMap::new();
    for subscriber in subscribers {
        by_address.insert(subscriber.peer_addr()?.to_string(), subscriber);
    }
    let order = std::str::from_utf8(block).map_err(io::Error::other)?.lines();
    let in_order: Option<Vec<_>> = order.map(|address| by_address.remove(address)).collect();
    in_order.ok_or(ErrorKind::NotFound.into())
}

const LISTENER: Token = Token(usize::MAX >> 1);
const INPUT: Token = Token(usize::MAX >> 2);

struct Answerer {
    poll: Poll,
    setup: Setup,
    listener: TcpListener,
    subscribers: Vec<StdStream>,
    connections: Vec<Connection>,
}

/// A connection of the API.
struct Connection {
    socket: TcpStream,
    request: Vec<u8>,
    filled: usize,
}

impl Answerer {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    INPUT => return Ok(()),
                    LISTENER => self.accept()?,
                    Token(connection) => self.handle_readable(connection)?,
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            socket.set_nodelay(true)?;
            let token = Token(self.connections.len());
            self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
            self.connections.push(Connection { socket, request: vec![0; self.setup.request_bytes], filled: 0 });
        }
    }

    /// The next request comes after the answer to this one, so that a whole request leaves nothing to read.
    fn handle_readable(&mut self, connection: usize) -> io::Result<()> {
        let Connection { socket, request, filled } = &mut self.connections[connection];
        while *filled < request.len() {
            match socket.read(&mut request[*filled..]) {
                // The end; nothing more will be readable.
                Ok(0) => return Ok(()),
                Ok(count) => *filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        *filled = 0;
        if self.setup.channels.subscribers > 0 {
            deliver(&mut self.setup, request, &self.subscribers)?;
        }
        write_all(socket, &self.setup.answer)
    }
}

/// Writes the publications of a request to their subscribers.
fn deliver(setup: &mut Setup, request: &[u8], subscribers: &[StdStream]) -> io::Result<()> {
    let Setup { channels, payloads, payload_bytes, frame, payload_at, .. } = setup;
    for at in payloads {
        let payload = &request[*at..*at + *payload_bytes];
        frame[*payload_at..*payload_at + *payload_bytes].copy_from_slice(payload);
        let (lane, sequence) = payload::place(payload).ok_or(ErrorKind::InvalidData)?;
        let channel = channels.channel(lane, sequence) as usize;
        let each = channels.subscribers as usize;
        for mut subscriber in &subscribers[channel * each..(channel + 1) * each] {
            write_all(&mut subscriber, frame)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setup_passes_to_the_process_as_it_is() {
        let setup = Setup {
            channels: Own { lanes: 8, each: 125, subscribers: 1 },
            request_bytes: 400,
            payloads: vec![200, 300],
            payload_bytes: 64,
            answer: b"HTTP/1.1 200 OK\r\n\r\n\xff".to_vec(),
            frame: vec![0x81, 100],
            payload_at: 31,
        };
        assert_eq!(Setup::of_block(&setup.to_block()), Some(setup));
        assert_eq!(Setup::of_block(b"{}"), None);
    }
}
