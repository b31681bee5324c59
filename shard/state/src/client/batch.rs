//! Publications that wait on the subscribers' shard to be handed on together. Source: Centrifugo PRO documentation, "Message
//! batching control", channel level.
//!
//! A batch belongs to a channel, not to its subscribers, and they are the same for all of it: it is handed on before one comes
//! or is told to go, and before a join or leave. Who is closed does not get what waits. The hub counts a publication when it
//! comes from the home, so that a gap or a long way is seen as without batches.

use crate::Now;
use crate::Time;
use crate::channel::Publication;
use crate::hub::HubIndex;
use crate::namespace::ChannelOptions;
use crate::shard::Shard;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A batch holds at most this part of `client.queue_max_size`, since all of it comes into the queue of each subscriber at
/// once.
const QUEUE_PARTS: usize = 4;

/// The open batches of a shard.
///
/// Bound: for each channel `batch_max_size` publications and a quarter of `client.queue_max_size` in bytes; whatever is
/// reached first ends the batch, as does `batch_max_delay`.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    open: BTreeMap<HubIndex, Batch>,
    due: BTreeSet<(Time, HubIndex)>,
}

#[derive(Debug, Default)]
struct Batch {
    /// Each with the moment at which it came.
    publications: Vec<(Time, Arc<Publication>)>,
    /// Publications that came, with those that a newer one replaced.
    count: usize,
    /// What `publications` hold.
    bytes: usize,
    /// `None` when only size ends it.
    due: Option<Time>,
}

impl Batches {
    /// Adds a publication of a channel with such options. True when the batch is full.
    fn add(
        &mut self,
        now: Time,
        index: HubIndex,
        publication: &Arc<Publication>,
        options: &ChannelOptions,
        bytes_max: usize,
    ) -> bool {
        let delay = Some(options.batch_max_delay).filter(|delay| !delay.is_zero());
        let batch = self.open.entry(index).or_insert_with(|| {
            let due = delay.map(|delay| now + delay);
            self.due.extend(due.map(|due| (due, index)));
            Batch { due, ..Batch::default() }
        });
        if options.batch_flush_latest {
            batch.publications.clear();
            batch.bytes = 0;
        }
        batch.publications.push((now, Arc::clone(publication)));
        batch.count += 1;
        batch.bytes += publication.weight();
        let is_full = options.batch_max_size > 0 && batch.count >= options.batch_max_size;
        is_full || batch.bytes >= bytes_max
    }

    /// Drops the batch of a channel that nobody has any more.
    pub(super) fn forget(&mut self, index: HubIndex) {
        self.take(index);
    }

    /// Closes the batch of a channel.
    fn take(&mut self, index: HubIndex) -> Option<Batch> {
        let batch = self.open.remove(&index)?;
        if let Some(due) = batch.due {
            self.due.remove(&(due, index));
        }
        Some(batch)
    }

    /// When the first batch is due.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.due.first().map(|(due, _)| *due)
    }
}

impl Shard {
    /// Has a publication wait for others. False when those of the channel do not wait.
    pub(super) fn collect(&mut self, now: Now, index: HubIndex, channel: &str, publication: &Arc<Publication>) -> bool {
        let (_, options) = self.options.channel.resolve_known(channel);
        if !options.has_batches() {
            return false;
        }
        let bytes_max = self.options.client.queue_max_size / QUEUE_PARTS;
        if self.batches.add(now.at, index, publication, options, bytes_max) {
            self.flush_batch(index);
        }
        true
    }

    /// Hands on what waits in a channel, if anything does. Subscribers that it is too much for are closed, and the channel
    /// may go with the last of them.
    pub(super) fn flush_batch(&mut self, index: HubIndex) {
        let Some(batch) = self.batches.take(index) else { return };
        let channel = self.hub.name(index).clone();
        let is_apart = batch.count > batch.publications.len();
        for (came_at, publication) in &batch.publications {
            if self.hub.find(&channel) == Some(index) {
                self.hand_out(*came_at, index, &channel, publication, is_apart);
            }
        }
    }

    /// The channel, if clients of this shard have it and nothing waits for them any more.
    pub(super) fn find_level(&mut self, channel: &str) -> Option<HubIndex> {
        let index = self.hub.find(channel)?;
        self.flush_batch(index);
        self.hub.find(channel)
    }

    /// Hands on what waited long enough.
    pub(crate) fn flush_due_batches(&mut self, now: Time) {
        while let Some((due, index)) = self.batches.due.first().copied()
            && due <= now
        {
            self.flush_batch(index);
        }
    }

    /// Hands on everything that waits.
    pub(crate) fn flush_batches(&mut self) {
        while let Some(index) = self.batches.open.keys().next().copied() {
            self.flush_batch(index);
        }
    }
}
