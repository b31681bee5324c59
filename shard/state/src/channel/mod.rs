//! The home side: channels whose order, history and members this shard decides.

mod brokered;
mod context;
mod epoch;
mod fanout;
mod handover;
mod history;
mod idle;
mod presence;
mod publication;
mod publish;
mod recover;
mod results;
mod stream;
mod subscribe;

pub use epoch::Epoch;
pub use handover::Written;
pub use publication::{Encoded, Publication};
pub use stream::Position;

pub(crate) use brokered::Brokered;
pub(crate) use context::Context;
pub(crate) use fanout::Listeners;
pub(crate) use stream::{Retention, Stream};

use crate::message::{ChannelName, Message};
use crate::namespace::{ChannelConfig, ChannelOptions};
use crate::options::{Limits, Options};
use crate::post::Post;
use crate::random::Random;
use crate::registry::{Named, Registry};
use crate::wheel::{Timer, Wheel};
use crate::{Now, Time};
use idle::{Idle, IdleStamp};
use presence::Presence;
use results::Results;
use std::time::Duration;

/// All channels whose home a shard is.
#[derive(Debug)]
pub(crate) struct Homes {
    channels: Registry<HomeChannel>,
    /// Channels with at least one subscriber.
    active: usize,
    /// Channels with nothing but a position; see `Limits::idle_streams`.
    idle: Idle,
}

/// One channel at its home; exists while it has subscribers, members, a stream or remembered results.
#[derive(Debug)]
pub(crate) struct HomeChannel {
    name: ChannelName,
    listeners: Listeners,
    presence: Option<Box<Presence>>,
    stream: Option<Box<Stream>>,
    /// Subscribers with a position in it.
    positioned: u32,
    results: Option<Box<Results>>,
    /// The last publication went past the stream: subscribers do not hold the payload that the stream ends with.
    is_base_lost: bool,
    /// When the wheel will ask for this channel; `None` when it will not.
    timer_at: Option<Time>,
    /// Tells the uses of a slab place apart.
    generation: u32,
    /// Given while the channel is idle.
    idle_stamp: Option<IdleStamp>,
}

impl Homes {
    pub(crate) fn new(hash_seed: u64) -> Self {
        Homes { channels: Registry::new(hash_seed), active: 0, idle: Idle::new() }
    }

    /// Channels with at least one subscriber.
    pub(crate) fn active(&self) -> usize {
        self.active
    }

    /// Whether a channel has subscribers.
    pub(crate) fn is_active(&self, name: &str) -> bool {
        self.find(name).is_some_and(|index| self.channels[index].listeners.subscribers() > 0)
    }

    /// Every channel with subscribers, and how many.
    pub(crate) fn iter_active(&self) -> impl Iterator<Item = (&ChannelName, u32)> {
        let counted = self.channels.iter().map(|channel| (&channel.name, channel.listeners.subscribers()));
        counted.filter(|(_, subscribers)| *subscribers > 0)
    }

    fn find(&self, name: &str) -> Option<u32> {
        self.channels.find(name)
    }

    fn find_or_insert(&mut self, name: &ChannelName, random: &mut Random) -> u32 {
        if let Some(index) = self.find(name) {
            return index;
        }
        self.channels.insert(HomeChannel {
            name: name.clone(),
            listeners: Listeners::default(),
            presence: None,
            stream: None,
            positioned: 0,
            results: None,
            is_base_lost: false,
            timer_at: None,
            generation: random.next_u32(),
            idle_stamp: None,
        })
    }

    /// Ends every change of a channel: forgets it if it holds nothing any more, else arms its timer and sees to the bound
    /// of idle ones.
    fn settle(&mut self, index: u32, wheel: &mut Wheel, limits: &Limits) {
        let channel = &mut self.channels[index];
        if !channel.is_needed() {
            return self.remove(index);
        }
        channel.arm(index, wheel);
        match (channel.is_idle(), channel.idle_stamp) {
            (true, None) => {
                channel.idle_stamp = Some(self.idle.enter(index));
                self.bound_idle(limits.idle_streams);
            }
            (false, Some(_)) => {
                channel.idle_stamp = None;
                let channels = &self.channels;
                self.idle.leave(|place, stamp| has_stamp(channels, place, stamp));
            }
            _ => {}
        }
    }

    fn bound_idle(&mut self, idle_max: usize) {
        while self.idle.len() > idle_max {
            let channels = &self.channels;
            let oldest = self.idle.oldest(|place, stamp| has_stamp(channels, place, stamp));
            self.remove(oldest.expect("every idle channel was entered"));
        }
    }

    fn remove(&mut self, index: u32) {
        let was_idle = self.channels[index].idle_stamp.is_some();
        self.channels.remove(index);
        if was_idle {
            let channels = &self.channels;
            self.idle.leave(|place, stamp| has_stamp(channels, place, stamp));
        }
    }

    /// A channel's timer fired.
    pub(crate) fn handle_timer(
        &mut self,
        now: Now,
        (index, generation): (u32, u32),
        (post, wheel): (&mut Post, &mut Wheel),
        options: &Options,
    ) {
        let Some(channel) = self.channels.get_mut(index) else { return };
        if channel.generation != generation {
            return;
        }
        channel.timer_at = None;
        channel.expire(now.at, options);
        channel.expire_guests(now.at, post, options);
        self.settle(index, wheel, &options.limits);
    }
}

impl Named for HomeChannel {
    fn name(&self) -> &str {
        &self.name
    }
}

fn has_stamp(channels: &Registry<HomeChannel>, place: u32, stamp: IdleStamp) -> bool {
    channels.get(place).is_some_and(|channel| channel.idle_stamp == Some(stamp))
}

impl HomeChannel {
    fn is_needed(&self) -> bool {
        self.listeners.subscribers() > 0 || self.presence.is_some() || self.stream.is_some() || self.results.is_some()
    }

    /// Whether the position of its stream is all that it holds.
    fn is_idle(&self) -> bool {
        let is_unused = self.listeners.subscribers() == 0 && self.presence.is_none() && self.results.is_none();
        is_unused && self.stream.as_ref().is_some_and(|stream| stream.is_empty())
    }

    /// Drops what is too old.
    fn expire(&mut self, now: Time, options: &Options) {
        if let Some(stream) = &mut self.stream
            && stream.expire(now)
        {
            // The reference keeps a stream alive by checking positions in it, if it looks before the stream is gone. Else it
            // goes under live subscribers, too: they get insufficient state with its next life.
            let (_, channel) = options.channel.resolve_known(&self.name);
            let meta_ttl = meta_ttl(&options.channel, channel);
            if self.positioned > 0 && meta_ttl >= options.client.position_check_period() {
                stream.touch(meta_ttl, now);
            } else {
                self.stream = None;
            }
        }
        if self.results.as_mut().is_some_and(|results| results.expire(now)) {
            self.results = None;
        }
    }

    /// Guests that have not come are gone, as others hear.
    fn expire_guests(&mut self, now: Time, post: &mut Post, options: &Options) {
        let Some(presence) = &mut self.presence else { return };
        let gone = presence.expire(now);
        if presence.is_empty() {
            self.presence = None;
        }
        let (_, own) = options.channel.resolve_known(&self.name);
        for info in gone.iter().filter(|_| own.join_leave) {
            let message = || Message::Membership { channel: self.name.clone(), info: info.clone(), joined: false };
            self.listeners.send(post, message);
        }
    }

    /// Makes the wheel ask when something of this channel gets too old. A timer that is armed already for an earlier time
    /// is left: it arms itself again.
    fn arm(&mut self, index: u32, wheel: &mut Wheel) {
        let stream = self.stream.as_ref().map(|stream| stream.next_expiry());
        let results = self.results.as_ref().map(|results| results.next_expiry());
        let guests = self.presence.as_ref().and_then(|presence| presence.next_expiry());
        let Some(due) = [stream, results, guests].into_iter().flatten().min() else { return };
        if self.timer_at.is_none_or(|armed| due < armed) {
            self.timer_at = Some(due);
            wheel.insert(due, Timer::Channel { index, generation: self.generation });
        }
    }

    /// The stream, made if the channel has none.
    fn stream(&mut self, meta_ttl: Duration, now: Time, random: &mut Random) -> &mut Stream {
        let stream = self.stream.get_or_insert_with(|| Box::new(Stream::new(random.epoch(), now, meta_ttl)));
        stream.touch(meta_ttl, now);
        stream
    }
}

/// How much history a channel with these options keeps; `None` for no history.
pub(crate) fn retention(config: &ChannelConfig, options: &ChannelOptions) -> Option<Retention> {
    let (size, ttl, meta_ttl) = (options.history_size, options.history_ttl, meta_ttl(config, options));
    options.has_history().then_some(Retention { size, ttl, meta_ttl })
}

/// Life of the position of a channel with these options.
pub(crate) fn meta_ttl(config: &ChannelConfig, options: &ChannelOptions) -> Duration {
    let own = options.history_meta_ttl;
    let meta_ttl = if own.is_zero() { config.history_meta_ttl } else { own };
    meta_ttl.max(options.history_ttl)
}
