//! Questions that this shard asked others, and who waits for the answers.

use crate::sparse::GiveBack;
use crate::{RequestId, Time};
use slab::Slab;
use std::collections::VecDeque;

/// Waiting questions. Each ends with an answer or with its deadline, whichever comes first; what comes later for it is
/// recognised and dropped.
///
/// Bound: a client has `client.concurrency` of them, an API call one for each channel it names, and each lives for
/// `Limits::request_timeout` at most.
#[derive(Debug)]
pub(crate) struct Pending<W> {
    waiting: Slab<Entry<W>>,
    /// Ascending, for all wait equally long; entries that were answered are dropped when they come to the front.
    deadlines: VecDeque<(Time, RequestId)>,
    generation: u32,
}

#[derive(Debug)]
struct Entry<W> {
    generation: u32,
    waiter: W,
}

impl<W> Pending<W> {
    pub(crate) fn new() -> Self {
        Pending { waiting: Slab::new(), deadlines: VecDeque::new(), generation: 0 }
    }

    pub(crate) fn insert(&mut self, waiter: W, deadline: Time) -> RequestId {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let slot = self.waiting.insert(Entry { generation, waiter }) as u32;
        let request = RequestId { slot, generation };
        self.deadlines.push_back((deadline, request));
        request
    }

    pub(crate) fn get_mut(&mut self, request: RequestId) -> Option<&mut W> {
        let entry = self.waiting.get_mut(request.slot as usize)?;
        Some(entry).filter(|entry| entry.generation == request.generation).map(|entry| &mut entry.waiter)
    }

    /// The first wait of this kind, among all.
    pub(crate) fn find(&self, is_it: impl Fn(&W) -> bool) -> Option<RequestId> {
        let (slot, entry) = self.waiting.iter().find(|(_, entry)| is_it(&entry.waiter))?;
        Some(RequestId { slot: slot as u32, generation: entry.generation })
    }

    /// Ends the wait; `None` when it was over already.
    pub(crate) fn take(&mut self, request: RequestId) -> Option<W> {
        self.get_mut(request)?;
        let waiter = self.waiting.remove(request.slot as usize).waiter;
        self.drop_answered();
        self.give_back();
        Some(waiter)
    }

    /// All that wait.
    pub(crate) fn requests(&self) -> Vec<RequestId> {
        let entries = self.waiting.iter();
        entries.map(|(slot, entry)| RequestId { slot: slot as u32, generation: entry.generation }).collect()
    }

    /// A wait whose time is over.
    pub(crate) fn take_overdue(&mut self, now: Time) -> Option<(RequestId, W)> {
        self.drop_answered();
        let (deadline, request) = *self.deadlines.front()?;
        // Past the deadline, not at it: a home still serves a request at its deadline.
        if deadline >= now { None } else { self.take(request).map(|waiter| (request, waiter)) }
    }

    /// When `take_overdue` has something to give.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.deadlines.front().map(|(deadline, _)| Time(deadline.0 + 1))
    }

    fn drop_answered(&mut self) {
        while let Some((_, request)) = self.deadlines.front().copied()
            && self.get_mut(request).is_none()
        {
            self.deadlines.pop_front();
        }
    }

    /// After a storm; what a busy shard uses turn after turn is kept.
    fn give_back(&mut self) {
        const CAPACITY_KEPT: usize = 4096;
        if self.waiting.is_empty() && self.waiting.capacity() > CAPACITY_KEPT {
            self.waiting.shrink_to_fit();
            self.deadlines.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overdue(pending: &mut Pending<char>, now: u64) -> Vec<char> {
        std::iter::from_fn(|| pending.take_overdue(Time(now))).map(|(_, waiter)| waiter).collect()
    }

    #[test]
    fn wait_ends_once() {
        let mut pending = Pending::new();
        let request = pending.insert('a', Time(10));
        assert_eq!(pending.take(request), Some('a'));
        assert_eq!(pending.take(request), None);
        assert_eq!(pending.next_timeout(), None);
    }

    #[test]
    fn answer_for_an_earlier_use_of_the_place_is_dropped() {
        let mut pending = Pending::new();
        let stale = pending.insert('a', Time(10));
        pending.take(stale);
        let request = pending.insert('b', Time(11));
        assert_eq!(stale.slot, request.slot);
        assert_eq!(pending.take(stale), None);
        assert_eq!(pending.get_mut(stale), None);
        assert_eq!(pending.take(request), Some('b'));
    }

    #[test]
    fn wait_is_over_past_its_deadline_and_not_at_it() {
        let mut pending = Pending::new();
        pending.insert('a', Time(10));
        assert_eq!(overdue(&mut pending, 10), []);
        assert_eq!(pending.next_timeout(), Some(Time(11)));
        assert_eq!(overdue(&mut pending, 11), ['a']);
    }

    #[test]
    fn overdue_waits_come_oldest_first_without_those_that_were_answered() {
        let mut pending = Pending::new();
        let requests = ['a', 'b', 'c', 'd'].map(|waiter| pending.insert(waiter, Time(u64::from(waiter as u32))));
        pending.take(requests[1]);
        assert_eq!(overdue(&mut pending, u64::from('c' as u32) + 1), ['a', 'c']);
        assert_eq!(pending.take(requests[0]), None);
        assert_eq!(pending.take(requests[3]), Some('d'));
        assert_eq!(pending.next_timeout(), None);
    }
}
