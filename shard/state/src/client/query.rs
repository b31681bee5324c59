//! Commands that read: presence, presence_stats, history.

use super::Client;
use super::command::{Outcome, Served, Serving};
use super::subscription::State;
use super::write::bodies;
use crate::channel::Position;
use crate::message::{Ask, AskHistory, Members, Message, Publications};
use crate::metrics::{Action, FrameType};
use crate::namespace::ChannelOptions;
use crate::shard::{Shard, Waiting};
use crate::{ConnectionId, Now, Variant};
use ringcast_proto::client::{
    self as wire, HistoryRequest, HistoryResult, InvalidJson, PresenceResult, PresenceStatsResult, ReplyResult,
};
use ringcast_proto::codes::{Disconnect, ReplyError};

impl Shard {
    pub(super) fn ask_presence(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        channel: &str,
        stats: bool,
    ) -> Outcome {
        if channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let options = self.options.channel.resolve_for_client(channel)?;
        if !options.presence {
            return Err(ReplyError::NOT_AVAILABLE.into());
        }
        let Some(client) = self.clients.get(connection) else { return Ok(Served::Done) };
        if !self.may_read_presence(&client.user, self.is_subscribed(client, channel), options) {
            return Err(ReplyError::PERMISSION_DENIED.into());
        }
        let (home, channel) = (self.home(channel), channel.into());
        self.metrics.act(if stats { Action::PresenceStats } else { Action::Presence });
        let request = self.ask(now, Waiting::Presence { connection, serving, stats });
        let ask = Ask { request, channel, deadline: self.deadline(now), stats };
        self.post.send(home, Message::Presence(Box::new(ask)));
        Ok(Served::Later)
    }

    /// The home has told who is there.
    pub(crate) fn presence_is(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        stats: bool,
        members: Result<Members, ReplyError>,
    ) {
        match members {
            Err(error) => self.write_error(connection, serving, error),
            Ok(members) if stats => {
                let (num_clients, num_users) = members.count();
                let result = PresenceStatsResult { num_clients, num_users };
                self.write_result(connection, serving.id, ReplyResult::PresenceStats(result));
            }
            Ok(members) => {
                let presence = members.into_map();
                self.write_result(connection, serving.id, ReplyResult::Presence(PresenceResult { presence }));
            }
        }
        self.finish_command(now, connection, serving);
    }

    pub(super) fn ask_history(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        request: HistoryRequest,
    ) -> Outcome {
        if request.channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let options = self.options.channel.resolve_for_client(&request.channel)?;
        if !options.has_history() {
            return Err(ReplyError::NOT_AVAILABLE.into());
        }
        let Some(client) = self.clients.get(connection) else { return Ok(Served::Done) };
        if !self.may_read_history(&client.user, self.is_subscribed(client, &request.channel), options) {
            return Err(ReplyError::PERMISSION_DENIED.into());
        }
        if request.reverse && request.since.as_ref().is_some_and(|since| since.offset == 0) {
            return Err(ReplyError::BAD_REQUEST.into());
        }
        let limit_max = self.options.client.history_max_publication_limit;
        let limit = usize::try_from(request.limit).ok();
        let limit = match limit_max {
            0 => limit,
            limit_max => Some(limit.unwrap_or(limit_max).min(limit_max)),
        };
        let encoding = client.encoding;
        let since = request.since.map(|since| Position { offset: since.offset, epoch: (&*since.epoch).into() });
        let home = self.home(&request.channel);
        let ask = AskHistory {
            request: self.ask(now, Waiting::History { connection, serving }),
            channel: request.channel.into(),
            deadline: self.deadline(now),
            since,
            limit,
            reverse: request.reverse,
            encoding: Some(encoding),
        };
        self.post.send(home, Message::History(Box::new(ask)));
        Ok(Served::Later)
    }

    /// The home has read its history.
    pub(crate) fn history_is(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        result: Result<Box<Publications>, ReplyError>,
    ) {
        match result {
            Err(error) => self.write_error(connection, serving, error),
            Ok(read) => {
                let (offset, epoch) = (read.top.offset, read.top.epoch.to_string());
                let result = HistoryResult { offset, epoch, ..HistoryResult::default() };
                self.write_with(connection, FrameType::History, |encoding, out| {
                    let publications = read.publications.iter().map(AsRef::as_ref);
                    let bodies = bodies(publications, Variant::new(encoding, false)).ok_or(InvalidJson)?;
                    wire::encode_history_result(encoding, serving.id, &result, &bodies, out);
                    Ok::<(), InvalidJson>(())
                });
            }
        }
        self.finish_command(now, connection, serving);
    }

    /// Whether a subscription of the client to the channel is live.
    pub(super) fn is_subscribed(&self, client: &Client, channel: &str) -> bool {
        let subscription = self.hub.find(channel).and_then(|index| client.subscriptions.get(index));
        subscription.is_some_and(|subscription| matches!(subscription.state, State::Live(_)))
    }

    pub(super) fn may_read_presence(&self, user: &str, is_subscribed: bool, options: &ChannelOptions) -> bool {
        let is_known = !user.is_empty() || options.allow_presence_for_anonymous;
        let is_entitled = options.allow_presence_for_client || options.allow_presence_for_subscriber && is_subscribed;
        is_known && is_entitled || self.options.client.insecure
    }

    pub(super) fn may_read_history(&self, user: &str, is_subscribed: bool, options: &ChannelOptions) -> bool {
        let is_known = !user.is_empty() || options.allow_history_for_anonymous;
        let is_entitled = options.allow_history_for_client || options.allow_history_for_subscriber && is_subscribed;
        is_known && is_entitled || self.options.client.insecure
    }
}
