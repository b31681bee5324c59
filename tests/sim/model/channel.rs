//! What is known of one channel: which publication has which place, and what must hold of them.

use super::Moment;
use super::keys::Keys;
use super::versions::Versions;
use crate::content::{self, PublicationId, Wanted};
use ringcast_proto::client::Publication;
use ringcast_state::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// A publish command or call.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    pub at: Time,
    /// The client's user; `None` for the server API.
    pub user: Option<String>,
    pub is_binary: bool,
    pub has_tags: bool,
    /// 0 for none.
    pub version: u64,
    pub version_epoch: &'static str,
    /// Empty for none.
    pub key: String,
}

/// One that was sent.
pub(super) struct Sent {
    pub(super) moment: Moment,
    pub(super) publish: Publish,
    pub(super) acknowledged: bool,
    /// As somebody saw it; 0 in no stream.
    pub(super) offset: Option<u64>,
}

/// The truth about a channel as far as it is known.
#[derive(Default)]
pub struct Channel {
    pub(super) sent: BTreeMap<PublicationId, Sent>,
    /// Epochs in the order in which they became known.
    pub(super) epochs: Vec<String>,
    /// When the last of them was told first.
    pub(super) epoch_seen_at: Time,
    /// Which id has which place.
    pub(super) order: BTreeMap<(usize, u64), PublicationId>,
    /// Which id came right behind which, and the other way round.
    pub(super) next: BTreeMap<PublicationId, PublicationId>,
    pub(super) previous: BTreeMap<PublicationId, PublicationId>,
    /// The process that had the last of them is gone, and nobody was told the next one.
    pub(super) is_forgotten: bool,
    /// Somebody wrote or read the stream at this time or later.
    pub(super) touched_at: Time,
    /// When each client first asked to subscribe.
    pub(super) attempts: BTreeMap<String, Moment>,
    /// Calls of `history_remove` without an answer.
    pub(super) removals_open: u32,
    /// One was never answered: it may be carried out at any time.
    pub(super) removal_lost: bool,
    pub(super) removed: Moment,
    pub(super) keys: Keys,
    pub(super) versions: Versions,
}

impl Channel {
    pub(super) fn epoch_number(&mut self, epoch: &str) -> usize {
        if let Some(number) = self.epochs.iter().position(|known| known == epoch) {
            return number;
        }
        self.epochs.push(epoch.to_owned());
        self.is_forgotten = false;
        self.epochs.len() - 1
    }

    /// Somebody was told the epoch.
    pub(super) fn epoch_told(&mut self, epoch: &str, now: Time) {
        let known = self.epochs.len();
        self.epoch_number(epoch);
        if self.epochs.len() > known {
            self.epoch_seen_at = now;
        }
    }

    /// A reader was told the epoch: a new one is right only when nobody used the stream for `meta_ttl`. Of two that were asked
    /// for at the same time nobody knows which came first: answers that wait to be written change places.
    pub(super) fn epoch_seen(&mut self, name: &str, epoch: &str, asked_at: Time, now: Time, meta_ttl: Duration) {
        let is_new = !self.epochs.iter().any(|known| known == epoch);
        if is_new && !self.epochs.is_empty() && asked_at >= self.epoch_seen_at && !self.is_forgotten {
            assert!(self.touched_at + meta_ttl <= now, "{name}: a new epoch {epoch} before its time");
        }
        assert!(is_new || !self.is_forgotten, "{name}: the epoch {epoch} outlived its process");
        self.epoch_told(epoch, now);
        self.touched_at = self.touched_at.max(asked_at);
    }

    /// An id stands at an offset of an epoch.
    pub(super) fn place(&mut self, name: &str, id: PublicationId, offset: u64, epoch: &str) {
        self.check_offset(name, id, offset);
        let epoch = self.epoch_number(epoch);
        let known = *self.order.entry((epoch, offset)).or_insert(id);
        assert_eq!(known, id, "{name}: two publications at offset {offset}");
    }

    pub(super) fn check_offset(&mut self, name: &str, id: PublicationId, offset: u64) {
        let sent = self.sent.get_mut(&id);
        let sent = sent.unwrap_or_else(|| panic!("{name}: publication {id} was never sent"));
        let known = *sent.offset.get_or_insert(offset);
        assert_eq!(known, offset, "{name}: publication {id} has two offsets");
    }

    /// A publication shows what its id says.
    pub(super) fn check_content(&self, name: &str, publication: &Publication) -> PublicationId {
        let id = content::payload_id(&publication.data);
        let sent = self.sent.get(&id).unwrap_or_else(|| panic!("{name}: publication {id} was never sent"));
        let publish = &sent.publish;
        assert!(
            publication.data == content::payload(id, publish.is_binary),
            "{name}: another payload, {publication:?}"
        );
        let tags = if publish.has_tags { content::tags(id) } else { BTreeMap::new() };
        assert_eq!(publication.tags, tags, "{name}: tags of {id}");
        let user = publication.info.as_ref().map(|info| &info.user);
        assert_eq!(user, publish.user.as_ref(), "{name}: publisher of {id}");
        id
    }

    pub(super) fn is_wanted(&self, wanted: &Wanted, id: PublicationId) -> bool {
        if self.sent[&id].publish.has_tags {
            wanted.matches(&content::tags(id))
        } else {
            wanted.matches(&BTreeMap::new())
        }
    }

    /// What is known behind offset `from`, up to offset `to`.
    pub(super) fn known_between(
        &self,
        epoch: &str,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = (u64, PublicationId)> + use<'_> {
        let number = self.epochs.iter().position(|known| known == epoch);
        let range = number.filter(|_| from < to).map(|number| self.order.range((number, from + 1)..=(number, to)));
        range.into_iter().flatten().map(|((_, offset), id)| (*offset, *id))
    }
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sent at moment {}, offset {:?}, {:?}", self.moment, self.offset, self.publish)
    }
}
