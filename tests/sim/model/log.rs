//! What a client has rebuilt of a stream, over all subscriptions that went on from one another.

use super::channel::Channel;
use crate::content::{PublicationId, Wanted};
use std::collections::BTreeMap;

/// Publications by offset, from a position on without interruption.
#[derive(Debug, Default)]
pub struct Log {
    epoch: String,
    /// Everything behind this offset is here.
    from: u64,
    entries: BTreeMap<u64, PublicationId>,
    /// From which offset on which publications were wanted.
    terms: Vec<Terms>,
    /// Offsets up to this one were compared with the stream.
    compared: u64,
}

#[derive(Debug)]
struct Terms {
    from: u64,
    wanted: Option<Wanted>,
    /// Deltas need every publication, so that what is not wanted may come, too.
    has_deltas: bool,
}

impl Log {
    /// A subscription begins at a position. `is_recovered`: with everything behind what the client had.
    pub fn begin(&mut self, epoch: &str, offset: u64, is_recovered: bool, wanted: Option<&Wanted>, has_deltas: bool) {
        if !is_recovered || epoch != self.epoch || offset != self.top() {
            *self = Log { epoch: epoch.to_owned(), from: offset, compared: offset, ..Log::default() };
        }
        self.compared = self.compared.min(offset);
        self.terms.push(Terms { from: offset, wanted: wanted.cloned(), has_deltas });
    }

    fn top(&self) -> u64 {
        self.entries.last_key_value().map_or(self.from, |(offset, _)| *offset)
    }

    pub fn add(&mut self, offset: u64, id: PublicationId) {
        self.entries.insert(offset, id);
    }

    /// With the world at rest: what is known of the stream up to its top is here, but for what was not wanted.
    pub(super) fn compare(&mut self, name: &str, channel: &Channel, top: u64) {
        for (offset, id) in channel.known_between(&self.epoch, self.compared, top) {
            let terms = self.terms.iter().rev().find(|terms| terms.from < offset).expect("a log has terms");
            let is_wanted = terms.wanted.as_ref().is_none_or(|wanted| channel.is_wanted(wanted, id));
            match self.entries.get(&offset) {
                Some(entry) => {
                    assert_eq!(*entry, id, "{name}: the client has another publication at {offset}");
                    assert!(is_wanted || terms.has_deltas, "{name}: publication {id} at {offset} was not wanted");
                }
                None => assert!(!is_wanted, "{name}: the client has not publication {id} at {offset}, {terms:?}"),
            }
        }
        self.compared = self.compared.max(top);
    }
}
