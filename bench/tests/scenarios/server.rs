//! A small server of the protocol for the tool to measure, in one process with the tests: channels with history, publishing by
//! clients and over HTTP, recovery. On demand it spoils what it sends, so that the tool can be seen to notice.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ringcast_proto::client::{
    ClientInfo, Command, ConnectResult, Encoding, HistoryRequest, HistoryResult, PresenceResult, Publication, Push,
    PushBody, Reply, ReplyResult, Request, SubscribeRequest, SubscribeResult, decode_commands, encode_reply,
};
use ringcast_proto::http::{Head, Limits, parse_head, write_response};
use ringcast_proto::websocket::{self, Decoder, Event, Opcode, Role};
use serde_json::{Value, json};

/// What the server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Every fifth publication is lost on the way to a subscriber.
    Lose,
    /// Every fifth publication is sent twice.
    Duplicate,
    /// Every fifth publication comes before the one that it follows, or after the one that follows it.
    Swap,
    /// Every fifth publication has a changed byte.
    Corrupt,
    /// Every fifth publication comes to its subscribers after [`LATE`].
    Late,
    /// Every fifth publication comes to the subscribers of all channels.
    Stray,
    /// What is missing is not sent, and the server says so.
    Confess,
    /// The API refuses every fifth publication.
    Refuse,
    /// The API answers a batch with a reply less.
    Forget,
    /// A history lacks its second publication.
    Hole,
    /// Nobody is present.
    Absent,
    /// Clients are cut after their subscription.
    Cut,
    /// Clients are cut [`CUT_LATER`] after their subscription.
    CutLater,
}

/// By then a handful of clients is in.
const CUT_LATER: Duration = Duration::from_secs(2);

/// What is late comes after this time.
const LATE: Duration = Duration::from_millis(500);

/// Where it listens. It lives as long as the test program.
pub struct Server {
    pub port: u16,
}

struct Shared {
    fault: Fault,
    /// So many publications pass before the fault shows.
    sound: u64,
    published: AtomicU64,
    channels: Mutex<HashMap<String, Channel>>,
}

#[derive(Default)]
struct Channel {
    history: Vec<Publication>,
    /// Sent after the next one.
    held: Option<Publication>,
    subscribers: Vec<Client>,
}

struct Client {
    socket: TcpStream,
    encoding: Encoding,
}

impl Server {
    /// A server that shows its fault after so many sound publications.
    pub fn start(fault: Fault, sound: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared { fault, sound, published: AtomicU64::new(0), channels: Mutex::default() });
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
            let answer = publish_body(shared, body);
            input.drain(..used + length);
            let mut response = Vec::new();
            write_response(&mut response, 200, &[], answer.to_string().as_bytes(), true);
            send(&socket, &response);
        }
    }
}

fn upgrade(head: &Head<'_>, socket: &TcpStream) -> Client {
    let accepted = websocket::accept(head).expect("the tool sends upgrades");
    let subprotocol = accepted.subprotocols.first().map(String::as_str);
    let encoding = if subprotocol.is_some() { Encoding::Protobuf } else { Encoding::Json };
    let mut response = Vec::new();
    websocket::write_response(&mut response, &accepted.accept_key, subprotocol, None);
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
            return cut(&client.socket);
        }
    }
}

fn serve_frame(shared: &Shared, client: &Client, frame: &[u8]) {
    for command in decode_commands(client.encoding, frame) {
        let Command { id, request } = command.expect("the tool sends commands");
        let result = match request.expect("the server does not ping") {
            Request::Connect(_) => {
                // It promises pings and sends none: what the floor sends is counted.
                ReplyResult::Connect(Box::new(ConnectResult { ping: 1, pong: true, ..ConnectResult::default() }))
            }
            Request::Subscribe(request) => return subscribe(shared, client, id, &request),
            Request::Publish(request) => {
                let content = Publication { data: request.data, ..Publication::default() };
                publish(shared, &request.channel, content);
                ReplyResult::Publish
            }
            Request::History(request) => ReplyResult::History(history(shared, &request)),
            Request::Presence(_) => ReplyResult::Presence(presence(shared)),
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
    match shared.fault {
        Fault::Cut => cut(&socket),
        Fault::CutLater => {
            let socket = socket.try_clone().expect("descriptors are left");
            thread::spawn(move || {
                thread::sleep(CUT_LATER);
                cut(&socket);
            });
        }
        _ => {}
    }
    channel.subscribers.push(Client { socket, encoding: client.encoding });
}

/// The newest publications, newest first, as the tool asks for them.
fn history(shared: &Shared, request: &HistoryRequest) -> HistoryResult {
    assert!(request.reverse, "the tool asks for the newest");
    let channels = shared.channels.lock().expect("no thread panics");
    let all = channels.get(&request.channel).map(|channel| channel.history.as_slice()).unwrap_or_default();
    let mut publications: Vec<_> = all.iter().rev().take(request.limit as usize).cloned().collect();
    if shared.fault == Fault::Hole && publications.len() > 2 {
        publications.remove(1);
    }
    HistoryResult { publications, epoch: "e".to_owned(), offset: all.len() as u64 }
}

fn presence(shared: &Shared) -> PresenceResult {
    let somebody = (shared.fault != Fault::Absent).then(|| ("client".to_owned(), ClientInfo::default()));
    PresenceResult { presence: somebody.into_iter().collect() }
}

/// Carries out a `publish` or a `batch` of them; what is answered.
fn publish_body(shared: &Shared, body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).expect("the tool sends JSON");
    let Some(commands) = body["commands"].as_array() else {
        return publish_one(shared, &body).unwrap_or_else(|| json!({"result": {}}));
    };
    let reply = |command: &Value| publish_one(shared, &command["publish"]).unwrap_or_else(|| json!({"publish": {}}));
    let skipped = usize::from(shared.fault == Fault::Forget && is_faulty(shared));
    let replies: Vec<Value> = commands.iter().map(reply).skip(skipped).collect();
    json!({ "replies": replies })
}

/// The error, if it is refused.
fn publish_one(shared: &Shared, body: &Value) -> Option<Value> {
    // Its numbers stand in a string, so the text is the same again but for the order of the keys, which is alphabetic.
    let data = body["data"].to_string();
    let channel = body["channel"].as_str().expect("a publication has a channel");
    publish(shared, channel, Publication { data: data.into(), ..Publication::default() });
    let count = shared.published.load(Ordering::Relaxed);
    let refused = shared.fault == Fault::Refuse && is_faulty(shared) && count.is_multiple_of(5);
    refused.then(|| json!({"error": {"code": 108, "message": "not available"}}))
}

fn is_faulty(shared: &Shared) -> bool {
    shared.published.load(Ordering::Relaxed) > shared.sound
}

fn publish(shared: &Shared, channel: &str, mut content: Publication) {
    shared.published.fetch_add(1, Ordering::Relaxed);
    let mut channels = shared.channels.lock().expect("no thread panics");
    let name = channel.to_owned();
    let channel = channels.entry(name.clone()).or_default();
    content.offset = channel.history.len() as u64 + 1;
    channel.history.push(content.clone());
    let spoilt = content.offset.is_multiple_of(5) && is_faulty(shared);
    if spoilt && shared.fault == Fault::Swap {
        channel.held = Some(content);
        return;
    }
    let mut sent = if spoilt { spoil_one(shared.fault, &content) } else { vec![content] };
    sent.extend(channel.held.take());
    let pushes = sent.into_iter().map(|content| push(&name, content)).collect::<Vec<_>>();
    match shared.fault {
        Fault::Late if spoilt => send_late(pushes, &channel.subscribers),
        Fault::Stray if spoilt => channels.values().for_each(|channel| send_all(&pushes, &channel.subscribers)),
        _ => send_all(&pushes, &channel.subscribers),
    }
}

fn push(channel: &str, content: Publication) -> Reply {
    Reply::Push(Push { channel: channel.to_owned(), body: PushBody::Pub(content), id: 0 })
}

fn send_all(pushes: &[Reply], subscribers: &[Client]) {
    for push in pushes {
        subscribers.iter().for_each(|subscriber| reply(subscriber, push));
    }
}

fn send_late(pushes: Vec<Reply>, subscribers: &[Client]) {
    let again = |client: &Client| Some(Client { socket: client.socket.try_clone().ok()?, encoding: client.encoding });
    let subscribers: Vec<Client> = subscribers.iter().filter_map(again).collect();
    thread::spawn(move || {
        thread::sleep(LATE);
        send_all(&pushes, &subscribers);
    });
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
        Fault::Lose => Vec::new(),
        Fault::Duplicate => vec![publication.clone(); 2],
        Fault::Corrupt => {
            let text = String::from_utf8(publication.data.to_vec()).expect("a payload is text");
            let data = text.replacen('x', "y", 1).into();
            vec![Publication { data, ..publication.clone() }]
        }
        _ => vec![publication.clone()],
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

/// Ends a connection, whoever else holds its socket. One that has ended already is none.
fn cut(socket: &TcpStream) {
    let _ = socket.shutdown(Shutdown::Both);
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
