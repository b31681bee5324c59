//! A server of key sets (JWKS) that does what it is told, bad things included, and the keys of its sets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// What the server does with a request.
#[derive(Clone)]
pub enum Behaviour {
    /// Answers with the keys of these numbers, `k1` and so on.
    Keys(Vec<u8>),
    /// Says nothing and holds the connection.
    Hang,
    /// Sends the caller to another address.
    Redirect(String),
    /// Answers with the key of this number and spaces behind, more than may be read.
    TooLong(u8),
}

/// A running server; its thread ends with the test program.
pub struct KeyServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    behaviour: Behaviour,
    paths: Vec<String>,
    held: Vec<TcpStream>,
}

impl KeyServer {
    /// Listens on a port of its own.
    pub fn start(behaviour: Behaviour) -> KeyServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Mutex::new(Shared { behaviour, paths: Vec::new(), held: Vec::new() }));
        let server = KeyServer { address, shared: shared.clone() };
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = shared.clone();
                thread::spawn(move || serve(socket, &shared));
            }
        });
        server
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on.
    pub fn set(&self, behaviour: Behaviour) {
        self.shared.lock().expect("no panic").behaviour = behaviour;
    }

    /// Paths of the requests so far.
    pub fn paths(&self) -> Vec<String> {
        self.shared.lock().expect("no panic").paths.clone()
    }
}

fn serve(mut socket: TcpStream, shared: &Mutex<Shared>) {
    let mut request = Vec::new();
    let mut bytes = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match socket.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend_from_slice(&bytes[..length]),
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let mut shared = shared.lock().expect("no panic");
    shared.paths.push(request.split(' ').nth(1).unwrap_or_default().to_owned());
    let answer = match &shared.behaviour {
        Behaviour::Keys(numbers) => answer("200 OK", &key_set(numbers)),
        Behaviour::Redirect(url) => answer(&format!("302 Found\r\nLocation: {url}"), ""),
        Behaviour::TooLong(number) => answer("200 OK", &format!("{}{}", key_set(&[*number]), " ".repeat(1 << 20))),
        Behaviour::Hang => return shared.held.push(socket),
    };
    drop(shared);
    let _ = socket.write_all(answer.as_bytes());
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn key_set(numbers: &[u8]) -> String {
    let key = |number: &u8| {
        let x = URL_SAFE_NO_PAD.encode(key(*number).public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": format!("k{number}"), "x": x})
    };
    json!({"keys": numbers.iter().map(key).collect::<Vec<_>>()}).to_string()
}

/// A key made of a number; a secret of nobody.
fn key(number: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[number; 32]).expect("32 bytes")
}

/// A token signed with the key of a number, which it names.
pub fn token(number: u8, claims: &Value) -> String {
    named(number, &format!("k{number}"), claims)
}

/// A token signed with the key of a number that names any key.
pub fn named(number: u8, kid: &str, claims: &Value) -> String {
    signed(&json!({"alg": "EdDSA", "kid": kid}), claims, |text| key(number).sign(text).as_ref().to_vec())
}

/// A token with any header and signature.
pub fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let text = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let signature = sign(text.as_bytes());
    format!("{text}.{}", encode(&signature))
}
