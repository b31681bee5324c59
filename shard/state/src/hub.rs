//! The subscriber side: channels with clients on this shard, and handing publications to those clients.

use crate::Variant;
use crate::channel::{Position, Publication};
use crate::filters::FilterId;
use crate::message::ChannelName;
use crate::registry::{Named, Registry};
use crate::sparse::GiveBack;
use crate::transport::Shape;

/// Place of a channel in the hub; valid while some client of the shard is subscribed or subscribing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HubIndex(pub(crate) u32);

/// Channels that clients of this shard are subscribed or subscribing to.
#[derive(Debug)]
pub(crate) struct Hub {
    channels: Registry<HubChannel>,
    /// Subscriptions that are live.
    live: usize,
}

/// One channel as this shard sees it.
#[derive(Debug)]
pub(crate) struct HubChannel {
    name: ChannelName,
    /// Subscriptions in any state; at zero the channel goes.
    users: u32,
    /// Live subscriptions that need every offset.
    positioned: u32,
    subscribers: Vec<Subscriber>,
    /// Of the last publication that came; subscribers joined at or after it, because the home's messages keep their order.
    top: Position,
}

/// A live subscription, as fan-out sees it: 16 bytes, for channels are walked from end to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscriber {
    pub(crate) slot: u32,
    pub(crate) filter: Option<FilterId>,
    pub(crate) variant: Variant,
    pub(crate) shape: Shape,
    pub(crate) positioned: bool,
    pub(crate) join_leave: bool,
    /// It holds the payload before the next one, so that it can use a patch.
    pub(crate) has_base: bool,
}

impl Named for HubChannel {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Hub {
    pub(crate) fn new(hash_seed: u64) -> Self {
        Hub { channels: Registry::new(hash_seed), live: 0 }
    }

    pub(crate) fn live(&self) -> usize {
        self.live
    }

    pub(crate) fn find(&self, name: &str) -> Option<HubIndex> {
        self.channels.find(name).map(HubIndex)
    }

    pub(crate) fn name(&self, index: HubIndex) -> &ChannelName {
        &self.channels[index.0].name
    }

    /// Enters a subscription that is not live yet.
    pub(crate) fn enter(&mut self, name: &str) -> HubIndex {
        if let Some(index) = self.find(name) {
            self.channels[index.0].users += 1;
            return index;
        }
        let top = Position::default();
        let channel = HubChannel { name: name.into(), users: 1, positioned: 0, subscribers: Vec::new(), top };
        HubIndex(self.channels.insert(channel))
    }

    /// Whether positioned subscribers stand at `top`, which a new one was told. They do not when the stream was lost at the
    /// home and began anew since the last publication.
    pub(crate) fn is_level(&self, index: HubIndex, top: &Position) -> bool {
        let channel = &self.channels[index.0];
        channel.positioned == 0 || channel.top == *top
    }

    /// Makes a subscription live, from `top` on if it is positioned. Returns its place among the subscribers.
    pub(crate) fn join(&mut self, index: HubIndex, subscriber: Subscriber, top: Option<Position>) -> u32 {
        let channel = &mut self.channels[index.0];
        if let (true, Some(top)) = (subscriber.positioned, top) {
            debug_assert!(channel.positioned == 0 || channel.top == top, "{:?} {top:?}", channel.top);
            channel.top = top;
        }
        channel.positioned += u32::from(subscriber.positioned);
        if channel.subscribers.is_empty() {
            channel.subscribers.reserve_exact(1);
        }
        channel.subscribers.push(subscriber);
        self.live += 1;
        (channel.subscribers.len() - 1) as u32
    }

    /// Takes a live subscription out of its place. Returns the slot of the client that moved there, if one did.
    pub(crate) fn leave(&mut self, index: HubIndex, place: u32) -> Option<u32> {
        let channel = &mut self.channels[index.0];
        let gone = channel.subscribers.swap_remove(place as usize);
        channel.subscribers.give_back();
        channel.positioned -= u32::from(gone.positioned);
        self.live -= 1;
        channel.subscribers.get(place as usize).map(|moved| moved.slot)
    }

    /// Ends what `enter` began. True when the channel is gone with it.
    pub(crate) fn exit(&mut self, index: HubIndex) -> bool {
        let channel = &mut self.channels[index.0];
        channel.users -= 1;
        let is_last = channel.users == 0;
        if is_last {
            self.channels.remove(index.0);
        }
        is_last
    }

    pub(crate) fn subscribers(&self, index: HubIndex) -> &[Subscriber] {
        &self.channels[index.0].subscribers
    }

    /// All subscribers hold the payload that they were just sent. One without a position may have missed the next, so that
    /// it never gets patches.
    pub(crate) fn give_base(&mut self, index: HubIndex) {
        for subscriber in &mut self.channels[index.0].subscribers {
            subscriber.has_base = subscriber.positioned;
        }
    }

    /// Takes note of a publication. False when one before it is missing: positioned subscribers have insufficient state.
    pub(crate) fn advance(&mut self, index: HubIndex, publication: &Publication) -> bool {
        if publication.offset == 0 {
            return true;
        }
        let channel = &mut self.channels[index.0];
        let top = &channel.top;
        let follows = publication.offset == top.offset + 1 && publication.epoch == top.epoch;
        channel.top = Position { offset: publication.offset, epoch: publication.epoch.clone() };
        follows || channel.positioned == 0
    }
}
