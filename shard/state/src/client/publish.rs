//! The publish command. Source: behaviour §1.

use super::Client;
use super::command::{Outcome, Served, Serving};
use crate::channel::Position;
use crate::message::{self, Message};
use crate::namespace::ChannelOptions;
use crate::proxy::PublishAnswer;
use crate::shard::{Shard, Waiting};
use crate::{ConnectionId, Now};
use bytes::Bytes;
use ringcast_proto::client::{ClientInfo, PublishRequest, ReplyResult};
use ringcast_proto::codes::{Disconnect, ReplyError};
use std::sync::Arc;

/// Type of a publication that sets the value of a key.
const MAP: i32 = 1;

/// A publication of a client, and who is told what came of it.
pub(super) struct Publishing {
    pub(super) connection: ConnectionId,
    pub(super) serving: Serving,
    pub(super) data: Bytes,
    /// All but the data.
    pub(super) answer: PublishAnswer,
}

impl Shard {
    pub(super) fn publish(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        request: PublishRequest,
    ) -> Outcome {
        if request.channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let options = self.options.channel.resolve_for_client(&request.channel)?;
        // Into a map, which no namespace allows yet. Any other number is as none.
        if request.r#type == MAP {
            return Err(match (self.options.client.insecure, request.key.is_empty()) {
                (false, _) => ReplyError::PERMISSION_DENIED,
                (true, true) => ReplyError::BAD_REQUEST,
                (true, false) => ReplyError::INTERNAL,
            }
            .into());
        }
        if !self.options.channel.accepts(options, &request.data) {
            return Err(ReplyError::BAD_REQUEST.into());
        }
        if let Some(proxy) = options.publish_proxy {
            return Ok(self.ask_to_publish(now, proxy, connection, serving, (request.channel, request.data)));
        }
        if options.subscribe_stream_proxy.is_some() {
            if !options.subscribe_stream_proxy_bidirectional {
                return Err(ReplyError::NOT_AVAILABLE.into());
            }
            return Ok(self.publish_upwards(now, connection, serving, (&request.channel, request.data))?);
        }
        let Some(client) = self.clients.get(connection) else { return Ok(Served::Done) };
        if !self.may_publish(client, &request.channel, options) {
            return Err(ReplyError::PERMISSION_DENIED.into());
        }
        let answer = PublishAnswer { delta: options.delta_publish, ..PublishAnswer::default() };
        let publishing = Publishing { connection, serving, data: request.data, answer };
        self.send_publication(now, publishing, request.channel);
        Ok(Served::Later)
    }

    /// Sends a publication of a client, who is there, to the home of the channel.
    pub(super) fn send_publication(&mut self, now: Now, publishing: Publishing, channel: String) {
        let Publishing { connection, serving, data, answer } = publishing;
        let Some(client) = self.clients.get(connection) else { return };
        let info = Arc::new(self.publisher_info(client, &channel));
        let channel = self.channel_name(channel);
        let home = self.home(&channel);
        let publish = message::Publish {
            request: self.ask(now, Waiting::Publish { connection, serving }),
            channel,
            deadline: self.deadline(now),
            accepted_at: now.at,
            data,
            info: Some(info),
            tags: answer.tags,
            skip_history: answer.skip_history,
            delta: answer.delta,
            idempotency_key: answer.idempotency_key,
            version: answer.version,
            version_epoch: answer.version_epoch,
        };
        self.post.send(home, Message::Publish(Box::new(publish)));
    }

    fn may_publish(&self, client: &Client, channel: &str, options: &ChannelOptions) -> bool {
        let is_known = !client.user.is_empty() || options.allow_publish_for_anonymous;
        let as_client = options.allow_publish_for_client && is_known;
        let as_subscriber = options.allow_publish_for_subscriber && is_known;
        as_client || as_subscriber && self.is_subscribed(client, channel) || self.options.client.insecure
    }

    /// The publisher as subscribers see it.
    fn publisher_info(&self, client: &Client, channel: &str) -> ClientInfo {
        let subscription = self.hub.find(channel).and_then(|index| client.subscriptions.get(index));
        let detail = subscription.and_then(|subscription| subscription.detail.as_ref());
        client.client_info(detail.map_or_else(Bytes::new, |detail| detail.info.clone()))
    }

    /// The home has ordered the publication, or failed to.
    pub(crate) fn published(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        result: Result<Position, ReplyError>,
    ) {
        match result {
            Ok(_) => self.write_result(connection, serving.id, ReplyResult::Publish),
            Err(error) => self.write_error(connection, serving, error),
        }
        self.finish_command(now, connection, serving);
    }
}
