//! Subscriptions that a backend feeds: its stream lives as long as the subscription, and what comes on it is for that client alone.
//! Source: behaviour §9.
//!
//! A stream may say as much as it is allowed to, in bytes. What was said counts again once the client's socket has taken it, so that a
//! backend is no faster than its client, and nothing is said before the subscription is live.

use super::ProxyQuestion;
use crate::hub::HubIndex;
use crate::sparse::GiveBack;
use crate::{ConnectionId, RequestId};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Bytes of publications on their way from a backend to a client; one that is longer may still be.
const WINDOW_BYTES: usize = 64 << 10;

/// Bytes that a publication counts for beside its data: what it takes to hold it.
const PUBLICATION_BYTES: usize = 128;

/// A stream; unique in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// What a shard has done about its streams, in this order.
#[derive(Clone, Debug)]
pub enum StreamAct {
    /// Open a stream. It is about a subscription; the backend's first word answers the question.
    Open {
        /// The name of the stream from now on.
        stream: StreamId,
        /// What is asked, and whom.
        question: Box<ProxyQuestion>,
        /// Publications of the client go up the stream.
        is_bidirectional: bool,
    },
    /// The client publishes; [`ProxyAnswer::Sent`](super::ProxyAnswer::Sent) tells that it is on its way.
    Publish {
        /// On which stream.
        stream: StreamId,
        /// Where the answer is awaited.
        request: RequestId,
        /// What.
        data: Bytes,
    },
    /// The stream may say that much more.
    Allow {
        /// Which stream.
        stream: StreamId,
        /// As [`StreamNews::cost`] counts.
        bytes: usize,
    },
    /// End the stream, if it has not ended. Every stream that was opened gets this once, as the last thing.
    Close {
        /// Which stream.
        stream: StreamId,
    },
}

/// What a backend says on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamNews {
    /// For the client.
    Publication {
        /// Payload.
        data: Bytes,
        /// For applications.
        tags: BTreeMap<String, String>,
    },
    /// The backend has ended the stream: the client is unsubscribed.
    Complete,
    /// The stream has failed: the client is to subscribe again.
    Failed,
}

impl StreamNews {
    /// How much of what the stream is allowed it takes.
    #[must_use]
    pub fn cost(&self) -> usize {
        match self {
            Self::Publication { data, tags } => {
                let tags = tags.iter().map(|(key, value)| key.len() + value.len() + PUBLICATION_BYTES);
                PUBLICATION_BYTES + data.len() + tags.sum::<usize>()
            }
            Self::Complete | Self::Failed => 0,
        }
    }
}

/// Which subscription a stream feeds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fed {
    pub(crate) connection: ConnectionId,
    pub(crate) channel: HubIndex,
}

/// Streams of a shard.
///
/// Bound: one for each subscription, and each question about one. Acts: one that opens and one that closes of each, the publications of
/// `client.concurrency`, and leave for [`WINDOW_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct Streams {
    last: u64,
    /// Those with a subscription.
    fed: BTreeMap<StreamId, Fed>,
    acts: VecDeque<StreamAct>,
    /// What was said to clients whose sockets have not taken it, by connection.
    unread: BTreeMap<(ConnectionId, StreamId), usize>,
}

impl Streams {
    /// A name for a stream.
    pub(crate) fn next(&mut self) -> StreamId {
        self.last += 1;
        StreamId(self.last)
    }

    pub(crate) fn open(&mut self, stream: StreamId, question: ProxyQuestion, is_bidirectional: bool) {
        self.acts.push_back(StreamAct::Open { stream, question: Box::new(question), is_bidirectional });
    }

    /// A subscription rests on the stream.
    pub(crate) fn attach(&mut self, stream: StreamId, fed: Fed) {
        self.fed.insert(stream, fed);
    }

    /// The subscription is live.
    pub(crate) fn begin(&mut self, stream: StreamId) {
        self.acts.push_back(StreamAct::Allow { stream, bytes: WINDOW_BYTES });
    }

    pub(crate) fn publish(&mut self, stream: StreamId, request: RequestId, data: Bytes) {
        self.acts.push_back(StreamAct::Publish { stream, request, data });
    }

    pub(crate) fn close(&mut self, stream: StreamId) {
        if let Some(fed) = self.fed.remove(&stream) {
            self.unread.remove(&(fed.connection, stream));
        }
        self.acts.push_back(StreamAct::Close { stream });
    }

    /// None where it has been closed meanwhile.
    pub(crate) fn find(&self, stream: StreamId) -> Option<Fed> {
        self.fed.get(&stream).copied()
    }

    /// Something was queued for the client.
    pub(crate) fn said(&mut self, connection: ConnectionId, stream: StreamId, bytes: usize) {
        *self.unread.entry((connection, stream)).or_default() += bytes;
    }

    /// Some client has not taken yet what was said to it.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The socket of a client has taken everything.
    pub(crate) fn was_read(&mut self, connection: ConnectionId) {
        let of_client = (connection, StreamId(0))..=(connection, StreamId(u64::MAX));
        while let Some((&(connection, stream), &bytes)) = self.unread.range(of_client.clone()).next() {
            self.unread.remove(&(connection, stream));
            self.acts.push_back(StreamAct::Allow { stream, bytes });
        }
    }

    pub(crate) fn take_act(&mut self) -> Option<StreamAct> {
        let act = self.acts.pop_front();
        if act.is_none() {
            self.acts.give_back();
        }
        act
    }
}
