//! What happened, as a hash for comparing two runs of a seed, and in words for reading one.

use std::fmt::{self, Write};

/// How much of a run is noted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Nothing: the fastest.
    Nothing,
    /// A hash of everything.
    Hash,
    /// Everything, on standard error.
    Words,
}

/// Notes of one run.
pub struct Trace {
    detail: Detail,
    hash: Hash,
}

/// FNV-1a.
struct Hash(u64);

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

impl Trace {
    pub fn new(detail: Detail) -> Self {
        Trace { detail, hash: Hash(0xcbf2_9ce4_8422_2325) }
    }

    /// Hash of all notes.
    pub fn hash(&self) -> u64 {
        self.hash.0
    }

    #[inline]
    pub fn note(&mut self, words: impl FnOnce() -> String) {
        if self.detail != Detail::Nothing {
            self.write(&words());
        }
    }

    #[expect(clippy::print_stderr, reason = "a developer reads it")]
    fn write(&mut self, words: &str) {
        self.hash.add(words.as_bytes());
        if self.detail == Detail::Words {
            eprintln!("{words}");
        }
    }

    /// Bytes that crossed a border.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.detail != Detail::Nothing {
            self.hash.add(bytes);
        }
    }
}
