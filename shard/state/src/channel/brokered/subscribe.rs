//! Subscribers: the first makes the shard subscribe at the broker, and presence and joins are told there.

use super::{Brokered, Channel, Entry, Hearing, Job, LEAVE_DELAY, Place, RENEWAL_PAUSE, RENEWALS_MAX};
use super::{Waiter, Waiting, refuse};
use crate::ClientId;
use crate::broker::BrokerAsk;
use crate::channel::{Context, Listeners};
use crate::message::{ChannelName, Member, Renew, Subscribe, Unsubscribe};
use crate::metrics::{Action, BrokerMessage};
use ringcast_proto::codes::ReplyError;
use std::ops::Bound;

impl Brokered {
    /// Counts a subscriber. It is answered once the broker tells what is published, and history was read if it needs that.
    pub(crate) fn subscribe(&mut self, context: &mut Context<'_>, subscribe: Subscribe) {
        let index = self.find_or_insert(context, &subscribe.channel);
        let place = self.place(index);
        let channel = &mut self.channels[index];
        if channel.listeners.subscribers() == 0 {
            self.active += 1;
            context.metrics.act(Action::BrokerSubscribe);
        }
        channel.listeners.add(context.from, subscribe.variant);
        channel.positioned += u32::from(subscribe.positioned);
        let member = subscribe.member.clone();
        let waiter = Waiter { from: context.from, subscribe: Box::new(subscribe) };
        let Some(member) = member else { return self.admit(context, place, waiter) };
        self.enter(context, place, &member, waiter);
    }

    /// Shows a subscriber in presence first, so that whoever is told that it came finds it there.
    fn enter(&mut self, context: &mut Context<'_>, place: Place, member: &Member, waiter: Waiter) {
        let Member { client, info, presence, .. } = member.clone();
        let channel = &mut self.channels[place.index];
        let members = channel.members.get_or_insert_default();
        members.insert(client, Entry { info: info.clone(), presence, joined: false });
        if !presence {
            return self.admit(context, place, waiter);
        }
        context.metrics.act(Action::AddPresence);
        if self.presence_is_local {
            return self.admit(context, place, waiter);
        }
        if !std::mem::replace(&mut channel.is_renewed, true) {
            let interval = context.options.client.presence_update_interval;
            self.later(context, interval, place, Job::Renew { behind: None });
        }
        let channel = self.channels[place.index].name.clone();
        let waiting = Waiting::Enter(place, waiter);
        if let Err(waiting) = self.ask(context, BrokerAsk::AddPresence { channel, client, info }, waiting) {
            self.failed(context, waiting, ReplyError::INTERNAL);
        }
    }

    /// The next step of a subscriber that is shown where it is to be.
    pub(super) fn admit(&mut self, context: &mut Context<'_>, place: Place, waiter: Waiter) {
        if !self.is_current(place) {
            return refuse(context, &waiter, &ReplyError::INTERNAL);
        }
        let channel = &mut self.channels[place.index];
        match channel.hearing {
            Hearing::No => {
                channel.queue.push(waiter);
                channel.hearing = Hearing::Asked;
                let channel = channel.name.clone();
                let asked = self.ask(context, BrokerAsk::Subscribe { channel }, Waiting::Subscribe(place));
                if asked.is_err() {
                    self.subscription_failed(context, place, &ReplyError::INTERNAL);
                }
            }
            Hearing::Asked => channel.queue.push(waiter),
            Hearing::Yes if waiter.subscribe.positioned => {
                channel.queue.push(waiter);
                self.read_next(context, place);
            }
            Hearing::Yes => self.answer_subscriber(context, place.index, &waiter, None),
        }
    }

    /// The broker tells the channel's publications from now on.
    pub(super) fn subscribed(&mut self, context: &mut Context<'_>, place: Place) {
        if !self.is_current(place) {
            return;
        }
        let channel = &mut self.channels[place.index];
        channel.hearing = Hearing::Yes;
        let queue = std::mem::take(&mut channel.queue);
        for waiter in queue {
            match waiter.subscribe.positioned {
                true => self.channels[place.index].queue.push(waiter),
                false => self.answer_subscriber(context, place.index, &waiter, None),
            }
        }
        self.read_next(context, place);
    }

    pub(super) fn subscription_failed(&mut self, context: &mut Context<'_>, place: Place, error: &ReplyError) {
        if !self.is_current(place) {
            return;
        }
        let channel = &mut self.channels[place.index];
        channel.hearing = Hearing::No;
        let queue = std::mem::take(&mut channel.queue);
        queue.iter().for_each(|waiter| refuse(context, waiter, error));
    }

    /// Tells the others that a subscriber came, when it has been told so itself.
    pub(super) fn join(&mut self, context: &mut Context<'_>, index: u32, member: &Member) {
        let channel = &mut self.channels[index];
        let members = channel.members.as_mut().filter(|_| member.join_leave);
        let Some(entry) = members.and_then(|members| members.get_mut(&member.client)) else { return };
        if !std::mem::replace(&mut entry.joined, true) {
            context.metrics.broker_sent[BrokerMessage::Join as usize] += 1;
            let (channel, info) = (channel.name.clone(), member.info.clone());
            self.ask_in_passing(context, BrokerAsk::PublishJoin { channel, info });
        }
    }

    /// A subscriber has a new info.
    pub(crate) fn renew(&mut self, context: &mut Context<'_>, renew: Renew) {
        let index = self.find(&renew.channel).expect("a counted subscriber keeps its channel alive");
        let Member { client, info, presence, .. } = renew.member;
        let members = self.channels[index].members.as_mut();
        if let Some(entry) = members.and_then(|members| members.get_mut(&client)).filter(|_| presence) {
            entry.info = info.clone();
            if !self.presence_is_local {
                self.ask_in_passing(context, BrokerAsk::AddPresence { channel: renew.channel, client, info });
            }
        }
    }

    /// Takes a subscriber back out.
    pub(crate) fn unsubscribe(&mut self, context: &mut Context<'_>, unsubscribe: Unsubscribe) {
        let index = self.find(&unsubscribe.channel).expect("a counted subscriber keeps its channel alive");
        let place = self.place(index);
        let channel = &mut self.channels[index];
        channel.listeners.remove(context.from, unsubscribe.variant);
        channel.positioned -= u32::from(unsubscribe.positioned);
        let is_last = channel.listeners.subscribers() == 0;
        if let Some(member) = unsubscribe.member {
            self.forget(context, index, member);
        }
        if is_last {
            self.active -= 1;
            context.metrics.act(Action::BrokerUnsubscribe);
            self.later(context, LEAVE_DELAY, place, Job::Leave);
        }
    }

    fn forget(&mut self, context: &mut Context<'_>, index: u32, member: Member) {
        let Member { client, info, presence, .. } = member;
        let channel = &mut self.channels[index];
        let name = channel.name.clone();
        let Some(members) = &mut channel.members else { return };
        let entry = members.remove(&client);
        if members.is_empty() {
            channel.members = None;
        }
        if presence {
            context.metrics.act(Action::RemovePresence);
            if !self.presence_is_local {
                let (channel, info) = (name.clone(), info.clone());
                self.ask_in_passing(context, BrokerAsk::RemovePresence { channel, client, info });
            }
        }
        if entry.is_some_and(|entry| entry.joined) {
            context.metrics.broker_sent[BrokerMessage::Leave as usize] += 1;
            self.ask_in_passing(context, BrokerAsk::PublishLeave { channel: name, info });
        }
    }

    /// Keeps the presence entries of a channel alive, some at a time.
    pub(super) fn renew_presence(&mut self, context: &mut Context<'_>, place: Place, behind: Option<ClientId>) {
        let channel = &mut self.channels[place.index];
        let Some(members) = &channel.members else {
            channel.is_renewed = false;
            return;
        };
        let name = channel.name.clone();
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let part: Vec<_> = members.range((from, Bound::Unbounded)).take(RENEWALS_MAX).collect();
        let last = part.last().map(|(client, _)| **client).filter(|_| part.len() == RENEWALS_MAX);
        let entries: Vec<_> = part.into_iter().filter(|(_, entry)| entry.presence).collect();
        let asks: Vec<_> = entries.into_iter().map(|(client, entry)| add_presence(&name, *client, entry)).collect();
        for ask in asks {
            self.ask_in_passing(context, ask);
        }
        let pause = if last.is_some() { RENEWAL_PAUSE } else { context.options.client.presence_update_interval };
        self.later(context, pause, place, Job::Renew { behind: last });
    }

    fn find_or_insert(&mut self, context: &mut Context<'_>, name: &ChannelName) -> u32 {
        if let Some(index) = self.find(name) {
            return index;
        }
        self.channels.insert(Channel {
            name: name.clone(),
            generation: context.random.next_u32(),
            listeners: Listeners::default(),
            positioned: 0,
            members: None,
            hearing: Hearing::No,
            top: None,
            top_time: 0,
            set_back: None,
            is_base_lost: false,
            needs_level: false,
            is_checked: false,
            is_renewed: false,
            queue: Vec::new(),
            reading: None,
        })
    }
}

fn add_presence(channel: &ChannelName, client: ClientId, entry: &Entry) -> BrokerAsk {
    BrokerAsk::AddPresence { channel: channel.clone(), client, info: entry.info.clone() }
}
