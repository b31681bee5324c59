//! Which channel each publication of a lane goes to, and who has to receive it.

use crate::payload::Stamp;

/// How channels, lanes and subscribers belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// One channel: every subscriber gets what every lane publishes.
    Shared,
    /// Each lane publishes to channels of its own in turn.
    Own(Own),
}

/// Channels with one publishing lane each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// How many publish.
    pub lanes: u32,
    /// Channels of each lane.
    pub each: u32,
    /// Subscribers of each channel.
    pub subscribers: u32,
}

impl Own {
    /// Number of the channel that a publication goes to.
    pub fn channel(&self, lane: usize, sequence: u32) -> u32 {
        sequence % self.each * self.lanes + lane as u32
    }
}

impl Audience {
    /// Sequences that a subscriber receives, with so many lanes.
    pub fn publishers(&self, lanes: usize) -> usize {
        match self {
            Self::Shared => lanes,
            Self::Own(_) => 1,
        }
    }

    /// Who of `stayers` subscribers receives a publication.
    pub fn receivers(&self, stayers: usize) -> u64 {
        match self {
            Self::Shared => stayers as u64,
            Self::Own(own) => u64::from(own.subscribers),
        }
    }

    /// Number of the channel that a publication goes to.
    pub fn channel(&self, lane: usize, sequence: u32) -> u32 {
        match self {
            Self::Shared => 0,
            Self::Own(own) => own.channel(lane, sequence),
        }
    }

    /// Number of the channel that a subscriber listens to; they are counted through the channels.
    pub fn channel_of_subscriber(&self, number: usize) -> u32 {
        match self {
            Self::Shared => 0,
            Self::Own(own) => number as u32 / own.subscribers.max(1),
        }
    }

    /// A publication as a subscriber of `channel` counts it; `None` when it is not meant for that channel.
    pub fn place(&self, channel: u32, stamp: Stamp) -> Option<Stamp> {
        match self {
            Self::Shared => Some(stamp),
            Self::Own(own) => {
                let meant = self.channel(usize::from(stamp.publisher), stamp.sequence) == channel;
                meant.then_some(Stamp { publisher: 0, sequence: stamp.sequence / own.each, ..stamp })
            }
        }
    }

    /// Per publisher that a subscriber of `channel` counts, the end of its sequence when each lane is at `next`.
    pub fn ends(&self, channel: u32, next: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
        let (skipped, taken) = match self {
            Self::Shared => (0, usize::MAX),
            Self::Own(own) => ((channel % own.lanes) as usize, 1),
        };
        let audience = *self;
        let end = move |next: u32| match audience {
            Self::Shared => next,
            Self::Own(own) => (next + own.each - 1 - channel / own.lanes) / own.each,
        };
        next.skip(skipped).take(taken).map(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Audience = Audience::Own(Own { lanes: 2, each: 3, subscribers: 2 });

    fn stamp(publisher: u16, sequence: u32) -> Stamp {
        Stamp { publisher, sequence, sent_ns: 0 }
    }

    #[test]
    fn lanes_go_round_their_own_channels() {
        let of_lane = |lane| (0..4).map(|sequence| OWN.channel(lane, sequence)).collect::<Vec<_>>();
        assert_eq!((of_lane(0), of_lane(1)), (vec![0, 2, 4, 0], vec![1, 3, 5, 1]));
        let of_subscribers: Vec<_> = (0..12).map(|number| OWN.channel_of_subscriber(number)).collect();
        assert_eq!(of_subscribers, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
    }

    #[test]
    fn every_publication_has_its_place_in_one_channel() {
        for lane in 0..2 {
            for sequence in 0..9 {
                let stamp = stamp(lane, sequence);
                let places: Vec<_> = (0..6).filter_map(|channel| OWN.place(channel, stamp)).collect();
                assert_eq!(places, [self::stamp(0, sequence / 3)]);
            }
        }
        assert_eq!(Audience::Shared.place(0, stamp(1, 7)), Some(stamp(1, 7)));
    }

    #[test]
    fn ends_count_what_went_to_the_channel() {
        for next in 0..9_u32 {
            for channel in 0..6 {
                let lane = channel as usize % 2;
                let sent = (0..next).filter(|sequence| OWN.channel(lane, *sequence) == channel).count() as u32;
                let next = (0..2).map(|other| if other == lane { next } else { 99 });
                assert_eq!(OWN.ends(channel, next).collect::<Vec<_>>(), [sent]);
            }
        }
        assert_eq!(Audience::Shared.ends(0, [4, 5].into_iter()).collect::<Vec<_>>(), [4, 5]);
    }
}
