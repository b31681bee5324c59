//! What came of late, for the quantiles of summaries: client_golang's default, the last ten minutes in five steps.
//!
//! Shards count since they began. A copy of what they had counted is kept every two minutes, five of them, and what came since
//! the oldest is recent: eight to ten minutes, as there.

use super::Scrape;
use crate::control::proxy::MeterSnapshot;
use ringcast_state::metrics::{Histogram, Metrics};
use std::collections::VecDeque;
use std::time::Duration;

/// Copies that are kept. Bound of their memory: five times that of one shard's histograms, and of the proxies'.
const STEPS: usize = 5;

/// Counters of the past.
#[derive(Debug, Default)]
pub struct Windows {
    /// Oldest first.
    past: VecDeque<(Metrics, Vec<MeterSnapshot>)>,
}

impl Windows {
    /// From one copy to the next.
    pub const STEP: Duration = Duration::from_secs(120);

    /// Keeps a copy. An incomplete one is left out: what a shard that did not answer had counted would come back as recent.
    pub fn step(&mut self, scrape: &Scrape) {
        if scrape.shards.iter().any(Option::is_none) {
            return;
        }
        self.past.push_back((super::node(scrape).metrics, scrape.proxies.clone()));
        if self.past.len() > STEPS {
            self.past.pop_front();
        }
    }

    /// Histograms that summaries are made of, without what is too old.
    pub fn recent(&self, now: &Metrics, proxies: &[MeterSnapshot]) -> Recent {
        let Some((past, past_proxies)) = self.past.front().filter(|_| self.past.len() == STEPS) else {
            let (commands, api_calls) = (now.commands.to_vec(), now.api_calls.to_vec());
            let proxies = proxies.iter().map(|meter| meter.durations.clone()).collect();
            return Recent { commands, api_calls, surveys: now.surveys.clone(), proxies };
        };
        let of_proxy = |now: &MeterSnapshot| {
            let past = past_proxies.iter().find(|past| past.name == now.name);
            past.map_or_else(|| now.durations.clone(), |past| now.durations.since(&past.durations))
        };
        Recent {
            commands: since(&now.commands, &past.commands),
            api_calls: since(&now.api_calls, &past.api_calls),
            surveys: now.surveys.since(&past.surveys),
            proxies: proxies.iter().map(of_proxy).collect(),
        }
    }
}

/// See [`Windows::recent`].
#[derive(Debug)]
pub struct Recent {
    /// As in [`Metrics`].
    pub commands: Vec<Histogram>,
    /// As in [`Metrics`].
    pub api_calls: Vec<Histogram>,
    /// As in [`Metrics`].
    pub surveys: Histogram,
    /// In the order of the scrape.
    pub proxies: Vec<Histogram>,
}

fn since(now: &[Histogram], past: &[Histogram]) -> Vec<Histogram> {
    now.iter().zip(past).map(|(now, past)| now.since(past)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::scrape;
    use super::*;

    /// Values of the minutes that are recent in a minute, with a copy every second one.
    fn recent_at(minutes: u64) -> Vec<u64> {
        let (mut windows, mut metrics) = (Windows::default(), Metrics::default());
        for minute in 1..=minutes {
            metrics.surveys.record(minute);
            if minute % 2 == 0 {
                windows.step(&scrape(&metrics));
            }
        }
        windows.recent(&metrics, &[]).surveys.buckets().map(|bucket| bucket.low).collect()
    }

    #[test]
    fn eight_to_ten_minutes_are_recent() {
        assert_eq!(recent_at(5), [1, 2, 3, 4, 5]);
        assert_eq!(recent_at(10), (3..=10).collect::<Vec<_>>());
        assert_eq!(recent_at(11), (3..=11).collect::<Vec<_>>());
        assert_eq!(recent_at(40), (33..=40).collect::<Vec<_>>());
    }

    #[test]
    fn step_without_some_shard_is_none() {
        let (mut windows, metrics) = (Windows::default(), Metrics::default());
        let mut scrape = scrape(&metrics);
        scrape.shards.push(None);
        windows.step(&scrape);
        assert!(windows.past.is_empty());
    }
}
