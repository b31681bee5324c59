//! The calls that one thread has made and that have no outcome yet. They go to the shards in batches, and come back in batches.

use ringcast_proto::api::Request;
use ringcast_runtime::{CallBatch, CallLine, Caller, Outcome, Outcomes};
use slab::Slab;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// Makes calls on one thread.
pub struct Calls {
    state: Mutex<State>,
}

struct State {
    batch: CallBatch,
    /// The batch leaves once the tasks that can run have run.
    is_leaving: bool,
    /// Who waits for an outcome, by its number. Bound: the budget of requests.
    waiting: Slab<oneshot::Sender<Outcome>>,
    has_ended: bool,
}

/// Gets the outcomes. Unbounded, as there are no more than calls.
struct Answers(mpsc::UnboundedSender<Outcomes>);

impl Caller for Answers {
    fn take(&self, outcomes: Outcomes) {
        // Who has gone need not know.
        let _ = self.0.send(outcomes);
    }
}

impl Calls {
    /// Makes calls over `line` from the thread that runs `runtime`.
    pub fn new(line: &CallLine, runtime: &Handle) -> Arc<Self> {
        let (sender, mut outcomes) = mpsc::unbounded_channel();
        let batch = line.batch(Arc::new(Answers(sender)));
        let state = State { batch, is_leaving: false, waiting: Slab::new(), has_ended: false };
        let calls = Arc::new(Self { state: Mutex::new(state) });
        let own = calls.clone();
        runtime.spawn(async move {
            while let Some(outcomes) = outcomes.recv().await {
                own.lock().answer(outcomes);
            }
        });
        calls
    }

    /// What comes of a call; none if the shards end before.
    pub async fn call(self: &Arc<Self>, request: Request) -> Option<Outcome> {
        self.begin(request)?.await.ok()
    }

    fn begin(self: &Arc<Self>, request: Request) -> Option<oneshot::Receiver<Outcome>> {
        let (sender, outcome) = oneshot::channel();
        let mut state = self.lock();
        if state.has_ended {
            return None;
        }
        let number = state.waiting.insert(sender);
        state.batch.add(number, request);
        if !std::mem::replace(&mut state.is_leaving, true) {
            let own = self.clone();
            // Its turn comes after that of the tasks that wait already, which is those of the requests that came together.
            tokio::spawn(async move { own.lock().send() });
        }
        Some(outcome)
    }

    /// The shards have ended: nothing has an outcome any more.
    pub fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        state.waiting = Slab::new();
    }

    /// Nothing in here panics, so that nothing is half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send(&mut self) {
        self.is_leaving = false;
        self.batch.send();
    }

    fn answer(&mut self, outcomes: Outcomes) {
        for (number, outcome) in outcomes {
            if let Some(waiting) = self.waiting.try_remove(number) {
                // Who has gone need not know.
                let _ = waiting.send(outcome);
            }
        }
    }
}
