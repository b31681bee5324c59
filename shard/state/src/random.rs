//! Randomness of a shard: a seeded stream, so that a simulation with the same seed draws the same.

use crate::ClientId;
use crate::channel::Epoch;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::time::Duration;

/// Client ids, epochs and jitter. A stream cipher: ids seen do not tell the next ones.
#[derive(Debug)]
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Random(ChaCha8Rng::from_seed(seed))
    }

    pub(crate) fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A key.
    pub(crate) fn secret(&mut self) -> [u8; 32] {
        let mut secret = [0; 32];
        self.0.fill_bytes(&mut secret);
        secret
    }

    /// A version 4 UUID.
    pub(crate) fn client_id(&mut self) -> ClientId {
        let bits = u128::from(self.0.next_u64()) << 64 | u128::from(self.0.next_u64());
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0x3 << 62;
        ClientId(bits & !VERSION & !VARIANT | 0x4 << 76 | 0x2 << 62)
    }

    /// Eight letters.
    pub(crate) fn epoch(&mut self) -> Epoch {
        const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let letters = (0..8).map(|_| char::from(LETTERS[self.next_u32() as usize % LETTERS.len()]));
        Epoch::from(&*letters.collect::<String>())
    }

    /// Somewhere from half of the span up to all of it.
    pub(crate) fn upper_half(&mut self, span: Duration) -> Duration {
        let half = span / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_micros(self.0.next_u64() % micros)
    }
}
