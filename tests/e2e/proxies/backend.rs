//! A backend over HTTP that does what it is told, bad things included.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// What the backend does with a request.
#[derive(Clone)]
pub enum Behaviour {
    /// Answers with a status and a body.
    Answer(u16, String),
    /// Says nothing and holds the connection.
    Hang,
    /// Says nothing and ends the connection.
    Close,
    /// Sends the caller to another address.
    Redirect(String),
    /// A body in chunks that does not end before the caller has gone.
    Endless,
}

/// A running backend; its threads end with the test program.
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    behaviour: Behaviour,
    connections: usize,
    last: (String, String),
    held: Vec<TcpStream>,
}

impl Backend {
    /// Listens on a port of its own.
    pub fn start(behaviour: Behaviour) -> Backend {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Shared { behaviour, connections: 0, last: Default::default(), held: Vec::new() };
        let backend = Backend { address, shared: Arc::new(Mutex::new(shared)) };
        let shared = backend.shared.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                shared.lock().expect("no panic").connections += 1;
                let shared = shared.clone();
                thread::spawn(move || serve(socket, &shared));
            }
        });
        backend
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on.
    pub fn set(&self, behaviour: Behaviour) {
        self.lock().behaviour = behaviour;
    }

    /// Head and body of the last request.
    pub fn last(&self) -> (String, String) {
        self.lock().last.clone()
    }

    /// How many there were so far.
    pub fn connections(&self) -> usize {
        self.lock().connections
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no panic")
    }
}

/// Serves requests until the other side has gone.
fn serve(mut socket: TcpStream, shared: &Mutex<Shared>) {
    let mut reader = BufReader::new(socket.try_clone().expect("a socket can be shared"));
    while let Some(request) = read_request(&mut reader) {
        let mut shared = shared.lock().expect("no panic");
        shared.last = request;
        let behaviour = shared.behaviour.clone();
        if matches!(behaviour, Behaviour::Hang) {
            return shared.held.push(socket);
        }
        drop(shared);
        if !answer(&mut socket, behaviour) {
            return;
        }
    }
}

/// Head and body of the next request; none at the end.
pub fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8_lossy(&body).into_owned()))
}

/// Whether the connection can be used again.
fn answer(socket: &mut TcpStream, behaviour: Behaviour) -> bool {
    let answer = match behaviour {
        Behaviour::Answer(status, body) => {
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        }
        Behaviour::Redirect(url) => format!("HTTP/1.1 307 X\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n"),
        Behaviour::Endless => return endless(socket),
        Behaviour::Hang | Behaviour::Close => return false,
    };
    socket.write_all(answer.as_bytes()).is_ok()
}

fn endless(socket: &mut TcpStream) -> bool {
    let _ = socket.write_all(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"10000\r\n", &[b' '; 0x10000][..], b"\r\n"].concat();
    while socket.write_all(&chunk).is_ok() {}
    false
}
