//! Questions about a channel: history and presence.

use super::{Context, Homes, Position, retention};
use crate::Variant;
use crate::message::{Ask, AskHistory, Members, Message, Publications};
use crate::metrics::Action;
use crate::options::Limits;
use crate::wheel::Wheel;
use ringcast_proto::codes::ReplyError;

impl Homes {
    /// Reads history; creates the stream, so that the epoch told now is the one publications will have.
    pub(crate) fn history(&mut self, context: &mut Context<'_>, ask: AskHistory) {
        if ask.deadline < context.now.at {
            return;
        }
        context.metrics.act(Action::History);
        let result = self.read(context, &ask).map(Box::new);
        if let Some(index) = self.find(&ask.channel) {
            self.settle(index, context.wheel, &context.options.limits);
        }
        context.answer(Message::HistoryIs { request: ask.request, result });
    }

    fn read(&mut self, context: &mut Context<'_>, ask: &AskHistory) -> Result<Publications, ReplyError> {
        let (_, options) = context.options.channel.resolve_known(&ask.channel);
        let retention = retention(&context.options.channel, options).ok_or(ReplyError::NOT_AVAILABLE)?;
        let index = self.find_or_insert(&ask.channel, context.random);
        let channel = &mut self.channels[index];
        let stream = channel.stream(retention.meta_ttl, context.now.at, context.random);
        let top = stream.position();
        let since = ask.since.as_ref();
        if since.is_some_and(|since| !since.epoch.is_empty() && since.epoch != top.epoch) {
            return Err(ReplyError::UNRECOVERABLE_POSITION);
        }
        let limit = ask.limit.unwrap_or(usize::MAX);
        let form = ask.encoding.map(|encoding| Variant::new(encoding, false).whole());
        let publications = if ask.reverse {
            stream.before(since.map(|since| since.offset), limit, form)
        } else {
            stream.after(since.map_or(0, |since| since.offset), limit, form)
        };
        Ok(Publications { top, publications })
    }

    /// Drops publications; epoch and top offset stay.
    pub(crate) fn history_remove(&mut self, context: &mut Context<'_>, ask: Ask) {
        context.metrics.act(Action::HistoryRemove);
        if let Some(index) = self.find(&ask.channel)
            && let Some(stream) = &mut self.channels[index].stream
        {
            stream.clear();
            self.settle(index, context.wheel, &context.options.limits);
        }
        context.answer(Message::Published { request: ask.request, result: Ok(Position::default()) });
    }

    /// Forgets the older half of every stream; returns how many publications that were.
    pub(crate) fn forget_older_half(&mut self, wheel: &mut Wheel, limits: &Limits) -> u64 {
        let mut forgotten = 0;
        for index in self.channels.places() {
            let Some(stream) = self.channels.get_mut(index).and_then(|channel| channel.stream.as_mut()) else {
                continue;
            };
            if !stream.is_empty() {
                forgotten += stream.forget_older_half() as u64;
                self.settle(index, wheel, limits);
            }
        }
        forgotten
    }

    /// All members.
    pub(crate) fn presence(&mut self, context: &mut Context<'_>, ask: Ask) {
        let channel = self.find(&ask.channel).map(|index| &self.channels[index]);
        let presence = channel.and_then(|channel| channel.presence.as_ref());
        let members = presence.map_or_else(Vec::new, |presence| presence.members());
        context.answer(Message::PresenceIs { request: ask.request, members: Ok(Members::All(members)) });
    }
}
