//! Reading a channel: presence, history; and removing its history.

use super::{Origin, api_error};
use crate::Now;
use crate::channel::Position;
use crate::message::{Ask, AskHistory, Members, Message, Publications};
use crate::metrics::Action;
use crate::namespace::ChannelOptions;
use crate::shard::{Shard, Waiting};
use ringcast_proto::api::{ApiResult, HistoryRequest, HistoryResult, PresenceResult, PresenceStatsResult, Publication};
use ringcast_proto::codes::{ApiError, ReplyError};

impl Shard {
    fn known(&self, channel: &str) -> Result<&ChannelOptions, ApiError> {
        if channel.is_empty() {
            return Err(ApiError::BAD_REQUEST);
        }
        let (_, options) = self.options.channel.resolve(channel).ok_or(ApiError::UNKNOWN_CHANNEL)?;
        Ok(options)
    }

    pub(super) fn api_presence(
        &mut self,
        now: Now,
        origin: &Origin,
        channel: &str,
        stats: bool,
    ) -> Result<(), ApiError> {
        if !self.known(channel)?.presence {
            return Err(ApiError::NOT_AVAILABLE);
        }
        self.metrics.act(if stats { Action::PresenceStats } else { Action::Presence });
        let request = self.ask(now, Waiting::ApiPresence { origin: origin.clone(), stats });
        let ask = Ask { request, channel: channel.into(), deadline: self.deadline(now), stats };
        self.post.send(self.home(channel), Message::Presence(Box::new(ask)));
        Ok(())
    }

    pub(crate) fn api_presence_is(
        &mut self,
        now: Now,
        origin: &Origin,
        stats: bool,
        members: Result<Members, ReplyError>,
    ) {
        let outcome = members.map_err(api_error).map(|members| {
            if stats {
                let (num_clients, num_users) = members.count();
                return ApiResult::PresenceStats(PresenceStatsResult { num_clients, num_users });
            }
            ApiResult::Presence(PresenceResult { presence: members.into_map() })
        });
        self.complete(now, origin, outcome);
    }

    pub(super) fn api_history(&mut self, now: Now, origin: &Origin, request: HistoryRequest) -> Result<(), ApiError> {
        if !self.known(&request.channel)?.has_history() {
            return Err(ApiError::NOT_AVAILABLE);
        }
        // The reference reads backwards from nowhere and fails inside.
        if request.reverse && request.since.as_ref().is_some_and(|since| since.offset == 0) {
            return Err(ApiError::INTERNAL);
        }
        let since = request.since.map(|since| Position { offset: since.offset, epoch: (&*since.epoch).into() });
        let home = self.home(&request.channel);
        let ask = AskHistory {
            request: self.ask(now, Waiting::ApiHistory { origin: origin.clone() }),
            channel: request.channel.into(),
            deadline: self.deadline(now),
            since,
            limit: usize::try_from(request.limit).ok(),
            reverse: request.reverse,
            encoding: None,
        };
        self.post.send(home, Message::History(Box::new(ask)));
        Ok(())
    }

    pub(crate) fn api_history_is(&mut self, now: Now, origin: &Origin, result: Result<Box<Publications>, ReplyError>) {
        let outcome = result.map_err(api_error).map(|read| {
            let publications = read.publications.iter().map(|publication| {
                let content = publication.content();
                Publication {
                    data: content.data.clone(),
                    info: content.info.clone(),
                    offset: content.offset,
                    tags: content.tags.clone(),
                }
            });
            let (epoch, offset) = (read.top.epoch.to_string(), read.top.offset);
            ApiResult::History(HistoryResult { publications: publications.collect(), epoch, offset })
        });
        self.complete(now, origin, outcome);
    }

    pub(super) fn api_history_remove(&mut self, now: Now, origin: &Origin, channel: &str) -> Result<(), ApiError> {
        if !self.known(channel)?.has_history() {
            return Err(ApiError::NOT_AVAILABLE);
        }
        let request = self.ask(now, Waiting::ApiHistoryRemove { origin: origin.clone() });
        let ask = Ask { request, channel: channel.into(), deadline: self.deadline(now), stats: false };
        self.post.send(self.home(channel), Message::HistoryRemove(Box::new(ask)));
        Ok(())
    }
}
