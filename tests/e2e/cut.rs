//! A TCP relay before the server that can be cut: every connection through it ends at once and new ones are refused
//! until it is healed. Test scripts of any language control it over HTTP: `POST /cut`, `POST /heal`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running relay; it lives as long as the test process.
pub struct Relay {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where it is told to cut and to heal.
    pub control: SocketAddr,
}

/// Both sides of every connection; none while cut.
type Open = Arc<Mutex<Option<Vec<TcpStream>>>>;

impl Relay {
    /// Starts relaying to `server`.
    pub fn start(server: SocketAddr) -> Relay {
        let clients = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let relay = Relay {
            address: clients.local_addr().expect("it is bound"),
            control: control.local_addr().expect("it is bound"),
        };
        let open: Open = Arc::new(Mutex::new(Some(Vec::new())));
        let switch = Arc::clone(&open);
        thread::spawn(move || {
            for client in clients.incoming().map_while(Result::ok) {
                let _ = relay_one(client, server, &open);
            }
        });
        thread::spawn(move || {
            for request in control.incoming().map_while(Result::ok) {
                let _ = obey(request, &switch);
            }
        });
        relay
    }
}

/// A connection that comes while the relay is cut is dropped, which closes it.
fn relay_one(client: TcpStream, server: SocketAddr, open: &Open) -> io::Result<()> {
    let mut open = open.lock().expect("no holder panics");
    let Some(sockets) = open.as_mut() else {
        return Ok(());
    };
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    sockets.push(client.try_clone()?);
    sockets.push(server.try_clone()?);
    pump(client.try_clone()?, server.try_clone()?);
    pump(server, client);
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

fn obey(mut request: TcpStream, open: &Open) -> io::Result<()> {
    let mut bytes = [0; 1024];
    let length = request.read(&mut bytes)?;
    {
        let mut open = open.lock().expect("no holder panics");
        if bytes[..length].starts_with(b"POST /cut ") {
            for socket in open.take().unwrap_or_default() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        } else if open.is_none() {
            *open = Some(Vec::new());
        }
    }
    request.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
}
