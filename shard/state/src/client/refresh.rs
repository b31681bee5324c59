//! New tokens for a connection or a subscription that would expire. Source: protocol §4.

use super::command::{Outcome, Served};
use super::connect::time_to_live;
use super::{Client, Grant, Refusal};
use crate::auth::{Proof, TokenError, verify_connection};
use crate::shard::Shard;
use crate::{ConnectionId, Now, Time};
use ringcast_proto::client::{RefreshResult, ReplyResult, SubRefreshRequest, SubRefreshResult};
use ringcast_proto::codes::{Disconnect, ReplyError};
use std::collections::BTreeMap;
use std::time::Duration;

impl Shard {
    pub(super) fn refresh(
        &mut self,
        now: Now,
        connection: ConnectionId,
        id: u32,
        token: &str,
        proof: Proof,
    ) -> Outcome {
        if token.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let token = verify_connection(token, &self.options.token, self.options.client.proof(proof), now.unix());
        let token = token.map_err(|error| match error {
            TokenError::Invalid => Refusal::from(Disconnect::INVALID_TOKEN),
            TokenError::Expired => Refusal::from(Disconnect::EXPIRED),
            TokenError::BrokenInfo => Refusal::from(ReplyError::INTERNAL),
        })?;
        let subs = self.token_subs(&token)?;
        let Some(client) = self.clients.get(connection) else { return Ok(Served::Done) };
        if *token.user != *client.user {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        // The client comes again and gets the new ones.
        if self.has_other_subs(client, &subs) {
            return Err(Disconnect::INSUFFICIENT_STATE.into());
        }
        if token.expire_at.is_some_and(|at| at <= now.unix()) {
            return Err(ReplyError::EXPIRED.into());
        }
        let ttl = time_to_live(token.expire_at, now)?;
        let close_at = close_at(now, ttl, self.options.client.expired_close_delay);
        let renew_at = now.at + self.options.client.presence_update_interval;
        let Some(client) = self.clients.get_mut(connection) else { return Ok(Served::Done) };
        client.refresh(close_at, renew_at, &token.info);
        client.keep_meta(token.meta, &self.options.proxy);
        // Client id and version are in the schema; the reference leaves them out.
        let result = RefreshResult { expires: ttl.is_some(), ttl: ttl.unwrap_or(0), ..RefreshResult::default() };
        self.arm(connection);
        self.write_result(connection, id, ReplyResult::Refresh(result));
        Ok(Served::Done)
    }

    /// Whether the server-side subscriptions of a new token are not those of the old one.
    fn has_other_subs(&self, client: &Client, subs: &BTreeMap<String, Grant>) -> bool {
        let mut from_token = client.subscriptions.iter().filter(|subscription| subscription.is_from_token);
        subs.keys().any(|channel| !self.is_subscribed(client, channel))
            || from_token.any(|subscription| !subs.contains_key(&**self.hub.name(subscription.channel)))
    }

    pub(super) fn sub_refresh(
        &mut self,
        now: Now,
        connection: ConnectionId,
        id: u32,
        request: SubRefreshRequest,
        proof: Proof,
    ) -> Outcome {
        let channel = &*request.channel;
        if channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let Some(client) = self.clients.get(connection) else { return Ok(Served::Done) };
        if !self.is_subscribed(client, channel) {
            return Err(ReplyError::PERMISSION_DENIED.into());
        }
        let subscription = self.hub.find(channel).and_then(|index| client.subscriptions.get(index));
        if subscription.is_some_and(|subscription| subscription.is_server_side) {
            // The server made it, and has to keep it.
            return Err(Disconnect::BAD_REQUEST.into());
        }
        if request.token.is_empty() {
            return Err(ReplyError::BAD_REQUEST.into());
        }
        // An expired token is refused, where the reference answers success and forgets the expiry.
        let token =
            self.subscription_token(now, connection, channel, &request.token, proof).map_err(
                |refusal| match refusal {
                    Refusal::Error(error) if error == ReplyError::PERMISSION_DENIED => Disconnect::INVALID_TOKEN.into(),
                    refusal => refusal,
                },
            )?;
        let ttl = time_to_live(token.expire_at, now)?;
        let expire_at = close_at(now, ttl, self.options.client.expired_sub_close_delay);
        let renew_at = now.at + self.options.client.presence_update_interval;
        if let Some(index) = self.hub.find(channel)
            && let Some(client) = self.clients.get_mut(connection)
            && let Some(subscription) = client.subscriptions.get_mut(index)
        {
            subscription.set_terms(token.info, expire_at);
            client.renew_members(renew_at);
        }
        self.arm(connection);
        let result = SubRefreshResult { expires: ttl.is_some(), ttl: ttl.unwrap_or(0), ..SubRefreshResult::default() };
        self.write_result(connection, id, ReplyResult::SubRefresh(result));
        Ok(Served::Done)
    }
}

/// When something with a time to live is ended.
pub(super) fn close_at(now: Now, ttl: Option<u32>, grace: Duration) -> Option<Time> {
    ttl.map(|ttl| now.at + Duration::from_secs(ttl.into()) + grace)
}
