//! Publishing to one channel.

use super::{ApiOutcome, Origin, api_error};
use crate::channel::Position;
use crate::message::{self, Message};
use crate::namespace::SubscriptionType;
use crate::shard::{Shard, Waiting};
use crate::{Now, RequestId};
use bytes::Bytes;
use ringcast_proto::api::{ApiResult, PublishRequest, PublishResult};
use ringcast_proto::codes::{ApiError, ReplyError};

impl Shard {
    pub(super) fn api_publish(&mut self, now: Now, origin: &Origin, request: PublishRequest) -> Result<(), ApiError> {
        let data = request.payload()?;
        self.check_publish(&request.channel, &data)?;
        let (_, options) = self.options.channel.resolve_known(&request.channel);
        if options.subscription_type != SubscriptionType::Stream {
            return Err(ApiError::BAD_REQUEST);
        }
        let waiting = self.ask(now, Waiting::ApiPublish { origin: origin.clone() });
        self.send_publish(now, waiting, request, data);
        Ok(())
    }

    /// Whether the channel is known and the data fits it.
    pub(super) fn check_publish(&self, channel: &str, data: &Bytes) -> Result<(), ApiError> {
        if channel.is_empty() {
            return Err(ApiError::BAD_REQUEST);
        }
        let (_, options) = self.options.channel.resolve(channel).ok_or(ApiError::UNKNOWN_CHANNEL)?;
        if self.options.channel.accepts(options, data) { Ok(()) } else { Err(ApiError::BAD_REQUEST) }
    }

    pub(super) fn send_publish(&mut self, now: Now, waiting: RequestId, request: PublishRequest, data: Bytes) {
        let delta_publish = self.options.channel.resolve_known(&request.channel).1.delta_publish;
        let channel = self.channel_name(request.channel);
        let home = self.home(&channel);
        let publish = message::Publish {
            request: waiting,
            channel,
            deadline: self.deadline(now),
            accepted_at: now.at,
            data,
            info: None,
            tags: request.tags,
            skip_history: request.skip_history,
            delta: request.delta || delta_publish,
            idempotency_key: request.idempotency_key,
            version: request.version,
            version_epoch: request.version_epoch,
        };
        self.post.send(home, Message::Publish(Box::new(publish)));
    }

    pub(crate) fn api_published(&mut self, now: Now, origin: &Origin, result: Result<Position, ReplyError>) {
        let outcome = publish_outcome(result).map(ApiResult::Publish);
        self.complete(now, origin, outcome);
    }

    pub(crate) fn api_history_removed(&mut self, now: Now, origin: &Origin, result: Result<Position, ReplyError>) {
        let outcome: ApiOutcome = result.map(|_| ApiResult::HistoryRemove).map_err(api_error);
        self.complete(now, origin, outcome);
    }
}

pub(super) fn publish_outcome(result: Result<Position, ReplyError>) -> Result<PublishResult, ApiError> {
    let position = result.map_err(api_error)?;
    Ok(PublishResult { offset: position.offset, epoch: position.epoch.to_string() })
}
