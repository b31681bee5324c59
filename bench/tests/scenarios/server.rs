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
    ClientInfo, Command, Connect, ConnectResult, Encoding, HistoryRequest, HistoryResult, PresenceResult, Publication,
    Push, PushBody, Reply, ReplyResult, Request, RpcResult, SubscribeRequest, SubscribeResult, decode_commands,
    decode_connect_request, decode_emulation_request, encode_reply, encode_uni_push,
};
use ringcast_proto::http::{Head, Limits, parse_head, write_response, write_response_head};
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

/// What is late comes after this time: longer than the patience of the tests (300 ms), and soon enough that the tool still waits for
/// what was published in the first moments.
const LATE: Duration = Duration::from_millis(350);

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
    wire: Wire,
}

/// How messages travel to a client.
#[derive(Clone, Copy)]
struct Wire {
    form: Form,
    /// Pushes only.
    is_uni: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Frames,
    /// In chunks of a response, each behind its length or before a newline.
    Messages,
    /// In chunks of a response, as events.
    Events,
}

/// What a stream is told of where it is.
const SESSION: &str = "session";
const NODE: &str = "node";

/// When the clients of streams are pinged: a handful of them is in.
const PING_LATER: Duration = Duration::from_millis(500);

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
        if head.has_token("connection", "upgrade") {
            let client = upgrade(&head, &socket);
            let rest = input.split_off(used);
            return serve_client(shared, client, rest);
        }
        let length = head.content_length().unwrap_or_default() as usize;
        if let Some(body) = input.get(used..used + length) {
            let encoding = match head.header("Content-Type") {
                Some(b"application/octet-stream") => Encoding::Protobuf,
                _ => Encoding::Json,
            };
            let mut response = Vec::new();
            match head.path() {
                path if path.starts_with("/connection/") => {
                    let client = Client {
                        wire: wire(path),
                        encoding,
                        socket: socket.try_clone().expect("descriptors are left"),
                    };
                    let commands = head.query().get("cf_connect");
                    serve_stream(shared, client, commands.as_ref().map_or(body, |commands| commands.as_bytes()));
                    return await_end(socket);
                }
                "/emulation" => {
                    let request = decode_emulation_request(encoding, body).expect("the tool sends requests");
                    assert_eq!((&*request.session, &*request.node), (SESSION, NODE));
                    let is_pong = matches!(&*request.data, b"{}" | b"\0");
                    let status = if is_pong && shared.fault != Fault::Forget { 204 } else { 404 };
                    write_response(&mut response, status, &[], b"", true);
                }
                _ => {
                    let answer = publish_body(shared, body);
                    write_response(&mut response, 200, &[], answer.to_string().as_bytes(), true);
                }
            }
            input.drain(..used + length);
            send(&socket, &response);
        }
    }
}

fn wire(path: &str) -> Wire {
    let form = match path {
        path if path.ends_with("websocket") => Form::Frames,
        path if path.ends_with("sse") => Form::Events,
        _ => Form::Messages,
    };
    Wire { form, is_uni: path.contains("/uni_") }
}

/// Begins a stream and carries out what came with the request.
fn serve_stream(shared: &Shared, client: Client, commands: &[u8]) {
    let mut head = Vec::new();
    write_response_head(&mut head, 200, &[("Transfer-Encoding", "chunked")]);
    send(&client.socket, &head);
    serve_message(shared, &client, commands);
}

/// Carries out what a client said at once: commands, or how a unidirectional one wants to be connected.
fn serve_message(shared: &Shared, client: &Client, message: &[u8]) {
    if client.wire.is_uni { connect_uni(shared, client, message) } else { serve_commands(shared, client, message) }
}

fn connect_uni(shared: &Shared, client: &Client, request: &[u8]) {
    let request = decode_connect_request(client.encoding, request).expect("the tool sends requests");
    let subs = request.subs.keys().map(|channel| (channel.clone(), SubscribeResult::default())).collect();
    let connect = PushBody::Connect(Box::new(Connect { ping: 1, subs, ..Connect::default() }));
    let mut channels = shared.channels.lock().expect("no thread panics");
    reply(client, &Reply::Push(Push { channel: String::new(), body: connect, id: 0 }));
    for channel in request.subs.into_keys() {
        channels.entry(channel).or_default().subscribers.push(client.again());
    }
}

/// Returns when the tool has left.
fn await_end(mut socket: TcpStream) {
    let mut input = Vec::new();
    while read(&mut socket, &mut input) {}
    cut(&socket);
}

impl Client {
    fn again(&self) -> Self {
        Self { socket: self.socket.try_clone().expect("descriptors are left"), ..*self }
    }
}

fn upgrade(head: &Head<'_>, socket: &TcpStream) -> Client {
    let accepted = websocket::accept(head, websocket::Strictness::Strict).expect("the tool sends upgrades");
    let subprotocol = accepted.subprotocols.first().map(String::as_str);
    let encoding = if subprotocol.is_some() { Encoding::Protobuf } else { Encoding::Json };
    let mut response = Vec::new();
    websocket::write_response(&mut response, &accepted.accept_key, subprotocol, None);
    send(socket, &response);
    Client { socket: socket.try_clone().expect("descriptors are left"), encoding, wire: wire(head.path()) }
}

fn serve_client(shared: &Shared, mut client: Client, mut input: Vec<u8>) {
    let mut decoder = Decoder::new(Role::Server, 1 << 20);
    loop {
        let mut goes_on = true;
        let decoded = decoder.decode(&mut input, &mut |event| {
            match event {
                Event::Text(frame) | Event::Binary(frame) => serve_message(shared, &client, frame),
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

fn serve_commands(shared: &Shared, client: &Client, frame: &[u8]) {
    for command in decode_commands(client.encoding, frame) {
        let Command { id, request } = command.expect("the tool sends commands");
        let result = match request.expect("the server does not ping") {
            Request::Connect(_) => {
                // It promises pings and sends none but to streams: what the floor sends is counted.
                let (session, node) = (SESSION.to_owned(), NODE.to_owned());
                ReplyResult::Connect(Box::new(ConnectResult {
                    ping: 1,
                    pong: true,
                    session,
                    node,
                    ..Default::default()
                }))
            }
            Request::Subscribe(request) => return subscribe(shared, client, id, &request),
            Request::Publish(request) => {
                let content = Publication { data: request.data, ..Publication::default() };
                publish(shared, &request.channel, content);
                ReplyResult::Publish
            }
            Request::Rpc(_) => ReplyResult::Rpc(RpcResult { data: r#"{"ok":1}"#.into() }),
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
        _ if client.wire.form != Form::Frames => {
            let client = client.again();
            thread::spawn(move || {
                thread::sleep(PING_LATER);
                reply(&client, &Reply::Ping);
            });
        }
        _ => {}
    }
    channel.subscribers.push(client.again());
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
    let subscribers: Vec<Client> = subscribers.iter().map(Client::again).collect();
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
    let mut message = Vec::new();
    let encoded = match (client.wire.is_uni, reply) {
        (true, Reply::Push(push)) => encode_uni_push(client.encoding, Some(push), &mut message),
        _ => encode_reply(client.encoding, reply, &mut message),
    };
    encoded.expect("payloads are JSON");
    send(&client.socket, &carried(client, &message));
}

fn carried(client: &Client, message: &[u8]) -> Vec<u8> {
    let (before, behind): (&[u8], &[u8]) = match (client.wire.form, client.encoding) {
        (Form::Events, _) => (b"data: ", b"\n\n"),
        (Form::Messages, Encoding::Json) => (b"", b"\n"),
        (Form::Messages, Encoding::Protobuf) => (b"", b""),
        (Form::Frames, encoding) => {
            let opcode = if encoding == Encoding::Json { Opcode::Text } else { Opcode::Binary };
            let mut frame = Vec::new();
            websocket::encode_frame(&mut frame, opcode, message);
            return frame;
        }
    };
    let chunk = [before, message, behind].concat();
    [format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n"].concat()
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
