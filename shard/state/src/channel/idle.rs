//! Channels that hold nothing but the position of their stream, bounded in number.
//!
//! A client that may subscribe to names of its choosing makes a stream with each, and epoch and offset of a stream live for
//! `history_meta_ttl`, 30 days by default.

use crate::sparse::GiveBack;
use std::collections::VecDeque;
use std::num::NonZeroU32;

/// Marks a channel as idle since some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdleStamp(NonZeroU32);

/// The idle channels of a shard, the longest idle first.
#[derive(Debug)]
pub(super) struct Idle {
    /// Places, each with the stamp it was entered with; a place whose channel has another stamp by now is passed over.
    entries: VecDeque<(u32, IdleStamp)>,
    len: usize,
    next: NonZeroU32,
}

impl Idle {
    pub(super) fn new() -> Self {
        Idle { entries: VecDeque::new(), len: 0, next: NonZeroU32::MIN }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The channel in this place is idle from now on.
    pub(super) fn enter(&mut self, place: u32) -> IdleStamp {
        let stamp = IdleStamp(self.next);
        self.next = self.next.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.entries.push_back((place, stamp));
        self.len += 1;
        stamp
    }

    /// One that was entered is idle no more, or gone. `is_current` tells whether the channel in a place has that stamp.
    pub(super) fn leave(&mut self, is_current: impl Fn(u32, IdleStamp) -> bool) {
        self.len -= 1;
        // Channels that come and go leave entries behind.
        if self.entries.len() > 2 * self.len + 64 {
            self.entries.retain(|(place, stamp)| is_current(*place, *stamp));
            self.entries.give_back();
        }
    }

    /// The channel that is idle for the longest time; the caller ends that.
    pub(super) fn oldest(&mut self, is_current: impl Fn(u32, IdleStamp) -> bool) -> Option<u32> {
        while let Some((place, stamp)) = self.entries.pop_front() {
            if is_current(place, stamp) {
                return Some(place);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Context, Homes};
    use crate::message::{Ask, AskHistory, Publish};
    use crate::metrics::Metrics;
    use crate::namespace::{ChannelConfig, ChannelOptions};
    use crate::options::Limits;
    use crate::post::Post;
    use crate::random::Random;
    use crate::wheel::{Timer, Wheel};
    use crate::{Now, Options, Position, RequestId, ShardId, Time};
    use ringcast_proto::delta;
    use std::collections::BTreeMap;
    use std::time::Duration;

    const REQUEST: RequestId = RequestId { slot: 0, generation: 0 };
    const TTL: Duration = Duration::from_secs(10);
    const META_TTL: Duration = Duration::from_secs(60);

    /// The home side of a shard that keeps at most two idle channels.
    struct Home {
        homes: Homes,
        options: Options,
        post: Post,
        random: Random,
        wheel: Wheel,
        metrics: Metrics,
        delta_table: delta::Table,
        now: Now,
    }

    impl Home {
        fn new() -> Self {
            let own = ChannelOptions { history_size: 10, history_ttl: TTL, ..ChannelOptions::default() };
            let channel =
                ChannelConfig { without_namespace: own, history_meta_ttl: META_TTL, ..ChannelConfig::default() };
            let limits = Limits { idle_streams: 2, ..Limits::default() };
            let now = Now { at: Time(1), unix_ms: 1 };
            Home {
                homes: Homes::new(1),
                options: Options { channel, limits, ..Options::default() },
                post: Post::new(ShardId(0), 1, 1 << 20),
                random: Random::new([7; 32]),
                wheel: Wheel::new(now.at),
                metrics: Metrics::default(),
                delta_table: delta::Table::default(),
                now,
            }
        }

        fn act(&mut self, act: impl FnOnce(&mut Homes, &mut Context<'_>)) {
            let mut context = Context {
                now: self.now,
                options: &self.options,
                post: &mut self.post,
                random: &mut self.random,
                wheel: &mut self.wheel,
                metrics: &mut self.metrics,
                delta_table: &mut self.delta_table,
                from: ShardId(0),
            };
            act(&mut self.homes, &mut context);
        }

        /// Reading history makes a stream, as subscribing does.
        fn read(&mut self, channel: &str, since: Option<Position>) {
            let (channel, deadline) = (channel.into(), self.now.at);
            let (limit, reverse, encoding) = (None, false, None);
            let ask = AskHistory { request: REQUEST, channel, deadline, since, limit, reverse, encoding };
            self.act(|homes, context| homes.history(context, ask));
        }

        fn publish(&mut self, channel: &str, idempotency_key: &str) {
            let publish = Publish {
                request: REQUEST,
                channel: channel.into(),
                deadline: self.now.at,
                accepted_at: self.now.at,
                data: "{}".into(),
                info: None,
                tags: BTreeMap::new(),
                skip_history: false,
                delta: false,
                idempotency_key: idempotency_key.into(),
                version: 0,
                version_epoch: String::new(),
            };
            self.act(|homes, context| homes.publish(context, publish));
        }

        fn remove_history(&mut self, channel: &str) {
            let ask = Ask { request: REQUEST, channel: channel.into(), deadline: self.now.at, stats: false };
            self.act(|homes, context| homes.history_remove(context, ask));
        }

        fn wait(&mut self, span: Duration) {
            self.now.at = self.now.at + span;
            let mut fired = Vec::new();
            self.wheel.advance(self.now.at, &mut fired);
            for timer in fired {
                let Timer::Channel { index, generation } = timer else { panic!("{timer:?}") };
                let ways = (&mut self.post, &mut self.wheel);
                self.homes.handle_timer(self.now, (index, generation), ways, &self.options);
            }
        }

        #[track_caller]
        fn check(&self, channels: &[&str], idle: usize) {
            let mut known: Vec<&str> = self.homes.channels.iter().map(|channel| &*channel.name).collect();
            known.sort_unstable();
            assert_eq!((known.as_slice(), self.homes.idle.len()), (channels, idle));
        }
    }

    #[test]
    fn longest_idle_channel_is_forgotten_for_one_too_many() {
        let mut home = Home::new();
        ["a", "b", "c"].iter().for_each(|channel| home.read(channel, None));
        home.check(&["b", "c"], 2);
    }

    #[test]
    fn channel_with_publications_is_not_idle_until_they_are_gone() {
        let mut home = Home::new();
        home.publish("a", "");
        ["b", "c", "d"].iter().for_each(|channel| home.read(channel, None));
        home.check(&["a", "c", "d"], 2);
        home.wait(TTL * 2);
        home.check(&["a", "d"], 2);
        home.publish("d", "");
        home.remove_history("d");
        home.read("e", None);
        home.check(&["d", "e"], 2);
    }

    #[test]
    fn channels_that_wake_and_fall_asleep_again_and_again_leave_nothing_behind() {
        let mut home = Home::new();
        home.read("a", None);
        for _ in 0..10_000 {
            home.publish("b", "");
            home.remove_history("b");
        }
        home.check(&["a", "b"], 2);
        assert!(home.homes.idle.entries.len() <= 68, "{}", home.homes.idle.entries.len());
    }

    #[test]
    fn everything_goes_with_its_time() {
        let mut home = Home::new();
        home.options.limits.idle_streams = 1000;
        for channel in 0..500 {
            home.publish(&channel.to_string(), "key");
            home.read(&format!("read {channel}"), None);
        }
        // Refused, but the stream was made to know that.
        home.read("other epoch", Some(Position { offset: 1, epoch: "x".into() }));
        home.wait(home.options.limits.idempotency_ttl.max(META_TTL) + Duration::from_secs(1));
        home.check(&[], 0);
    }
}
