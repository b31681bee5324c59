//! A backend whose answers are written in JSON, one for each event, over HTTP and GRPC alike; it remembers what it was asked.

use super::backend::read_request;
use super::grpc_backend::{Answer, frames, unframe};
use crate::server::PATIENCE;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use ringcast_proto::proxy::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;

/// What the backend was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub event: String,
    pub request: Value,
    /// Headers or metadata, names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// A running backend; its threads end with the test program.
pub struct Script {
    endpoint: String,
    is_grpc: bool,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<BTreeMap<String, Value>>,
    asked: Mutex<Vec<Asked>>,
}

impl Script {
    /// One over HTTP and one over GRPC.
    pub fn both() -> [Script; 2] {
        let (http, grpc) = (listen(), listen());
        let of = |listener: &TcpListener, scheme: &str, is_grpc| {
            let endpoint = format!("{scheme}://{}", listener.local_addr().expect("bound"));
            Script { endpoint, is_grpc, shared: Arc::default() }
        };
        let scripts = [of(&http, "http", false), of(&grpc, "grpc", true)];
        let (for_http, for_grpc) = (scripts[0].shared.clone(), scripts[1].shared.clone());
        thread::spawn(move || {
            for socket in http.incoming().flatten() {
                let shared = for_http.clone();
                thread::spawn(move || serve_http(socket, &shared));
            }
        });
        thread::spawn(move || serve_grpc(grpc, for_grpc));
        scripts
    }

    /// Where an event is asked about.
    pub fn endpoint(&self, event: &str) -> String {
        if self.is_grpc { self.endpoint.clone() } else { format!("{}/{event}", self.endpoint) }
    }

    /// Where it listens, without TLS.
    pub fn address(&self) -> SocketAddr {
        let address = self.endpoint.rsplit('/').next().and_then(|address| address.parse().ok());
        address.expect("an endpoint ends with an address")
    }

    /// Whether it speaks GRPC, and not HTTP.
    pub fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// What it answers to an event from now on; without it an empty result.
    pub fn answer(&self, event: &str, answer: Value) {
        lock(&self.shared.answers).insert(event.to_owned(), answer);
    }

    /// Waits for a question about an event; what was asked before it is forgotten.
    #[track_caller]
    pub fn wait_for_asked(&self, event: &str) -> Asked {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(asked) = self.take_asked().into_iter().find(|asked| asked.event == event) {
                return asked;
            }
            assert!(Instant::now() < end, "nobody asked about {event}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes what was asked since the last call.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *lock(&self.shared.asked))
    }
}

impl Shared {
    fn ask(&self, event: &str, request: Value, headers: BTreeMap<String, String>) -> String {
        lock(&self.asked).push(Asked { event: event.to_owned(), request, headers });
        let answers = lock(&self.answers);
        answers.get(event).cloned().unwrap_or_else(|| json!({"result": {}})).to_string()
    }
}

fn listen() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic")
}

fn serve_http(mut socket: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(socket.try_clone().expect("a socket can be shared"));
    while let Some((head, body)) = read_request(&mut reader) {
        let mut lines = head.lines();
        let path = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a request line");
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let answer = shared.ask(&path[1..], serde_json::from_str(&body).expect("JSON"), headers);
        if write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).is_err() {
            return;
        }
    }
}

fn serve_grpc(listener: TcpListener, shared: Arc<Shared>) {
    listener.set_nonblocking(true).expect("a socket");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a thread");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        while let Ok((socket, _)) = listener.accept().await {
            let shared = shared.clone();
            let service = service_fn(move |request| answer_grpc(request, shared.clone()));
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service));
        }
    });
}

async fn answer_grpc(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let message = unframe(&body.collect().await.expect("a whole request").to_bytes());
    let event = ProxyEvent::ALL.into_iter().find(|event| event.grpc_path() == head.uri.path()).expect("a method");
    let text = |value: &http::HeaderValue| value.to_str().expect("ASCII").to_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let mut request = Vec::new();
    decode(event, &message).encode_json(&mut request).expect("JSON payloads");
    let answer = shared.ask(event.as_str(), serde_json::from_slice(&request).expect("JSON"), headers);
    Ok(frames(Some(encode(event, &answer))))
}

fn decode(event: ProxyEvent, message: &[u8]) -> ProxyRequest {
    fn read<M: Message + Default>(message: &[u8]) -> M {
        M::decode(message).expect("a request")
    }
    match event {
        ProxyEvent::Connect => ProxyRequest::Connect(read(message)),
        ProxyEvent::Refresh => ProxyRequest::Refresh(read(message)),
        ProxyEvent::Subscribe => ProxyRequest::Subscribe(read(message)),
        ProxyEvent::Publish => ProxyRequest::Publish(read(message)),
        ProxyEvent::Rpc => ProxyRequest::Rpc(read(message)),
        ProxyEvent::SubRefresh => ProxyRequest::SubRefresh(read(message)),
    }
}

/// The answer in Protobuf.
fn encode(event: ProxyEvent, answer: &str) -> Vec<u8> {
    macro_rules! encode {
        ($($event:ident $response:ident),*) => {
            match decode_json_reply(event, answer.as_bytes()).expect("an answer") {
                ProxyReply::Disconnect(disconnect) => {
                    RpcResponse { disconnect: Some(disconnect), ..Default::default() }.encode_to_vec()
                }
                ProxyReply::NotBase64 => panic!("an answer with broken base64: {answer}"),
                ProxyReply::Error(error) => RpcResponse { error: Some(error), ..Default::default() }.encode_to_vec(),
                $(ProxyReply::Result(ProxyResult::$event(result)) => {
                    $response { result: result.map(Into::into).map(|result: Box<_>| *result), ..Default::default() }.encode_to_vec()
                })*
            }
        };
    }
    encode!(
        Connect ConnectResponse, Refresh RefreshResponse, Subscribe SubscribeResponse, Publish PublishResponse,
        Rpc RpcResponse, SubRefresh SubRefreshResponse
    )
}
