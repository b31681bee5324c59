//! Connections for streams, and what goes up on one.

use super::super::backend::BackendError;
use super::super::client::Client;
use crate::tls::ClientTls;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Streams of a connection: what most servers of HTTP/2 allow.
const STREAMS_MAX: usize = 100;

/// Connections to a backend; more streams are refused, with the temporary error 100 for the client. Seen in the log.
const CONNECTIONS_MAX: usize = 656;

/// Bytes of a stream that may be on their way here; the rest waits at the backend.
const STREAM_WINDOW: u32 = 64 << 10;

/// The same of a connection: room for each of its streams, so that one which is not read delays no other.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX as u32;

/// A client with its room.
type Room = (Arc<Client<Upwards>>, Arc<Semaphore>);

/// Connections to one backend, opened as they are needed.
#[derive(Default)]
pub struct StreamPool(Mutex<Vec<Room>>);

impl StreamPool {
    /// Somebody who can open a stream, and the place of it, to be held as long as it lives.
    pub fn take(&self, tls: Option<&ClientTls>) -> Result<(Arc<Client<Upwards>>, OwnedSemaphorePermit), BackendError> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = rooms.iter().find_map(|(client, places)| {
            let place = places.clone().try_acquire_owned().ok()?;
            Some((client.clone(), place))
        });
        if let Some(free) = free {
            return Ok(free);
        }
        if rooms.len() >= CONNECTIONS_MAX {
            return Err(BackendError::Busy(CONNECTIONS_MAX * STREAMS_MAX));
        }
        let client = Arc::new(Client::for_streams(tls, STREAM_WINDOW, CONNECTION_WINDOW));
        let places = Arc::new(Semaphore::new(STREAMS_MAX));
        rooms.push((client.clone(), places.clone()));
        let place = places.try_acquire_owned().map_err(|_| BackendError::Busy(STREAMS_MAX))?;
        Ok((client, place))
    }
}

/// What goes up on a stream: one message, and then those that are sent.
///
/// It has the place of the stream, for HTTP/2 holds it as long as there is something of it: a backend that does not read keeps a stream
/// which has been given up.
pub struct Upwards {
    first: Option<Bytes>,
    rest: Option<Receiver<Bytes>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Upwards {
    /// The first and only message.
    pub fn one(first: Bytes) -> Self {
        Self { first: Some(first), rest: None, _place: None }
    }

    /// There is room for one message at a time, and it is made when HTTP/2 has taken the one before.
    pub fn many(first: Bytes, place: OwnedSemaphorePermit) -> (Self, Sender<Bytes>) {
        let (sender, rest) = mpsc::channel(1);
        (Self { first: Some(first), rest: Some(rest), _place: Some(place) }, sender)
    }
}

impl Body for Upwards {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match &mut self.rest {
            Some(rest) => rest.poll_recv(cx).map(|message| message.map(|message| Ok(Frame::data(message)))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }
}
