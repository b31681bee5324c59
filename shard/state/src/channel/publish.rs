//! Ordering a publication: idempotency, version, offset, history; then fan-out, then the answer.

use super::publication::Publication;
use super::{Context, Epoch, Homes, Position, Results, retention};
use crate::message::{Message, Publish};
use crate::metrics::{BrokerMessage, Suppressed, micros};
use ringcast_proto::client as wire;
use std::sync::Arc;

impl Homes {
    /// Puts a publication in order and sends it to the listening shards. The publisher's own shard gets it before the
    /// answer. A late one is dropped: its publisher was told that it failed.
    pub(crate) fn publish(&mut self, context: &mut Context<'_>, publish: Publish) {
        if publish.deadline < context.now.at {
            return;
        }
        let request = publish.request;
        context.metrics.broker_sent[BrokerMessage::Publication as usize] += 1;
        context.metrics.accept_to_home.record(micros(publish.accepted_at, context.now.at));
        let result = Ok(self.order(context, publish));
        context.answer(Message::Published { request, result });
    }

    fn order(&mut self, context: &mut Context<'_>, publish: Publish) -> Position {
        let (_, options) = context.options.channel.resolve_known(&publish.channel);
        let retention = retention(&context.options.channel, options).filter(|_| !publish.skip_history);
        let has_key = !publish.idempotency_key.is_empty();
        if retention.is_none() && !has_key {
            if let Some(index) = self.find(&publish.channel) {
                let publication = unkept(context, &publish);
                self.channels[index].fan_out(context, publication, None);
            }
            context.metrics.broker_received[BrokerMessage::Publication as usize] += 1;
            return Position::default();
        }

        let now = context.now.at;
        let index = self.find_or_insert(&publish.channel, context.random);
        let channel = &mut self.channels[index];
        let remembered = channel.results.as_ref().and_then(|results| results.get(&publish.idempotency_key, now));
        if let Some(position) = remembered.filter(|_| has_key) {
            context.metrics.suppressed[Suppressed::Idempotency as usize] += 1;
            return position.clone();
        }
        let position = match retention {
            None => {
                let publication = unkept(context, &publish);
                channel.fan_out(context, publication, None);
                Position::default()
            }
            Some(retention) => {
                let stream = channel.stream(retention.meta_ttl, now, context.random);
                if stream.is_outdated(publish.version, &publish.version_epoch) {
                    context.metrics.suppressed[Suppressed::Version as usize] += 1;
                    return stream.position();
                }
                let (offset, epoch) = (stream.next_offset(), stream.position().epoch);
                let base = if publish.delta { stream.latest_data() } else { None };
                let base = base.filter(|_| !channel.is_base_lost);
                let publication = Publication::new(content(&publish, offset), epoch, publish.accepted_at, now);
                let publication = channel.fan_out(context, publication, base.as_deref());
                let stream = channel.stream(retention.meta_ttl, now, context.random);
                stream.append(publication, retention, now);
                stream.position()
            }
        };
        context.metrics.broker_received[BrokerMessage::Publication as usize] += 1;
        if has_key {
            let seed = context.random.next_u32();
            let results = channel.results.get_or_insert_with(|| Box::new(Results::new(seed.into())));
            let ttl = context.options.limits.idempotency_ttl;
            results.insert(publish.idempotency_key, position.clone(), now, ttl);
        }
        self.settle(index, context.wheel, &context.options.limits);
        position
    }
}

impl super::HomeChannel {
    /// Encodes the publication for those who listen and sends it to them; as a patch of `base`, too, for those who can
    /// use one.
    fn fan_out(
        &mut self,
        context: &mut Context<'_>,
        mut publication: Publication,
        base: Option<&[u8]>,
    ) -> Arc<Publication> {
        self.listeners.encode(&mut publication, base, context.delta_table);
        self.is_base_lost = publication.offset == 0;
        let publication = Arc::new(publication);
        let deliver = || Message::Deliver { channel: self.name.clone(), publication: Arc::clone(&publication) };
        self.listeners.send(context.post, deliver);
        publication
    }
}

/// A publication that is in no stream.
fn unkept(context: &Context<'_>, publish: &Publish) -> Publication {
    Publication::new(content(publish, 0), Epoch::default(), publish.accepted_at, context.now.at)
}

/// The publication as it stands on the wire.
fn content(publish: &Publish, offset: u64) -> wire::Publication {
    wire::Publication {
        data: publish.data.clone(),
        info: publish.info.as_deref().cloned(),
        offset,
        tags: publish.tags.clone(),
        version: publish.version,
        ..Default::default()
    }
}
