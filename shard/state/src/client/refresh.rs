//! New time for a connection or a subscription that would expire: of a token, or of a backend. Source: protocol §4, behaviour §9.

use super::command::{Outcome, Served};
use super::connect::time_to_live;
use super::subscription::Detail;
use super::{Client, Grant, Refusal};
use crate::auth::{Proof, TokenError, verify_connection};
use crate::hub::HubIndex;
use crate::proxy::{Asked, Matter, ProxyAnswer, ProxyEvent, RefreshAnswer};
use crate::shard::Shard;
use crate::{ConnectionId, Now, RequestId, Time};
use ringcast_proto::client::{RefreshResult, ReplyResult, SubRefreshRequest, SubRefreshResult};
use ringcast_proto::codes::{Disconnect, ReplyError};
use std::collections::BTreeMap;
use std::time::Duration;

/// Seconds that something goes on while its backend fails.
const FAILURE_TTL: i64 = 60;

impl Shard {
    pub(super) fn refresh(
        &mut self,
        now: Now,
        connection: ConnectionId,
        id: u32,
        token: &str,
        proof: Proof,
    ) -> Outcome {
        // Where a backend is asked it is not up to the client.
        if token.is_empty() || self.options.proxy.refresh.is_some() {
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
        let close_at = self.connection_end(now, ttl);
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
        let is_kept = self.options.channel.resolve_known(channel).1.sub_refresh_proxy.is_some();
        if is_kept || subscription.is_some_and(|subscription| subscription.is_server_side) {
            // The server made it, or asks a backend about it, and has to keep it.
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

impl Shard {
    /// When the time of a connection is over: clients get a delay of grace to refresh it, a backend is asked at once.
    pub(super) fn connection_end(&self, now: Now, ttl: Option<u32>) -> Option<Time> {
        let is_asked = self.options.proxy.refresh.is_some();
        close_at(now, ttl, if is_asked { Duration::ZERO } else { self.options.client.expired_close_delay })
    }

    /// The time of a connection is over.
    pub(super) fn end_or_refresh(&mut self, now: Now, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(connection) else { return };
        if !client.is_live() {
            return self.close(connection, Disconnect::STALE);
        }
        let Some(proxy) = self.options.proxy.refresh else { return self.close(connection, Disconnect::EXPIRED) };
        client.close_at = None;
        self.ask_backend(now, proxy, ProxyEvent::Refresh, Asked { connection, matter: Matter::Refresh });
    }

    /// The backend has said whether a connection goes on.
    pub(super) fn refresh_as_told(&mut self, now: Now, connection: ConnectionId, answer: ProxyAnswer) {
        if answer == ProxyAnswer::NotBase64 {
            return self.close(connection, Disconnect::SERVER_ERROR);
        }
        let answer = refresh_answer(now, answer);
        let ttl = time_to_live(Some(answer.expire_at), now).ok().flatten().filter(|ttl| *ttl > 0);
        // As in the reference, also without a new time.
        if answer.expired || ttl.is_none() {
            return self.close(connection, Disconnect::EXPIRED);
        }
        let close_at = self.connection_end(now, ttl);
        let renew_at = now.at + self.options.client.presence_update_interval;
        let Some(client) = self.clients.get_mut(connection) else { return };
        client.refresh(close_at, renew_at, &answer.info);
        client.keep_meta(answer.meta, &self.options.proxy);
        self.arm(connection);
    }

    /// The time of a subscription is over.
    pub(super) fn expire_or_refresh(&mut self, now: Now, connection: ConnectionId, index: HubIndex) {
        // The end of another one before it may have closed the client.
        if self.subscription_detail(connection, index).is_none() {
            return;
        }
        let channel = self.hub.name(index).clone();
        let Some(proxy) = self.options.channel.resolve_known(&channel).1.sub_refresh_proxy else {
            return self.expire_subscription(connection, index);
        };
        let asked = Asked { connection, matter: Matter::SubRefresh(index) };
        let request = self.ask_backend(now, proxy, ProxyEvent::SubRefresh { channel }, asked);
        if let Some(detail) = self.subscription_detail(connection, index) {
            (detail.expire_at, detail.refreshing) = (None, request);
        }
    }

    /// The backend has said whether a subscription goes on; nothing comes of it when that was an earlier one.
    pub(super) fn sub_refresh_as_told(
        &mut self,
        now: Now,
        connection: ConnectionId,
        (index, request): (HubIndex, RequestId),
        answer: ProxyAnswer,
    ) {
        let answer = refresh_answer(now, answer);
        let grace = self.options.client.expired_sub_close_delay;
        let renew_at = now.at + self.options.client.presence_update_interval;
        let Some(detail) = self.subscription_detail(connection, index) else { return };
        if detail.refreshing != Some(request) {
            return;
        }
        detail.refreshing = None;
        let expire_at = Some(answer.expire_at).filter(|at| *at > 0);
        let Some(ttl) = time_to_live(expire_at, now).ok().filter(|_| !answer.expired) else {
            return self.expire_subscription(connection, index);
        };
        detail.expire_at = close_at(now, ttl, grace);
        let is_new = !answer.info.is_empty();
        if is_new {
            detail.info = answer.info;
        }
        if let Some(client) = self.clients.get_mut(connection).filter(|_| is_new) {
            client.renew_members(renew_at);
        }
        self.arm(connection);
    }

    fn subscription_detail(&mut self, connection: ConnectionId, index: HubIndex) -> Option<&mut Detail> {
        self.clients.get_mut(connection)?.subscriptions.get_mut(index)?.detail.as_deref_mut()
    }
}

/// What an answer comes to: a backend that fails gives a minute, one that refuses ends it. Source: behaviour §9.
fn refresh_answer(now: Now, answer: ProxyAnswer) -> RefreshAnswer {
    match answer {
        ProxyAnswer::Refresh(answer) => answer,
        ProxyAnswer::Error(_) | ProxyAnswer::Disconnect(_) | ProxyAnswer::NotBase64 => {
            RefreshAnswer { expired: true, ..RefreshAnswer::default() }
        }
        // An answer to another question is none.
        _ => RefreshAnswer { expire_at: now.unix() + FAILURE_TTL, ..RefreshAnswer::default() },
    }
}

/// When something with a time to live is ended.
pub(super) fn close_at(now: Now, ttl: Option<u32>, grace: Duration) -> Option<Time> {
    ttl.map(|ttl| now.at + Duration::from_secs(ttl.into()) + grace)
}
