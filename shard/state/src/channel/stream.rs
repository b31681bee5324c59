//! The history of a channel: offsets, epoch, publications by size and age. Source: behaviour §3.

use super::Epoch;
use super::publication::{Publication, ensure_encoded, ensure_patched};
use crate::{Form, Time, Variant};
use ringcast_proto::delta;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A place in a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Offset of the last publication; 0 before the first.
    pub offset: u64,
    /// Changes when the stream begins anew; empty where there is none.
    pub epoch: Epoch,
}

/// How much is kept, from the options of the namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) size: usize,
    pub(crate) ttl: Duration,
    /// Life of epoch and top offset; never below `ttl`.
    pub(crate) meta_ttl: Duration,
}

/// Publications of one channel in order, their offsets without a gap up to the top.
#[derive(Debug)]
pub(crate) struct Stream {
    epoch: Epoch,
    top: u64,
    publications: VecDeque<Arc<Publication>>,
    /// When the publications go.
    expire_at: Time,
    /// When epoch and top go, and the stream with them.
    meta_expire_at: Time,
    /// Life of epoch and top after the last use.
    meta_ttl: Duration,
    version: u64,
    version_epoch: String,
}

impl Stream {
    pub(crate) fn new(epoch: Epoch, now: Time, meta_ttl: Duration) -> Self {
        Stream {
            epoch,
            top: 0,
            publications: VecDeque::new(),
            expire_at: now,
            meta_expire_at: now + meta_ttl,
            meta_ttl,
            version: 0,
            version_epoch: String::new(),
        }
    }

    pub(crate) fn position(&self) -> Position {
        Position { offset: self.top, epoch: self.epoch.clone() }
    }

    /// The offset that the next publication gets.
    pub(crate) fn next_offset(&self) -> u64 {
        self.top + 1
    }

    /// Keeps a publication that carries `next_offset`.
    pub(crate) fn append(&mut self, publication: Arc<Publication>, retention: Retention, now: Time) {
        debug_assert_eq!(publication.offset, self.next_offset());
        self.top = publication.offset;
        self.publications.push_back(publication);
        while self.publications.len() > retention.size {
            self.publications.pop_front();
        }
        self.expire_at = now + retention.ttl;
        self.touch(retention.meta_ttl, now);
    }

    /// Whatever reads or writes the stream keeps its position alive.
    pub(crate) fn touch(&mut self, meta_ttl: Duration, now: Time) {
        self.meta_ttl = meta_ttl;
        self.meta_expire_at = now + meta_ttl;
    }

    /// Whether a publication of this version must be dropped; remembers the version if not.
    pub(crate) fn is_outdated(&mut self, version: u64, version_epoch: &str) -> bool {
        if version == 0 {
            return false;
        }
        let same_epoch = version_epoch.is_empty() || version_epoch == self.version_epoch;
        if same_epoch && version <= self.version {
            return true;
        }
        self.version = version;
        version_epoch.clone_into(&mut self.version_epoch);
        false
    }

    /// Forgets publications, keeps the position.
    pub(crate) fn clear(&mut self) {
        self.publications = VecDeque::new();
    }

    /// Drops what is too old; true when nothing of the stream is left. `is_used`: somebody holds a position in it, which
    /// keeps it alive like a reader.
    pub(crate) fn expire(&mut self, now: Time, is_used: bool) -> bool {
        if self.expire_at <= now {
            self.clear();
        }
        if is_used && self.meta_expire_at <= now {
            self.touch(self.meta_ttl, now);
        }
        self.meta_expire_at <= now
    }

    /// When `expire` has something to do.
    pub(crate) fn next_expiry(&self) -> Time {
        if self.publications.is_empty() {
            return self.meta_expire_at;
        }
        self.expire_at.min(self.meta_expire_at)
    }

    /// Up to `limit` publications after `since`, oldest first.
    pub(crate) fn after(&mut self, since: u64, limit: usize, form: Form) -> Vec<Arc<Publication>> {
        let start = self.index_after(since);
        let end = start.saturating_add(limit).min(self.publications.len());
        self.read(start..end, form)
    }

    /// Up to `limit` publications before `before` (or from the top), newest first.
    pub(crate) fn before(&mut self, before: Option<u64>, limit: usize, form: Form) -> Vec<Arc<Publication>> {
        let end = match before {
            Some(offset) => self.index_after(offset.saturating_sub(1)),
            None => self.publications.len(),
        };
        let mut found = self.read(end.saturating_sub(limit)..end, form);
        found.reverse();
        found
    }

    /// The newest one.
    pub(crate) fn latest(&mut self, form: Form) -> Option<Arc<Publication>> {
        let len = self.publications.len();
        self.read(len.saturating_sub(1)..len, form).pop()
    }

    /// Payload of the newest one, which the next may be a patch of.
    pub(crate) fn latest_data(&self) -> Option<&[u8]> {
        self.publications.back().map(|latest| &*latest.content().data)
    }

    /// As `after`, each but the first patched against the one before.
    pub(crate) fn patched_after(
        &mut self,
        since: u64,
        limit: usize,
        variant: Variant,
        table: &mut delta::Table,
    ) -> Vec<Arc<Publication>> {
        let mut found = self.after(since, limit, variant.whole());
        let start = self.index_after(since);
        for at in 1..found.len() {
            let base = found[at - 1].content().data.clone();
            let stored = &mut self.publications[start + at];
            ensure_patched(stored, variant, &base, table);
            found[at] = Arc::clone(stored);
        }
        found
    }

    /// Index of the first kept publication with an offset above `offset`.
    fn index_after(&self, offset: u64) -> usize {
        let first = self.top + 1 - self.publications.len() as u64;
        let skipped = offset.saturating_add(1).saturating_sub(first);
        usize::try_from(skipped).unwrap_or(usize::MAX).min(self.publications.len())
    }

    fn read(&mut self, range: std::ops::Range<usize>, form: Form) -> Vec<Arc<Publication>> {
        let kept = self.publications.range_mut(range);
        kept.map(|stored| {
            ensure_encoded(stored, form);
            Arc::clone(stored)
        })
        .collect()
    }
}
