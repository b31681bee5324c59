//! Calls of the server API that threads of the control plane make: decoded requests go to the shards, their outcomes come back.
//! Both travel in batches, because waking a thread costs more than a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringcast_proto::api::{ApiResult, Request};
use ringcast_proto::codes::ApiError;
use ringcast_state::metrics::ApiProtocol;
use ringcast_state::{Compass, Now, Shard, ShardId};
use slab::Slab;

use crate::pool::{Control, Line};

/// What came of a call.
pub type Outcome = Result<ApiResult, ApiError>;

/// What came of some calls, by the numbers that their caller gave them.
pub type Outcomes = Vec<(usize, Outcome)>;

/// Who makes calls.
pub trait Caller: Send + Sync {
    /// Takes what came of some calls. Each call has one outcome, and none only when the shards end before. Called on
    /// the thread of a shard: must not wait.
    fn take(&self, outcomes: Outcomes);
}

/// Makes calls, from any thread.
#[derive(Clone)]
pub struct CallLine {
    line: Line,
    compass: Compass,
    protocol: ApiProtocol,
    /// Counts those that any shard can serve as well.
    next: Arc<AtomicUsize>,
}

/// Calls of one caller that go to the shards together.
pub struct CallBatch {
    line: CallLine,
    caller: Arc<dyn Caller>,
    /// For each shard.
    calls: Vec<Vec<Call>>,
}

/// The number that its caller gave it, and what is asked.
type Call = (usize, Request);

/// A part of a batch, on its way to a shard.
pub(crate) struct Handover {
    caller: Arc<dyn Caller>,
    protocol: ApiProtocol,
    calls: Vec<Call>,
}

impl CallLine {
    pub(crate) fn new(line: Line, compass: Compass, protocol: ApiProtocol) -> Self {
        Self { line, compass, protocol, next: Arc::default() }
    }

    /// An empty batch.
    pub fn batch(&self, caller: Arc<dyn Caller>) -> CallBatch {
        CallBatch { line: self.clone(), caller, calls: (0..self.line.shards()).map(|_| Vec::new()).collect() }
    }

    fn next_shard(&self) -> ShardId {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.line.shards();
        ShardId(u16::try_from(next).expect("fewer shards than 65536"))
    }
}

impl CallBatch {
    /// Adds a request, for the home of its channel or user, which needs no other shard to serve it; else for each shard in turn.
    ///
    /// Bound the number of calls without an outcome. A call ends within the time limit of questions between shards, 1 s, for each
    /// request in it.
    pub fn add(&mut self, number: usize, request: Request) {
        let home = request.home_name().map(|name| self.line.compass.home(name));
        let shard = home.unwrap_or_else(|| self.line.next_shard());
        self.calls[shard.index()].push((number, request));
    }

    /// Sends what was added since the last time: one message, and one wake, for each shard.
    pub fn send(&mut self) {
        for (shard, calls) in self.calls.iter_mut().enumerate().filter(|(_, calls)| !calls.is_empty()) {
            let (caller, protocol) = (self.caller.clone(), self.line.protocol);
            let handover = Handover { caller, protocol, calls: std::mem::take(calls) };
            let shard = ShardId(u16::try_from(shard).expect("fewer shards than 65536"));
            self.line.line.tell(shard, Control::Calls(handover));
        }
    }
}

/// The calls that a shard serves. Bound: those who call.
#[derive(Default)]
pub(crate) struct Calls {
    waiting: Slab<(usize, Arc<dyn Caller>)>,
    /// Of this turn. Callers are few: one for each of their threads.
    outcomes: Vec<(Arc<dyn Caller>, Outcomes)>,
}

impl Calls {
    pub fn handle(&mut self, now: Now, shard: &mut Shard, handover: Handover) {
        let Handover { caller, protocol, calls } = handover;
        for (number, request) in calls {
            let place = self.waiting.insert((number, caller.clone()));
            shard.handle_request(now, place, protocol, request);
        }
    }

    /// Hands back what is done.
    pub fn answer(&mut self, shard: &mut Shard) {
        while let Some((place, outcome)) = shard.take_outcome() {
            let (number, caller) = self.waiting.remove(place);
            match self.outcomes.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &caller)) {
                Some((_, outcomes)) => outcomes.push((number, outcome)),
                None => self.outcomes.push((caller, vec![(number, outcome)])),
            }
        }
        self.outcomes.drain(..).for_each(|(caller, outcomes)| caller.take(outcomes));
    }
}
