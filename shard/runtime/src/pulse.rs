//! Whether the shards are alive: each answers a question from within its turn, so one that hangs stays silent.
//!
//! Nothing is counted per turn. A question costs a shard one message and, if it sleeps, one wake.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::pool::{Control, Line};

/// Asks all shards and remembers who has not answered.
pub struct Pulse {
    line: Line,
    /// Shards that still owe an answer to the last question.
    silent: Arc<AtomicUsize>,
}

/// One question to one shard.
pub(crate) struct Beat {
    silent: Arc<AtomicUsize>,
}

impl Pulse {
    pub(crate) fn new(line: Line) -> Self {
        Self { line, silent: Arc::default() }
    }

    /// Whether every shard has made a turn since the last question; the first time nobody was asked, and true is the
    /// answer. If so, asks again. Never waits, and no shard has more than one question before it.
    pub fn beat(&mut self) -> bool {
        if self.silent.load(Ordering::Relaxed) > 0 {
            return false;
        }
        self.silent.store(self.line.shards(), Ordering::Relaxed);
        self.line.tell_all(|| Control::Beat(Beat { silent: self.silent.clone() }));
        true
    }
}

impl Beat {
    /// On the shard.
    pub fn answer(self) {
        self.silent.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;
    use crate::ring::Doorbell;
    use crate::uring::WakeHandle;

    #[test]
    fn a_shard_that_does_not_turn_is_noticed_and_asked_once() {
        let (senders, shards): (Vec<_>, Vec<_>) = (0..2).map(|_| unbounded()).unzip();
        let bells = (0..2).map(|_| Doorbell::new(WakeHandle::new().unwrap()));
        let mut pulse = Pulse::new(Line::new(senders.into_iter().zip(bells)));
        let answer = |shard: usize| match shards[shard].try_recv() {
            Ok(Control::Beat(beat)) => beat.answer(),
            Ok(_) | Err(_) => panic!("shard {shard} was not asked"),
        };

        assert!(pulse.beat());
        assert!(!pulse.beat());
        answer(0);
        assert!(!pulse.beat());
        answer(1);
        assert!(pulse.beat());
        assert_eq!(shards.iter().map(|shard| shard.len()).collect::<Vec<_>>(), [1, 1]);
    }
}
