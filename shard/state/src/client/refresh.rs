//! New tokens for a connection or a subscription that would expire. Source: protocol §4.

use super::Refusal;
use super::command::{Outcome, Served};
use super::connect::time_to_live;
use crate::auth::{Proof, TokenError, verify_connection};
use crate::shard::Shard;
use crate::{ConnectionId, Now, Time};
use ringcast_proto::client::{RefreshResult, ReplyResult, SubRefreshRequest, SubRefreshResult};
use ringcast_proto::codes::{Disconnect, ReplyError};
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
            TokenError::Invalid => Disconnect::INVALID_TOKEN,
            TokenError::Expired => Disconnect::EXPIRED,
        })?;
        let ttl = time_to_live(token.expire_at, now).map_err(|_| Disconnect::EXPIRED)?;
        let close_at = close_at(now, ttl, self.options.client.expired_close_delay);
        let Some(client) = self.clients.get_mut(connection) else { return Ok(Served::Done) };
        if *token.user != *client.user {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        client.close_at = close_at;
        if ttl.is_some() && !token.info.is_empty() {
            client.info = token.info;
            client.renew_members();
        }
        // Client id and version are in the schema; the reference leaves them out.
        let result = RefreshResult { expires: ttl.is_some(), ttl: ttl.unwrap_or(0), ..RefreshResult::default() };
        self.arm(connection);
        self.write_result(connection, id, ReplyResult::Refresh(result));
        Ok(Served::Done)
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
        if let Some(index) = self.hub.find(channel)
            && let Some(client) = self.clients.get_mut(connection)
            && let Some(subscription) = client.subscriptions.get_mut(index)
        {
            subscription.set_terms(token.info, expire_at);
            client.renew_members();
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
