//! Publications with idempotency keys: while a key is remembered, it stands for one publication, whatever comes with it.

use super::channel::Channel;
use crate::content::PublicationId;
use ringcast_state::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// How far the clock of a shard may be behind, and keys be forgotten too late.
const SLACK: Duration = Duration::from_millis(1);

/// The keys of one channel.
#[derive(Debug, Default)]
pub struct Keys(BTreeMap<String, Vec<Use>>);

/// One call with a key.
#[derive(Debug)]
struct Use {
    id: PublicationId,
    sent_at: Time,
    answered_at: Option<Time>,
    /// Offset and epoch that the caller was told; `None` when the call failed.
    result: Option<(u64, String)>,
}

impl Keys {
    pub(super) fn sent(&mut self, key: &str, id: PublicationId, at: Time) {
        let one = Use { id, sent_at: at, answered_at: None, result: None };
        self.0.entry(key.to_owned()).or_default().push(one);
    }

    pub(super) fn answered(&mut self, key: &str, id: PublicationId, at: Time, result: Option<(u64, &str)>) {
        let mut uses = self.0.get_mut(key).into_iter().flatten();
        let one = uses.find(|one| one.id == id).expect("only what was sent is answered");
        one.answered_at = Some(at);
        one.result = result.map(|(offset, epoch)| (offset, epoch.to_owned()));
    }

    /// Ids that were published with the key of each acknowledged call, by key.
    pub(super) fn acknowledged(&self) -> impl Iterator<Item = Vec<PublicationId>> {
        let groups = self.0.values().filter(|uses| uses.iter().any(|one| one.result.is_some()));
        groups.map(|uses| uses.iter().map(|one| one.id).collect())
    }

    /// Drops what is forgotten by now.
    pub(super) fn forget(&mut self, now: Time, ttl: Duration) {
        self.0.retain(|_, uses| uses.iter().any(|one| one.answered_at.is_none_or(|at| at + ttl > now)));
    }
}

impl Channel {
    /// With the world at rest, when every call has its answer. `ttl`: how long a key is remembered at least.
    pub(super) fn check_keys(&self, name: &str, ttl: Duration) {
        for (key, uses) in &self.keys.0 {
            for (number, one) in uses.iter().enumerate() {
                if let Some((offset @ 1.., epoch)) = &one.result
                    && let Some(number) = self.epochs.iter().position(|known| known == epoch)
                    && let Some(owner) = self.order.get(&(number, *offset))
                {
                    let is_own = uses.iter().any(|one| one.id == *owner);
                    assert!(is_own, "{name}: {key} was answered with the place of {owner}");
                }
                for other in &uses[..number] {
                    self.check_pair(name, ttl, other, one);
                }
            }
        }
    }

    fn check_pair(&self, name: &str, ttl: Duration, first: &Use, second: &Use) {
        let (Some(a), Some(b)) = (first.answered_at, second.answered_at) else { return };
        if a.max(b) + SLACK >= first.sent_at.min(second.sent_at) + ttl {
            return;
        }
        let is_known = |one: &Use| self.sent[&one.id].offset.is_some();
        assert!(!(is_known(first) && is_known(second)), "{name}: published twice, {first:?} {second:?}");
        // The first may itself have been answered with an older result, which was forgotten before the second came.
        let is_repeated = is_known(first) && a < second.sent_at;
        if let (true, Some(a), Some(b)) = (is_repeated, &first.result, &second.result) {
            assert_eq!(a, b, "{name}: two results of one key");
        }
    }
}
