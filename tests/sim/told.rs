//! What a client is told: replies and pushes, each checked against what was asked and what is known.

use crate::client::{Aim, Asked, Client, Context, Phase};
use crate::model::{Subscription, Wish, info_of};
use crate::token;
use ringcast_proto::client::{ConnectResult, HistoryRequest, Push, PushBody, ReplyResult, Request, SubscribeResult};
use ringcast_state::Time;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl Client {
    pub(super) fn succeeded(&mut self, context: &mut Context<'_>, asked: Asked, result: ReplyResult) {
        match (asked.request, result) {
            (Request::Connect(request), ReplyResult::Connect(result)) => {
                let wishes = request.subs.iter().map(|(channel, wanted)| {
                    let (offset, epoch) = (wanted.offset, wanted.epoch.clone());
                    (channel.clone(), Wish { recover: wanted.recover, offset, epoch })
                });
                assert_eq!(result.session.is_empty(), !self.means.is_emulated());
                self.session = Some(result.session.clone());
                self.connected(context, asked.at, &asked.aim, &wishes.collect(), *result);
            }
            (Request::Subscribe(request), ReplyResult::Subscribe(result)) => {
                let wish = Wish { recover: request.recover, offset: request.offset, epoch: request.epoch };
                let options = context.scenario.channel_options(&request.channel);
                let is_delta = !request.delta.is_empty() && !options.allowed_delta_types.is_empty();
                assert_eq!(result.delta, is_delta, "{}: deltas asked for and granted", request.channel);
                let mut subscription = Subscription::asked(asked.moment);
                subscription.sees_members |= request.join_leave && options.join_leave;
                subscription.wanted = asked.aim.wanted;
                subscription.expire_at = ends_at(context, asked.aim.exp, result.ttl);
                check_ttl(context, asked.at, asked.aim.exp, result.expires, result.ttl);
                let data = if request.token.is_empty() { String::new() } else { info_of(&request.channel) };
                assert!(result.data == data.as_bytes(), "{}: {:?}", request.channel, result.data);
                self.subscribed(context, asked.at, &request.channel, &wish, subscription, *result);
            }
            (Request::Unsubscribe(request), ReplyResult::Unsubscribe) => self.end(&request.channel),
            (Request::Publish(request), ReplyResult::Publish) => {
                let id = asked.aim.publication;
                context.model.answered(context.now, &request.channel, id, Ok(None));
                if let Some(subscription) = self.subscriptions.get(&request.channel)
                    && !context.scenario.may_batch(&request.channel)
                {
                    context.model.check_own(&request.channel, subscription, id);
                }
            }
            (Request::Presence(request), ReplyResult::Presence(result)) => {
                let members = result.presence.keys().cloned().collect::<BTreeSet<_>>();
                for info in result.presence.values() {
                    context.model.check_info(&request.channel, info);
                }
                let is_exact = !context.scenario.may_be_unknown(&request.channel);
                if let Some(subscription) = self.subscriptions.get_mut(&request.channel)
                    && subscription.live < asked.moment
                    && is_exact
                {
                    assert!(members.contains(&self.id), "{}: not present itself", request.channel);
                    subscription.roster = Some(members).filter(|_| subscription.sees_members);
                }
            }
            (Request::PresenceStats(request), ReplyResult::PresenceStats(result)) => {
                let is_there = self.subscriptions.get(&request.channel).is_some_and(|s| s.live < asked.moment);
                let is_there = is_there && !context.scenario.may_be_unknown(&request.channel);
                assert!(result.num_clients >= u32::from(is_there), "{}: not present itself", request.channel);
                assert!(result.num_users <= result.num_clients);
            }
            (Request::History(request), ReplyResult::History(result)) => {
                let times = (asked.at, context.now);
                let top = (result.offset, &*result.epoch);
                let (channel, read) = (&request.channel, &result.publications);
                context.model.history(context.scenario, times, channel, read, top, is_whole(&request));
            }
            (Request::Refresh(_), ReplyResult::Refresh(result)) => {
                check_ttl(context, asked.at, asked.aim.exp, result.expires, result.ttl);
                self.expire_at = ends_at(context, asked.aim.exp, result.ttl);
            }
            (Request::SubRefresh(request), ReplyResult::SubRefresh(result)) => {
                check_ttl(context, asked.at, asked.aim.exp, result.expires, result.ttl);
                if let Some(subscription) = self.subscriptions.get_mut(&request.channel) {
                    subscription.expire_at = ends_at(context, asked.aim.exp, result.ttl);
                }
            }
            (request, result) => panic!("client {}: {result:?} is no answer to {request:?}", self.number),
        }
    }

    fn connected(
        &mut self,
        context: &mut Context<'_>,
        at: Time,
        aim: &Aim,
        wishes: &BTreeMap<String, Wish>,
        result: ConnectResult,
    ) {
        assert_eq!(self.phase, Phase::Connecting);
        assert!(!result.client.is_empty());
        self.phase = Phase::Live;
        self.pinged_at = context.now;
        self.id = result.client;
        self.expire_at = ends_at(context, aim.exp, result.ttl);
        check_ttl(context, at, aim.exp, result.expires, result.ttl);
        let mut granted = aim.granted.clone();
        granted.extend(self.personal_channel(context.scenario));
        for channel in &granted {
            assert!(result.subs.contains_key(channel), "client {}: {channel} was not opened", self.number);
        }
        for (channel, result) in result.subs {
            assert!(granted.contains(&channel) || wishes.contains_key(&channel), "{channel}: nobody wanted it");
            let wish = wishes.get(&channel).cloned().unwrap_or_default();
            let mut subscription = Subscription::server_side();
            subscription.is_from_token = aim.granted.contains(&channel);
            self.subscribed(context, at, &channel, &wish, subscription, result);
        }
    }

    fn subscribed(
        &mut self,
        context: &mut Context<'_>,
        at: Time,
        channel: &str,
        wish: &Wish,
        mut subscription: Subscription,
        mut result: SubscribeResult,
    ) {
        let options = context.scenario.channel_options(channel);
        subscription.sees_members |= options.force_push_join_leave && !context.scenario.may_be_unknown(channel);
        subscription.has_deltas = result.delta;
        subscription.log = self.logs.remove(channel).unwrap_or_default();
        for publication in &mut result.publications {
            subscription.make_whole(self.means.encoding, publication);
        }
        context.model.subscribed(context.scenario, (at, context.now), channel, wish, &mut subscription, &result);
        let before = self.subscriptions.insert(channel.to_owned(), subscription);
        assert!(before.is_none(), "client {}: subscribed to {channel} twice", self.number);
    }

    pub(super) fn pushed(&mut self, context: &mut Context<'_>, push: Push) {
        let channel = push.channel.clone();
        match &push.body {
            PushBody::Subscribe(_) => {}
            PushBody::Refresh(refresh) => {
                assert!(context.scenario.acts_on_users, "nobody refreshed the connection");
                let ttl = Duration::from_secs(refresh.ttl.into());
                self.expire_at = refresh.expires.then(|| context.now + ttl);
                return;
            }
            // The server API tells those, too, who have nothing to end.
            PushBody::Unsubscribe(unsubscribe)
                if unsubscribe.code == 2000 && !self.subscriptions.contains_key(&channel) =>
            {
                return assert!(context.scenario.acts_on_users);
            }
            _ => assert!(
                self.subscriptions.contains_key(&channel),
                "client {}: {channel} is not subscribed, {push:?}",
                self.number
            ),
        }
        match push.body {
            PushBody::Subscribe(subscribe) => self.subscribed_by_server(context, &channel, subscribe),
            PushBody::Pub(publication) => {
                let Some(subscription) = self.subscriptions.get_mut(&channel) else { return };
                let mut publication = publication;
                subscription.make_whole(self.means.encoding, &mut publication);
                context.model.delivered(&channel, subscription, &publication);
            }
            PushBody::Join(join) => {
                let info = join.info.expect("a join names somebody");
                context.model.check_info(&channel, &info);
                if let Some(subscription) = self.subscriptions.get_mut(&channel) {
                    assert!(
                        subscription.sees_members || context.scenario.may_be_unknown(&channel),
                        "{channel}: a join that was not wanted"
                    );
                    subscription.joined(&channel, &info.client);
                }
            }
            PushBody::Leave(leave) => {
                let info = leave.info.expect("a leave names somebody");
                context.model.check_info(&channel, &info);
                if let Some(subscription) = self.subscriptions.get_mut(&channel) {
                    assert!(
                        subscription.sees_members || context.scenario.may_be_unknown(&channel),
                        "{channel}: a leave that was not wanted"
                    );
                    context.model.left(context.scenario, &channel, subscription, &info.client);
                }
            }
            PushBody::Unsubscribe(unsubscribe) => {
                self.check_unsubscribe(context, &channel, unsubscribe.code);
                self.end(&channel);
            }
            body => panic!("client {}: unexpected {body:?}", self.number),
        }
    }

    /// The server API made a subscription.
    fn subscribed_by_server(
        &mut self,
        context: &mut Context<'_>,
        channel: &str,
        subscribe: ringcast_proto::client::Subscribe,
    ) {
        let mut subscription = Subscription::server_side();
        subscription.by_call = true;
        let data: Value = serde_json::from_slice(&subscribe.data).expect("the data of the call");
        let expire_at = data["expire_at"].as_i64().filter(|at| *at > 0);
        // Where clocks are turned nobody knows what the server's was when it was called.
        subscription.expire_at = expire_at.filter(|_| !context.scenario.turns_clock()).map(token::moment);
        // The push tells neither whether something was recovered nor what.
        subscription.may_jump = true;
        let result = SubscribeResult {
            epoch: subscribe.epoch,
            offset: subscribe.offset,
            positioned: subscribe.positioned,
            was_recovering: context.scenario.recovers_unasked(channel),
            ..SubscribeResult::default()
        };
        self.subscribed(context, Time(0), channel, &Wish::default(), subscription, result);
    }
}

/// Whether a history request asks for everything.
fn is_whole(request: &HistoryRequest) -> bool {
    request.limit < 0 && request.since.is_none() && !request.reverse
}

/// When a token is over: what was left of it counts, whatever is done to the clock behind that.
fn ends_at(context: &Context<'_>, exp: Option<i64>, ttl: u32) -> Option<Time> {
    let exp = exp?;
    let is_known = !context.scenario.turns_clock();
    Some(if is_known { token::moment(exp) } else { context.now + Duration::from_secs(ttl.into()) })
}

/// What is left of a token's time, as the server saw it between question and answer.
fn check_ttl(context: &Context<'_>, asked_at: Time, exp: Option<i64>, expires: bool, ttl: u32) {
    assert_eq!(expires, exp.is_some(), "an expiry that nobody gave, or none");
    let Some(exp) = exp else { return assert_eq!(ttl, 0) };
    if context.scenario.turns_clock() {
        return;
    }
    let left = |at: Time| exp - (token::clocks(at, 0).unix_ms / 1000) as i64;
    let (least, most) = (left(context.now), left(asked_at) + 1);
    assert!((least..=most).contains(&i64::from(ttl)), "ttl {ttl} is not between {least} and {most}");
}
