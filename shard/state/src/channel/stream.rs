//! The history of a channel: offsets, epoch, publications by size and age. Source: behaviour §3.

use super::Epoch;
use super::publication::{Publication, ensure_encoded, ensure_patched};
use crate::{Form, Time, Variant};
use bytes::Bytes;
use ringcast_proto::{delta, handover};
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

/// Publications that room is made for before they come.
const RESERVED_MAX: usize = 1 << 16;

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
            version: 0,
            version_epoch: String::new(),
        }
    }

    /// The end of a stream that is kept elsewhere: publications without a gap up to `top`.
    pub(crate) fn of(top: Position, publications: VecDeque<Arc<Publication>>) -> Self {
        let mut stream = Stream::new(top.epoch, Time(0), Duration::ZERO);
        (stream.top, stream.publications) = (top.offset, publications);
        stream
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
        self.meta_expire_at = now + meta_ttl;
    }

    /// Whether a publication of this version must be dropped; remembers the version if not. One without a version makes
    /// the stream forget it, as in the reference.
    pub(crate) fn is_outdated(&mut self, version: u64, version_epoch: &str) -> bool {
        let same_epoch = version_epoch.is_empty() || version_epoch == self.version_epoch;
        if version > 0 && same_epoch && version <= self.version {
            return true;
        }
        self.version = version;
        version_epoch.clone_into(&mut self.version_epoch);
        false
    }

    /// Everything but the publications.
    pub(crate) fn write_down(&self, now: Time) -> handover::Stream {
        handover::Stream {
            epoch: self.epoch.to_string(),
            top: self.top,
            expire_in: micros_left(self.expire_at, now),
            meta_expire_in: micros_left(self.meta_expire_at, now),
            version: self.version,
            version_epoch: self.version_epoch.clone(),
            publications: self.publications.len() as u64,
        }
    }

    /// What is kept, oldest first.
    pub(crate) fn publications(&self) -> impl Iterator<Item = &Arc<Publication>> {
        self.publications.iter()
    }

    /// A stream of another process; `take_back` gives it its publications. Until all of them are there it must not be read.
    pub(crate) fn read_in(stream: &handover::Stream, now: Time) -> Self {
        // Beyond the top there is none: a number that is too large makes the stream never whole.
        let room = usize::try_from(stream.publications).unwrap_or(0).min(RESERVED_MAX);
        Stream {
            epoch: stream.epoch.as_str().into(),
            top: stream.top,
            publications: VecDeque::with_capacity(room),
            expire_at: now + Duration::from_micros(stream.expire_in),
            meta_expire_at: now + Duration::from_micros(stream.meta_expire_in),
            version: stream.version,
            version_epoch: stream.version_epoch.clone(),
        }
    }

    /// The next one of the publications that the stream had. False if it is not the one after those that are here.
    pub(crate) fn take_back(&mut self, publication: Arc<Publication>) -> bool {
        let is_next = self.publications.back().is_none_or(|last| last.offset + 1 == publication.offset);
        let fits = is_next && publication.offset > 0 && publication.offset <= self.top;
        if fits {
            self.publications.push_back(publication);
        }
        fits
    }

    /// Whether the publications reach up to the top, as they must.
    pub(crate) fn is_whole(&self) -> bool {
        self.publications.back().is_none_or(|last| last.offset == self.top)
    }

    /// Keeps the newest ones alone.
    pub(crate) fn keep(&mut self, size: usize) {
        let surplus = self.publications.len().saturating_sub(size);
        self.publications.drain(..surplus);
    }

    /// Forgets publications, keeps the position.
    pub(crate) fn clear(&mut self) {
        self.publications = VecDeque::new();
    }

    /// Forgets the older half of the publications, at least one. Returns how many that were.
    pub(crate) fn forget_older_half(&mut self) -> usize {
        let forgotten = self.publications.len().div_ceil(2);
        self.publications.drain(..forgotten);
        self.publications.shrink_to_fit();
        forgotten
    }

    /// Whether no publication is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.publications.is_empty()
    }

    /// Drops what is too old; true when nothing of the stream is left.
    pub(crate) fn expire(&mut self, now: Time) -> bool {
        if self.expire_at <= now {
            self.clear();
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

    /// Up to `limit` publications after `since`, oldest first, each in `form` if the reader needs one.
    pub(crate) fn after(&mut self, since: u64, limit: usize, form: impl Into<Option<Form>>) -> Vec<Arc<Publication>> {
        let start = self.index_after(since);
        let end = start.saturating_add(limit).min(self.publications.len());
        self.read(start..end, form.into())
    }

    /// Up to `limit` publications before `before` (or from the top), newest first.
    pub(crate) fn before(
        &mut self,
        before: Option<u64>,
        limit: usize,
        form: impl Into<Option<Form>>,
    ) -> Vec<Arc<Publication>> {
        let end = match before {
            // A place that the stream has not come to has nothing before it, as in the reference.
            Some(offset) if offset > self.next_offset() => 0,
            Some(offset) => self.index_after(offset.saturating_sub(1)),
            None => self.publications.len(),
        };
        let mut found = self.read(end.saturating_sub(limit)..end, form.into());
        found.reverse();
        found
    }

    /// Payload of the newest one, which the next may be a patch of.
    pub(crate) fn latest_data(&self) -> Option<Bytes> {
        self.publications.back().map(|latest| latest.content().data.clone())
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

    fn read(&mut self, range: std::ops::Range<usize>, form: Option<Form>) -> Vec<Arc<Publication>> {
        let kept = self.publications.range_mut(range);
        kept.map(|stored| {
            if let Some(form) = form {
                ensure_encoded(stored, form);
            }
            Arc::clone(stored)
        })
        .collect()
    }
}

/// Microseconds from now on until then.
pub(super) fn micros_left(at: Time, now: Time) -> u64 {
    at.0.saturating_sub(now.0)
}

#[cfg(test)]
mod tests {
    use super::super::Encoded;
    use super::*;
    use ringcast_proto::client as wire;

    const TTL: Duration = Duration::from_secs(10);
    const META_TTL: Duration = Duration::from_secs(60);

    /// A stream that keeps `size` publications, with `top` appended at time 0.
    fn stream(size: usize, top: u64) -> Stream {
        let mut stream = Stream::new("epoch".into(), Time(0), META_TTL);
        for _ in 0..top {
            append(&mut stream, size, Time(0));
        }
        stream
    }

    fn append(stream: &mut Stream, size: usize, now: Time) {
        let content = wire::Publication { offset: stream.next_offset(), data: "{}".into(), ..Default::default() };
        let publication = Publication::new(content, stream.position().epoch, now, now);
        stream.append(Arc::new(publication), Retention { size, ttl: TTL, meta_ttl: META_TTL }, now);
    }

    fn offsets(found: &[Arc<Publication>]) -> Vec<u64> {
        found.iter().map(|publication| publication.offset).collect()
    }

    #[track_caller]
    fn check_after(since: u64, limit: usize, want: &[u64]) {
        let found = stream(5, 8).after(since, limit, Form::Json);
        assert_eq!(offsets(&found), want, "since {since}, limit {limit}");
        assert!(found.iter().all(|p| matches!(p.encoded(Form::Json), crate::Encoded::Body(_))));
    }

    #[track_caller]
    fn check_before(before: Option<u64>, limit: usize, want: &[u64]) {
        let found = stream(5, 8).before(before, limit, Form::Protobuf);
        assert_eq!(offsets(&found), want, "before {before:?}, limit {limit}");
    }

    #[test]
    fn only_the_newest_are_kept_and_offsets_go_on() {
        let mut stream = stream(2, 7);
        assert_eq!(offsets(&stream.after(0, usize::MAX, Form::Json)), [6, 7]);
        assert_eq!(stream.position(), Position { offset: 7, epoch: "epoch".into() });
        assert_eq!(offsets(&stream.before(None, 1, Form::Json)), [7]);
    }

    #[test]
    fn reading_forward_begins_behind_the_offset_and_ends_at_the_limit() {
        check_after(0, usize::MAX, &[4, 5, 6, 7, 8]);
        check_after(3, usize::MAX, &[4, 5, 6, 7, 8]);
        check_after(4, usize::MAX, &[5, 6, 7, 8]);
        check_after(4, 2, &[5, 6]);
        check_after(7, usize::MAX, &[8]);
        check_after(4, 0, &[]);
    }

    #[test]
    fn reading_forward_from_the_top_or_beyond_finds_nothing() {
        for since in [8, 9, u64::MAX - 1, u64::MAX] {
            check_after(since, usize::MAX, &[]);
        }
    }

    #[test]
    fn reading_backward_begins_before_the_offset_or_at_the_top() {
        check_before(None, usize::MAX, &[8, 7, 6, 5, 4]);
        check_before(None, 2, &[8, 7]);
        check_before(Some(7), usize::MAX, &[6, 5, 4]);
        check_before(Some(7), 1, &[6]);
        check_before(Some(4), usize::MAX, &[]);
        check_before(Some(0), usize::MAX, &[]);
        check_before(Some(9), 1, &[8]);
        check_before(Some(10), 1, &[]);
        check_before(Some(u64::MAX), 1, &[]);
    }

    #[test]
    fn publications_go_after_their_ttl_and_the_position_stays() {
        let mut stream = stream(5, 3);
        assert!(!stream.expire(Time(0) + (TTL - Duration::from_micros(1))));
        assert_eq!(stream.after(0, usize::MAX, Form::Json).len(), 3);
        assert_eq!(stream.next_expiry(), Time(0) + TTL);
        assert!(!stream.expire(Time(0) + TTL));
        assert_eq!(stream.after(0, usize::MAX, Form::Json).len(), 0);
        assert!(stream.before(None, 1, Form::Json).is_empty());
        assert_eq!(stream.position().offset, 3);
        append(&mut stream, 5, Time(0) + TTL);
        assert_eq!(offsets(&stream.after(0, usize::MAX, Form::Json)), [4]);
    }

    #[test]
    fn publication_gives_those_before_it_a_new_ttl() {
        let mut stream = stream(5, 1);
        let half = Time(0) + TTL / 2;
        append(&mut stream, 5, half);
        stream.expire(Time(0) + TTL);
        assert_eq!(offsets(&stream.after(0, usize::MAX, Form::Json)), [1, 2]);
        assert_eq!(stream.next_expiry(), half + TTL);
    }

    #[test]
    fn position_goes_when_nobody_used_the_stream_for_its_meta_ttl() {
        let mut stream = stream(5, 3);
        let end = Time(0) + META_TTL;
        stream.expire(Time(0) + TTL);
        assert_eq!(stream.next_expiry(), end);
        stream.touch(META_TTL, Time(1));
        assert!(!stream.expire(end));
        assert!(stream.expire(Time(1) + META_TTL));
    }

    #[test]
    fn publications_are_encoded_for_readers_that_need_it_and_once() {
        let mut stream = stream(5, 3);
        let body = |publication: &Publication| match publication.encoded(Form::Json) {
            Encoded::Body(body) => Some(body.as_ptr()),
            Encoded::Absent | Encoded::Impossible => None,
        };
        let bodies = |found: Vec<Arc<Publication>>| found.iter().map(|found| body(found)).collect::<Vec<_>>();
        assert_eq!(bodies(stream.after(1, usize::MAX, None)), [None, None]);
        assert_eq!(bodies(stream.before(None, 1, None)), [None]);
        let encoded = bodies(stream.after(0, usize::MAX, Form::Json));
        assert!(encoded.iter().all(Option::is_some));
        assert_eq!(bodies(stream.after(0, usize::MAX, None)), encoded);
    }

    #[test]
    fn cleared_stream_keeps_its_position() {
        let mut stream = stream(5, 3);
        stream.clear();
        assert_eq!(stream.position().offset, 3);
        assert!(stream.after(0, usize::MAX, Form::Json).is_empty());
        assert!(stream.before(None, usize::MAX, Form::Json).is_empty());
    }

    #[test]
    fn version_must_grow_within_its_epoch_until_one_comes_without() {
        let mut stream = stream(5, 0);
        for (version, epoch, want) in [
            (0, "", false),
            (5, "a", false),
            (5, "a", true),
            (4, "a", true),
            (6, "a", false),
            (6, "", true),
            (1, "b", false),
            (2, "", false),
            (2, "", true),
            (0, "b", false),
            (1, "b", false),
            (1, "b", true),
        ] {
            assert_eq!(stream.is_outdated(version, epoch), want, "{version} {epoch:?}");
        }
    }
}
