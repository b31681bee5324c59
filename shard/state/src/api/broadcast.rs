//! The same data to many channels, each with an outcome of its own.

use super::Origin;
use super::publish::publish_outcome;
use crate::Now;
use crate::channel::Position;
use crate::shard::{Shard, Waiting};
use ringcast_proto::api::{
    ApiResult, BroadcastRequest, BroadcastResult, PublishRequest, PublishResponse, PublishResult,
};
use ringcast_proto::codes::{ApiError, ReplyError};

/// A broadcast under way. Bound: the channels of one request body.
#[derive(Debug)]
pub(crate) struct Broadcast {
    origin: Origin,
    responses: Vec<PublishResponse>,
    missing: usize,
}

impl Shard {
    pub(super) fn api_broadcast(
        &mut self,
        now: Now,
        origin: &Origin,
        request: BroadcastRequest,
    ) -> Result<(), ApiError> {
        if request.channels.is_empty() {
            return Err(ApiError::BAD_REQUEST);
        }
        let data = request.payload()?;
        let responses = request.channels.iter().map(|_| PublishResponse::default()).collect();
        let missing = request.channels.len();
        let broadcast = self.calls.broadcasts.insert(Broadcast { origin: origin.clone(), responses, missing });
        for (index, channel) in request.channels.into_iter().enumerate() {
            if let Err(error) = self.check_publish(&channel, &data) {
                self.broadcast_item_done(now, broadcast, index, Err(error));
                continue;
            }
            let waiting = self.ask(now, Waiting::ApiBroadcast { broadcast, index });
            let publish = PublishRequest {
                channel,
                skip_history: request.skip_history,
                delta: request.delta,
                tags: request.tags.clone(),
                idempotency_key: request.idempotency_key.clone(),
                version: request.version,
                version_epoch: request.version_epoch.clone(),
                ..PublishRequest::default()
            };
            self.send_publish(now, waiting, publish, data.clone());
        }
        Ok(())
    }

    pub(crate) fn api_broadcast_published(
        &mut self,
        now: Now,
        broadcast: usize,
        index: usize,
        result: Result<Position, ReplyError>,
    ) {
        self.broadcast_item_done(now, broadcast, index, publish_outcome(result));
    }

    fn broadcast_item_done(&mut self, now: Now, key: usize, index: usize, outcome: Result<PublishResult, ApiError>) {
        if let Err(error) = &outcome {
            let protocol = self.calls.protocol(&self.calls.broadcasts[key].origin);
            self.metrics.api_errors.count(("broadcast_publish", Some(error.code), protocol.as_str()));
        }
        let broadcast = &mut self.calls.broadcasts[key];
        broadcast.responses[index] = outcome.into();
        broadcast.missing -= 1;
        if broadcast.missing > 0 {
            return;
        }
        let Broadcast { origin, responses, .. } = self.calls.broadcasts.remove(key);
        self.complete(now, &origin, Ok(ApiResult::Broadcast(BroadcastResult { responses })));
    }
}
