//! Keys out of published sets that a shard has got, and those that it waits for.

use super::endpoint::KeySetAddress;
use super::public_key::PublicKey;
use crate::{Now, RequestId, Time};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Keys that a shard remembers; beyond it the oldest goes. Only keys that exist count, so that no token can drive others out.
const KNOWN_MAX: usize = 1024;

/// A key that a shard needs: for the control plane to find out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyQuestion {
    /// Where the set is.
    pub address: KeySetAddress,
    /// Which of its keys.
    pub kid: String,
}

/// What the control plane found.
#[derive(Clone, Debug)]
pub struct KeyAnswer {
    /// The question.
    pub question: Arc<KeyQuestion>,
    /// `None`: there is no such key, or nobody knows now.
    pub key: Option<Arc<PublicKey>>,
    /// How long the key may be used without asking again.
    pub valid_for: Duration,
}

/// Keys by address and id.
///
/// Bound: 1024 known keys; a question for each key that some waiting command needs, once however many wait.
#[derive(Debug)]
pub(crate) struct Keys {
    known: HashMap<Arc<KeyQuestion>, Known, FixedState>,
    /// Oldest first; what was forgotten or renewed meanwhile is recognised by its time.
    order: VecDeque<(Time, Arc<KeyQuestion>)>,
    /// Who waits for a key, in the order in which they began to.
    asked: HashMap<Arc<KeyQuestion>, VecDeque<RequestId>, FixedState>,
    questions: VecDeque<Arc<KeyQuestion>>,
}

#[derive(Debug)]
struct Known {
    key: Arc<PublicKey>,
    until: Time,
}

impl Keys {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let hasher = FixedState::with_seed(hash_seed);
        Keys {
            known: HashMap::with_hasher(hasher.clone()),
            order: VecDeque::new(),
            asked: HashMap::with_hasher(hasher),
            questions: VecDeque::new(),
        }
    }

    pub(super) fn get(&self, question: &KeyQuestion, now: Now) -> Option<&Arc<PublicKey>> {
        self.known.get(question).filter(|known| known.until > now.at).map(|known| &known.key)
    }

    /// Has the key asked for, unless it is already.
    pub(super) fn ask(&mut self, question: KeyQuestion, request: RequestId) {
        if let Some(waiting) = self.asked.get_mut(&question) {
            return waiting.push_back(request);
        }
        let question = Arc::new(question);
        self.asked.insert(question.clone(), VecDeque::from([request]));
        self.questions.push_back(question);
    }

    pub(super) fn take_question(&mut self) -> Option<Arc<KeyQuestion>> {
        self.questions.pop_front()
    }

    /// Notes an answer; gives back those that waited for it.
    pub(super) fn answer(&mut self, now: Now, answer: &KeyAnswer) -> VecDeque<RequestId> {
        if let Some(key) = &answer.key {
            let until = now.at + answer.valid_for;
            self.known.insert(answer.question.clone(), Known { key: key.clone(), until });
            self.order.push_back((until, answer.question.clone()));
            while self.order.len() > KNOWN_MAX {
                self.forget_oldest();
            }
        }
        self.asked.remove(&answer.question).unwrap_or_default()
    }

    fn forget_oldest(&mut self) {
        let Some((until, question)) = self.order.pop_front() else { return };
        if self.known.get(&question).is_some_and(|known| known.until == until) {
            self.known.remove(&question);
        }
    }

    /// Someone does not wait any more. Nobody left, the key is asked for again by the next who needs it.
    pub(super) fn give_up(&mut self, question: &KeyQuestion, request: RequestId) {
        let Some(waiting) = self.asked.get_mut(question) else { return };
        // All wait equally long: it is the first one.
        if waiting.front() == Some(&request) {
            waiting.pop_front();
        }
        if waiting.is_empty() {
            self.asked.remove(question);
        }
    }

    /// Forgets all keys, but not who waits.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
        self.order.clear();
    }
}
