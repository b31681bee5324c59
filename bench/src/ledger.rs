//! Accounts for every delivery: each subscriber's place in each publisher's sequence, and what went wrong.

use std::ops::AddAssign;
use std::time::Duration;

use crate::payload::Stamp;
use crate::sequence::{Sequence, Verdict};

/// Counts of one run. Everything but `delivered` should be zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Publications received, all subscribers together.
    pub delivered: u64,
    /// Publications that a subscriber should have received and did not.
    pub lost: u64,
    /// Publications that a subscriber received more than once.
    pub duplicated: u64,
    /// Publications that came after a later one of their publisher, and subscribers that saw the publishers interleaved in
    /// another order than the rest.
    pub reordered: u64,
    /// Payloads that were cut or changed on the way, or came to somebody else.
    pub corrupted: u64,
    /// Publications that came, but later than the patience allows.
    pub late: u64,
}

impl Tally {
    /// Whether every delivery came once, whole and in order.
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.corrupted + self.late == 0
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.late += other.late;
    }
}

/// The order in which a subscriber received, all publishers together.
#[derive(Clone, Copy, Default)]
struct Order {
    /// Equal for all that received the same in the same order.
    hash: u64,
    /// Something was lost, duplicated or late: that is counted as such, and the hash says nothing any more.
    disturbed: bool,
}

/// Places of all subscribers. A subscriber is known by the index of its connection.
pub struct Ledger {
    publishers: usize,
    /// One row of `publishers` places per subscriber.
    places: Vec<Sequence>,
    orders: Vec<Order>,
    tally: Tally,
    patience_ns: u64,
}

impl Ledger {
    /// For `publishers` sequences per subscriber; what takes longer than `patience` is late.
    pub fn new(publishers: usize, patience: Duration) -> Self {
        let patience_ns = patience.as_nanos() as u64;
        Self { publishers, places: Vec::new(), orders: Vec::new(), tally: Tally::default(), patience_ns }
    }

    /// Opens the row of a subscriber; `place` gives its start in each publisher's sequence.
    pub fn open(&mut self, subscriber: usize, place: impl Fn(usize) -> Sequence) {
        let from = subscriber * self.publishers;
        let to = from + self.publishers;
        if self.places.len() < to {
            self.places.resize(to, Sequence::starting_at(0));
            self.orders.resize(subscriber + 1, Order::default());
        }
        for (publisher, slot) in self.places[from..to].iter_mut().enumerate() {
            *slot = place(publisher);
        }
        self.orders[subscriber] = Order::default();
    }

    /// Takes note of a delivery at `at_ns`, counted as the stamp counts. A publisher that does not exist counts as corrupted.
    pub fn observe(&mut self, subscriber: usize, stamp: Stamp, at_ns: u64) {
        let publisher = usize::from(stamp.publisher);
        if publisher >= self.publishers {
            self.tally.corrupted += 1;
            return;
        }
        self.tally.delivered += 1;
        self.tally.late += u64::from(at_ns.saturating_sub(stamp.sent_ns) > self.patience_ns);
        let order = &mut self.orders[subscriber];
        order.hash = chain(order.hash, stamp);
        let verdict = self.places[subscriber * self.publishers + publisher].observe(stamp.sequence);
        order.disturbed |= verdict != Verdict::InOrder;
        match verdict {
            Verdict::InOrder => {}
            Verdict::Gap { missing } => self.tally.lost += u64::from(missing),
            Verdict::Late => {
                self.tally.lost -= 1;
                self.tally.reordered += 1;
            }
            Verdict::Duplicate => self.tally.duplicated += 1,
        }
    }

    /// Takes note of a damaged payload.
    pub fn observe_corrupt(&mut self) {
        self.tally.corrupted += 1;
    }

    /// Whether a subscriber has everything below `ends`, one bound per publisher.
    pub fn is_complete(&self, subscriber: usize, ends: impl Iterator<Item = u32>) -> bool {
        self.missing(subscriber, ends) == 0
    }

    /// Number after the greatest that a subscriber has seen of a publisher; what is missing before it is counted already.
    pub fn next(&self, subscriber: usize, publisher: usize) -> u32 {
        self.places[subscriber * self.publishers + publisher].next()
    }

    /// Counts as lost what a subscriber lacks below `ends`. Call once, when nothing more is awaited.
    pub fn close(&mut self, subscriber: usize, ends: impl Iterator<Item = u32>) {
        let missing = self.missing(subscriber, ends);
        self.tally.lost += missing;
        self.orders[subscriber].disturbed |= missing > 0;
    }

    /// Compares the orders of subscribers that received the same publications since they were opened.
    pub fn compare_orders(&mut self, subscribers: impl Iterator<Item = usize>) {
        let mut orders = subscribers.map(|subscriber| self.orders[subscriber]).filter(|order| !order.disturbed);
        if let Some(first) = orders.next() {
            let differing = orders.filter(|other| other.hash != first.hash);
            self.tally.reordered += differing.count() as u64;
        }
    }

    /// The counts so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn missing(&self, subscriber: usize, ends: impl Iterator<Item = u32>) -> u64 {
        let places = &self.places[subscriber * self.publishers..];
        ends.zip(places).map(|(end, place)| u64::from(place.missing_until(end))).sum()
    }
}

/// FNV-1a over publisher and sequence as one word; only equality counts.
fn chain(order: u64, stamp: Stamp) -> u64 {
    let word = u64::from(stamp.publisher) << 32 | u64::from(stamp.sequence);
    (order ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delivers (subscriber, publisher, sequence) to two subscribers of two publishers of which each published two.
    #[track_caller]
    fn check(deliveries: &[(usize, u16, u32)], want: Tally) {
        let mut ledger = Ledger::new(2, Duration::from_nanos(9));
        for subscriber in 0..2 {
            ledger.open(subscriber, |_| Sequence::starting_at(0));
        }
        for (subscriber, publisher, sequence) in deliveries {
            let stamp = Stamp { publisher: *publisher, sequence: *sequence, sent_ns: 0 };
            ledger.observe(*subscriber, stamp, 9);
        }
        for subscriber in 0..2 {
            ledger.close(subscriber, [2, 2].into_iter());
        }
        ledger.compare_orders(0..2);
        assert_eq!(ledger.tally(), want);
    }

    const WHOLE: [(usize, u16, u32); 8] =
        [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 1, 0), (1, 1, 1), (1, 0, 1), (0, 0, 1)];

    fn delivered(delivered: u64) -> Tally {
        Tally { delivered, ..Tally::default() }
    }

    #[test]
    fn same_order_for_all_is_clean() {
        check(&WHOLE, delivered(8));
        assert!(delivered(8).is_clean());
    }

    #[test]
    fn missing_end_is_lost() {
        let want = Tally { lost: 1, ..delivered(7) };
        check(&WHOLE[..7], want);
        assert!(!want.is_clean());
    }

    #[test]
    fn second_copy_is_duplicated() {
        let mut deliveries = WHOLE.to_vec();
        deliveries.extend([(0, 0, 1), (1, 1, 0)]);
        let want = Tally { duplicated: 2, ..delivered(10) };
        check(&deliveries, want);
    }

    #[test]
    fn swapped_publications_of_a_publisher_are_reordered() {
        let mut deliveries = WHOLE.to_vec();
        deliveries.swap(1, 3);
        let want = Tally { reordered: 1, ..delivered(8) };
        check(&deliveries, want);
    }

    #[test]
    fn subscribers_that_disagree_on_the_interleaving_are_reordered() {
        let mut deliveries = WHOLE.to_vec();
        deliveries.swap(0, 1);
        let want = Tally { reordered: 1, ..delivered(8) };
        check(&deliveries, want);
    }

    #[test]
    fn unknown_publisher_is_corrupted() {
        let mut deliveries = WHOLE.to_vec();
        deliveries.push((0, 2, 0));
        let want = Tally { corrupted: 1, ..delivered(8) };
        check(&deliveries, want);
    }

    #[test]
    fn what_takes_longer_than_the_patience_is_late() {
        let mut ledger = Ledger::new(1, Duration::from_nanos(9));
        ledger.open(0, |_| Sequence::starting_at(0));
        for (sequence, at_ns) in [(0, 109), (1, 110), (2, 99)] {
            ledger.observe(0, Stamp { publisher: 0, sequence, sent_ns: 100 }, at_ns);
        }
        assert_eq!(ledger.tally(), Tally { late: 1, ..delivered(3) });
        assert!(!ledger.tally().is_clean());
    }

    #[test]
    fn reopened_row_starts_anew() {
        let mut ledger = Ledger::new(1, Duration::from_nanos(9));
        ledger.open(0, |_| Sequence::starting_at(0));
        ledger.open(0, |_| Sequence::joining(7));
        assert!(ledger.is_complete(0, [7].into_iter()));
        assert!(!ledger.is_complete(0, [8].into_iter()));
    }
}
