//! Handing what the home sent to the subscribers on this shard: encoded once per form, queued for each.

use super::Clients;
use super::write::{SharedFrame, encode_push};
use crate::channel::{Encoded, Publication};
use crate::filters::Verdicts;
use crate::hub::{HubIndex, Subscriber};
use crate::metrics::{FrameType, Metrics, micros};
use crate::shard::Shard;
use crate::transport::Shape;
use crate::{ConnectionId, Form, Now, Time, TransportKind, Variant};
use ringcast_proto::client::{self as wire, ClientInfo, InvalidJson, Push, PushBody};
use ringcast_proto::codes::{Disconnect, Unsubscribe};
use std::sync::Arc;

/// One message for many in its forms, each built when the first subscriber needs it.
#[derive(Default)]
struct Shared {
    /// For the shape that nearly all clients have.
    usual: [Option<Copies>; Form::COUNT],
    /// For the others; few, so that they are searched from the start.
    others: Vec<(Shape, Form, Copies)>,
}

/// A form, and how many subscribers have got it.
struct Copies {
    /// `None` when the encoding cannot carry the message.
    frame: Option<SharedFrame>,
    handed: u32,
}

impl Copies {
    fn new(frame: Option<SharedFrame>) -> Self {
        Copies { frame, handed: 0 }
    }
}

impl Shared {
    #[inline]
    fn get(&mut self, shape: Shape, form: Form, build: impl FnOnce() -> Option<SharedFrame>) -> &mut Copies {
        if shape == Shape::WEBSOCKET {
            return self.usual[form as usize].get_or_insert_with(|| Copies::new(build()));
        }
        let known = self.others.iter().position(|(known, of, _)| *known == shape && *of == form);
        let place = known.unwrap_or_else(|| {
            self.others.push((shape, form, Copies::new(build())));
            self.others.len() - 1
        });
        &mut self.others[place].2
    }

    /// Counts what was handed over, once per form. Returns how many subscribers have got it.
    fn count(&self, metrics: &mut Metrics, frame_type: FrameType) -> u32 {
        let usual = self.usual.iter().flatten().map(|copies| (Shape::WEBSOCKET, copies));
        let copies = usual.chain(self.others.iter().map(|(shape, _, copies)| (*shape, copies)));
        copies
            .filter_map(|(shape, copies)| Some((shape, copies.frame.as_ref()?, copies.handed)))
            .map(|(shape, frame, handed)| {
                metrics.sent(shape.kind, frame_type, handed.into(), frame.message_len);
                handed
            })
            .sum()
    }
}

/// How a round through the subscribers went.
#[derive(Default)]
struct Round {
    /// Slots that could not be served.
    failed: Vec<(u32, Disconnect)>,
    /// Some subscriber reads deltas.
    any_delta: bool,
}

impl Round {
    /// Queues the message for one subscriber; `None` is one that its encoding cannot carry.
    #[inline]
    fn hand_over(&mut self, clients: &mut Clients, slot: u32, copies: &mut Copies, bytes_max: usize) {
        match &copies.frame {
            Some(frame) if clients.push_shared(slot, &frame.bytes, bytes_max) => copies.handed += 1,
            Some(_) => self.failed.push((slot, Disconnect::SLOW)),
            None => self.failed.push((slot, Disconnect::INAPPROPRIATE_PROTOCOL)),
        }
    }
}

impl Shard {
    /// A publication came from the home.
    pub(crate) fn deliver(&mut self, now: Now, channel: &str, publication: Arc<Publication>) {
        let Some(index) = self.hub.find(channel) else {
            return self.delivery_returned(now, channel, &publication);
        };
        self.metrics.home_to_shard.record(micros(publication.ordered_at, now.at));
        if !self.hub.advance(index, &publication) || self.is_late(now, &publication) {
            self.end_insufficient(index, |subscriber| subscriber.positioned);
            // The last subscription may have taken the channel with it.
            if self.hub.find(channel) != Some(index) {
                return;
            }
        }
        if !self.uses_batches || !self.collect(now, index, channel, &publication) {
            self.hand_out(now.at, index, channel, &publication, false);
        }
    }

    /// Queues a publication, which came at `came_at`, for the subscribers. `is_apart`: those before it were left out, so that
    /// no patch fits.
    pub(super) fn hand_out(
        &mut self,
        came_at: Time,
        index: HubIndex,
        channel: &str,
        publication: &Publication,
        is_apart: bool,
    ) {
        let Shard { hub, filters, clients, scratch, options, metrics, unwritten, .. } = self;
        let bytes_max = options.client.queue_max_size;
        let mut verdicts = Verdicts::new(filters, &publication.content().tags);
        let mut shared = Shared::default();
        let mut round = Round::default();
        for subscriber in hub.subscribers(index) {
            let is_delta = subscriber.variant.is_delta();
            // Deltas need every publication, so the filter of a delta subscriber is not applied; the reference does the same.
            if subscriber.filter.is_some_and(|filter| !is_delta && !verdicts.wants(filter)) {
                metrics.filtered += 1;
                continue;
            }
            round.any_delta |= is_delta;
            let form = publication.form_for(subscriber.variant, subscriber.has_base && !is_apart);
            let shape = subscriber.shape;
            let encode = |out: &mut Vec<u8>| encode(shape.kind, form, channel, publication, out);
            let build = || scratch.share(options, shape, form.encoding(), encode);
            round.hand_over(clients, subscriber.slot, shared.get(shape, form, build), bytes_max);
        }
        let deliveries = shared.count(metrics, FrameType::PushPublication);
        unwritten.fan_out(metrics, publication.accepted_at, came_at, deliveries);
        if round.any_delta {
            self.hub.give_base(index);
        }
        self.close_failed(round);
    }

    /// Whether it was so long on its way that subscribers with a position had better come again.
    fn is_late(&self, now: Now, publication: &Publication) -> bool {
        let lag_max = self.options.client.channel_position_max_time_lag;
        publication.offset > 0 && !lag_max.is_zero() && now.at - publication.ordered_at > lag_max
    }

    /// Somebody joined or left.
    pub(crate) fn deliver_membership(&mut self, channel: &str, info: &ClientInfo, joined: bool) {
        let Some(index) = self.find_level(channel) else { return };
        let info = Some(info.clone());
        let body = if joined { PushBody::Join(wire::Join { info }) } else { PushBody::Leave(wire::Leave { info }) };
        let push = Push { channel: channel.to_owned(), body, id: 0 };
        let Shard { hub, clients, scratch, options, metrics, .. } = self;
        let mut shared = Shared::default();
        let mut round = Round::default();
        for subscriber in hub.subscribers(index).iter().filter(|subscriber| subscriber.join_leave) {
            let encoding = subscriber.variant.encoding();
            let form = Variant::new(encoding, false).whole();
            let shape = subscriber.shape;
            let encode = |out: &mut Vec<u8>| encode_push(shape.kind, encoding, &push, out);
            let build = || scratch.share(options, shape, encoding, encode);
            round.hand_over(clients, subscriber.slot, shared.get(shape, form, build), options.client.queue_max_size);
        }
        shared.count(metrics, if joined { FrameType::PushJoin } else { FrameType::PushLeave });
        self.close_failed(round);
    }

    /// Publications were lost before they came to the home.
    pub(crate) fn lose_position(&mut self, channel: &str) {
        if let Some(index) = self.hub.find(channel) {
            self.end_insufficient(index, |subscriber| subscriber.positioned);
        }
    }

    /// Deliveries were lost on the way here: everybody must come again and recover.
    pub(crate) fn deliver_insufficient(&mut self, channel: &str) {
        if let Some(index) = self.hub.find(channel) {
            self.end_insufficient(index, |_| true);
        }
    }

    fn close_failed(&mut self, round: Round) {
        for (slot, disconnect) in round.failed {
            let connection = self.clients.at(slot).connection;
            self.close(connection, disconnect);
        }
    }

    /// Ends subscriptions whose state cannot be level any more.
    pub(super) fn end_insufficient(&mut self, index: HubIndex, concerns: impl Fn(&Subscriber) -> bool) {
        let concerned = self.hub.subscribers(index).iter().filter(|subscriber| concerns(subscriber));
        let connections: Vec<ConnectionId> = concerned.map(|s| self.clients.at(s.slot).connection).collect();
        for connection in connections {
            self.end_or_close(connection, index, Unsubscribe::INSUFFICIENT_STATE, Disconnect::INSUFFICIENT_STATE);
        }
    }
}

/// The push of a publication. The first of a stream names the epoch, for subscribers that began without one.
fn encode(
    kind: TransportKind,
    form: Form,
    channel: &str,
    publication: &Publication,
    out: &mut Vec<u8>,
) -> Result<(), InvalidJson> {
    let encoding = form.encoding();
    if publication.offset == 1 && matches!(form, Form::Json | Form::Protobuf) {
        let mut content = publication.content().clone();
        content.epoch = publication.epoch.to_string();
        let push = Push { channel: channel.to_owned(), body: PushBody::Pub(content), id: 0 };
        return encode_push(kind, encoding, &push, out);
    }
    match publication.encoded(form) {
        Encoded::Body(body) if kind.is_unidirectional() => {
            wire::encode_uni_publication_push(encoding, channel, body, out);
            Ok(())
        }
        Encoded::Body(body) => {
            wire::encode_publication_push(encoding, channel, body, out);
            Ok(())
        }
        Encoded::Absent => unreachable!("the home counts subscribers before it delivers to them"),
        Encoded::Impossible => Err(InvalidJson),
    }
}
