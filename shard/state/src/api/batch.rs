//! Many requests in one: in order, each after the one before is done, or all at once.

use super::{ApiOutcome, Origin};
use crate::shard::Shard;
use crate::{Now, Time};
use ringcast_proto::api::{ApiResult, BatchRequest, BatchResult, Method, Request};
use ringcast_proto::codes::ApiError;
use std::vec::IntoIter;

/// A batch under way. Bound: the commands of one request body.
#[derive(Debug)]
pub(crate) struct Batch {
    origin: Origin,
    /// Not begun yet.
    rest: IntoIter<Result<Box<Request>, ApiError>>,
    replies: Vec<Option<ApiOutcome>>,
    /// What each is and since when it is served, for those that could be read.
    items: Vec<Option<(Method, Time)>>,
    /// Begun.
    begun: usize,
    /// Done.
    done: usize,
    parallel: bool,
    /// `advance` is at work: an outcome that comes at once must not call it again.
    is_advancing: bool,
}

impl Shard {
    pub(super) fn api_batch(&mut self, now: Now, origin: Origin, request: BatchRequest) {
        let replies = request.commands.iter().map(|_| None).collect();
        let items = vec![None; request.commands.len()];
        let rest = request.commands.into_iter();
        let (parallel, is_advancing) = (request.parallel, false);
        let batch = Batch { origin, rest, replies, items, begun: 0, done: 0, parallel, is_advancing };
        let batch = self.calls.batches.insert(batch);
        self.advance(now, batch);
    }

    /// Begins what may begin now, and answers when everything is done.
    fn advance(&mut self, now: Now, index: usize) {
        self.calls.batches[index].is_advancing = true;
        while let Some((item, command)) = self.calls.batches[index].next() {
            let origin = Origin::Batch { batch: index, index: item };
            match command {
                Ok(command) => self.begin(now, origin, *command),
                Err(error) => self.complete(now, &origin, Err(error)),
            }
        }
        let batch = &mut self.calls.batches[index];
        batch.is_advancing = false;
        if batch.done < batch.replies.len() {
            return;
        }
        let batch = self.calls.batches.remove(index);
        let replies = batch.replies.into_iter().map(|reply| reply.expect("every item is done")).collect();
        self.complete(now, &batch.origin, Ok(ApiResult::Batch(BatchResult { replies })));
    }

    pub(super) fn batch_item_done(&mut self, now: Now, index: usize, item: usize, outcome: ApiOutcome) {
        let batch = &mut self.calls.batches[index];
        batch.replies[item] = Some(outcome);
        batch.done += 1;
        let may_advance = !batch.parallel || batch.done == batch.replies.len();
        if may_advance && !batch.is_advancing {
            self.advance(now, index);
        }
    }
}

impl Batch {
    pub(super) fn note_begin(&mut self, index: usize, method: Method, at: Time) {
        self.items[index] = Some((method, at));
    }

    /// Who made it: never a batch.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn begun(&self, index: usize) -> Option<(Method, Time)> {
        self.items[index]
    }

    /// The next command that may begin.
    fn next(&mut self) -> Option<(usize, Result<Box<Request>, ApiError>)> {
        if !self.parallel && self.done < self.begun {
            return None;
        }
        let command = self.rest.next()?;
        self.begun += 1;
        Some((self.begun - 1, command))
    }
}
