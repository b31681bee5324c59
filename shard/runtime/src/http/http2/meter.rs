//! Counts what a peer sends that costs it nothing and us something: resets, pings, settings, empty frames. The library bounds
//! what they hold; this bounds what they make us do. Source: CVE-2019-9512 and its kin, CVE-2023-44487, CVE-2024-27983.

use std::time::Duration;

use ringcast_state::Time;

/// Such frames of one connection in a second; one more ends it with `ENHANCE_YOUR_CALM`.
pub const CONTROL_FRAMES_MAX: u32 = 1000;

/// Most window updates that may be due for data we sent.
const UPDATES_MAX: u32 = 100_000;

/// Length of a frame's header.
const HEADER: usize = 9;

/// Follows the frames of one connection.
pub struct Meter {
    /// Bytes of the payload, or of the preface, that are still to come.
    skip: usize,
    header: [u8; HEADER],
    header_len: usize,
    second: Time,
    counted: u32,
    /// Window updates that answer data of ours.
    updates: u32,
}

impl Meter {
    /// Of a connection whose next bytes are the preface.
    pub fn new() -> Self {
        let skip = super::PREFACE.len();
        Self { skip, header: [0; HEADER], header_len: 0, second: Time(0), counted: 0, updates: 0 }
    }

    /// We sent data that a peer may answer with so many window updates.
    pub fn expect_updates(&mut self, updates: u32) {
        self.updates = self.updates.saturating_add(updates).min(UPDATES_MAX);
    }

    /// Takes bytes as they come; false once there were too many frames.
    pub fn take(&mut self, mut bytes: &[u8], now: Time) -> bool {
        if now >= self.second + Duration::from_secs(1) {
            (self.second, self.counted) = (now, 0);
        }
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(HEADER - self.header_len);
            self.header[self.header_len..self.header_len + taken].copy_from_slice(&bytes[..taken]);
            self.header_len += taken;
            bytes = &bytes[taken..];
            if self.header_len == HEADER {
                self.header_len = 0;
                self.frame();
            }
        }
        self.counted <= CONTROL_FRAMES_MAX
    }

    fn frame(&mut self) {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const WINDOW_UPDATE: u8 = 8;
        const END_STREAM: u8 = 1;
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            DATA if self.skip > 0 || flags & END_STREAM != 0 => {}
            HEADERS => {}
            WINDOW_UPDATE if self.updates > 0 => self.updates -= 1,
            _ => self.counted += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PREFACE;
    use super::*;

    fn frames(kind: u8, flags: u8, length: usize, count: u32) -> Vec<u8> {
        let one = [&[0, 0, length as u8, kind, flags, 0, 0, 0, 1][..], &vec![0; length]].concat();
        one.repeat(count as usize)
    }

    /// Whether that many frames may come in a second, in pieces of any size.
    #[track_caller]
    fn check(kind: u8, flags: u8, length: usize, count: u32, want: bool) {
        let bytes = [PREFACE, &frames(kind, flags, length, count)].concat();
        for piece in [1, 7, 9, 1000, bytes.len()] {
            let mut meter = Meter::new();
            let allowed = bytes.chunks(piece).all(|bytes| meter.take(bytes, Time(5)));
            assert_eq!(allowed, want, "{count} frames of kind {kind} in pieces of {piece}");
        }
    }

    #[test]
    fn frames_that_cost_the_peer_nothing_are_bounded() {
        for (kind, length) in [(0, 0), (2, 5), (3, 4), (4, 0), (4, 6), (6, 8), (7, 8), (8, 4), (9, 0), (200, 3)] {
            check(kind, 0, length, CONTROL_FRAMES_MAX, true);
            check(kind, 0, length, CONTROL_FRAMES_MAX + 1, false);
        }
        check(0, 0, 1, 2 * CONTROL_FRAMES_MAX, true);
        check(0, 1, 0, 2 * CONTROL_FRAMES_MAX, true);
        check(1, 4, 20, 2 * CONTROL_FRAMES_MAX, true);
    }

    #[test]
    fn every_second_has_its_own_count() {
        let (mut meter, pings) = (Meter::new(), frames(6, 0, 8, CONTROL_FRAMES_MAX));
        assert!(meter.take(PREFACE, Time(0)) && meter.take(&pings, Time(0)));
        assert!(meter.take(&pings, Time(1_000_000)));
        assert!(!meter.take(&pings, Time(1_999_999)));
    }

    #[test]
    fn window_updates_that_answer_data_are_not_counted() {
        let (mut meter, updates) = (Meter::new(), frames(8, 0, 4, CONTROL_FRAMES_MAX));
        meter.expect_updates(CONTROL_FRAMES_MAX);
        assert!(meter.take(PREFACE, Time(0)) && meter.take(&updates, Time(0)) && meter.take(&updates, Time(0)));
        assert!(!meter.take(&updates, Time(0)));
    }
}
