//! Signature checks: quick ones within the turn, as many as its time allows; slow ones on helper threads.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ringcast_state::auth::SignatureCheck;
use ringcast_state::{Now, Shard, ShardId};

use crate::pool::{Control, Line};

/// Time of one turn that signature checks may take. The one that passes it is finished: a third of a millisecond at most.
const BUDGET: Duration = Duration::from_micros(400);

/// Slow checks that a shard has out at a time; more wait in the shard.
const SLOW_MAX: usize = 32;

/// Helper threads at most.
const HELPERS_MAX: usize = 16;

/// How much the helpers stand back behind the shards, with which they share the cores.
const NICENESS: i32 = 10;

/// A slow check, and whose it is.
pub(crate) struct SlowCheck {
    shard: ShardId,
    check: SignatureCheck,
}

/// One shard's access to the helpers.
pub(crate) struct Checks {
    shard: ShardId,
    /// Never full: there is room for `SLOW_MAX` checks of each shard.
    slow: Sender<SlowCheck>,
    /// Slow checks that are not back yet.
    out: usize,
}

impl Checks {
    pub fn new(shard: ShardId, slow: Sender<SlowCheck>) -> Self {
        Self { shard, slow, out: 0 }
    }

    /// Makes checks until there are none or the time is used up; at least one, so that all get done. Returns how many were made or
    /// handed out.
    pub fn run(&mut self, now: Now, state: &mut Shard) -> usize {
        let mut done = self.hand_out(state);
        let mut start = None;
        while let Some(check) = state.take_signature_check() {
            let start = *start.get_or_insert_with(Instant::now);
            state.handle_signature(now, check.request, check.run());
            done += 1;
            if start.elapsed() >= BUDGET {
                break;
            }
        }
        done
    }

    fn hand_out(&mut self, state: &mut Shard) -> usize {
        let before = self.out;
        while self.out < SLOW_MAX
            && let Some(check) = state.take_slow_signature_check()
        {
            let sent = self.slow.try_send(SlowCheck { shard: self.shard, check });
            assert!(sent.is_ok(), "the helpers live as long as a shard, and have room for it");
            self.out += 1;
        }
        self.out - before
    }

    /// A slow check is back.
    pub fn returned(&mut self) {
        self.out -= 1;
    }
}

/// Where shards hand slow checks to; the helpers take them from the other end.
pub(crate) fn channel(shards: usize) -> (Sender<SlowCheck>, Receiver<SlowCheck>) {
    bounded(shards * SLOW_MAX)
}

/// Starts the helpers. They end when no shard is left.
///
/// As many as shards: a storm of connects with ES384 or ES512 tokens takes 0.8 or 1.3 ms each, and may use all cores as far as
/// the shards leave them.
pub(crate) fn start_helpers(checks: &Receiver<SlowCheck>, line: &Line) -> io::Result<()> {
    for helper in 0..line.shards().min(HELPERS_MAX) {
        let (checks, line) = (checks.clone(), line.clone());
        thread::Builder::new().name(format!("tokens-{helper}")).spawn(move || {
            // On Linux this is a matter of the thread. If it may not, the helper is merely less polite.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            for SlowCheck { shard, check } in checks {
                line.tell(shard, Control::Signature { request: check.request, is_right: check.run() });
            }
        })?;
    }
    Ok(())
}
