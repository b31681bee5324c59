//! Commands by which clients get and keep connections and subscriptions, with tokens where they need some.

use crate::backend::seconds_ahead;
use crate::client::Aim;
use crate::content::Wanted;
use crate::token;
use crate::world::World;
use ringcast_proto::client::{ConnectRequest, RefreshRequest, Request, SubRefreshRequest, SubscribeRequest};
use std::collections::BTreeMap;

/// Server-side subscriptions of a token at most; with the personal channel not above the smallest `channel_limit`.
const SERVER_SIDE_MAX: usize = 3;

impl World {
    pub(super) fn connect(&mut self, number: usize) {
        let server_side = self.scenario.server_side && self.random.one_in(2);
        let channels = if server_side { self.some_channels() } else { Vec::new() };
        let user = self.clients[number].user.clone();
        let mut aim = Aim::default();
        let token = if user.is_empty() && channels.is_empty() && self.random.one_in(2) {
            String::new()
        } else {
            aim.exp = self.some_end();
            aim.granted = channels.iter().cloned().collect();
            token::connection(&user, &channels, self.random.one_in(2), aim.exp)
        };
        let known = self.clients[number].positions.iter();
        let is_hinted = |channel: &String| channels.contains(channel) || channel.contains('#');
        let known = known.filter(|(channel, _)| is_hinted(channel)).map(|(channel, (offset, epoch))| {
            let (offset, epoch) = (*offset, epoch.clone());
            (channel.clone(), SubscribeRequest { recover: true, offset, epoch, ..SubscribeRequest::default() })
        });
        let subs: BTreeMap<String, SubscribeRequest> = known.collect();
        let mut frame = Vec::new();
        let request = Request::Connect(Box::new(ConnectRequest { token, subs, ..ConnectRequest::default() }));
        let (client, mut context) = self.client(number);
        client.ask(&mut context, request, aim, &mut frame);
        self.send(number, frame);
    }

    fn some_channels(&mut self) -> Vec<String> {
        let mut channels = Vec::new();
        for _ in 0..self.random.between(1, SERVER_SIDE_MAX as u64) {
            let channel = self.random.pick(&self.scenario.channels).clone();
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        channels
    }

    /// When a token ends, in worlds where some do. Few have ended when they are made.
    fn some_end(&mut self) -> Option<i64> {
        if !self.scenario.expires || self.random.one_in(3) {
            return None;
        }
        let ahead = seconds_ahead(self.now.unix_ms, &mut self.random);
        Some(if self.random.one_in(50) { (self.now.unix_ms / 1000) as i64 - 1 } else { ahead })
    }

    pub(super) fn subscribe_request(&mut self, number: usize, channel: String) -> (Request, Aim) {
        let position = self.clients[number].positions.get(&channel).cloned();
        let (mut recover, mut offset, mut epoch) = (false, 0, String::new());
        if let Some(position) = position.filter(|_| !self.random.one_in(5)) {
            recover = true;
            (offset, epoch) = position;
        }
        if self.random.one_in(30) {
            recover = true;
            offset = *self.random.pick(&[0, 1, offset + 1, u64::MAX]);
            epoch = if self.random.one_in(2) { String::new() } else { epoch };
        }
        let mut aim = Aim::default();
        let token = self.subscription_token(number, &channel, &mut aim);
        let may_filter = self.scenario.channel_options(&channel).allow_tags_filter;
        aim.wanted = (may_filter && self.random.one_in(3)).then(|| Wanted::random(&mut self.random));
        let request = SubscribeRequest {
            channel,
            token,
            recover,
            offset,
            epoch,
            tf: aim.wanted.as_ref().map(Wanted::node),
            positioned: self.random.one_in(3),
            recoverable: recover || self.random.one_in(3),
            join_leave: self.random.one_in(2),
            flag: if self.random.one_in(10) { 2 } else { 0 },
            delta: if self.random.one_in(3) { "fossil".to_owned() } else { String::new() },
            ..SubscribeRequest::default()
        };
        (Request::Subscribe(Box::new(request)), aim)
    }

    fn subscription_token(&mut self, number: usize, channel: &str, aim: &mut Aim) -> String {
        let is_private = !self.scenario.channel_options(channel).allow_subscribe_for_client;
        let has_token = if is_private { !self.random.one_in(10) } else { self.random.one_in(8) };
        if !has_token {
            return String::new();
        }
        aim.exp = self.some_end();
        aim.is_wrong = self.random.one_in(100);
        let user = &self.clients[number].user;
        if aim.is_wrong && self.random.one_in(2) {
            return token::subscription(&format!("not {user}"), channel, aim.exp);
        }
        let token = token::subscription(user, channel, aim.exp);
        if aim.is_wrong { format!("{token}AA") } else { token }
    }

    /// A new token for the connection, if its token ends.
    pub(super) fn refresh_request(&mut self, number: usize) -> Option<(Request, Aim)> {
        self.clients[number].expire_at?;
        let aim = Aim { exp: self.some_end(), ..Aim::default() };
        // Other server-side subscriptions than those of the first token would end the connection.
        let subscriptions = self.clients[number].subscriptions.iter();
        let granted = subscriptions.filter(|(_, subscription)| subscription.is_from_token);
        let granted = granted.map(|(channel, _)| channel.clone()).collect::<Vec<_>>();
        let token = token::connection(&self.clients[number].user, &granted, false, aim.exp);
        Some((Request::Refresh(RefreshRequest { token }), aim))
    }

    /// A new token for a subscription whose token ends.
    pub(super) fn sub_refresh_request(&mut self, number: usize) -> Option<(Request, Aim)> {
        let subscriptions = self.clients[number].subscriptions.iter();
        let ending =
            subscriptions.filter(|(_, subscription)| subscription.expire_at.is_some() && !subscription.server_side);
        let ending = ending.map(|(channel, _)| channel.clone()).collect::<Vec<_>>();
        let channel = ending.get(self.random.below(ending.len()))?.clone();
        let aim = Aim { exp: self.some_end(), ..Aim::default() };
        let token = token::subscription(&self.clients[number].user, &channel, aim.exp);
        Some((Request::SubRefresh(SubRefreshRequest { channel, token, ..SubRefreshRequest::default() }), aim))
    }
}
