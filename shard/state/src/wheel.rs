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
        while self.next_tick <= now_tick && self.next_tick < rounds_end {
            let tick = self.next_tick;
            let slot = tick as usize % SLOTS;
            let entries = std::mem::take(&mut self.slots[slot]);
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            self.next_tick += 1;
            for entry in entries {
                if entry.due_tick <= now_tick {
                    self.len -= 1;
                    fired.push(entry.timer);
                } else {
                    self.place(entry);
                }
            }
        }
        self.next_tick = self.next_tick.max(now_tick + 1);
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
