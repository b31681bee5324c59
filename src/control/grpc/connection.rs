//! One connection of HTTP/2, with limits for peers that say nothing, or read nothing.

use super::message::Request;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tonic::body::Body;
use tracing::debug;

/// Time for the first bytes of HTTP/2.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a connection begins with has this length. Source: RFC 9113 §3.4.
const PREFACE_BYTES: usize = 24;

/// Requests of a connection at a time; a client keeps further ones to itself.
const STREAMS_MAX: u32 = 1000;

/// After how much silence a peer is asked whether it is there, and how long it may take to answer. Source: the reference, for
/// its streams.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client may send before it is read: per request, and altogether.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What a client may leave unread of a response. More waits in the shard, where `client.queue_max_size` counts it.
const SEND_BYTES_MAX: usize = 64 << 10;

/// Metadata of a request.
const HEADER_BYTES_MAX: u32 = 16 << 10;

tokio::task_local! {
    static CUT: Cut;
}

/// Ends one stream whatever its client does: one that makes no room for the rest of a response would hold it for ever.
#[derive(Clone)]
pub struct Cut(Arc<Notify>);

impl Cut {
    /// Of the request that is being answered.
    pub fn current() -> Self {
        CUT.get()
    }

    /// Ends it.
    pub fn cut(&self) {
        self.0.notify_one();
    }
}

/// Runs the streams of a connection: each for `limit` at most, or else until it is cut.
#[derive(Clone)]
struct Streams {
    limit: Option<Duration>,
}

impl<S: Future<Output = ()> + Send + 'static> Executor<S> for Streams {
    fn execute(&self, stream: S) {
        match self.limit {
            Some(limit) => {
                tokio::spawn(async move {
                    let _ = timeout(limit, stream).await;
                });
            }
            None => {
                let cut = Cut(Arc::new(Notify::new()));
                tokio::spawn(CUT.scope(cut.clone(), async move {
                    tokio::select! {
                        () = stream => {}
                        () = cut.0.notified() => {}
                    }
                }));
            }
        }
    }
}

/// Who sends the requests of a connection, as far as the system knows; an extension of each.
#[derive(Clone, Copy)]
pub struct Peer(pub Option<IpAddr>);

/// Speaks HTTP/2 until either side ends, or, once it is `closed`, until the requests are answered. Each has `limit` for all of it.
pub async fn speak<S, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    mut closed: watch::Receiver<bool>,
    limit: Option<Duration>,
    serve: S,
) where
    S: Fn(Request) -> F + Send + Sync,
    F: Future<Output = http::Response<Body>> + Send + 'static,
{
    let Some(stream) = begin(stream).await else { return };
    let service = service_fn(|mut request: Request| {
        request.extensions_mut().insert(peer);
        let answer = serve(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(http(limit).serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = until(&mut closed) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection of GRPC ended");
    }
}

fn http(limit: Option<Duration>) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(Streams { limit });
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BYTES_MAX);
    builder
}

/// Waits until the port is closed.
pub async fn until(closed: &mut watch::Receiver<bool>) {
    // An error means that the port is gone.
    let _ = closed.wait_for(|closed| *closed).await;
}

/// Waits for the first bytes, with which the keep-alive of HTTP/2 begins; `None` if they do not come in time.
async fn begin<S: AsyncRead + Unpin>(mut stream: S) -> Option<Begun<S>> {
    let mut preface = [0; PREFACE_BYTES];
    timeout(PREFACE_TIMEOUT, stream.read_exact(&mut preface)).await.ok()?.ok()?;
    Some(Begun { preface, given: 0, stream })
}

/// A stream of which the first bytes are read already.
struct Begun<S> {
    preface: [u8; PREFACE_BYTES],
    /// How many of them HTTP/2 has got.
    given: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.given == PREFACE_BYTES {
            return Pin::new(&mut self.stream).poll_read(context, out);
        }
        let end = PREFACE_BYTES.min(self.given + out.remaining());
        out.put_slice(&self.preface[self.given..end]);
        self.given = end;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
