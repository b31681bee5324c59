//! What the server API does to the connections of a user on this shard.

use super::connect::time_to_live;
use super::refresh::close_at;
use super::subscribe::Wish;
use super::{Client, Grant, SubscribeReply};
use crate::message::{Message, ServerSubscribe, UserAct, UserCommand};
use crate::shard::Shard;
use crate::{ConnectionId, Now};
use ringcast_proto::client::{self as wire, PushBody};
use ringcast_proto::codes::{Disconnect, Unsubscribe};

impl Shard {
    /// Does it to every connection that is meant, then tells the shard that asked.
    pub(crate) fn user_act(&mut self, now: Now, command: &UserCommand) {
        let is_meant = |client: &&Client| {
            client.is_live() && (command.client.is_empty() || *command.client == *client.id.to_string())
        };
        let slots = self.users.local(&command.user).iter();
        let clients = slots.map(|slot| self.clients.at(*slot)).filter(is_meant);
        let connections: Vec<(ConnectionId, String)> = clients.map(|c| (c.connection, c.id.to_string())).collect();
        for (connection, id) in connections {
            match &*command.act {
                UserAct::Subscribe(subscribe) => self.server_subscribe(now, connection, subscribe),
                UserAct::Unsubscribe { channel } => self.server_unsubscribe(connection, channel),
                UserAct::Disconnect { disconnect, whitelist } => {
                    if !whitelist.contains(&id) {
                        self.close(connection, disconnect.clone());
                    }
                }
                UserAct::Refresh { expired, expire_at } => self.server_refresh(now, connection, *expired, *expire_at),
            }
        }
        if let Some((origin, request)) = command.origin {
            self.post.send(origin, Message::Done { request });
        }
    }

    fn server_subscribe(&mut self, now: Now, connection: ConnectionId, subscribe: &ServerSubscribe) {
        let Some(client) = self.clients.get(connection) else { return };
        let channel = &*subscribe.channel;
        if self.hub.find(channel).is_some_and(|index| client.subscriptions.get(index).is_some()) {
            return;
        }
        let (_, options) = self.options.channel.resolve_known(channel);
        let mut grant = Grant::new(options, subscribe.overrides);
        (grant.info, grant.data) = (subscribe.info.clone(), subscribe.data.clone());
        grant.expire_at = Some(subscribe.expire_at).filter(|at| *at > 0);
        // What is over already is not begun: without a time to live it would never end.
        if time_to_live(grant.expire_at, now).is_err() {
            return;
        }
        let since = subscribe.recover_since.as_ref();
        let wish = since.map_or_else(Wish::default, |since| Wish::since(since.offset, &since.epoch));
        self.begin_subscribe(now, connection, channel, grant, wish, SubscribeReply::Push);
    }

    fn server_unsubscribe(&mut self, connection: ConnectionId, channel: &str) {
        let why = Unsubscribe::SERVER;
        match self.hub.find(channel) {
            Some(index) => self.end_with_push(connection, index, why),
            // Useless, but what the reference answers to an empty channel.
            None if channel.is_empty() => {
                let push = wire::Unsubscribe { code: why.code, reason: why.reason.into_owned() };
                self.write_push(connection, "", PushBody::Unsubscribe(push));
            }
            None => {}
        }
    }

    fn server_refresh(&mut self, now: Now, connection: ConnectionId, expired: bool, expire_at: i64) {
        let ttl = time_to_live(Some(expire_at).filter(|at| *at != 0), now);
        let Ok(ttl) = ttl.map_err(|_| ()).and_then(|ttl| if expired { Err(()) } else { Ok(ttl) }) else {
            return self.close(connection, Disconnect::EXPIRED);
        };
        let close_at = close_at(now, ttl, self.options.client.expired_close_delay);
        let Some(client) = self.clients.get_mut(connection) else { return };
        client.close_at = close_at;
        let push = wire::Refresh { expires: ttl.is_some(), ttl: ttl.unwrap_or(0) };
        self.write_push(connection, "", PushBody::Refresh(push));
        self.arm(connection);
    }
}
