//! Draws what happens next: the same seed draws the same day.

use clap::Args;

/// How often each thing happens, relative to the others. A thing of weight 0 never happens.
#[derive(Args, Debug, Clone, Copy)]
pub struct Weights {
    /// Weight of a client that publishes.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=1000))]
    weight_publish: u32,
    /// Weight of a publication over the API.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(0..=1000))]
    weight_api: u32,
    /// Weight of a batch of publications over the API.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1000))]
    weight_batches: u32,
    /// Weight of a client that asks for the history.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    weight_history: u32,
    /// Weight of a client that asks who is there.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    weight_presence: u32,
    /// Weight of a client that leaves for another one that comes and subscribes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1000))]
    weight_turnover: u32,
    /// Weight of a client that is cut off and comes back for what it missed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1000))]
    weight_recover: u32,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Publish,
    Api,
    Batch,
    History,
    Presence,
    Turnover,
    Recover,
}

impl Weights {
    fn each(&self) -> [(Action, u32); 7] {
        [
            (Action::Publish, self.weight_publish),
            (Action::Api, self.weight_api),
            (Action::Batch, self.weight_batches),
            (Action::History, self.weight_history),
            (Action::Presence, self.weight_presence),
            (Action::Turnover, self.weight_turnover),
            (Action::Recover, self.weight_recover),
        ]
    }

    /// Whether anything happens at all.
    pub fn are_any(&self) -> bool {
        self.each().iter().any(|(_, weight)| *weight > 0)
    }
}

/// Random numbers: SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
pub struct Dice(u64);

impl Dice {
    /// Starts a series.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % end as u64) as usize
    }

    /// What happens next; some weight is not 0.
    pub fn action(&mut self, weights: &Weights) -> Action {
        let each = weights.each();
        let sum: u32 = each.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.below(sum as usize) as u32;
        let hit = each.iter().find(|(_, weight)| {
            let hit = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            hit
        });
        hit.expect("what is drawn is below the sum").0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_drawn_as_often_as_they_weigh() {
        let weights = Weights {
            weight_publish: 1,
            weight_api: 0,
            weight_batches: 3,
            weight_history: 0,
            weight_presence: 0,
            weight_turnover: 0,
            weight_recover: 0,
        };
        let mut dice = Dice::new(7);
        let drawn: Vec<Action> = (0..4000).map(|_| dice.action(&weights)).collect();
        let count = |action| drawn.iter().filter(|drawn| **drawn == action).count();
        assert_eq!(count(Action::Publish) + count(Action::Batch), 4000);
        assert!((800..1200).contains(&count(Action::Publish)), "{}", count(Action::Publish));
        assert!(weights.are_any());
    }

    #[test]
    fn seed_repeats_the_series() {
        let series = |seed| {
            let mut dice = Dice::new(seed);
            (0..9).map(|_| dice.below(100)).collect::<Vec<_>>()
        };
        assert_eq!(series(1), series(1));
        assert_ne!(series(1), series(2));
    }
}
