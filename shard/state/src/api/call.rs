//! Who made a call, and the answer to give.

use super::{ApiOutcome, Batch, Broadcast};
use crate::metrics::ApiProtocol;
use crate::shard::{ApiAnswer, ApiCallId, Shard};
use crate::{Now, Time};
use ringcast_proto::api::{ApiResult, Method, encode_legacy_reply, encode_response, encode_transport_error};
use ringcast_proto::codes::ApiError;
use slab::Slab;

/// Where the outcome of a request goes.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// Into an HTTP response.
    Http(Box<Http>),
    /// To who asked by `Shard::handle_request`.
    Typed(Box<Typed>),
    /// Into a batch, at this place.
    Batch { batch: usize, index: usize },
}

/// An HTTP request that waits.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    pub(super) call: ApiCallId,
    pub(super) method: Method,
    pub(super) shape: Shape,
    pub(super) began_at: Time,
}

/// A request that came decoded and waits.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub(super) number: usize,
    pub(super) protocol: ApiProtocol,
    pub(super) method: Method,
    pub(super) began_at: Time,
}

/// How the response looks.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// `{"result":...}` or `{"error":...}`.
    Plain,
    /// Errors as HTTP statuses with the bare error.
    TransportErrors,
    /// One line for each command of a batch.
    Legacy {
        /// Ids of the commands.
        ids: Vec<u32>,
    },
}

/// Calls that consist of several requests.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(super) batches: Slab<Batch>,
    pub(super) broadcasts: Slab<Broadcast>,
}

impl Calls {
    /// How the request came.
    pub(super) fn protocol(&self, origin: &Origin) -> ApiProtocol {
        match origin {
            Origin::Http(_) => ApiProtocol::Http,
            Origin::Typed(typed) => typed.protocol,
            Origin::Batch { batch, .. } => self.protocol(self.batches[*batch].origin()),
        }
    }
}

impl Shard {
    /// Some shard did not answer in time.
    pub(crate) fn complete_late(&mut self, now: Now, origin: &Origin) {
        self.complete(now, origin, Err(ApiError::INTERNAL));
    }

    /// A request is done with.
    pub(crate) fn complete(&mut self, now: Now, origin: &Origin, outcome: ApiOutcome) {
        self.note_end(now, origin, &outcome);
        match origin {
            Origin::Batch { batch, index } => self.batch_item_done(now, *batch, *index, outcome),
            Origin::Http(http) => self.answers.push_back(http.answer(outcome)),
            Origin::Typed(typed) => self.outcomes.push_back((typed.number, outcome)),
        }
    }
}

/// Counting; a batch is counted by what is in it.
impl Shard {
    pub(super) fn note_begin(&mut self, now: Now, origin: &Origin, method: Method) {
        if let Origin::Batch { batch, index } = *origin {
            self.calls.batches[batch].note_begin(index, method, now.at);
        }
    }

    fn note_end(&mut self, now: Now, origin: &Origin, outcome: &ApiOutcome) {
        let begun = match origin {
            Origin::Http(http) => Some((http.method, http.began_at)),
            Origin::Typed(typed) => Some((typed.method, typed.began_at)),
            Origin::Batch { batch, index } => self.calls.batches[*batch].begun(*index),
        };
        let Some((method, began_at)) = begun.filter(|(method, _)| *method != Method::Batch) else { return };
        let protocol = self.calls.protocol(origin);
        if let Err(error) = outcome {
            self.metrics.api_errors.count((method.as_str(), Some(error.code), protocol.as_str()));
        }
        self.unwritten.call(&mut self.metrics, (protocol, method), began_at, now.at);
    }
}

impl Http {
    fn answer(&self, outcome: ApiOutcome) -> ApiAnswer {
        let mut answer = ApiAnswer { call: self.call, status: 200, is_json: true, body: Vec::new() };
        match (&self.shape, outcome) {
            (Shape::TransportErrors, Err(error)) => {
                answer.status = error.http_status();
                encode_transport_error(&error, &mut answer.body);
            }
            (Shape::Legacy { ids }, Ok(ApiResult::Batch(result))) => {
                for (number, (id, reply)) in ids.iter().zip(&result.replies).enumerate() {
                    if number > 0 {
                        answer.body.push(b'\n');
                    }
                    encode_legacy_reply(*id, reply, &mut answer.body);
                }
            }
            (_, outcome) => encode_response(self.method, &outcome, &mut answer.body),
        }
        answer
    }
}

impl ApiAnswer {
    pub(crate) fn empty(call: ApiCallId, status: u16) -> Self {
        ApiAnswer { call, status, is_json: false, body: Vec::new() }
    }

    pub(super) fn text(call: ApiCallId, status: u16, text: &str) -> Self {
        ApiAnswer { call, status, is_json: false, body: text.as_bytes().to_vec() }
    }
}
