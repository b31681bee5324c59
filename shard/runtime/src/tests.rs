//! Whole shards over loopback: what a peer sees, good and bad.

mod carried;
mod requests;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use ringcast_proto::http::Limits;
use ringcast_proto::websocket::{self, Decoder, Event, Opcode, Role};
use socket2::SockRef;

use crate::options::{Asset, Endpoints, ListenerOptions};
use crate::placement::Machine;
use crate::{Listen, Options, Pool, StartError};

/// Far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;

fn options(shards: usize) -> Options {
    let listen = Listen { address: "127.0.0.1".into(), port: 0 };
    let endpoints = Endpoints {
        websocket: true,
        http_api: true,
        health: true,
        prometheus: true,
        assets: true,
        ..Endpoints::default()
    };
    let mut options = Options { shards, ..Options::default() };
    options.listeners.push(ListenerOptions { listen, endpoints, tls: None, h2c: false, http3: None });
    options.http_api.insecure = true;
    options.assets.push(Asset {
        path: "/".into(),
        content_type: "text/plain".into(),
        bytes: vec![b'x'; 1 << 20].into(),
    });
    options
}

fn state() -> ringcast_state::Options {
    let mut state = ringcast_state::Options::default();
    state.client.insecure = true;
    state
}

struct Server {
    pool: Option<Pool>,
    address: SocketAddr,
}

impl Server {
    fn start(options: Options, state: ringcast_state::Options) -> Self {
        let pool = Pool::start(options, state).unwrap();
        let address = pool.addresses()[0];
        Self { pool: Some(pool), address }
    }

    fn default() -> Self {
        Self::start(options(2), state())
    }

    fn dial(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Everything the server says to `request` until it closes.
    fn exchange(&self, request: &str) -> String {
        let mut socket = self.dial();
        socket.write_all(request.replace('|', "\r\n").as_bytes()).unwrap();
        let mut response = Vec::new();
        socket.read_to_end(&mut response).unwrap();
        String::from_utf8(response).unwrap()
    }

    fn publish(&self, channel: &str, data: &str) -> String {
        let body = format!(r#"{{"channel":"{channel}","data":{data}}}"#);
        let request = format!("POST /api/publish HTTP/1.1|Host: h|Connection: close|Content-Length: {}||", body.len());
        self.exchange(&format!("{request}{body}"))
    }

    fn stop(&mut self) -> bool {
        self.pool.take().unwrap().stop(PATIENCE)
    }
}

/// A WebSocket client.
struct Client {
    socket: TcpStream,
    decoder: Decoder,
    messages: Vec<String>,
    pongs: usize,
    closed: Option<(u16, String)>,
}

impl Client {
    fn upgraded(server: &Server) -> Self {
        let mut socket = server.dial();
        let mut request = Vec::new();
        websocket::write_request(&mut request, "h", "/connection/websocket", [7; 16], None);
        socket.write_all(&request).unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            response.push(byte[0]);
        }
        websocket::check_response(&response, [7; 16], &Limits::default()).unwrap().unwrap();
        let decoder = Decoder::new(Role::Client, 64 << 20);
        Self { socket, decoder, messages: Vec::new(), pongs: 0, closed: None }
    }

    fn connected(server: &Server) -> Self {
        let mut client = Self::upgraded(server);
        client.send(CONNECT);
        assert!(client.next_message().starts_with(r#"{"id":1,"connect":{"client":""#));
        client
    }

    fn subscribed(server: &Server, channel: &str) -> Self {
        let mut client = Self::connected(server);
        client.send(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
        assert_eq!(client.next_message(), r#"{"id":2,"subscribe":{}}"#);
        client
    }

    fn send(&mut self, message: &str) {
        self.send_frame(Opcode::Text, message.as_bytes());
    }

    fn send_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::new();
        websocket::encode_masked_frame(&mut frame, opcode, payload, [1, 2, 3, 4]);
        self.socket.write_all(&frame).unwrap();
    }

    /// Reads once. False at the end.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 65536];
        let read = match self.socket.read(&mut bytes) {
            Ok(read) => read,
            // A machine that was suspended or stopped for a moment.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return true,
            Err(error) => panic!("{error}, {:?} {:?}", self.messages, self.closed),
        };
        let Self { decoder, messages, pongs, closed, .. } = self;
        let _ = decoder
            .decode(&mut bytes[..read], &mut |event| {
                match event {
                    Event::Text(text) => {
                        let text = std::str::from_utf8(text).unwrap();
                        messages.extend(text.split('\n').map(str::to_owned));
                    }
                    Event::Pong(_) => *pongs += 1,
                    Event::Close { code, reason } => {
                        *closed = Some((code.unwrap_or(0), String::from_utf8_lossy(reason).into_owned()));
                    }
                    Event::Binary(_) | Event::Ping(_) => panic!("unexpected {event:?}"),
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        read > 0
    }

    fn next_message(&mut self) -> String {
        while self.messages.is_empty() {
            assert!(self.read(), "the end, {:?}", self.closed);
        }
        self.messages.remove(0)
    }

    /// Code and reason of the close frame; the connection ends in good order.
    fn goodbye(&mut self) -> Option<(u16, String)> {
        while self.read() {}
        self.closed.take()
    }
}

#[track_caller]
fn check_goodbye(client: &mut Client, code: u16) {
    assert_eq!(client.goodbye().map(|(code, _)| code), Some(code));
}

#[test]
fn client_connects_and_gets_publications_of_every_shard() {
    let server = Server::default();
    let mut clients: Vec<_> = (0..8).map(|_| Client::subscribed(&server, "chat")).collect();
    for number in 0..5 {
        assert!(server.publish("chat", &number.to_string()).ends_with("{\"result\":{}}"));
    }
    for client in &mut clients {
        for number in 0..5 {
            let want = format!(r#"{{"push":{{"channel":"chat","pub":{{"data":{number}}}}}}}"#);
            assert_eq!(client.next_message(), want);
        }
    }
}

#[test]
fn commands_may_come_with_the_upgrade_and_in_pieces() {
    let server = Server::default();
    let mut frame = Vec::new();
    websocket::write_request(&mut frame, "h", "/connection/websocket", [7; 16], None);
    websocket::encode_masked_frame(&mut frame, Opcode::Text, CONNECT.as_bytes(), [9; 4]);
    let mut socket = server.dial();
    for byte in frame {
        socket.write_all(&[byte]).unwrap();
    }
    let mut response = Vec::new();
    while !response.ends_with(b"}}") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        response.push(byte[0]);
    }
    assert!(String::from_utf8_lossy(&response).contains(r#"{"id":1,"connect":{"client":""#));
}

#[test]
fn broken_rules_are_told_in_the_close_frame() {
    let server = Server::default();
    let bad_frames: [(&[u8], u16); 5] = [
        (b"\x81\x02hi", 1002),
        (b"\xf1\x80\0\0\0\0", 1002),
        (b"\x81\x81\0\0\0\0\xff", 1007),
        (b"\x82\xff\0\0\0\0\0\x10\0\0\0\0\0\0", 1009),
        (b"\x89\xfe\0\x7e\0\0\0\0", 1002),
    ];
    for (bytes, code) in bad_frames {
        let mut client = Client::connected(&server);
        client.socket.write_all(bytes).unwrap();
        check_goodbye(&mut client, code);
    }
    for (message, code) in [("", 3501), ("garbage", 3501), ("{}", 3501), (CONNECT, 3501)] {
        let mut client = Client::connected(&server);
        client.send(message);
        check_goodbye(&mut client, code);
    }
}

#[test]
fn pings_are_answered_and_a_close_is_echoed() {
    let server = Server::default();
    let mut client = Client::connected(&server);
    let mut pings = Vec::new();
    for number in 0..1000u16 {
        websocket::encode_masked_frame(&mut pings, Opcode::Ping, &number.to_be_bytes(), [1, 2, 3, 4]);
    }
    client.socket.write_all(&pings).unwrap();
    while client.pongs < 1000 {
        assert!(client.read());
    }
    client.send_frame(Opcode::Close, &[0x10, 0x92]);
    check_goodbye(&mut client, 4242);
}

#[test]
fn peers_that_vanish_leave_no_connection_behind() {
    let server = Server::default();
    let clients: Vec<_> = (0..6).map(|_| Client::subscribed(&server, "chat")).collect();
    for (index, client) in clients.into_iter().enumerate() {
        match index % 3 {
            0 => SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).unwrap(),
            1 => client.socket.shutdown(Shutdown::Write).unwrap(),
            _ => {}
        }
    }
    let pool = server.pool.as_ref().unwrap();
    let start = Instant::now();
    while pool.connections().iter().sum::<usize>() > 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

#[test]
fn http_is_served_beside_the_clients() {
    let server = Server::default();
    let health = server.exchange("GET /health HTTP/1.1|Host: h|Connection: close||");
    assert!(health.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n") && health.ends_with("{}"));
    let page = server.exchange("GET / HTTP/1.1|Host: h|Connection: close||");
    assert_eq!(page.len() - page.find("\r\n\r\n").unwrap() - 4, 1 << 20);
    let garbage = server.exchange("\u{16}\u{3}\u{1}||");
    assert!(garbage.starts_with("HTTP/1.1 400 Bad Request"));
    let bad = server.publish("chat", "");
    assert!(bad.starts_with("HTTP/1.1 400") && bad.ends_with("Bad Request\n"), "{bad}");
    let half_closed = {
        let mut socket = server.dial();
        socket.write_all(b"POST /api/info HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut response = String::new();
        socket.read_to_string(&mut response).unwrap();
        response
    };
    assert!(half_closed.contains("\"num_clients\":0"), "{half_closed}");
}

#[test]
fn responses_that_nobody_reads_hold_back_their_reader_only() {
    let server = Server::start(options(1), state());
    let mut deaf = server.dial();
    deaf.set_nonblocking(true).unwrap();
    let requests = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000);
    let mut written = 0;
    // The page is 1 MiB: the server must stop reading long before it has taken a thousand requests.
    let full = loop {
        match deaf.write(&requests.as_bytes()[written % requests.len()..]) {
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if server.publish("chat", "1").ends_with("{}}") && deaf.write(b"G").is_err() {
                    break true;
                }
                written += 1;
            }
            Err(_) => break false,
        }
        assert!(written < 100 << 20);
    };
    assert!(full);
}

#[test]
fn client_that_does_not_read_is_cut_and_the_others_get_everything() {
    let mut state = state();
    state.client.queue_max_size = 256 << 10;
    let server = Server::start(options(1), state);
    let deaf = Client::subscribed(&server, "chat");
    let mut reader = Client::subscribed(&server, "chat");
    let data = format!("\"{}\"", "x".repeat(60_000));
    let pool = server.pool.as_ref().unwrap();
    let start = Instant::now();
    while pool.connections() == [2] {
        assert!(server.publish("chat", &data).ends_with("{\"result\":{}}"));
        assert!(start.elapsed() < PATIENCE, "the deaf client has not been cut");
        assert_eq!(reader.next_message().len(), data.len() + r#"{"push":{"channel":"chat","pub":{"data":}}}"#.len());
    }
    drop(deaf);
    assert!(server.publish("chat", "1").ends_with("{\"result\":{}}"));
    assert_eq!(reader.next_message(), r#"{"push":{"channel":"chat","pub":{"data":1}}}"#);
}

/// U23
#[test]
fn connection_limit_counts_the_clients_of_all_shards() {
    let server = Server::start(Options { connection_limit: 3, ..options(2) }, state());
    let clients: Vec<_> = (0..3).map(|_| Client::connected(&server)).collect();
    let mut request = Vec::new();
    websocket::write_request(&mut request, "h", "/connection/websocket", [7; 16], None);
    let request = String::from_utf8(request).unwrap();
    assert!(server.exchange(&request).starts_with("HTTP/1.1 503"));
    drop(clients);
    let start = Instant::now();
    while server.pool.as_ref().unwrap().connections() != [0, 0] {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    drop(Client::connected(&server));
}

/// Z11
#[test]
fn tries_to_connect_run_out_for_all_shards() {
    let server = Server::start(Options { connection_rate_limit: 3, ..options(2) }, state());
    let mut request = Vec::new();
    websocket::write_request(&mut request, "h", "/connection/websocket", [7; 16], None);
    let request = String::from_utf8(request).unwrap();
    let try_once = || server.exchange(&request.replace("Connection: Upgrade", "Connection: close"));
    for _ in 0..3 {
        assert!(try_once().starts_with("HTTP/1.1 400"));
    }
    // One comes back each second, and a slow machine may need longer for a try.
    let start = Instant::now();
    while !try_once().starts_with("HTTP/1.1 503") {
        assert!(start.elapsed() < PATIENCE, "never refused");
    }
}

#[test]
fn stop_says_goodbye_to_everyone_and_waits_for_no_one() {
    let mut server = Server::default();
    let mut clients: Vec<_> = (0..4).map(|_| Client::subscribed(&server, "chat")).collect();
    let mut stale = Client::upgraded(&server);
    let mut half_head = server.dial();
    half_head.write_all(b"GET /health HTT").unwrap();
    let mut half_body = server.dial();
    half_body.write_all(b"POST /api/publish HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n{").unwrap();
    let silent = server.dial();
    let half_frame = Client::connected(&server);
    (&half_frame.socket).write_all(b"\x81\xfe").unwrap();
    let deaf = Client::subscribed(&server, "loud");
    let data = format!("\"{}\"", "x".repeat(500_000));
    for _ in 0..3 {
        server.publish("loud", &data);
    }
    assert!(server.stop(), "although some peers never answer");
    for client in &mut clients {
        assert_eq!(client.goodbye(), Some((3001, "shutdown".into())));
    }
    assert_eq!(stale.goodbye(), Some((3001, "shutdown".into())));
    assert!(TcpStream::connect(server.address).is_err());
    drop((half_head, half_body, silent, half_frame, deaf));
}

#[test]
fn snapshots_of_all_shards_add_up_to_what_clients_got() {
    let server = Server::start(options(3), state());
    let mut clients: Vec<_> = (0..9).map(|_| Client::subscribed(&server, "chat")).collect();
    for n in 0..4 {
        server.publish("chat", &n.to_string());
    }
    for client in &mut clients {
        (0..4).for_each(|_| drop(client.next_message()));
    }
    let line = server.pool.as_ref().unwrap().metrics_line();
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        let shards = line.snapshots(PATIENCE);
        let shards: Vec<_> = shards.iter().map(|shard| shard.as_ref().expect("it answers")).collect();
        let deliveries: u64 = shards.iter().map(|shard| shard.state.metrics.publish_to_write.count()).sum();
        // What a turn wrote is recorded with the next.
        if deliveries < 36 && Instant::now() < give_up_at {
            continue;
        }
        assert_eq!(deliveries, 36);
        let clients: u64 = shards.iter().map(|shard| shard.state.metrics.num_clients()).sum();
        assert_eq!(clients, 9);
        assert!(shards.iter().map(|shard| shard.runtime.ring.sends).sum::<u64>() >= 36);
        assert!(shards.iter().all(|shard| shard.runtime.turns.count() > 0));
        return;
    }
}

#[test]
fn page_that_nobody_makes_is_refused_and_others_are_made() {
    const GET: &str = "GET /metrics HTTP/1.1|Host: h|Connection: close||";
    let mut server = Server::start(options(1), state());
    let pages = server.pool.as_mut().unwrap().take_page_line().unwrap();
    assert!(server.pool.as_mut().unwrap().take_page_line().is_none(), "once");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.exchange(GET));
        let question = pages.questions().recv_timeout(PATIENCE).unwrap();
        assert_eq!(question.page, crate::Page::Metrics);
        let answer = crate::PageAnswer { status: 200, content_type: "text/x", body: b"page".to_vec() };
        pages.answer(&question, answer);
        let response = asked.join().unwrap();
        assert!(response.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/x\r\n"), "{response}");
        assert!(response.ends_with("\r\n\r\npage"), "{response}");
    });
    drop(pages);
    assert!(server.exchange(GET).starts_with("HTTP/1.1 503 "));
}

#[test]
fn port_in_use_is_told_before_any_shard_starts() {
    let server = Server::default();
    let mut options = options(1);
    options.listeners[0].listen.port = server.address.port();
    let error = Pool::start(options, state()).err().unwrap();
    assert!(matches!(error, StartError::PortInUse { address } if address == server.address), "{error}");
}

#[test]
fn more_shards_than_cores_serve_together() {
    let shards = Machine::read().cpus.len() * 2 + 1;
    let mut server = Server::start(options(shards), state());
    let mut clients: Vec<_> = (0..4 * shards).map(|_| Client::subscribed(&server, "chat")).collect();
    server.publish("chat", "1");
    for client in &mut clients {
        assert_eq!(client.next_message(), r#"{"push":{"channel":"chat","pub":{"data":1}}}"#);
    }
    assert_eq!(server.pool.as_ref().unwrap().connections().iter().sum::<usize>(), clients.len());
    assert!(server.stop());
}

/// Clients that come one after the other, so that each shard knows of all before.
fn clients_in_turn(server: &Server, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::subscribed(server, "chat")).collect()
}

#[test]
fn connections_are_spread_evenly_and_stay_so_when_some_have_left() {
    let mut server = Server::start(options(4), state());
    let mut clients = clients_in_turn(&server, 40);
    let pool = server.pool.as_ref().unwrap();
    assert!(pool.connections().iter().all(|clients| (9..=10).contains(clients)), "{:?}", pool.connections());
    // Those that stay are where they are: whoever comes now fills the gaps.
    let mut left = clients.split_off(12);
    left.iter_mut().for_each(|client| client.socket.shutdown(Shutdown::Write).unwrap());
    wait_until(|| pool.connections().iter().sum::<usize>() == 12);
    clients.extend(clients_in_turn(&server, 28));
    assert_eq!(pool.connections().iter().sum::<usize>(), 40);
    assert!(pool.connections().iter().all(|clients| *clients <= 10), "{:?}", pool.connections());
    assert!(pool.handed_over() > 0);
    server.publish("chat", "1");
    for client in &mut clients {
        assert_eq!(client.next_message(), r#"{"push":{"channel":"chat","pub":{"data":1}}}"#);
    }
    assert!(server.stop(), "whatever was handed over, every shard ends");
}

#[test]
fn every_listener_is_spread_for_itself() {
    let mut options = options(2);
    options.listeners.push(options.listeners[0].clone());
    let server = Server::start(options, state());
    let pool = server.pool.as_ref().unwrap();
    let (first, second) = (pool.addresses()[0], pool.addresses()[1]);
    let other = Server { pool: None, address: second };
    let clients: Vec<_> = (0..10).map(|_| (Client::connected(&server), Client::connected(&other))).collect();
    assert_ne!(first, second);
    assert_eq!((pool.loads(0), pool.loads(1)), (vec![5, 5], vec![5, 5]));
    drop(clients);
    wait_until(|| pool.loads(0) == [0, 0] && pool.loads(1) == [0, 0]);
}

#[test]
fn connections_stay_where_the_kernel_puts_them_when_the_balance_is_off() {
    let mut options = options(4);
    options.shard_balance.disabled = true;
    let server = Server::start(options, state());
    let clients = clients_in_turn(&server, 20);
    let pool = server.pool.as_ref().unwrap();
    assert_eq!((pool.handed_over(), pool.loads(0).iter().sum::<usize>()), (0, clients.len()));
}

/// Clients that come all at once while the server stops are served or closed, and none of them keeps a shard from ending.
#[test]
fn connections_that_are_handed_over_at_the_end_are_closed() {
    let mut server = Server::start(options(4), state());
    let address = server.address;
    let dialing: Vec<_> = (0..4).map(|_| std::thread::spawn(move || dial_until_refused(address))).collect();
    let pool = server.pool.as_ref().unwrap();
    wait_until(|| pool.handed_over() > 10);
    assert!(server.stop());
    for dialing in dialing {
        for mut socket in dialing.join().unwrap() {
            // Its end, or a reset; a descriptor that nobody owns any more would keep us waiting.
            assert!(!matches!(socket.read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock));
        }
    }
}

fn dial_until_refused(address: SocketAddr) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    while let Ok(socket) = TcpStream::connect(address) {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        sockets.push(socket);
        std::thread::sleep(Duration::from_micros(200));
    }
    sockets
}

#[track_caller]
fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn placement_that_does_not_fit_is_told_before_anything_is_bound() {
    let allowed = Machine::read().cpus;
    let mut options = options(0);
    options.shard_placement.reserve = allowed.len();
    let error = Pool::start(options.clone(), state()).err().unwrap();
    assert!(error.to_string().starts_with("shard_placement.reserve is"), "{error}");
    options.shard_placement.cpus = vec![1023];
    let error = Pool::start(options, state()).err().unwrap();
    assert!(error.to_string().starts_with("shard_placement.cpus names CPU 1023, expected some of "), "{error}");
}
