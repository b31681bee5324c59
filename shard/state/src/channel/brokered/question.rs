//! Questions of clients and callers of the API that the broker answers.

use super::{Brokered, Waiting};
use crate::broker::{BrokerAnswer, BrokerAsk, BrokerPublish, HistoryTerms, Suppression};
use crate::channel::{Context, Position, Publication, Retention, retention};
use crate::message::{Ask, AskHistory, Members, Message, Publications, Publish};
use crate::metrics::{Action, BrokerMessage, Suppressed, micros};
use crate::variant::Variant;
use crate::{RequestId, ShardId};
use ringcast_proto::client::{self as wire, ClientInfo, Encoding};
use ringcast_proto::codes::ReplyError;
use std::sync::Arc;

/// Who asked, and what the answer is for.
#[derive(Debug)]
pub(super) struct Origin {
    shard: ShardId,
    request: RequestId,
    topic: Topic,
}

#[derive(Debug)]
enum Topic {
    Publish,
    RemoveHistory,
    Presence,
    History { since: Option<Position>, encoding: Option<Encoding> },
}

impl Brokered {
    /// Has the broker put a publication in order. A late one is dropped: its publisher was told that it failed.
    pub(crate) fn publish(&mut self, context: &mut Context<'_>, publish: Publish) {
        if publish.deadline < context.now.at {
            return;
        }
        context.metrics.broker_sent[BrokerMessage::Publication as usize] += 1;
        context.metrics.accept_to_home.record(micros(publish.accepted_at, context.now.at));
        let (_, options) = context.options.channel.resolve_known(&publish.channel);
        let kept = retention(&context.options.channel, options).filter(|_| !publish.skip_history);
        let terms = |Retention { size, ttl, meta_ttl }| HistoryTerms { size, ttl, meta_ttl };
        let ask = BrokerAsk::Publish(Box::new(BrokerPublish {
            channel: publish.channel,
            data: publish.data,
            info: publish.info,
            tags: publish.tags,
            history: kept.map(terms),
            use_delta: publish.delta,
            idempotency_key: publish.idempotency_key,
            idempotency_ttl: context.options.limits.idempotency_ttl,
            version: publish.version,
            version_epoch: publish.version_epoch,
        }));
        self.question(context, publish.request, Topic::Publish, ask);
    }

    /// Reads history.
    pub(crate) fn history(&mut self, context: &mut Context<'_>, ask: AskHistory) {
        if ask.deadline < context.now.at {
            return;
        }
        context.metrics.act(Action::History);
        let AskHistory { request, channel, since, limit, reverse, encoding, .. } = ask;
        let (_, options) = context.options.channel.resolve_known(&channel);
        let Some(Retention { meta_ttl, .. }) = retention(&context.options.channel, options) else {
            let result = Err(ReplyError::NOT_AVAILABLE);
            return context.answer(Message::HistoryIs { request, result });
        };
        let offset = since.as_ref().map(|since| since.offset);
        let question = BrokerAsk::History { channel, since: offset, limit, reverse, meta_ttl };
        self.question(context, request, Topic::History { since, encoding }, question);
    }

    /// Drops publications; epoch and top offset stay.
    pub(crate) fn history_remove(&mut self, context: &mut Context<'_>, ask: Ask) {
        context.metrics.act(Action::HistoryRemove);
        let Ask { request, channel, .. } = ask;
        self.question(context, request, Topic::RemoveHistory, BrokerAsk::RemoveHistory { channel });
    }

    /// All members.
    pub(crate) fn presence(&mut self, context: &mut Context<'_>, ask: Ask) {
        let Ask { request, channel, stats, .. } = ask;
        if self.presence_is_local {
            let members = Members::All(self.local_members(&channel));
            return context.answer(Message::PresenceIs { request, members: Ok(members) });
        }
        let ask = if stats { BrokerAsk::PresenceStats { channel } } else { BrokerAsk::Presence { channel } };
        self.question(context, request, Topic::Presence, ask);
    }

    /// Members that are connected to this node.
    fn local_members(&self, channel: &str) -> Vec<Arc<ClientInfo>> {
        let members = self.find(channel).and_then(|index| self.channels[index].members.as_ref());
        let shown = members.into_iter().flat_map(|members| members.values()).filter(|entry| entry.presence);
        shown.map(|entry| entry.info.clone()).collect()
    }

    fn question(&mut self, context: &mut Context<'_>, request: RequestId, topic: Topic, ask: BrokerAsk) {
        let origin = Origin { shard: context.from, request, topic };
        if let Err(waiting) = self.ask(context, ask, Waiting::Question(origin)) {
            self.failed(context, waiting, ReplyError::INTERNAL);
        }
    }
}

impl Origin {
    pub(super) fn answer(self, context: &mut Context<'_>, answer: BrokerAnswer) {
        let Origin { shard, request, topic } = self;
        let message = match (topic, answer) {
            (Topic::Publish, BrokerAnswer::Published { position, suppressed }) => {
                if let Some(why) = suppressed {
                    context.metrics.suppressed[label(why) as usize] += 1;
                }
                Message::Published { request, result: Ok(position) }
            }
            (Topic::RemoveHistory, BrokerAnswer::Done) => {
                Message::Published { request, result: Ok(Position::default()) }
            }
            (Topic::Presence, BrokerAnswer::Presence(members)) => {
                Message::PresenceIs { request, members: Ok(Members::All(members)) }
            }
            (Topic::Presence, BrokerAnswer::PresenceStats { clients, users }) => {
                Message::PresenceIs { request, members: Ok(Members::Counted { clients, users }) }
            }
            (Topic::History { since, encoding }, BrokerAnswer::History { top, publications }) => {
                let result = part(context, since, encoding, top, publications);
                Message::HistoryIs { request, result: result.map(Box::new) }
            }
            (topic, answer) => {
                debug_assert!(false, "{answer:?} is no answer about {topic:?}");
                return Origin { shard, request, topic }.fail(context, ReplyError::INTERNAL);
            }
        };
        context.post.send(shard, message);
    }

    pub(super) fn fail(self, context: &mut Context<'_>, error: ReplyError) {
        let Origin { shard, request, topic } = self;
        let message = match topic {
            Topic::Publish | Topic::RemoveHistory => Message::Published { request, result: Err(error) },
            Topic::Presence => Message::PresenceIs { request, members: Err(error) },
            Topic::History { .. } => Message::HistoryIs { request, result: Err(error) },
        };
        context.post.send(shard, message);
    }
}

/// The part of the stream that was asked for, unless it is of another life of the stream.
fn part(
    context: &Context<'_>,
    since: Option<Position>,
    encoding: Option<Encoding>,
    top: Position,
    publications: Vec<wire::Publication>,
) -> Result<Publications, ReplyError> {
    if since.is_some_and(|since| !since.epoch.is_empty() && since.epoch != top.epoch) {
        return Err(ReplyError::UNRECOVERABLE_POSITION);
    }
    let now = context.now.at;
    let publication = |content| {
        let mut publication = Publication::new(super::event::stripped(content), top.epoch.clone(), now, now);
        if let Some(encoding) = encoding {
            publication.encode(Variant::new(encoding, false).whole());
        }
        Arc::new(publication)
    };
    let publications = publications.into_iter().map(publication).collect();
    Ok(Publications { top, publications })
}

fn label(why: Suppression) -> Suppressed {
    match why {
        Suppression::Idempotency => Suppressed::Idempotency,
        Suppression::Version => Suppressed::Version,
    }
}
