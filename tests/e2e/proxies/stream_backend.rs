//! A backend of subscription streams over GRPC; each stream says what the test has it say.

use super::grpc_backend::unframe;
use crate::server::PATIENCE;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use ringcast_proto::proxy::*;
use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

type Words = Result<Frame<Bytes>, Infallible>;

/// A running backend; its threads end with the test program.
pub struct StreamBackend {
    /// Key `endpoint`.
    pub endpoint: String,
    opened: Receiver<Opened>,
}

/// A stream.
pub struct Opened {
    /// Last part of the path.
    pub method: String,
    /// The first message.
    pub request: SubscribeRequest,
    upwards: Receiver<Publication>,
    words: Sender<Words>,
    is_deaf: Arc<AtomicBool>,
}

impl StreamBackend {
    /// Listens on a port of its own.
    pub fn start() -> StreamBackend {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let endpoint = format!("grpc://{}", listener.local_addr().expect("bound"));
        listener.set_nonblocking(true).expect("a socket");
        let (sender, opened) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a thread");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                while let Ok((socket, _)) = listener.accept().await {
                    let sender = sender.clone();
                    let service = service_fn(move |request| serve(request, sender.clone()));
                    let serving = http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(serving.serve_connection(TokioIo::new(socket), service));
                }
            });
        });
        StreamBackend { endpoint, opened }
    }

    /// The next stream that is opened.
    #[track_caller]
    pub fn opened(&self) -> Opened {
        self.opened.recv_timeout(PATIENCE).expect("a stream")
    }
}

impl Opened {
    /// Answers that there is a subscription.
    pub fn accept(&self, result: SubscribeResult) {
        self.reply(SubscribeResponse { result: Some(result), ..Default::default() });
    }

    /// Answers.
    pub fn reply(&self, response: SubscribeResponse) {
        let message = StreamSubscribeResponse { subscribe_response: Some(response), ..Default::default() };
        assert!(self.say(&message.encode_to_vec()));
    }

    /// Publishes.
    pub fn publish(&self, data: &str) -> bool {
        let tags = [("by".to_owned(), "backend".to_owned())].into();
        let publication = Some(Publication { data: data.to_owned().into(), tags });
        self.say(&StreamSubscribeResponse { publication, ..Default::default() }.encode_to_vec())
    }

    /// Says anything; waits until HTTP/2 takes it. False once nobody listens any more.
    pub fn say(&self, message: &[u8]) -> bool {
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        let framed = [&[0][..], &length, message].concat();
        self.words.blocking_send(Ok(Frame::data(framed.into()))).is_ok()
    }

    /// Ends the stream with a status.
    pub fn end(self, status: &str) {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().expect("a value"));
        self.words.blocking_send(Ok(Frame::trailers(trailers))).expect("somebody listens");
    }

    /// Waits until the server wants no more.
    #[track_caller]
    pub fn is_cancelled(&self) {
        let end = Instant::now() + PATIENCE;
        while !self.words.is_closed() {
            assert!(Instant::now() < end, "the stream goes on");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the server still listens.
    pub fn is_open(&self) -> bool {
        !self.words.is_closed()
    }

    /// Reads nothing more of what comes up, or reads again.
    pub fn set_deaf(&self, is_deaf: bool) {
        self.is_deaf.store(is_deaf, Ordering::Relaxed);
    }

    /// What came up next.
    #[track_caller]
    pub fn heard(&self) -> String {
        let publication = self.upwards.recv_timeout(PATIENCE).expect("a publication");
        String::from_utf8(publication.data.into()).expect("text")
    }
}

async fn serve(
    request: Request<Incoming>,
    opened: mpsc::Sender<Opened>,
) -> Result<Response<StreamBody<ReceiverStream<Words>>>, Infallible> {
    let (head, body) = request.into_parts();
    let method = head.uri.path().rsplit('/').next().expect("a path").to_owned();
    let (words, said) = channel(1);
    tokio::spawn(listen(method, body, words, opened));
    let mut response = Response::new(StreamBody::new(ReceiverStream::new(said)));
    response.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
    Ok(response)
}

/// Reads what comes up, until the end or until the test has forgotten the stream.
async fn listen(method: String, mut body: Incoming, words: Sender<Words>, opened: mpsc::Sender<Opened>) {
    let is_bidirectional = method == "SubscribeBidirectional";
    let (sender, upwards) = mpsc::channel();
    let is_deaf = Arc::new(AtomicBool::new(false));
    let mut first = Some((method, words, upwards));
    let mut buffer = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(message) = take(&mut buffer) {
            let message = unframe(&message);
            if let Some((method, words, upwards)) = first.take() {
                let request = match is_bidirectional {
                    true => StreamSubscribeRequest::decode(&*message).expect("a request").subscribe_request,
                    false => SubscribeRequest::decode(&*message).ok(),
                };
                let request = request.expect("the request comes first");
                let is_deaf = is_deaf.clone();
                let _ = opened.send(Opened { method, request, upwards, words, is_deaf });
                continue;
            }
            let message = StreamSubscribeRequest::decode(&*message).expect("a request");
            if sender.send(message.publication.expect("a publication")).is_err() {
                return;
            }
            while is_deaf.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn take(buffer: &mut BytesMut) -> Option<BytesMut> {
    let length = u32::from_be_bytes(buffer.get(1..5)?.try_into().expect("four bytes")) as usize;
    (buffer.len() >= 5 + length).then(|| buffer.split_to(5 + length))
}
