//! Errors, ends of subscriptions and closes that a client may meet: each needs a reason that lies in this world.

use crate::client::{Asked, Client, Context, Phase};
use crate::scenario::personal_channel;
use crate::token;
use ringcast_proto::client::Request;
use ringcast_proto::codes::ReplyError;
use ringcast_state::Time;
use std::time::Duration;

/// How far the clock of a shard may be behind.
const BEHIND: Duration = Duration::from_millis(1);

impl Client {
    pub(super) fn failed(&mut self, context: &mut Context<'_>, asked: &Asked, error: &ReplyError) {
        if let Request::Publish(request) = &asked.request {
            context.model.answered(context.now, &request.channel, asked.aim.publication, Err(()));
        }
        assert!(self.is_excused(context, asked, error.code), "client {}: {error:?} for {asked:?}", self.number);
        if matches!(asked.request, Request::Connect(_)) {
            self.phase = Phase::Refused;
        }
    }

    fn is_excused(&self, context: &Context<'_>, asked: &Asked, code: u32) -> bool {
        let scenario = context.scenario;
        let is_over = asked.aim.exp.is_some_and(|exp| scenario.turns_clock() || token::moment(exp) <= context.now);
        let is_gone = channel_of(&asked.request).is_some_and(|channel| scenario.may_be_unknown(channel));
        match (&asked.request, code) {
            (_, 102 | 108) if is_gone => true,
            (Request::Connect(request), 102) => {
                let mut channels = request.subs.keys().chain(&asked.aim.granted);
                channels.any(|channel| scenario.may_be_unknown(channel))
            }
            (Request::Refresh(_), 102) => scenario.options.len() > 1,
            (Request::Connect(_) | Request::Refresh(_), 109 | 110) => is_over,
            (_, 100) if scenario.may_time_out() => true,
            // Withdrawn by an unsubscribe behind it.
            (Request::Subscribe(request), 100) => self.asked.iter().any(|asked| match &asked.request {
                Request::Unsubscribe(behind) => behind.channel == request.channel,
                _ => false,
            }),
            (Request::Subscribe(_) | Request::SubRefresh(_), 109 | 110) => is_over,
            (Request::Subscribe(request), 103) => {
                let is_others = scenario.personal().is_some() && request.channel != personal_channel(&self.user);
                let is_private = !scenario.channel_options(&request.channel).allow_subscribe_for_client;
                asked.aim.is_wrong || request.token.is_empty() && (is_private || is_own(&request.channel) && is_others)
            }
            (Request::Subscribe(request), 105) => {
                scenario.acts_on_users
                    || scenario.options().client.concurrency > 1
                    || self.subscriptions.contains_key(&request.channel)
            }
            (Request::Subscribe(_), 106) => scenario.channel_limit_min() < 128,
            (Request::Subscribe(request), 112) => {
                request.recover && request.flag == 2 && !scenario.is_cache(&request.channel)
            }
            (Request::SubRefresh(request), 103) => {
                // Gone before the command came; its end is on the way or was told since.
                self.subscriptions.get(&request.channel).is_none_or(|s| s.live >= asked.moment)
            }
            (Request::Presence(request), 108) => !scenario.channel_options(&request.channel).presence,
            (Request::PresenceStats(request), 108) => !scenario.channel_options(&request.channel).presence,
            (Request::History(request), 108) => !scenario.channel_options(&request.channel).has_history(),
            (Request::History(request), 112) => request.since.as_ref().is_some_and(|since| !since.epoch.is_empty()),
            (Request::Rpc(_), 108) => true,
            _ => false,
        }
    }

    /// Whether a time was over, the delay of grace included, for the server, which counts seconds.
    fn is_over(&self, context: &Context<'_>, expire_at: Option<Time>, grace: Duration) -> bool {
        expire_at.is_some_and(|at| context.scenario.turns_clock() || at + grace <= context.now + BEHIND)
    }

    pub(super) fn check_unsubscribe(&self, context: &Context<'_>, channel: &str, code: u32) {
        let (scenario, subscription) = (context.scenario, &self.subscriptions[channel]);
        let number = self.number;
        match code {
            2000 => assert!(scenario.acts_on_users),
            2500 => {
                assert!(!subscription.server_side, "the connection ends with a subscription of the server");
                let is_excused = context.shed > 0 || context.model.may_have_ended(scenario, context.now, channel);
                assert!(is_excused, "client {number}: {channel} ended, and nothing was lost");
            }
            2501 => {
                assert!(!subscription.server_side, "the connection ends with a subscription of the server");
                let grace = scenario.options().client.expired_sub_close_delay;
                let is_over = self.is_over(context, subscription.expire_at, grace);
                assert!(is_over, "client {number}: {channel} ended before its time, {:?}", subscription.expire_at);
            }
            code => panic!("client {number}: {channel} unsubscribed with {code}"),
        }
    }

    /// Whether commands have been waiting for those before them for long: then the pong stands behind them.
    fn is_backed_up(&self, context: &Context<'_>) -> bool {
        let pong_timeout = context.scenario.options().client.pong_timeout;
        self.asked.iter().any(|asked| context.now - asked.at > pong_timeout / 2)
    }

    /// Whether a stream that the client reads may have begun anew, or one that comes with the connection being made.
    fn may_have_lost_a_stream(&self, context: &Context<'_>) -> bool {
        let may_have_ended = |channel: &String| context.model.may_have_ended(context.scenario, context.now, channel);
        let is_asked = |asked: &Asked| match &asked.request {
            Request::Connect(request) => request.subs.keys().chain(&asked.aim.granted).any(may_have_ended),
            _ => false,
        };
        self.subscriptions.keys().any(may_have_ended)
            || self.asked.iter().any(is_asked)
            || self.phase == Phase::Connecting && self.personal_channel(context.scenario).iter().any(may_have_ended)
    }

    pub(super) fn check_code(&self, context: &Context<'_>, code: u32) {
        let scenario = context.scenario;
        let options = &scenario.options().client;
        let exps = || self.asked.iter().filter_map(|asked| asked.aim.exp).map(token::moment);
        let is_over = self.is_over(context, self.expire_at, options.expired_close_delay);
        // A token that came too late, or a connection whose token ended while it was made.
        let came_late = exps().any(|at| scenario.turns_clock() || at <= context.now + BEHIND);
        let grace = options.expired_sub_close_delay;
        let has_ended = |at: Option<Time>| self.is_over(context, at, grace);
        let is_excused = match code {
            3004 => self.phase == Phase::Connecting && scenario.may_time_out(),
            3005 => is_over || came_late || scenario.acts_on_users,
            // One that a call made may end before the client hears of it.
            3006 => {
                let may_be_late = scenario.may_time_out() || scenario.turns_clock();
                let may_be_unheard = scenario.acts_on_users && scenario.expires && may_be_late;
                may_be_unheard || self.subscriptions.values().any(|s| s.server_side && has_ended(s.expire_at))
            }
            3008 => scenario.queue_size_min() < 1 << 20 || scenario.block_one_in > 0,
            3010 if self.asked.iter().any(|asked| matches!(asked.request, Request::Refresh(_))) => true,
            3010 => scenario.has_server_side() && (context.shed > 0 || self.may_have_lost_a_stream(context)),
            3012 if scenario.dry_one_in > 0 => true,
            3012 => self.is_deaf || scenario.block_one_in > 0 || scenario.may_time_out() || self.is_backed_up(context),
            3500 | 3501 => self.asked.iter().any(|asked| self.is_wrong(context, asked, code)),
            3503 | 4001 => scenario.acts_on_users,
            3502 => {
                let is_silent = self.phase == Phase::Connecting && self.asked.is_empty();
                let may_be_late = scenario.may_time_out() || scenario.dry_one_in > 0;
                is_silent || self.phase == Phase::Refused || may_be_late || came_late
            }
            3504 => options.user_connection_limit > 0 || scenario.is_single(),
            3505 => {
                let may_be = self.phase == Phase::Connecting || scenario.acts_on_users;
                may_be && scenario.channel_limit_min() < 128
            }
            3506 => scenario.binary && self.means.encoding == ringcast_proto::client::Encoding::Json,
            _ => false,
        };
        let is_excused = is_excused || self.excuses.contains(&code);
        assert!(is_excused, "client {}: closed with {code} in {:?}", self.number, self.phase);
    }

    /// Whether a command is wrong in a way that ends the connection.
    fn is_wrong(&self, context: &Context<'_>, asked: &Asked, code: u32) -> bool {
        match &asked.request {
            Request::Connect(request) => {
                code == 3501 && request.subs.keys().any(|channel| context.scenario.may_be_unknown(channel))
            }
            // The server may have put one of its own into the place of a subscription that it had ended.
            Request::SubRefresh(_) if code == 3501 => context.scenario.acts_on_users,
            _ => code == 3500 && asked.aim.is_wrong,
        }
    }
}

fn channel_of(request: &Request) -> Option<&str> {
    match request {
        Request::Subscribe(request) => Some(&request.channel),
        Request::SubRefresh(request) => Some(&request.channel),
        Request::Publish(request) => Some(&request.channel),
        Request::Presence(request) => Some(&request.channel),
        Request::PresenceStats(request) => Some(&request.channel),
        Request::History(request) => Some(&request.channel),
        _ => None,
    }
}

fn is_own(channel: &str) -> bool {
    channel.contains('#')
}
