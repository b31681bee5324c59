//! A long sleep of a quiet world, and what must be gone after it: publications by their TTL, positions by the meta TTL.

use crate::answers::{Call, is_error, read_history, top};
use crate::world::World;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Time that questions take, and how late timers fire.
const SLACK: Duration = Duration::from_secs(3);

impl World {
    /// Sleeps past the TTL of some channel's history, or past that of its position. `before`: what was answered just now.
    /// Returns what is answered afterwards.
    pub(super) fn outlive(&mut self, before: &[(Call, Value)]) -> Vec<(Call, Value)> {
        let channel = self.random.pick(&self.scenario.channels).clone();
        let ttl = if self.random.one_in(2) {
            self.scenario.history_ttl_max(&channel)
        } else {
            self.scenario.meta_ttl_max(&channel)
        };
        let span = ttl + SLACK;
        self.trace.note(|| format!("everybody sleeps for {span:?}"));
        let (began, held) = (self.now.at, self.held());
        self.pass(span);
        self.settle();
        let after = self.answers();
        let slept = (span, self.now.at - began + SLACK);
        let streams = |answers: &[(Call, Value)]| {
            let histories = answers.iter().filter_map(|(call, answer)| match call {
                Call::History { channel } if !is_error(answer) => Some((channel.clone(), answer.clone())),
                _ => None,
            });
            histories.collect::<BTreeMap<_, _>>()
        };
        let before = streams(before);
        for (channel, after) in &streams(&after) {
            if let Some(before) = before.get(channel) {
                self.check_outlived(channel, slept, before, after, held.contains(channel));
            }
        }
        after
    }

    /// Channels with subscribers, who keep positions alive where they have some.
    fn held(&self) -> BTreeSet<String> {
        self.clients.iter().flat_map(|client| client.subscriptions.keys().cloned()).collect()
    }

    fn check_outlived(
        &self,
        channel: &str,
        (least, most): (Duration, Duration),
        before: &Value,
        after: &Value,
        is_held: bool,
    ) {
        let ((top_before, epoch_before), (top_after, epoch_after)) = (top(before), top(after));
        if !is_held && least >= self.scenario.meta_ttl_max(channel) + SLACK {
            assert_ne!(epoch_after, epoch_before, "{channel}: the epoch outlived its time");
            assert_eq!(top_after, 0, "{channel}: a new stream begins at 0");
        } else if most < self.scenario.meta_ttl_min(channel) {
            assert_eq!((top_after, epoch_after), (top_before, epoch_before), "{channel}: the position");
        }
        if least >= self.scenario.history_ttl_max(channel) + SLACK {
            assert!(read_history(after).is_empty(), "{channel}: publications outlived their time");
        }
    }
}
