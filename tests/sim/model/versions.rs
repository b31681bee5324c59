//! Publications with versions: one whose version does not grow is dropped, and no other.

use super::channel::Channel;
use crate::content::PublicationId;

/// What is known of the versions of one channel.
#[derive(Debug, Default)]
pub struct Versions {
    /// Answers that were not looked at yet: who asked, and the top that was told.
    answers: Vec<(PublicationId, usize, u64)>,
    /// Everything up to this place was looked at.
    checked: (usize, u64),
}

/// Version and its epoch.
type Version = (u64, &'static str);

impl Versions {
    /// A caller was told a position, of its publication or of the one that made it old.
    pub(super) fn answered(&mut self, id: PublicationId, epoch: usize, offset: u64) {
        self.answers.push((id, epoch, offset));
    }
}

fn is_old((version, epoch): Version, (known, known_epoch): Version) -> bool {
    (epoch.is_empty() || epoch == known_epoch) && version <= known
}

impl Channel {
    fn version_of(&self, id: PublicationId) -> Version {
        let publish = &self.sent[&id].publish;
        (publish.version, publish.version_epoch)
    }

    /// The version that a stream has at an offset, if it is known: that of its last publication, or none.
    fn version_at(&self, epoch: usize, offset: u64) -> Option<Version> {
        if offset == 0 {
            return Some((0, ""));
        }
        self.order.get(&(epoch, offset)).map(|id| self.version_of(*id))
    }

    /// With the world at rest.
    pub(super) fn check_versions(&mut self, name: &str) {
        for (id, epoch, offset) in std::mem::take(&mut self.versions.answers) {
            let owner = self.order.get(&(epoch, offset));
            let (version, known) = (self.version_of(id), self.version_at(epoch, offset));
            let is_dropped = owner.is_some_and(|owner| *owner != id);
            if let (true, Some(known)) = (is_dropped, known) {
                assert!(is_old(version, known), "{name}: {id} was dropped at {offset}, {version:?} behind {known:?}");
            }
        }
        let news = self.order.range(self.versions.checked..).map(|((epoch, offset), id)| (*epoch, *offset, *id));
        for (epoch, offset, id) in news.collect::<Vec<_>>() {
            let version = self.version_of(id);
            if let (1.., Some(known)) = (version.0, self.version_at(epoch, offset - 1)) {
                assert!(!is_old(version, known), "{name}: {id} at {offset}, {version:?} behind {known:?}");
            }
            self.versions.checked = (epoch, offset);
        }
    }
}
