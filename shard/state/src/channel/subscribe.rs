//! Subscribers as the home sees them: a count for each listening shard, presence, joins and leaves.

use super::{Context, Homes, meta_ttl, recover};
use crate::message::{Member, Message, Renew, Subscribe, Subscribed, Unsubscribe};
use crate::metrics::{Action, BrokerMessage};

impl Homes {
    /// Counts a subscriber and tells it where the stream stands and what it missed. From this answer on its shard gets every
    /// publication.
    pub(crate) fn subscribe(&mut self, context: &mut Context<'_>, subscribe: Subscribe) {
        let now = context.now.at;
        let index = self.find_or_insert(&subscribe.channel, context.random);
        let channel = &mut self.channels[index];
        if channel.listeners.subscribers() == 0 {
            self.active += 1;
            context.metrics.act(Action::BrokerSubscribe);
        }
        // Counted and shown even when it comes too late: the unsubscribe that follows will be, too.
        channel.listeners.add(context.from, subscribe.variant);
        channel.positioned += u32::from(subscribe.positioned);
        let member = subscribe.member.as_ref();
        let mut guest = None;
        if let Some(member) = member.filter(|member| member.presence) {
            let presence = channel.presence.get_or_insert_with(Box::default);
            guest = presence.add(member.client, member.info.clone());
            context.metrics.act(Action::AddPresence);
        }
        if subscribe.deadline >= now {
            self.answer_subscriber(context, index, &subscribe);
        }
        if let Some(member) = member {
            if let Some(info) = guest {
                // It comes back under another id.
                self.channels[index].tell(context, &Member { info, ..member.clone() }, false);
            }
            self.channels[index].tell(context, member, true);
        }
        self.settle(index, context.wheel, &context.options.limits);
    }

    fn answer_subscriber(&mut self, context: &mut Context<'_>, index: u32, subscribe: &Subscribe) {
        let channel = &mut self.channels[index];
        let mut top = None;
        let mut recovery = None;
        if subscribe.positioned {
            // Without history, too: there the position never moves.
            let (_, options) = context.options.channel.resolve_known(&subscribe.channel);
            let meta_ttl = meta_ttl(&context.options.channel, options);
            let stream = channel.stream(meta_ttl, context.now.at, context.random);
            top = Some(stream.position());
            let variant = subscribe.variant;
            context.metrics.act(Action::History);
            context.metrics.act(match &subscribe.recover {
                None => Action::HistoryStreamTop,
                Some(wish) if wish.cache => Action::HistoryRecoverCache,
                Some(_) => Action::HistoryRecover,
            });
            recovery =
                subscribe.recover.as_ref().map(|wish| recover::recover(stream, wish, variant, context.delta_table));
        }
        let (request, channel) = (subscribe.request, channel.name.clone());
        context.answer(Message::Subscribed(Box::new(Subscribed { request, channel, top, recovery })));
    }

    /// A subscriber has a new info.
    pub(crate) fn renew(&mut self, renew: Renew) {
        let index = self.find(&renew.channel).expect("a counted subscriber keeps its channel alive");
        if let Some(presence) = self.channels[index].presence.as_mut().filter(|_| renew.member.presence) {
            // It is a member already, so no guest has come with it.
            let _ = presence.add(renew.member.client, renew.member.info);
        }
    }

    /// Takes a subscriber back out.
    pub(crate) fn unsubscribe(&mut self, context: &mut Context<'_>, unsubscribe: Unsubscribe) {
        let index = self.find(&unsubscribe.channel).expect("a counted subscriber keeps its channel alive");
        let channel = &mut self.channels[index];
        channel.listeners.remove(context.from, unsubscribe.variant);
        channel.positioned -= u32::from(unsubscribe.positioned);
        if channel.listeners.subscribers() == 0 {
            self.active -= 1;
            context.metrics.act(Action::BrokerUnsubscribe);
        }
        if let Some(member) = &unsubscribe.member {
            if member.presence {
                context.metrics.act(Action::RemovePresence);
            }
            channel.forget(member);
            channel.tell(context, member, false);
        }
        self.settle(index, context.wheel, &context.options.limits);
    }
}

impl super::HomeChannel {
    fn forget(&mut self, member: &Member) {
        let Some(presence) = self.presence.as_mut().filter(|_| member.presence) else { return };
        presence.remove(member.client);
        if presence.is_empty() {
            self.presence = None;
        }
    }

    /// Tells the listening shards that somebody came or went.
    fn tell(&self, context: &mut Context<'_>, member: &Member, joined: bool) {
        if !member.join_leave {
            return;
        }
        context.metrics.brokered(if joined { BrokerMessage::Join } else { BrokerMessage::Leave });
        let (channel, info) = (&self.name, &member.info);
        let message = || Message::Membership { channel: channel.clone(), info: info.clone(), joined };
        self.listeners.send(context.post, message);
    }
}
