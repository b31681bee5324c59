//! A small server of the protocol for the tool to measure, in one process with the tests: channels with history, publishing by
//! clients and over HTTP, recovery. On demand it spoils what it sends, so that the tool can be seen to notice.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::thread;

use ringcast_proto::client::{
    Command, Encoding, Publication, Push, PushBody, Reply, ReplyResult, Request, SubscribeRequest, SubscribeResult,
    decode_commands, encode_reply,
};
use ringcast_proto::http::{Head, Limits, parse_head, write_response};
use ringcast_proto::websocket::{self, Decoder, Event, Opcode, Role};
use serde_json::Value;

/// What the server does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Every fifth publication is lost on the way to a subscriber.
    Lose,
    /// Every fifth publication is sent twice.
    Duplicate,
    /// Every fifth publication comes before the one that it follows.
    Swap,
    /// Every fifth publication has a changed byte.
    Corrupt,
    /// What is missing is not sent, and the server says so.
    Confess,
}

/// Where it listens. It lives as long as the test program.
pub struct Server {
    pub port: u16,
}

struct Shared {
    fault: Fault,
    channels: Mutex<HashMap<String, Channel>>,
}

#[derive(Default)]
struct Channel {
    history: Vec<Publication>,
    subscribers: Vec<Client>,
}

struct Client {
    socket: TcpStream,
    encoding: Encoding,
}

impl Server {
    pub fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared { fault, channels: Mutex::default() });
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                socket.set_nodelay(true).expect("a socket of TCP");
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&shared, socket));
            }
        });
        Self { port }
    }
}

/// Serves a connection until the tool closes it.
fn serve(shared: &Shared, mut socket: TcpStream) {
    let mut input = Vec::new();
    while read(&mut socket, &mut input) {
        let Some((head, used)) = parse_head(&input, &Limits::default()).expect("the tool sends requests") else {
            continue;
        };
        if head.method() == "GET" {
            let client = upgrade(&head, &socket);
            let rest = input.split_off(used);
            return serve_client(shared, client, rest);
        }
        let length = head.content_length().expect("a body with a length") as usize;
        if let Some(body) = input.get(used..used + length) {
            publish_body(shared, body);
            input.drain(..used + length);
            let mut response = Vec::new();
            write_response(&mut response, 200, &[], b"{\"result\":{}}", true);
            send(&socket, &response);
        }
    }
}

fn upgrade(head: &Head<'_>, socket: &TcpStream) -> Client {
    let accepted = websocket::accept(head).expect("the tool sends upgrades");
    let subprotocol = accepted.subprotocols.first().map(String::as_str);
    let encoding = if subprotocol.is_some() { Encoding::Protobuf } else { Encoding::Json };
    let mut response = Vec::new();
    websocket::write_response(&mut response, &accepted.accept_key, subprotocol);
    send(socket, &response);
    Client { socket: socket.try_clone().expect("descriptors are left"), encoding }
}

fn serve_client(shared: &Shared, mut client: Client, mut input: Vec<u8>) {
    let mut decoder = Decoder::new(Role::Server, 1 << 20);
    loop {
        let mut goes_on = true;
        let decoded = decoder.decode(&mut input, &mut |event| {
            match event {
                Event::Text(frame) | Event::Binary(frame) => serve_frame(shared, &client, frame),
                _ => goes_on = false,
            }
            ControlFlow::Continue(())
        });
        assert!(decoded.is_ok(), "the tool sends frames");
        input.clear();
        if !goes_on || !read(&mut client.socket, &mut input) {
            // Subscribers hold the socket, too.
            let _ = client.socket.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn serve_frame(shared: &Shared, client: &Client, frame: &[u8]) {
    for command in decode_commands(client.encoding, frame) {
        let Command { id, request } = command.expect("the tool sends commands");
        let result = match request.expect("the server does not ping") {
            Request::Connect(_) => ReplyResult::Connect(Box::default()),
            Request::Subscribe(request) => return subscribe(shared, client, id, &request),
            Request::Publish(request) => {
                let content = Publication { data: request.data, ..Publication::default() };
                publish(shared, &request.channel, content);
                ReplyResult::Publish
            }
            other => panic!("{other:?}"),
        };
        reply(client, &Reply::Result { id, result });
    }
}

fn subscribe(shared: &Shared, client: &Client, id: u32, request: &SubscribeRequest) {
    let mut channels = shared.channels.lock().expect("no thread panics");
    let channel = channels.entry(request.channel.clone()).or_default();
    let mut result = SubscribeResult { offset: channel.history.len() as u64, epoch: "e".into(), ..Default::default() };
    if request.recover {
        assert_eq!(request.epoch, "e");
        let missed = &channel.history[request.offset as usize..];
        result.recovered = shared.fault != Fault::Confess;
        result.publications = if result.recovered { spoil(shared.fault, missed) } else { Vec::new() };
        result.was_recovering = true;
    }
    reply(client, &Reply::Result { id, result: ReplyResult::Subscribe(Box::new(result)) });
    let socket = client.socket.try_clone().expect("descriptors are left");
    channel.subscribers.push(Client { socket, encoding: client.encoding });
}

fn publish_body(shared: &Shared, body: &[u8]) {
    let body: Value = serde_json::from_slice(body).expect("the tool sends JSON");
    // Its numbers stand in a string, so the text is the same again but for the order of the keys, which is alphabetic.
    let data = body["data"].to_string();
    let channel = body["channel"].as_str().expect("a publication has a channel");
    publish(shared, channel, Publication { data: data.into(), ..Publication::default() });
}

fn publish(shared: &Shared, channel: &str, mut content: Publication) {
    let mut channels = shared.channels.lock().expect("no thread panics");
    let channel_name = channel.to_owned();
    let channel = channels.entry(channel_name.clone()).or_default();
    content.offset = channel.history.len() as u64 + 1;
    let sent = match content.offset % 5 {
        0 => spoil_one(shared.fault, &content),
        _ => vec![content.clone()],
    };
    channel.history.push(content);
    for content in sent {
        let push = Push { channel: channel_name.clone(), body: PushBody::Pub(content), id: 0 };
        let push = Reply::Push(push);
        channel.subscribers.iter().for_each(|subscriber| reply(subscriber, &push));
    }
}

/// What is sent in place of publications.
fn spoil(fault: Fault, publications: &[Publication]) -> Vec<Publication> {
    let mut spoilt = Vec::new();
    for publication in publications {
        if publication.offset % 5 != 0 {
            spoilt.push(publication.clone());
        } else if fault == Fault::Swap {
            spoilt.insert(spoilt.len().saturating_sub(1), publication.clone());
        } else {
            spoilt.extend(spoil_one(fault, publication));
        }
    }
    spoilt
}

fn spoil_one(fault: Fault, publication: &Publication) -> Vec<Publication> {
    match fault {
        Fault::None | Fault::Swap | Fault::Confess => vec![publication.clone()],
        Fault::Lose => Vec::new(),
        Fault::Duplicate => vec![publication.clone(); 2],
        Fault::Corrupt => {
            let text = String::from_utf8(publication.data.to_vec()).expect("a payload is text");
            let data = text.replacen('x', "y", 1).into();
            vec![Publication { data, ..publication.clone() }]
        }
    }
}

fn reply(client: &Client, reply: &Reply) {
    let (mut message, mut frame) = (Vec::new(), Vec::new());
    encode_reply(client.encoding, reply, &mut message).expect("payloads are JSON");
    let opcode = match client.encoding {
        Encoding::Json => Opcode::Text,
        Encoding::Protobuf => Opcode::Binary,
    };
    websocket::encode_frame(&mut frame, opcode, &message);
    send(&client.socket, &frame);
}

/// A subscriber that is gone takes no more.
fn send(mut socket: &TcpStream, bytes: &[u8]) {
    let _ = socket.write_all(bytes);
}

/// Appends what comes; false at the end.
fn read(socket: &mut TcpStream, input: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16 * 1024];
    match socket.read(&mut buffer) {
        Ok(0) | Err(_) => false,
        Ok(count) => {
            input.extend_from_slice(&buffer[..count]);
            true
        }
    }
}
