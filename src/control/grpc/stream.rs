//! The response of a stream to a client: takes what its shard gives, and gives HTTP/2 as much of it as the client reads.

use super::connection::Cut;
use super::message::{take_piece, trailers};
use bytes::Bytes;
use http_body::Frame;
use ringcast_runtime::{Ended, Link, Outlet};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tonic::Status;

/// How long the last bytes have to be read once the shard has ended the client.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What the shard and HTTP/2 share of a stream.
#[derive(Default)]
struct Exchange {
    /// Frames of GRPC. Bound: the shard gives more only once the client has taken what it got before, which is
    /// `client.queue_max_size` at most; and a few more right before the end.
    waiting: VecDeque<Bytes>,
    /// The shard waits to hear that this is so.
    is_owed: bool,
    ended: Option<Ended>,
    /// Of HTTP/2, which waits for more.
    reader: Option<Waker>,
}

/// The shard's end of a stream.
pub struct Ways {
    exchange: Arc<Mutex<Exchange>>,
    cut: Cut,
    runtime: Handle,
}

/// The other end: a body of HTTP/2.
pub struct Stream {
    exchange: Arc<Mutex<Exchange>>,
    /// Dropped with the stream, which tells the shard.
    link: Link,
}

/// Makes both ends for the request that is being answered; `open` hands the shard's over and returns the link.
pub fn stream(open: impl FnOnce(Box<Ways>) -> Link) -> Stream {
    let exchange = Arc::<Mutex<Exchange>>::default();
    let ways = Ways { exchange: exchange.clone(), cut: Cut::current(), runtime: Handle::current() };
    Stream { exchange, link: open(Box::new(ways)) }
}

/// Nothing in here panics, so that nothing is half changed.
fn lock(exchange: &Mutex<Exchange>) -> MutexGuard<'_, Exchange> {
    exchange.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ways {
    fn change(&self, change: impl FnOnce(&mut Exchange)) {
        let reader = {
            let mut exchange = lock(&self.exchange);
            change(&mut exchange);
            exchange.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Outlet for Ways {
    fn send(&self, bytes: Vec<u8>) {
        self.change(|exchange| {
            exchange.waiting.push_back(bytes.into());
            exchange.is_owed = true;
        });
    }

    /// Who does not read the last words in time loses them, so that they hold no memory.
    fn end(&self, why: Ended) {
        if why == Ended::Lost {
            return self.cut.cut();
        }
        self.change(|exchange| exchange.ended = Some(why));
        let cut = self.cut.clone();
        self.runtime.spawn(async move {
            sleep(LAST_WORDS).await;
            cut.cut();
        });
    }

    fn pause(&self, _: bool) {
        // The client has said all it may.
    }
}

impl Exchange {
    /// The next piece.
    fn take(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = take_piece(self.waiting.front_mut()?) {
                return Some(piece);
            }
            self.waiting.pop_front();
        }
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Status;

    /// Asked only while HTTP/2 has room for more.
    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut exchange = lock(&self.exchange);
        if let Some(piece) = exchange.take() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let status = match &exchange.ended {
            None => {
                exchange.reader = Some(context.waker().clone());
                if std::mem::take(&mut exchange.is_owed) {
                    drop(exchange);
                    self.link.written();
                }
                return Poll::Pending;
            }
            Some(Ended::Refused) => Status::unavailable("too many clients"),
            // The last push has told it.
            Some(Ended::Disconnect(_) | Ended::Lost) => Status::ok(""),
        };
        drop(exchange);
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))))
    }
}
