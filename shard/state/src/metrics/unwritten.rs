//! What happened in this turn and is only over once its bytes are in the kernel's hands: then its durations are recorded.

use super::{ApiProtocol, FrameType, Metrics};
use crate::Time;
use ringcast_proto::api::Method;

/// Entries that wait at most; one more, and all are recorded as of then. A shard that runs is told of its writes every turn.
const ENTRIES_MAX: usize = 4096;

/// The list of a turn: one entry per publication fanned out here, command and API call, and none per subscriber.
#[derive(Debug, Default)]
pub(crate) struct Unwritten(Vec<Entry>);

#[derive(Clone, Copy, Debug)]
enum Entry {
    /// A publication was queued for its subscribers here.
    FanOut { accepted_at: Time, delivered_at: Time, deliveries: u32 },
    /// A command was answered.
    Command { frame: FrameType, began_at: Time },
    /// A request of the server API was answered.
    Call { protocol: ApiProtocol, method: Method, began_at: Time },
}

impl Unwritten {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn fan_out(&mut self, metrics: &mut Metrics, accepted_at: Time, now: Time, deliveries: u32) {
        self.push(metrics, now, Entry::FanOut { accepted_at, delivered_at: now, deliveries });
    }

    pub(crate) fn command(&mut self, metrics: &mut Metrics, frame: FrameType, began_at: Time, now: Time) {
        self.push(metrics, now, Entry::Command { frame, began_at });
    }

    pub(crate) fn call(&mut self, metrics: &mut Metrics, call: (ApiProtocol, Method), began_at: Time, now: Time) {
        let (protocol, method) = call;
        self.push(metrics, now, Entry::Call { protocol, method, began_at });
    }

    fn push(&mut self, metrics: &mut Metrics, now: Time, entry: Entry) {
        if self.0.len() == ENTRIES_MAX {
            self.written(metrics, now);
        }
        self.0.push(entry);
    }

    /// Everything was handed over at `at`.
    pub(crate) fn written(&mut self, metrics: &mut Metrics, at: Time) {
        for entry in self.0.drain(..) {
            match entry {
                Entry::FanOut { accepted_at, delivered_at, deliveries } => {
                    metrics.publish_to_write.record_n(micros(accepted_at, at), deliveries.into());
                    metrics.shard_to_socket.record(micros(delivered_at, at));
                }
                Entry::Command { frame, began_at } => metrics.commands[frame as usize].record(micros(began_at, at)),
                Entry::Call { protocol, method, began_at } => {
                    metrics.api_calls[Metrics::call(protocol, method)].record(micros(began_at, at));
                }
            }
        }
    }
}

/// From one moment to another; 0 when they are the wrong way round.
pub(crate) fn micros(from: Time, to: Time) -> u64 {
    to.0.saturating_sub(from.0)
}
