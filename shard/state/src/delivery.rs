//! Whether what is published arrives: once a second each shard publishes to channels of its own, whose home is the next shard, and
//! hears them itself. So every shard publishes, orders, asks the broker and hears, and each publication takes the way of all others.
//!
//! The channels are no one else's: their names hold the id of the node and one namespace is as good as another, nothing of them is
//! kept, and the server API does not show them.

use crate::channel::Publication;
use crate::compass::Compass;
use crate::message::{ChannelName, Message, Publish, Subscribe, Unsubscribe};
use crate::metrics::Trip;
use crate::shard::{Shard, Waiting};
use crate::{Now, RequestId, ShardId, Time, Variant};
use ringcast_proto::client::Encoding;
use ringcast_proto::redis::consistent_index;
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two publications to a channel.
const EVERY: Duration = Duration::from_secs(1);

/// The channels of one shard. Bound: one for each broker.
#[derive(Debug, Default)]
pub(crate) struct DeliveryCheck {
    next_at: Option<Time>,
    channels: Vec<Watched>,
    /// Channels of another shard that have their home here.
    guests: Vec<ChannelName>,
}

/// A channel that is published to and heard.
#[derive(Debug)]
struct Watched {
    name: ChannelName,
    hearing: Hearing,
    trip: Trip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hearing {
    No,
    Asked,
    Yes,
}

impl DeliveryCheck {
    /// `brokers`: how many there are, each with its part of the channels; none for no check.
    pub(crate) fn new(brokers: u16, node: &str, id: ShardId, shards: u16, compass: &Compass, now: Time) -> Self {
        if brokers == 0 {
            return Self::default();
        }
        let next = |id: ShardId| ShardId((id.0 + 1) % shards);
        let before = ShardId((id.0 + shards - 1) % shards);
        let names = |of: ShardId| (0..brokers).map(move |broker| name(node, of, next(of), (broker, brokers), compass));
        let watched = |name| Watched { name, hearing: Hearing::No, trip: Trip::default() };
        Self { next_at: Some(now + EVERY), channels: names(id).map(watched).collect(), guests: names(before).collect() }
    }

    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.next_at
    }

    /// Whether the channel is none that anybody asked for.
    pub(crate) fn hides(&self, name: &str) -> bool {
        self.guests.iter().any(|guest| **guest == *name)
    }

    /// Channels that have their home here.
    pub(crate) fn guests(&self) -> &[ChannelName] {
        &self.guests
    }

    /// How the last publication to each channel fared, in the order of the brokers.
    pub(crate) fn trips(&self) -> Vec<Trip> {
        self.channels.iter().map(|watched| watched.trip).collect()
    }
}

/// A name with this home and this broker. Only letters and digits, so that no setting of namespaces takes it apart.
fn name(node: &str, of: ShardId, home: ShardId, (broker, brokers): (u16, u16), compass: &Compass) -> ChannelName {
    let node = node.replace(|letter: char| !letter.is_ascii_alphanumeric(), "");
    let names = (0_u32..).map(|number| format!("ringcastdelivery{node}x{}x{number}", of.0));
    let is_there = |name: &String| {
        compass.home(name) == home && consistent_index(name, usize::from(brokers)) == usize::from(broker)
    };
    names.into_iter().find(is_there).expect("among all names some is there").into()
}

impl Shard {
    /// Publishes when it is time, to channels that are heard; subscribes to the others.
    pub(crate) fn check_delivery(&mut self, now: Now) {
        if self.delivery.next_at.is_none_or(|at| now.at < at) {
            return;
        }
        self.delivery.next_at = Some(now.at + EVERY);
        for place in 0..self.delivery.channels.len() {
            let Watched { name, hearing, .. } = &self.delivery.channels[place];
            let (channel, hearing) = (name.clone(), *hearing);
            match hearing {
                Hearing::No => self.hear(now, place, channel),
                Hearing::Asked => (),
                Hearing::Yes => self.send_off(now, place, channel),
            }
        }
    }

    fn hear(&mut self, now: Now, place: usize, channel: ChannelName) {
        self.delivery.channels[place].hearing = Hearing::Asked;
        let (home, deadline) = (self.home(&channel), self.deadline(now));
        let subscribe = Subscribe {
            request: self.ask(now, Waiting::Delivery { place }),
            channel,
            deadline,
            variant: Variant::new(Encoding::Json, false),
            member: None,
            positioned: false,
            recover: None,
        };
        self.post.send(home, Message::Subscribe(Box::new(subscribe)));
    }

    fn send_off(&mut self, now: Now, place: usize, channel: ChannelName) {
        let (home, deadline) = (self.home(&channel), self.deadline(now));
        let publish = Publish {
            request: self.ask(now, Waiting::Delivery { place }),
            channel,
            deadline,
            accepted_at: now.at,
            data: now.at.0.to_string().into(),
            info: None,
            tags: BTreeMap::new(),
            skip_history: true,
            delta: false,
            idempotency_key: String::new(),
            version: 0,
            version_epoch: String::new(),
        };
        self.post.send(home, Message::Publish(Box::new(publish)));
    }

    /// The home says that the channel is heard. False if the question was somebody else's.
    pub(crate) fn delivery_subscribed(&mut self, now: Now, request: RequestId) -> bool {
        let Some(Waiting::Delivery { place }) = self.pending.get_mut(request) else { return false };
        let place = *place;
        self.pending.take(request);
        let watched = &mut self.delivery.channels[place];
        watched.hearing = Hearing::Yes;
        let channel = watched.name.clone();
        self.send_off(now, place, channel);
        true
    }

    /// A question came to nothing. If it was to hear the channel, that is asked again.
    pub(crate) fn delivery_failed(&mut self, place: usize) {
        let watched = &mut self.delivery.channels[place];
        if watched.hearing != Hearing::Asked {
            return;
        }
        watched.hearing = Hearing::No;
        let channel = watched.name.clone();
        let home = self.home(&channel);
        let variant = Variant::new(Encoding::Json, false);
        let unsubscribe = Unsubscribe { channel, variant, positioned: false, member: None };
        self.post.send(home, Message::Unsubscribe(Box::new(unsubscribe)));
    }

    /// A publication for which there are no clients.
    pub(crate) fn delivery_returned(&mut self, now: Now, channel: &str, publication: &Publication) {
        let Some(watched) = self.delivery.channels.iter_mut().find(|watched| *watched.name == *channel) else { return };
        let data = std::str::from_utf8(&publication.content().data).ok();
        let Some(sent_at) = data.and_then(|data| data.parse().ok()).map(Time) else { return };
        if watched.trip.sent_at.is_none_or(|known| known < sent_at) && sent_at <= now.at {
            watched.trip = Trip { sent_at: Some(sent_at), took: now.at - sent_at };
        }
    }
}
