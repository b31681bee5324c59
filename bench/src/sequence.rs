//! Decides whether what one subscriber receives of one publisher is complete, single and in order.

/// Deliveries that come late are told from duplicates as far back as this.
const MEMORY: u32 = u64::BITS;

/// Place of one subscriber in the sequence of one publisher.
#[derive(Debug, Clone, Copy)]
pub struct Sequence {
    /// First number not seen yet, or the bound of the first one while `joining`.
    next: u32,
    /// Bit `i`: number `next - 1 - i` was seen.
    seen: u64,
    /// Nothing was received yet, and the first number may be any up to `next`.
    joining: bool,
}

/// Judgement on one delivery.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The one that was expected.
    InOrder,
    /// So many before it are missing; some may still come, each as [`Verdict::Late`].
    Gap { missing: u32 },
    /// Was counted as missing before, comes after a later one.
    Late,
    /// Was seen before. Also one that is late by more than 64 places: it cannot be told from a duplicate any more.
    Duplicate,
}

impl Sequence {
    /// For a subscriber that must receive everything from `next` on.
    pub fn starting_at(next: u32) -> Self {
        Self { next, seen: u64::MAX, joining: false }
    }

    /// For a subscriber that came while publications were under way: `unsent` was not yet sent when its subscription was
    /// confirmed, so that one must come; those before it may.
    pub fn joining(unsent: u32) -> Self {
        Self { joining: true, ..Self::starting_at(unsent) }
    }

    /// Takes note of a delivery.
    pub fn observe(&mut self, sequence: u32) -> Verdict {
        if self.joining {
            self.joining = false;
            self.next = self.next.min(sequence);
        }
        if sequence < self.next {
            return self.observe_earlier(sequence);
        }
        let missing = sequence - self.next;
        self.seen = self.seen.checked_shl(missing.saturating_add(1)).unwrap_or(0) | 1;
        // A server that invents numbers is caught by the sequence, not by an overflow.
        self.next = sequence.saturating_add(1);
        match missing {
            0 => Verdict::InOrder,
            missing => Verdict::Gap { missing },
        }
    }

    /// First number not seen yet.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// How many are missing if everything below `end` should have come by now, beyond the gaps already told.
    pub fn missing_until(&self, end: u32) -> u32 {
        end.saturating_sub(self.next)
    }

    fn observe_earlier(&mut self, sequence: u32) -> Verdict {
        let distance = self.next - 1 - sequence;
        let bit = if distance < MEMORY { 1 << distance } else { 0 };
        if bit == 0 || self.seen & bit != 0 {
            return Verdict::Duplicate;
        }
        self.seen |= bit;
        Verdict::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Duplicate, Gap, InOrder, Late};

    #[track_caller]
    fn check(mut sequence: Sequence, deliveries: &[(u32, Verdict)]) {
        for (number, want) in deliveries {
            assert_eq!(sequence.observe(*number), *want, "{number}");
        }
    }

    #[test]
    fn complete_sequence_is_in_order() {
        check(Sequence::starting_at(5), &[(5, InOrder), (6, InOrder), (7, InOrder)]);
    }

    #[test]
    fn gap_tells_how_many_are_missing() {
        check(Sequence::starting_at(0), &[(3, Gap { missing: 3 }), (4, InOrder)]);
    }

    #[test]
    fn delivery_after_a_later_one_is_late_once() {
        check(
            Sequence::starting_at(0),
            &[(0, InOrder), (2, Gap { missing: 1 }), (1, Late), (1, Duplicate), (3, InOrder)],
        );
    }

    #[test]
    fn second_delivery_is_a_duplicate() {
        check(Sequence::starting_at(0), &[(0, InOrder), (0, Duplicate), (1, InOrder), (0, Duplicate)]);
    }

    #[test]
    fn delivery_from_before_the_start_is_a_duplicate() {
        check(Sequence::starting_at(9), &[(8, Duplicate), (9, InOrder)]);
    }

    #[test]
    fn memory_ends_after_64_places() {
        check(Sequence::starting_at(0), &[(64, Gap { missing: 64 }), (1, Late), (0, Duplicate)]);
        check(Sequence::starting_at(0), &[(1000, Gap { missing: 1000 }), (936, Duplicate), (937, Late)]);
    }

    #[test]
    fn joining_subscriber_may_see_what_was_under_way() {
        check(Sequence::joining(10), &[(7, InOrder), (8, InOrder), (6, Duplicate)]);
        check(Sequence::joining(10), &[(10, InOrder), (11, InOrder)]);
    }

    #[test]
    fn joining_subscriber_must_see_what_was_sent_afterwards() {
        check(Sequence::joining(10), &[(12, Gap { missing: 2 }), (10, Late), (11, Late)]);
    }

    #[test]
    fn greatest_number_is_no_overflow() {
        check(Sequence::starting_at(0), &[(u32::MAX, Gap { missing: u32::MAX }), (u32::MAX, InOrder)]);
    }

    #[test]
    fn missing_end_is_seen() {
        let mut sequence = Sequence::starting_at(0);
        sequence.observe(0);
        assert_eq!(sequence.missing_until(1), 0);
        assert_eq!(sequence.missing_until(4), 3);
        assert_eq!(Sequence::joining(10).missing_until(10), 0);
        assert_eq!(Sequence::joining(10).missing_until(12), 2);
    }
}
