//! What a client that comes back is told, compared with what it has missed. For scenarios in which the number of a publication
//! tells its offset.

use crate::engine::{Answer, Recovered};
use crate::ledger::Ledger;
use crate::payload::Stamp;
use crate::problems::Problems;

/// What came with the answer to a client that comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comeback {
    /// Publications of its channel.
    pub messages: u64,
    /// Of them, those whose offset does not fit their number.
    pub misplaced: u64,
}

impl Comeback {
    /// Enters the answer to a client, whose row in the ledger begins where it left. `base`: offset before the first publication of
    /// the run.
    pub fn enter(
        answer: &Answer,
        (client, channel, base): (usize, usize, u64),
        ledger: &mut Ledger,
        problems: &mut Problems,
    ) -> Self {
        if !answer.recovered {
            problems.note("the server said that something is missing".to_owned());
        }
        let mut comeback = Self { messages: 0, misplaced: 0 };
        for Recovered { offset, stamp } in &answer.publications {
            match stamp {
                Some(stamp) if usize::from(stamp.publisher) == channel => {
                    comeback.misplaced += u64::from(*offset != base + u64::from(stamp.sequence) + 1);
                    ledger.observe(client, Stamp { publisher: 0, ..*stamp }, stamp.sent_ns);
                    comeback.messages += 1;
                }
                _ => ledger.observe_corrupt(),
            }
        }
        comeback
    }
}
