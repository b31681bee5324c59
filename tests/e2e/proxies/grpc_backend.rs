//! A backend over GRPC, whose methods say what it does.

use std::convert::Infallible;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use ringcast_proto::proxy::{
    Error, PublishRequest, PublishResponse, PublishResult, RpcRequest, RpcResponse, RpcResult,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

/// A running backend; its thread ends with the test program.
pub struct GrpcBackend {
    address: SocketAddr,
}

impl GrpcBackend {
    /// Listens on a port of its own.
    pub fn start() -> GrpcBackend {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        listener.set_nonblocking(true).expect("a socket");
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a thread");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a socket");
                while let Ok((socket, _)) = listener.accept().await {
                    let serving = http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(serving.serve_connection(TokioIo::new(socket), service_fn(serve)));
                }
            });
        });
        GrpcBackend { address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What a method gives back.
pub type Answer = Response<StreamBody<tokio_stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>>;

async fn serve(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let message = unframe(&body.collect().await.expect("a whole request").to_bytes());
    let method = head.uri.path().strip_prefix("/centrifugal.centrifugo.proxy.CentrifugoProxy/").expect("the service");
    let answer = match method {
        "RPC" => rpc(RpcRequest::decode(&*message).expect("a request"), &head.headers).await,
        "Publish" => Some(publish(&PublishRequest::decode(&*message).expect("a request"))),
        other => panic!("method {other}"),
    };
    Ok(frames(answer))
}

/// The encoded response; none for a status that is not OK.
async fn rpc(request: RpcRequest, metadata: &HeaderMap) -> Option<Vec<u8>> {
    let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or("none");
    let mut response = RpcResponse::default();
    match &*request.method {
        "echo" => response.result = Some(RpcResult { data: request.data, ..Default::default() }),
        "metadata" => {
            let data = json!({"x-key": text("x-key"), "x-bin": text("x-bin"), "auth": text("auth")}).to_string();
            response.result = Some(RpcResult { data: data.into(), ..Default::default() });
        }
        "error" => response.error = Some(Error { code: 1000, message: "no".to_owned(), temporary: true }),
        "hang" => std::future::pending().await,
        _ => return None,
    }
    Some(response.encode_to_vec())
}

fn publish(request: &PublishRequest) -> Vec<u8> {
    assert_eq!((&*request.channel, &*request.encoding), ("asked:a", "json"));
    let tags = [("by".to_owned(), "backend".to_owned())].into();
    let result = Some(PublishResult { tags, ..Default::default() });
    PublishResponse { result, ..Default::default() }.encode_to_vec()
}

/// The message of a request.
pub fn unframe(body: &[u8]) -> Vec<u8> {
    if body[0] == 0 {
        return body[5..].to_vec();
    }
    let mut inflated = Vec::new();
    MultiGzDecoder::new(&body[5..]).read_to_end(&mut inflated).expect("gzip");
    inflated
}

/// A response with a message, or with a status that is not OK.
pub fn frames(message: Option<Vec<u8>>) -> Answer {
    let mut trailers = HeaderMap::new();
    let status = if message.is_some() { "0" } else { "13" };
    trailers.insert("grpc-status", status.parse().expect("a value"));
    let data = message.map(|message| {
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        Frame::data([&[0][..], &length, &message].concat().into())
    });
    let frames: Vec<_> = data.into_iter().chain([Frame::trailers(trailers)]).map(Ok).collect();
    let mut response = Response::new(StreamBody::new(tokio_stream::iter(frames)));
    response.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
    response
}
