//! Ordering a publication: idempotency, version, offset, history; then fan-out, then the answer.

use super::publication::Publication;
use super::{Context, Epoch, Homes, Position, Results, retention};
use crate::message::{Message, Publish};
use ringcast_proto::client::{self as wire, Encoding};
use std::sync::Arc;

impl Homes {
    /// Puts a publication in order and sends it to the listening shards. The publisher's own shard gets it before the
    /// answer. A late one is dropped: its publisher was told that it failed.
    pub(crate) fn publish(&mut self, context: &mut Context<'_>, publish: Publish) {
        if publish.deadline < context.now.at {
            return;
        }
        let request = publish.request;
        let result = Ok(self.order(context, publish));
        context.answer(Message::Published { request, result });
    }

    fn order(&mut self, context: &mut Context<'_>, publish: Publish) -> Position {
        let (_, options) = context.options.channel.resolve_known(&publish.channel);
        let retention = retention(&context.options.channel, options).filter(|_| !publish.skip_history);
        let has_key = !publish.idempotency_key.is_empty();
        if retention.is_none() && !has_key {
            if let Some(index) = self.find(&publish.channel) {
                let publication = Publication::new(content(&publish, 0), Epoch::default());
                self.channels[index].fan_out(context, publication);
            }
            return Position::default();
        }

        let now = context.now.at;
        let index = self.find_or_insert(&publish.channel, context.random);
        let channel = &mut self.channels[index];
        let remembered = channel.results.as_ref().and_then(|results| results.get(&publish.idempotency_key));
        if let Some(position) = remembered.filter(|_| has_key) {
            return position.clone();
        }
        let position = match retention {
            None => {
                channel.fan_out(context, Publication::new(content(&publish, 0), Epoch::default()));
                Position::default()
            }
            Some(retention) => {
                let stream = channel.stream(retention, now, context.random);
                if stream.is_outdated(publish.version, &publish.version_epoch) {
                    return stream.position();
                }
                let (offset, epoch) = (stream.next_offset(), stream.position().epoch);
                let publication = Publication::new(content(&publish, offset), epoch);
                let publication = channel.fan_out(context, publication);
                let stream = channel.stream(retention, now, context.random);
                stream.append(publication, retention, now);
                stream.position()
            }
        };
        if has_key {
            let seed = context.random.next_u32();
            let results = channel.results.get_or_insert_with(|| Box::new(Results::new(seed.into())));
            let ttl = context.options.limits.idempotency_ttl;
            results.insert(publish.idempotency_key, position.clone(), now, ttl);
        }
        channel.arm(index, context.wheel);
        position
    }
}

impl super::HomeChannel {
    /// Encodes the publication for those who listen and sends it to them.
    fn fan_out(&self, context: &mut Context<'_>, mut publication: Publication) -> Arc<Publication> {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            if self.listeners.needs(encoding) {
                publication.encode(encoding);
            }
        }
        let publication = Arc::new(publication);
        let deliver = || Message::Deliver { channel: self.name.clone(), publication: Arc::clone(&publication) };
        self.listeners.send(context.post, deliver);
        publication
    }
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
