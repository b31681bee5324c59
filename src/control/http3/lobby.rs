//! Where the stream of a WebTransport session meets its session: either may be here first.

use super::wire::code;
use quinn::{RecvStream, SendStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Both directions of a stream.
pub type Streams = (SendStream, RecvStream);

/// The meeting place of one connection, which has one session at a time, with one stream.
#[derive(Clone, Default)]
pub struct Lobby {
    place: Arc<Mutex<Place>>,
}

#[derive(Default)]
enum Place {
    #[default]
    Empty,
    /// A stream whose session is not here yet.
    Early(u64, Streams),
    /// A session without its stream.
    Waiting(u64, oneshot::Sender<Streams>),
    /// A session that has its stream, or wants none any more.
    Taken,
}

/// A session's place; it leaves when dropped.
pub struct Seat {
    lobby: Lobby,
    stream: oneshot::Receiver<Streams>,
}

impl Lobby {
    /// A stream of a session has come. One too many is refused.
    pub fn offer(&self, session: u64, streams: Streams) {
        let mut place = self.lock();
        *place = match std::mem::take(&mut *place) {
            Place::Empty => Place::Early(session, streams),
            Place::Waiting(id, sender) if id == session => {
                // A session that no longer waits is about to leave.
                let _ = sender.send(streams);
                Place::Taken
            }
            other => {
                refuse(streams);
                other
            }
        };
    }

    /// A session comes, unless another one is here.
    pub fn enter(&self, session: u64) -> Option<Seat> {
        let (sender, stream) = oneshot::channel();
        let mut place = self.lock();
        *place = match std::mem::take(&mut *place) {
            Place::Empty => Place::Waiting(session, sender),
            Place::Early(id, streams) if id == session => {
                let _ = sender.send(streams);
                Place::Taken
            }
            Place::Early(_, streams) => {
                refuse(streams);
                Place::Waiting(session, sender)
            }
            other @ (Place::Waiting(..) | Place::Taken) => {
                *place = other;
                return None;
            }
        };
        Some(Seat { lobby: self.clone(), stream })
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Waits for the session's stream.
    pub async fn stream(&mut self) -> Option<Streams> {
        (&mut self.stream).await.ok()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *self.lobby.lock() = Place::Empty;
    }
}

/// Fails only for a stream that is gone already.
fn refuse((mut output, mut input): Streams) {
    let _ = output.reset(code::BUFFERED_STREAM_REJECTED);
    let _ = input.stop(code::BUFFERED_STREAM_REJECTED);
}
