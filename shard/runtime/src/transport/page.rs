//! Pages that the control plane makes: the request goes there by a message, and the page comes back by one. The shard waits
//! for neither.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use ringcast_proto::http::Head;
use ringcast_state::{ApiCallId, ShardId};

use crate::pool::{Control, Line};

/// Requests that wait for the control plane; one more is answered with 503. A page that was made waits in its connection.
const WAITING_MAX: usize = 64;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `prometheus.handler_prefix`: metrics for Prometheus.
    Metrics,
    /// Below it, `/latency`: percentiles and whole histograms.
    Latency,
    /// `/ready`: whether what is published arrives.
    Ready,
}

/// What a request is to be answered with, not at once.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// By the control plane.
    Page {
        /// Which one.
        page: Page,
        /// Header `Accept`.
        accept: String,
    },
    /// Wrong keys have run out: after [`GUESS_PAUSE`](crate::GUESS_PAUSE).
    TooManyGuesses,
}

/// Those who wait for that on one shard, 48 bytes each. Full: further ones are told at once.
pub(crate) const GUESSERS_MAX: usize = 1024;

/// A request for a page.
#[derive(Debug)]
pub struct PageQuestion {
    shard: ShardId,
    call: ApiCallId,
    /// Which page.
    pub page: Page,
    /// Header `Accept`; empty without one.
    pub accept: String,
}

/// A page.
#[derive(Debug)]
pub struct PageAnswer {
    /// HTTP status.
    pub status: u16,
    /// Content type.
    pub content_type: &'static str,
    /// Content.
    pub body: Vec<u8>,
}

impl PageAnswer {
    /// Nobody makes pages, or there are too many requests for them.
    pub(crate) fn unavailable() -> Self {
        let content_type = "text/plain; charset=utf-8";
        Self { status: 503, content_type, body: b"too many requests for this page, try again\n".to_vec() }
    }

    /// For who has sent too many wrong keys.
    pub(crate) fn too_many_guesses() -> Self {
        Self { status: 429, content_type: "text/plain; charset=utf-8", body: b"too many wrong keys\n".to_vec() }
    }
}

/// A page for a connection.
pub(crate) struct Delivery {
    pub call: ApiCallId,
    pub answer: PageAnswer,
}

/// One shard's way to the control plane.
pub(crate) struct PageDesk {
    shard: ShardId,
    questions: Sender<PageQuestion>,
}

impl PageDesk {
    pub fn new(shard: ShardId, questions: Sender<PageQuestion>) -> Self {
        Self { shard, questions }
    }

    /// False when nobody will answer.
    pub fn ask(&self, call: ApiCallId, page: Page, accept: String) -> bool {
        let question = PageQuestion { shard: self.shard, call, page, accept };
        match self.questions.try_send(question) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

pub(crate) fn channel() -> (Sender<PageQuestion>, Receiver<PageQuestion>) {
    bounded(WAITING_MAX)
}

/// Where the requests for pages come out; without it, or once it is dropped, they are answered with 503.
pub struct PageLine {
    questions: Receiver<PageQuestion>,
    line: Line,
}

impl PageLine {
    pub(crate) fn new(questions: Receiver<PageQuestion>, line: Line) -> Self {
        Self { questions, line }
    }

    /// The requests; the end comes when the shards have ended. Bound: 64.
    pub fn questions(&self) -> &Receiver<PageQuestion> {
        &self.questions
    }

    /// Answers a request; one whose connection is gone by now is dropped there.
    pub fn answer(&self, question: &PageQuestion, answer: PageAnswer) {
        let delivery = Box::new(Delivery { call: question.call, answer });
        self.line.tell(question.shard, Control::Page(delivery));
    }
}

/// What the request accepts.
pub(crate) fn accepted(head: &Head<'_>) -> String {
    head.header("Accept").map_or_else(String::new, |accept| String::from_utf8_lossy(accept).into_owned())
}

/// Label value of a method; only known ones get so far.
pub(crate) fn method_name(method: &str) -> &'static str {
    const METHODS: [&str; 9] = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "CONNECT", "TRACE"];
    METHODS.into_iter().find(|known| *known == method).unwrap_or("other")
}

/// Name of an endpoint in metrics.
pub(crate) type Endpoint = Arc<str>;
