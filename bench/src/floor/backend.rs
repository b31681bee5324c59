//! A backend as the server's proxies ask it, in a process of its own: it reads requests over HTTP and answers each at once with fixed bytes.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Where it is asked who connects; anything else is a call.
const CONNECT: &str = "/connect";

/// Whoever asks is let in.
const USER: &str = r#"{"result":{"user":"bench"}}"#;

/// What a call brings.
pub const DATA: &str = r#"{"ok":1}"#;

/// Bytes of a body; a server that asks for more is not measured.
const BODY_MAX: usize = 1 << 20;

/// Listens, prints the port, answers. Each block on standard input asks how many requests were answered; ends with it.
pub fn serve(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
    let answered = Arc::new(AtomicU64::new(0));
    let counter = answered.clone();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let answered = counter.clone();
            thread::spawn(move || {
                // The server closes its connections when it likes.
                let _ = answer(&socket, &answered);
            });
        }
    });
    let mut length = [0; 4];
    loop {
        match io::stdin().read_exact(&mut length) {
            Ok(()) => writeln!(io::stdout(), "{}", answered.load(Ordering::Relaxed))?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => exit(0),
            Err(error) => return Err(error),
        }
    }
}

/// Answers the requests of one connection, until it ends.
fn answer(socket: &TcpStream, answered: &AtomicU64) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut reader = BufReader::new(socket);
    let call = format!(r#"{{"result":{{"data":{DATA}}}}}"#);
    let answers = [USER, &*call].map(|body| {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
    });
    let (mut line, mut body) = (String::new(), Vec::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let is_call = line.split(' ').nth(1) != Some(CONNECT);
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(|_| ErrorKind::InvalidData)?;
            }
        }
        if length > BODY_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        answered.fetch_add(1, Ordering::Relaxed);
        (&*socket).write_all(answers[usize::from(is_call)].as_bytes())?;
    }
}
