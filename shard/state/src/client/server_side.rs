//! What the server API does to the connections of a user on this shard.

use super::connect::{subscription_ttl, time_to_live};
use super::subscribe::Wish;
use super::{Client, Grant, SubscribeReply};
use crate::message::{Message, ServerSubscribe, UserAct, UserCommand};
use crate::session::Sessions;
use crate::shard::Shard;
use crate::{ConnectionId, Now, RequestId, ShardId};
use bytes::Bytes;
use ringcast_proto::client::{self as wire, PushBody};
use ringcast_proto::codes::{Disconnect, Unsubscribe};

/// What became of a subscription that the server wants for a client.
enum Begin {
    /// Its home is asked, and the answer will be counted: the call is not over before the client is in the channel.
    Begun,
    /// There is such a subscription already, or its time is over.
    Refused,
    /// There is no connection any more.
    Closed,
}

impl Shard {
    /// Does it to every connection that is meant, then tells the shard that asked.
    pub(crate) fn user_act(&mut self, now: Now, command: &UserCommand) {
        // Who is still connecting is closed as well: two that connect at once must not both stay where only one may.
        let is_disconnect = matches!(*command.act, UserAct::Disconnect { .. });
        let (own, session) = (self.post.own(), Sessions::place(&command.session));
        // WebSocket clients are not told their session, so nobody can name it.
        let is_named = |client: &Client| {
            session.is_some_and(|(_, _, session)| self.sessions.is_name_of(session, own, client.connection))
        };
        let is_meant = |client: &&Client| {
            (client.is_live() || is_disconnect)
                && (command.session.is_empty() || is_named(client))
                && (command.client.is_empty() || *command.client == *client.id.to_string())
        };
        let slots = self.users.local(&command.user).iter();
        let clients = slots.map(|slot| self.clients.at(*slot)).filter(is_meant);
        let connections: Vec<(ConnectionId, String)> = clients.map(|c| (c.connection, c.id.to_string())).collect();
        let (mut failed, mut more) = (false, 0);
        for (connection, id) in connections {
            match &*command.act {
                UserAct::Subscribe(subscribe) => {
                    match self.server_subscribe(now, connection, subscribe, command.origin) {
                        Begin::Begun => more += 1,
                        Begin::Refused => failed = true,
                        Begin::Closed => {}
                    }
                }
                UserAct::Unsubscribe { channel } => self.server_unsubscribe(connection, channel),
                UserAct::Disconnect { disconnect, whitelist } => {
                    if !whitelist.contains(&id) {
                        self.close(connection, disconnect.clone());
                    }
                }
                UserAct::Refresh { expired: true, .. } => self.close(connection, Disconnect::EXPIRED),
                UserAct::Refresh { expire_at, info, .. } => self.server_refresh(now, connection, *expire_at, info),
            }
        }
        if let Some((origin, request)) = command.origin {
            self.post.send(origin, Message::Done { request, failed, more });
        }
    }

    fn server_subscribe(
        &mut self,
        now: Now,
        connection: ConnectionId,
        subscribe: &ServerSubscribe,
        call: Option<(ShardId, RequestId)>,
    ) -> Begin {
        let Some(client) = self.clients.get(connection) else { return Begin::Closed };
        let channel = &*subscribe.channel;
        if client.subscriptions.len() >= self.options.client.channel_limit {
            self.close(connection, Disconnect::CHANNEL_LIMIT);
            return Begin::Closed;
        }
        if self.hub.find(channel).is_some_and(|index| client.subscriptions.get(index).is_some()) {
            return Begin::Refused;
        }
        let (_, options) = self.options.channel.resolve_known(channel);
        let mut grant = Grant::new(options, subscribe.overrides);
        (grant.info, grant.data) = (subscribe.info.clone(), subscribe.data.clone());
        grant.expire_at = Some(subscribe.expire_at).filter(|at| *at > 0);
        // Recovery is as `recover_since` says, whatever the mode of the namespace.
        (grant.cache, grant.auto_cache_recover) = (false, false);
        // What is over already is not begun: without a time to live it would never end.
        if subscription_ttl(grant.expire_at, now).is_err() {
            return Begin::Refused;
        }
        let since = subscribe.recover_since.as_ref();
        let wish = since.map_or_else(Wish::default, |since| Wish::since(since.offset, &since.epoch));
        self.begin_subscribe(now, connection, channel, grant, wish, SubscribeReply::Push { call });
        Begin::Begun
    }

    fn server_unsubscribe(&mut self, connection: ConnectionId, channel: &str) {
        let why = Unsubscribe::SERVER;
        let index = self.hub.find(channel);
        let subscription = index.and_then(|index| self.clients.get(connection)?.subscriptions.get(index));
        match (index, subscription) {
            (Some(index), Some(_)) => self.end_with_push(connection, index, why),
            // Useless, but what the reference does: who is not subscribed is told, too.
            _ => {
                self.push_unsubscribe(connection, channel, why);
            }
        }
    }

    fn server_refresh(&mut self, now: Now, connection: ConnectionId, expire_at: i64, info: &Bytes) {
        let expire_at = Some(expire_at).filter(|at| *at > 0);
        if expire_at.is_some_and(|at| at <= now.unix()) {
            return self.close(connection, Disconnect::EXPIRED);
        }
        let ttl = time_to_live(expire_at, now).ok().flatten();
        let close_at = self.connection_end(now, ttl);
        let renew_at = now.at + self.options.client.presence_update_interval;
        let Some(client) = self.clients.get_mut(connection) else { return };
        client.refresh(close_at, renew_at, info);
        let push = wire::Refresh { expires: ttl.is_some(), ttl: ttl.unwrap_or(0) };
        self.write_push(connection, "", PushBody::Refresh(push));
        self.arm(connection);
    }
}
