//! The one timer wheel of a shard: many deadlines, most of them far, few of them exact.

use crate::{ConnectionId, Time};
use std::time::Duration;

/// Whose deadline it is. The owner knows what is due: an entry only says "ask it".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A client of this shard.
    Client(ConnectionId),
    /// A channel whose home is here.
    Channel {
        /// Place in the slab.
        index: u32,
        /// Use of that place.
        generation: u32,
    },
}

/// How late a timer may fire.
const TICK: Duration = Duration::from_millis(16);
const TICK_MICROS: u64 = TICK.as_micros() as u64;
/// Entries further away than this many ticks (32 s) are looked at on the way and put back.
const SLOTS: usize = 2048;
const WORDS: usize = SLOTS / 64;

/// Slots of ticks; an entry lies in the slot of its tick, or in the last slot of this round if it is due later.
#[derive(Debug)]
pub(crate) struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// A bit per slot that has entries: `next_timeout` is asked every turn and must not walk the slots.
    occupied: [u64; WORDS],
    /// The tick whose slot is looked at next.
    next_tick: u64,
    len: usize,
}

#[derive(Debug)]
struct Entry {
    due_tick: u64,
    timer: Timer,
}

impl Wheel {
    pub(crate) fn new(now: Time) -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Wheel { slots, occupied: [0; WORDS], next_tick: now.0 / TICK_MICROS, len: 0 }
    }

    /// Asks for `timer` to fire at `due` or up to two ticks later.
    pub(crate) fn insert(&mut self, due: Time, timer: Timer) {
        // Rounded up: firing early would make the owner arm again at once, in a loop.
        let due_tick = due.0.div_ceil(TICK_MICROS).max(self.next_tick);
        self.place(Entry { due_tick, timer });
        self.len += 1;
    }

    fn place(&mut self, entry: Entry) {
        let last_of_round = self.next_tick + SLOTS as u64 - 1;
        let slot = entry.due_tick.min(last_of_round) as usize % SLOTS;
        self.slots[slot].push(entry);
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Moves timers that are due at `now` to `fired`.
    pub(crate) fn advance(&mut self, now: Time, fired: &mut Vec<Timer>) {
        let now_tick = now.0 / TICK_MICROS;
        if self.len == 0 {
            self.next_tick = self.next_tick.max(now_tick + 1);
            return;
        }
        // After a long sleep one round sees every slot.
        let rounds_end = self.next_tick + SLOTS as u64;
        let mut passed = Vec::new();
        let mut tick = self.next_tick;
        while tick <= now_tick && tick < rounds_end {
            let slot = tick as usize % SLOTS;
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            // The slot's memory goes, too: a storm that passed through every slot would be kept for ever.
            passed.append(&mut std::mem::take(&mut self.slots[slot]));
            tick += 1;
        }
        self.next_tick = self.next_tick.max(now_tick + 1);
        // Put back only now: a place is counted from the tick that is next.
        for entry in passed {
            if entry.due_tick <= now_tick {
                self.len -= 1;
                fired.push(entry.timer);
            } else {
                self.place(entry);
            }
        }
    }

    /// When `advance` should be called next: at the next tick that may have something; `None` for an empty wheel.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        if self.len == 0 {
            return None;
        }
        let start = self.next_tick as usize % SLOTS;
        // The word of the start is looked at twice: first its later bits, at the end of the round its earlier ones.
        let later = self.occupied[start / 64] & (u64::MAX << (start % 64));
        let rest = (1..=WORDS).map(|i| self.occupied[(start / 64 + i) % WORDS]);
        let (word, bits) = std::iter::once(later).chain(rest).enumerate().find(|(_, bits)| *bits != 0)?;
        let slot = (start / 64 + word) % WORDS * 64 + bits.trailing_zeros() as usize;
        let ahead = (slot + SLOTS - start) % SLOTS;
        Some(Time((self.next_tick + ahead as u64) * TICK_MICROS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time(1_234_567_890);

    fn timer(slot: u32) -> Timer {
        Timer::Client(ConnectionId { slot, generation: 0 })
    }

    /// Asks for timers at these milliseconds after the start, sleeps until `wake`, then calls whenever the wheel wants to
    /// be called; wants every timer once, never early and at most two ticks late after the wake.
    #[track_caller]
    fn check(due: &[u64], wake: u64) {
        let mut wheel = Wheel::new(START);
        let at = |ms: u64| START + Duration::from_millis(ms);
        for (slot, ms) in due.iter().enumerate() {
            wheel.insert(at(*ms), timer(slot as u32));
        }
        let (mut now, mut fired) = (at(wake), Vec::new());
        let mut seen = vec![0; due.len()];
        loop {
            wheel.advance(now, &mut fired);
            for timer in fired.drain(..) {
                let Timer::Client(connection) = timer else { panic!("{timer:?}") };
                let slot = connection.slot as usize;
                seen[slot] += 1;
                let due = at(due[slot]);
                assert!(due <= now, "{}: early", slot);
                assert!(now <= due.max(at(wake)) + 2 * TICK, "{slot}: {:?} late", now - due);
            }
            let Some(next) = wheel.next_timeout() else { break };
            assert!(next > now, "{next:?} is not after {now:?}");
            now = next;
        }
        assert!(seen.iter().all(|count| *count == 1), "{seen:?}");
    }

    #[test]
    fn timer_fires_once_not_early_and_two_ticks_late_at_most() {
        check(&[0, 1, 15, 16, 17, 31, 32, 33, 1000, 25_000], 0);
    }

    #[test]
    fn deadline_beyond_the_round_is_looked_at_on_the_way_and_kept() {
        check(&[32_000, 32_768, 33_000, 100_000, 3_600_000, 720 * 3_600_000], 0);
    }

    #[test]
    fn timers_keep_their_time_after_a_sleep_longer_than_the_round() {
        check(&[10, 30_000, 40_000, 81_000, 85_000, 200_000], 80_000);
        check(&[33_000, 34_000, 70_000], 32_900);
    }

    #[test]
    fn empty_wheel_that_was_not_called_for_long_keeps_the_time_of_its_first_timer() {
        let mut wheel = Wheel::new(START);
        let now = START + Duration::from_secs(600);
        let due = now + Duration::from_secs(10);
        wheel.insert(due, timer(1));
        let mut fired = Vec::new();
        wheel.advance(now, &mut fired);
        assert!(fired.is_empty());
        let next = wheel.next_timeout().expect("a timer waits");
        assert!(due <= next && next <= due + 2 * TICK, "{next:?} for {due:?}");
    }

    #[test]
    fn deadline_in_the_past_fires_at_the_next_call() {
        let mut wheel = Wheel::new(START);
        wheel.insert(Time(0), timer(1));
        let (mut fired, next) = (Vec::new(), wheel.next_timeout().expect("a timer waits"));
        assert!(next <= START + TICK);
        wheel.advance(START, &mut fired);
        assert_eq!(fired, [timer(1)]);
    }

    #[test]
    fn empty_wheel_wants_no_call() {
        let mut wheel = Wheel::new(START);
        assert_eq!(wheel.next_timeout(), None);
        wheel.insert(START, timer(1));
        wheel.advance(START + TICK, &mut Vec::new());
        assert_eq!(wheel.next_timeout(), None);
    }
}
