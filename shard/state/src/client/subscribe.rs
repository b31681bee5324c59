//! The subscribe command, and every other way to a subscription. Source: protocol §6, behaviour §1.

use super::command::{Outcome, Served, Serving};
use super::connect::subscription_ttl;
use super::refresh::close_at;
use super::subscription::{Detail, State, Subscription};
use super::write::bodies;
use super::{Grant, Refusal};
use crate::auth::{Proof, SubscriptionToken, TokenError, verify_subscription};
use crate::hub::{HubIndex, Subscriber};
use crate::message::{self, Member, Message, Overrides, Recover, Subscribed};
use crate::metrics::FrameType;
use crate::namespace::{ChannelOptions, DeltaType, SubscriptionType};
use crate::proxy::{Fed, ProxyId, StreamId, SubscribeAnswer};
use crate::shard::{Shard, Waiting};
use crate::{ConnectionId, Now, RequestId, ShardId, Variant};
use bytes::Bytes;
use ringcast_proto::client::{self as wire, InvalidJson, PushBody, SubscribeRequest, SubscribeResult};
use ringcast_proto::codes::{Disconnect, ReplyError, Unsubscribe};
use ringcast_proto::filter::validate;
use std::sync::Arc;

/// Flag of a subscribe request: rather fail than come back without what was missed.
const REJECT_UNRECOVERED: i64 = 2;

/// Types of subscriptions to maps.
const MAPS: std::ops::RangeInclusive<i32> = 1..=3;

/// Type of a subscription to a channel whose keys are polled from a backend.
const SHARED_POLL: i32 = 4;

/// Who is told when the subscription is live.
#[derive(Debug)]
pub(crate) enum SubscribeReply {
    /// A subscribe command.
    Command {
        /// Which one.
        serving: Serving,
    },
    /// The connect command.
    Connect {
        /// Key in its `subs`.
        channel: String,
    },
    /// Nobody asked: a push tells.
    Push {
        /// Where the call is awaited.
        call: Option<(ShardId, RequestId)>,
    },
}

/// What a subscriber says that it has seen.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    recover: bool,
    offset: u64,
    epoch: String,
    reject_unrecovered: bool,
}

impl Wish {
    pub(crate) fn from_request(request: &SubscribeRequest) -> Self {
        Wish {
            recover: request.recover,
            offset: request.offset,
            epoch: request.epoch.clone(),
            reject_unrecovered: request.flag & REJECT_UNRECOVERED != 0,
        }
    }

    /// As `from_request` for a subscription that the client did not ask for: it cannot be refused.
    pub(crate) fn from_hint(hint: &SubscribeRequest) -> Self {
        Wish { reject_unrecovered: false, ..Wish::from_request(hint) }
    }

    pub(crate) fn since(offset: u64, epoch: &str) -> Self {
        Wish { recover: true, offset, epoch: epoch.to_owned(), reject_unrecovered: false }
    }
}

/// What a subscribe command rests on.
pub(super) enum Basis {
    /// Its token, if it has one.
    Proof(Proof),
    /// The word of the backend.
    Told(SubscribeAnswer),
    /// The same, and its stream.
    Fed(SubscribeAnswer, StreamId),
}

/// Which backend is asked about a subscribe command, and how.
enum Asking {
    /// One question.
    Once(ProxyId),
    /// A stream, bidirectional or not.
    Stream(ProxyId, bool),
}

/// A subscription whose home was asked.
#[derive(Debug)]
pub(crate) struct Subscribing {
    connection: ConnectionId,
    channel: HubIndex,
    reply: SubscribeReply,
    /// Offset that the client gave.
    offset: u64,
    /// The client asked for what it missed, or gets it unasked.
    was_recovering: bool,
    reject_unrecovered: bool,
    push_join_leave: bool,
    recoverable: bool,
    delta: bool,
    /// Seconds, when the client has to refresh it.
    ttl: Option<u32>,
    data: Bytes,
}

impl Subscribing {
    /// The command that is to be answered, if one is.
    pub(super) fn command(&self) -> Option<Serving> {
        match self.reply {
            SubscribeReply::Command { serving } => Some(serving),
            SubscribeReply::Connect { .. } | SubscribeReply::Push { .. } => None,
        }
    }
}

impl Shard {
    /// `basis`: as far as it is known; a backend that is to be asked is asked once everything else allows it.
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        request: SubscribeRequest,
        basis: Basis,
    ) -> Outcome {
        let channel = &*request.channel;
        let Some(client) = self.clients.get(connection) else { return Ok(Served::Done) };
        if channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        // No namespace is of this type yet.
        if request.r#type == SHARED_POLL {
            return Err(ReplyError::NOT_AVAILABLE.into());
        }
        if !MAPS.contains(&request.r#type) && !matches!(&*request.delta, "" | "fossil") {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        if channel.len() > self.options.channel.max_length {
            return Err(ReplyError::BAD_REQUEST.into());
        }
        if self.hub.find(channel).is_some_and(|index| client.subscriptions.get(index).is_some()) {
            return Err(ReplyError::ALREADY_SUBSCRIBED.into());
        }
        if client.subscriptions.len() >= self.options.client.channel_limit {
            return Err(ReplyError::LIMIT_EXCEEDED.into());
        }
        if matches!(basis, Basis::Proof(_)) {
            match self.subscribe_proxy(&request) {
                Some(Asking::Once(proxy)) => {
                    return Ok(self.ask_to_subscribe(now, proxy, connection, serving, request));
                }
                Some(Asking::Stream(proxy, is_bidirectional)) => {
                    return Ok(self.open_stream(now, (proxy, is_bidirectional), connection, serving, request));
                }
                None => {}
            }
        }
        let grant = self.grant(now, connection, &request, basis)?;
        // The reference takes such a number for a stream's up to here, and then trips over it.
        if request.r#type > SHARED_POLL {
            return Err(Disconnect::SERVER_ERROR.into());
        }
        let wish = Wish::from_request(&request);
        self.begin_subscribe(now, connection, channel, grant, wish, SubscribeReply::Command { serving });
        Ok(Served::Later)
    }

    /// The backend that is to be asked about a subscribe command; none where something else decides, or refuses it.
    fn subscribe_proxy(&self, request: &SubscribeRequest) -> Option<Asking> {
        let channel = &*request.channel;
        let options = self.options.channel.resolve_for_client(channel).ok()?;
        let is_stream = !MAPS.contains(&request.r#type) && options.subscription_type == SubscriptionType::Stream;
        let is_open = request.token.is_empty() && !self.options.channel.is_private(channel);
        let is_limited = self.options.channel.limited_to(channel, options).is_some();
        let is_bidirectional = options.subscribe_stream_proxy_bidirectional;
        let of_stream = options.subscribe_stream_proxy.map(|proxy| Asking::Stream(proxy, is_bidirectional));
        let asking = options.subscribe_proxy.map(Asking::Once).or(of_stream);
        asking.filter(|_| is_stream && is_open && !is_limited)
    }

    /// Whether, and on which terms, the client may subscribe.
    fn grant(
        &self,
        now: Now,
        connection: ConnectionId,
        request: &SubscribeRequest,
        basis: Basis,
    ) -> Result<Grant, Refusal> {
        let channel = &*request.channel;
        let options = self.options.channel.resolve_for_client(channel)?;
        // Maps belong to namespaces of their type. A number that is no type at all is as none.
        if MAPS.contains(&request.r#type) || options.subscription_type != SubscriptionType::Stream {
            return Err(ReplyError::PERMISSION_DENIED.into());
        }
        let Some(client) = self.clients.get(connection) else { return Err(Disconnect::CONNECTION_CLOSED.into()) };
        if self.options.channel.is_private(channel) && request.token.is_empty() {
            return Err(ReplyError::PERMISSION_DENIED.into());
        }
        let is_told = !matches!(basis, Basis::Proof(_));
        let is_fed = matches!(basis, Basis::Fed(..));
        let mut grant = if let Basis::Told(answer) = basis {
            Grant::told(options, answer)
        } else if let Basis::Fed(answer, stream) = basis {
            Grant::fed(options, answer, stream)
        } else if let Basis::Proof(proof) = basis
            && !request.token.is_empty()
        {
            let token = self.subscription_token(now, connection, channel, &request.token, proof)?;
            let mut grant = Grant::new(options, token.overrides);
            (grant.info, grant.data, grant.expire_at) = (token.info, token.data, token.expire_at);
            grant
        } else if self.may_subscribe(&client.user, channel, options) {
            Grant::new(options, Overrides::default())
        } else {
            return Err(ReplyError::PERMISSION_DENIED.into());
        };
        // As the reference: what a backend does not grant, nobody may wish for.
        let reads_history = self.may_read_history(&client.user, true, options);
        if !is_told {
            grant.positioned |= request.positioned && (options.allow_positioning || reads_history);
            grant.recoverable |= request.recoverable && (options.allow_recovery || reads_history);
        }
        // What a backend feeds has no place in the channel's stream, so that there is nothing to make a patch against.
        grant.delta = !is_fed && grants_delta(&request.delta, options);
        // An expiry in the past is an error of the command; in the future it is told to the client.
        subscription_ttl(grant.expire_at, now)?;
        if let Some(filter) = &request.tf {
            if is_fed || !options.allow_tags_filter {
                return Err(ReplyError::BAD_REQUEST.into());
            }
            grant.filter = Some(validate(filter).map_err(|_| ReplyError::BAD_REQUEST)?);
        }
        let sees_presence = self.may_read_presence(&client.user, true, options);
        grant.push_join_leave |= !is_told && request.join_leave && options.join_leave && sees_presence;
        grant.auto_cache_recover = options.auto_cache_recover && grant.recoverable && grant.cache;
        Ok(grant)
    }

    /// Checks a subscription token against the client and channel that it is used for.
    pub(super) fn subscription_token(
        &self,
        now: Now,
        connection: ConnectionId,
        channel: &str,
        token: &str,
        proof: Proof,
    ) -> Result<SubscriptionToken, Refusal> {
        let Some(client) = self.clients.get(connection) else { return Err(Disconnect::CONNECTION_CLOSED.into()) };
        let (options, proof) = (self.options.subscription_token(), self.options.client.proof(proof));
        let token = verify_subscription(token, options, proof, now.unix()).map_err(|error| match error {
            TokenError::Invalid => ReplyError::PERMISSION_DENIED,
            TokenError::Expired => ReplyError::TOKEN_EXPIRED,
            TokenError::BrokenInfo => ReplyError::INTERNAL,
        })?;
        if self.options.channel.resolve(&token.channel).is_none() {
            return Err(ReplyError::UNKNOWN_CHANNEL.into());
        }
        let is_for_client = token.client.is_empty() || token.client == client.id.to_string();
        if token.channel != channel || *token.user != *client.user || !is_for_client {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        Ok(token)
    }

    /// Whether a user may subscribe without a token.
    pub(super) fn may_subscribe(&self, user: &str, channel: &str, options: &ChannelOptions) -> bool {
        let is_known = !user.is_empty() || options.allow_subscribe_for_anonymous;
        let is_allowed = match self.options.channel.limited_to(channel, options) {
            Some(users) => users.contains(user),
            None => options.allow_subscribe_for_client && is_known,
        };
        is_allowed || self.options.client.insecure
    }

    /// Asks the home of a channel that is granted. The subscription counts as there from now on.
    pub(super) fn begin_subscribe(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: &str,
        grant: Grant,
        wish: Wish,
        reply: SubscribeReply,
    ) {
        let index = self.hub.enter(channel);
        let channel = self.hub.name(index).clone();
        let is_server_side = !matches!(reply, SubscribeReply::Command { .. });
        let is_positioned = grant.positioned || grant.recoverable;
        let ttl = subscription_ttl(grant.expire_at, now).ok().flatten();
        let subscribing = Subscribing {
            connection,
            channel: index,
            reply,
            offset: wish.offset,
            was_recovering: wish.recover || grant.auto_cache_recover,
            reject_unrecovered: wish.reject_unrecovered && !grant.cache,
            push_join_leave: grant.push_join_leave,
            recoverable: grant.recoverable,
            delta: grant.delta,
            ttl: ttl.filter(|_| !grant.server_refresh),
            data: grant.data.clone(),
        };
        let request = self.ask(now, Waiting::Subscribe(Box::new(subscribing)));
        let deadline = self.deadline(now);
        let home = self.home(&channel);
        let Some(client) = self.clients.get_mut(connection) else { return };
        let member = (grant.presence || grant.join_leave).then(|| Member {
            client: client.id,
            info: Arc::new(client.client_info(grant.info.clone())),
            presence: grant.presence,
            join_leave: grant.join_leave,
        });
        let filter = grant.filter.map(|filter| self.filters.enter(filter));
        if let Some(stream) = grant.stream {
            self.streams.attach(stream, Fed { connection, channel: index });
        }
        let is_fed = grant.stream.is_some();
        let has_detail = member.is_some() || ttl.is_some() || filter.is_some() || !grant.info.is_empty() || is_fed;
        let grace = self.options.client.expired_sub_close_delay;
        let detail = has_detail.then(|| {
            let expire_at = close_at(now, ttl, grace);
            let (member, info) = (member.clone(), grant.info.clone());
            Box::new(Detail { member, info, filter, expire_at, stream: grant.stream, ..Detail::default() })
        });
        let state = State::Subscribing(request);
        let variant = Variant::new(client.encoding, grant.delta);
        let subscription = Subscription {
            channel: index,
            state,
            is_positioned,
            is_server_side,
            is_from_token: grant.is_from_token,
            is_named: client.program.is_named,
            variant,
            detail,
        };
        client.subscriptions.insert(subscription);

        let recovers = wish.recover && grant.recoverable || grant.auto_cache_recover;
        let recover = recovers.then_some(Recover {
            offset: wish.offset,
            epoch: wish.epoch,
            cache: grant.cache,
            limit: self.options.client.recovery_max_publication_limit,
            filter: filter.map(|filter| Arc::clone(self.filters.get(filter))),
        });
        let subscribe =
            message::Subscribe { request, channel, deadline, variant, member, positioned: is_positioned, recover };
        self.post.send(home, Message::Subscribe(Box::new(subscribe)));
    }

    /// The home has answered.
    pub(crate) fn subscribed(&mut self, now: Now, subscribed: Subscribed) {
        let request = subscribed.request;
        let Some(Waiting::Subscribe(subscribing)) = self.pending.take(request) else { return };
        let (connection, index) = (subscribing.connection, subscribing.channel);
        if !self.awaits(connection, index, request) {
            return self.settle_call(&subscribing.reply, false);
        }
        let unrecovered = subscribed.recovery.as_ref().is_some_and(|recovery| !recovery.recovered);
        if unrecovered && subscribing.reject_unrecovered {
            return self.fail_subscribe(now, request, *subscribing, ReplyError::UNRECOVERABLE_POSITION);
        }
        if let Some(recovery) = &subscribed.recovery {
            self.metrics.recovered(recovery.recovered, recovery.publications.len());
        } else if subscribing.was_recovering {
            self.metrics.recovered(false, 0);
        }
        if subscribed.top.as_ref().is_some_and(|top| !self.hub.is_level(index, top)) {
            self.end_insufficient(index, |subscriber| subscriber.positioned);
        }
        self.go_live(connection, index, &subscribing, &subscribed);
        let (result, bodies) = match self.subscribe_result(connection, index, &subscribing, &subscribed) {
            Ok(answer) => answer,
            Err(InvalidJson) => {
                self.close(connection, Disconnect::INAPPROPRIATE_PROTOCOL);
                return self.settle_call(&subscribing.reply, false);
            }
        };
        match subscribing.reply {
            SubscribeReply::Command { serving } => {
                self.write_with(connection, FrameType::Subscribe, |encoding, out| {
                    wire::encode_subscribe_result(encoding, serving.id, &result, &bodies, out)
                });
                self.arm(connection);
                self.finish_command(now, connection, serving);
            }
            SubscribeReply::Connect { channel } => self.server_sub_live(now, connection, channel, &result, &bodies),
            SubscribeReply::Push { .. } => {
                self.push_subscribed(connection, index, result);
                self.settle_call(&subscribing.reply, false);
            }
        }
    }

    /// Whether the subscription is still the one that the request was made for.
    fn awaits(&self, connection: ConnectionId, index: HubIndex, request: RequestId) -> bool {
        let subscription = self.clients.get(connection).and_then(|client| client.subscriptions.get(index));
        subscription.is_some_and(|subscription| subscription.state == State::Subscribing(request))
    }

    fn go_live(&mut self, connection: ConnectionId, index: HubIndex, subscribing: &Subscribing, answer: &Subscribed) {
        // Of what waits the answer has told already.
        self.flush_batch(index);
        let Some(client) = self.clients.get_mut(connection) else { return };
        let Some(subscription) = client.subscriptions.get_mut(index) else { return };
        let subscriber = Subscriber {
            slot: connection.slot,
            filter: subscription.filter(),
            variant: subscription.variant,
            shape: client.shape,
            positioned: answer.top.is_some(),
            join_leave: subscribing.push_join_leave,
            has_base: brings_base(answer),
        };
        subscription.state = State::Live(self.hub.join(index, subscriber, answer.top.clone()));
        if let Some(stream) = subscription.stream() {
            self.streams.begin(stream);
        }
        self.metrics.subscribed(subscription.is_named);
    }

    /// The result, and the encoded bodies of its publications, which it does not hold itself.
    fn subscribe_result<'a>(
        &self,
        connection: ConnectionId,
        index: HubIndex,
        subscribing: &Subscribing,
        subscribed: &'a Subscribed,
    ) -> Result<(SubscribeResult, Vec<&'a [u8]>), InvalidJson> {
        let client = self.clients.get(connection).ok_or(InvalidJson)?;
        let is_positioned = client.subscriptions.get(index).is_some_and(|subscription| subscription.is_positioned);
        let mut result = SubscribeResult {
            expires: subscribing.ttl.is_some(),
            ttl: subscribing.ttl.unwrap_or(0),
            positioned: is_positioned,
            recoverable: subscribing.recoverable,
            data: subscribing.data.clone(),
            delta: subscribing.delta,
            ..SubscribeResult::default()
        };
        if let Some(top) = &subscribed.top {
            (result.offset, result.epoch) = (top.offset, top.epoch.to_string());
        }
        result.was_recovering = subscribing.was_recovering;
        let Some(recovery) = &subscribed.recovery else { return Ok((result, Vec::new())) };
        result.recovered = recovery.recovered;
        if recovery.recovered {
            result.offset = subscribing.offset;
        }
        let variant = Variant::new(client.encoding, subscribing.delta);
        if matches!(subscribing.reply, SubscribeReply::Push { .. }) {
            // The push has no place for publications, and the reference sends none.
            return Ok((result, Vec::new()));
        }
        let bodies = bodies(recovery.publications.iter().map(AsRef::as_ref), variant).ok_or(InvalidJson)?;
        Ok((result, bodies))
    }

    /// Tells a client of a subscription that the server API made.
    fn push_subscribed(&mut self, connection: ConnectionId, index: HubIndex, result: SubscribeResult) {
        let channel = self.hub.name(index).clone();
        let push = wire::Subscribe {
            recoverable: result.recoverable,
            epoch: result.epoch,
            offset: result.offset,
            positioned: result.positioned,
            data: result.data,
        };
        self.write_push(connection, &channel, PushBody::Subscribe(push));
        self.arm(connection);
    }

    /// The home did not answer in time, or what it answered is not good enough.
    pub(crate) fn fail_subscribe(&mut self, now: Now, request: RequestId, waiting: Subscribing, error: ReplyError) {
        let (connection, index) = (waiting.connection, waiting.channel);
        if !self.awaits(connection, index, request) {
            return self.settle_call(&waiting.reply, false);
        }
        let Some(client) = self.clients.get_mut(connection) else { return };
        if let Some(subscription) = client.subscriptions.remove(index) {
            self.give_up(&subscription);
        }
        match waiting.reply {
            SubscribeReply::Command { serving } => {
                self.write_error(connection, serving, error);
                self.finish_command(now, connection, serving);
            }
            // One subscription that fails makes the whole connect fail.
            SubscribeReply::Connect { .. } => self.close(connection, Disconnect::SERVER_ERROR),
            SubscribeReply::Push { .. } => self.settle_call(&waiting.reply, true),
        }
    }

    /// Tells the call of the server API that wanted the subscription, if one did, that it is settled.
    fn settle_call(&mut self, reply: &SubscribeReply, failed: bool) {
        if let SubscribeReply::Push { call: Some((shard, request)) } = *reply {
            self.post.send(shard, Message::Done { request, failed, more: 0 });
        }
    }

    /// Ends a subscription whose time is over.
    pub(super) fn expire_subscription(&mut self, connection: ConnectionId, index: HubIndex) {
        self.end_or_close(connection, index, Unsubscribe::EXPIRED, Disconnect::SUB_EXPIRED);
    }
}

/// Whether the subscription is one with deltas, of which there is one type only.
pub(super) fn grants_delta(wanted: &str, options: &ChannelOptions) -> bool {
    wanted == "fossil" && options.allowed_delta_types.contains(&DeltaType::Fossil)
}

/// Whether the answer holds the payload that the next patch is made against. A client that is level has not: it may have
/// its position from a subscribe reply and never have seen a publication.
fn brings_base(answer: &Subscribed) -> bool {
    let last = answer.recovery.as_ref().and_then(|recovery| recovery.publications.last());
    last.is_some_and(|last| answer.top.as_ref().is_some_and(|top| top.offset == last.offset))
}
