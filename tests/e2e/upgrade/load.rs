//! Clients that come back, connects and publications that go on while processes come and go, and the account of them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::server::{API_KEY, PATIENCE, write_stderr};

/// Recovering clients.
const CLIENTS: usize = 200;

/// Threads that connect, one connection after the other.
const CONNECTORS: usize = 4;

/// Between two publications.
const PUBLISH_PERIOD: Duration = Duration::from_millis(2);

/// Between two connects of a thread.
const CONNECT_PERIOD: Duration = Duration::from_millis(2);

/// The channel that is published to.
const CHANNEL: &str = "load:all";

/// What a client waits for at most before it connects again, from 0 on.
const RECONNECT_MS_MAX: u64 = 50;

/// What happened, all in all.
#[derive(Default)]
pub struct Account {
    /// Connects at the level of TCP that were refused, or reset before anything was said.
    pub refused: AtomicUsize,
    /// Connections that ended without an answer to their request.
    pub unanswered: AtomicUsize,
    /// Connects that were answered.
    pub connects: AtomicUsize,
    /// Connects that were told to come back.
    pub sent_away: AtomicUsize,
    /// Recoveries that worked, and those that did not.
    pub recovered: AtomicUsize,
    pub lost: AtomicUsize,
    /// Publications that were acknowledged.
    pub published: AtomicU64,
    /// Tries to publish that failed, and were made again.
    pub failed_tries: AtomicUsize,
    /// What became of the last of these.
    pub last_failure: Mutex<String>,
    /// Longest time of a publish until it was acknowledged, in microseconds.
    pub slowest_publish: AtomicU64,
}

impl Account {
    /// Shows it beside what the server says of its pauses.
    pub fn tell(&self, log: &str) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let pauses = log.lines().filter(|line| line.contains("pause_ms") || line.contains("are here"));
        write_stderr(&format!(
            "connects {}, refused {}, unanswered {}, sent away {}; recovered {}, lost {}; published {}, failed tries {} ({}), slowest {} us\n{}\n",
            count(&self.connects),
            count(&self.refused),
            count(&self.unanswered),
            count(&self.sent_away),
            count(&self.recovered),
            count(&self.lost),
            self.published.load(Ordering::Relaxed),
            count(&self.failed_tries),
            self.last_failure.lock().expect("nobody panicked"),
            self.slowest_publish.load(Ordering::Relaxed),
            pauses.collect::<Vec<_>>().join("\n"),
        ));
    }
}

/// The load, as long as it lives.
pub struct Load {
    /// Others would take its time.
    _alone: MutexGuard<'static, ()>,
    address: SocketAddr,
    goes_on: Arc<AtomicBool>,
    /// Offset of the last publication, once there are no more; 0 before.
    last: Arc<AtomicU64>,
    account: Arc<Account>,
    publisher: JoinHandle<u64>,
    clients: Vec<JoinHandle<()>>,
    connectors: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts everything, and returns once every client is subscribed.
    pub fn start(address: SocketAddr) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = Arc::new(AtomicBool::new(true));
        let (last, account) = (Arc::new(AtomicU64::new(0)), Arc::new(Account::default()));
        let subscribed = Arc::new(AtomicUsize::new(0));
        let clients = (0..CLIENTS).map(|number| {
            let client = Subscriber {
                address,
                offset: 0,
                epoch: None,
                last: last.clone(),
                account: account.clone(),
                subscribed: subscribed.clone(),
                random: number as u64,
            };
            let thread = thread::Builder::new().stack_size(256 << 10);
            thread.spawn(move || client.run()).expect("the system has threads")
        });
        let clients = clients.collect();
        let started = Instant::now();
        while subscribed.load(Ordering::Relaxed) < CLIENTS {
            assert!(started.elapsed() < PATIENCE, "clients do not get in");
            thread::sleep(Duration::from_millis(5));
        }
        let publisher = {
            let (goes_on, account) = (goes_on.clone(), account.clone());
            thread::spawn(move || publish(address, &goes_on, &account))
        };
        let connectors = (0..CONNECTORS).map(|_| {
            let (goes_on, account) = (goes_on.clone(), account.clone());
            thread::spawn(move || connect_again_and_again(address, &goes_on, &account))
        });
        let connectors = connectors.collect();
        Self { _alone: alone, address, goes_on, last, account, publisher, clients, connectors }
    }

    /// Waits until so many more publications are acknowledged.
    #[track_caller]
    pub fn wait_for_publications(&self, more: u64) {
        let wanted = self.account.published.load(Ordering::Relaxed) + more;
        let started = Instant::now();
        while self.account.published.load(Ordering::Relaxed) < wanted {
            assert!(started.elapsed() < PATIENCE, "publishing does not go on");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it, once every client has the last publication. Panics when a client got something twice, not at all or out of order.
    #[track_caller]
    pub fn finish(self) -> Arc<Account> {
        self.goes_on.store(false, Ordering::Relaxed);
        for connector in self.connectors {
            connector.join().expect("a connector does not fail");
        }
        let last = self.publisher.join().expect("publishing does not fail");
        self.last.store(last, Ordering::Relaxed);
        // For those who have the last one already, and wait.
        publish_one(&mut None, self.address, last + 1).expect("one more");
        for client in self.clients {
            client.join().expect("no client misses anything");
        }
        self.account
    }
}

/// A client that reads, and comes back when it is sent away.
struct Subscriber {
    address: SocketAddr,
    offset: u64,
    epoch: Option<String>,
    last: Arc<AtomicU64>,
    account: Arc<Account>,
    subscribed: Arc<AtomicUsize>,
    random: u64,
}

impl Subscriber {
    fn run(mut self) {
        loop {
            match self.visit() {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.account.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {}
            }
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            thread::sleep(Duration::from_millis((self.random >> 33) % RECONNECT_MS_MAX));
        }
    }

    /// One connection; returns without an error when there is nothing more to come.
    fn visit(&mut self) -> io::Result<()> {
        let mut socket = connect(self.address)?;
        let mut subscribe = json!({"channel": CHANNEL});
        if let Some(epoch) = &self.epoch {
            subscribe["recover"] = json!(true);
            subscribe["offset"] = json!(self.offset);
            subscribe["epoch"] = json!(epoch);
        }
        send(&mut socket, &json!({"id": 2, "subscribe": subscribe}))?;
        loop {
            let text = match socket.read() {
                Ok(Message::Text(text)) => text,
                Ok(_) | Err(_) => return Err(io::ErrorKind::ConnectionReset.into()),
            };
            for line in text.lines() {
                let message: Value = serde_json::from_str(line).expect("the server writes JSON");
                if message == json!({}) {
                    socket.send(Message::text("{}")).map_err(io::Error::other)?;
                } else if message["id"] == 2 {
                    self.take_reply(&message)?;
                } else if let Some(publication) = message["push"].get("pub") {
                    self.take(publication);
                }
            }
            let last = self.last.load(Ordering::Relaxed);
            if last > 0 && self.offset >= last {
                return Ok(());
            }
        }
    }

    fn take_reply(&mut self, reply: &Value) -> io::Result<()> {
        let Some(subscribed) = reply.get("subscribe") else {
            // Temporary, while the channel passes on.
            assert_eq!(reply["error"]["code"], 100, "{reply}");
            return Err(io::ErrorKind::Other.into());
        };
        match &self.epoch {
            None => {
                self.offset = subscribed["offset"].as_u64().unwrap_or(0);
                self.subscribed.fetch_add(1, Ordering::Relaxed);
            }
            Some(_) if subscribed["recovered"] == true => {
                self.account.recovered.fetch_add(1, Ordering::Relaxed);
            }
            Some(_) => {
                self.account.lost.fetch_add(1, Ordering::Relaxed);
                self.offset = subscribed["offset"].as_u64().unwrap_or(0);
            }
        }
        self.epoch = subscribed["epoch"].as_str().map(str::to_owned);
        for publication in subscribed["publications"].as_array().into_iter().flatten() {
            self.take(publication);
        }
        Ok(())
    }

    fn take(&mut self, publication: &Value) {
        let offset = publication["offset"].as_u64().expect("an offset");
        assert_eq!(offset, self.offset + 1, "something was lost, came twice or out of order");
        // The publisher counts, too: whatever was acknowledged has its number.
        assert_eq!(publication["data"]["n"].as_u64(), Some(offset), "{publication}");
        self.offset = offset;
    }
}

/// Publishes one after the other over a connection that it keeps, as long as the server does; gives the number of the last one.
fn publish(address: SocketAddr, goes_on: &AtomicBool, account: &Account) -> u64 {
    let mut kept = None;
    let mut number = 0;
    while goes_on.load(Ordering::Relaxed) {
        number += 1;
        let began = Instant::now();
        loop {
            match publish_one(&mut kept, address, number) {
                Ok(()) => break,
                Err(error) => {
                    *account.last_failure.lock().expect("nobody panicked") = error.to_string();
                    account.failed_tries.fetch_add(1, Ordering::Relaxed);
                    kept = None;
                    assert!(began.elapsed() < PATIENCE, "{error}");
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        account.slowest_publish.fetch_max(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        account.published.store(number, Ordering::Relaxed);
        thread::sleep(PUBLISH_PERIOD);
    }
    number
}

/// A try that failed may have been published: the key makes sure that it is not published twice.
fn publish_one(kept: &mut Option<TcpStream>, address: SocketAddr, number: u64) -> io::Result<()> {
    let stream = match kept {
        Some(stream) => stream,
        None => kept.insert(open(address)?),
    };
    let body = json!({"channel": CHANNEL, "data": {"n": number}, "idempotency_key": number.to_string()}).to_string();
    let head =
        format!("POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {API_KEY}\r\nContent-Length: {}", body.len());
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
    let answer = answer(stream)?;
    match answer.contains(r#""offset":"#) {
        true => Ok(()),
        false => Err(io::Error::other(answer)),
    }
}

/// The body of an answer that is short.
fn answer(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = [0; 2048];
    let mut length = 0;
    loop {
        let read = stream.read(&mut bytes[length..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += read;
        let text = String::from_utf8_lossy(&bytes[..length]);
        if let Some((_, body)) = text.split_once("\r\n\r\n").filter(|(_, body)| body.ends_with('}')) {
            return Ok(body.to_owned());
        }
    }
}

fn connect_again_and_again(address: SocketAddr, goes_on: &AtomicBool, account: &Account) {
    while goes_on.load(Ordering::Relaxed) {
        let count = match connect(address) {
            Ok(mut socket) => {
                let _ = socket.close(None);
                &account.connects
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => &account.refused,
            // It was let in, and told to come back before its connect was answered.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => &account.sent_away,
            Err(_) => &account.unanswered,
        };
        count.fetch_add(1, Ordering::Relaxed);
        thread::sleep(CONNECT_PERIOD);
    }
}

fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Opens a WebSocket and connects. Interrupted: the server closed it with 3001.
fn connect(address: SocketAddr) -> io::Result<WebSocket<TcpStream>> {
    let stream = open(address)?;
    let request = format!("ws://{address}/connection/websocket");
    let (mut socket, _) = tungstenite::client::client(request, stream).map_err(io::Error::other)?;
    send(&mut socket, &json!({"id": 1, "connect": {}}))?;
    match socket.read() {
        Ok(Message::Text(reply)) if reply.contains("\"connect\"") => Ok(socket),
        Ok(Message::Close(Some(frame))) if u16::from(frame.code) == 3001 => Err(io::ErrorKind::Interrupted.into()),
        Ok(other) => Err(io::Error::other(format!("{other:?}"))),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn send(socket: &mut WebSocket<TcpStream>, command: &Value) -> io::Result<()> {
    socket.send(Message::text(command.to_string())).map_err(io::Error::other)
}

/// Asks for the state of health over an open connection: the status.
pub fn health(stream: &mut TcpStream) -> Option<u16> {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
    let mut answer = [0; 512];
    let length = stream.read(&mut answer).ok()?;
    let head = String::from_utf8_lossy(&answer[..length]).into_owned();
    head.split(' ').nth(1)?.parse().ok()
}
