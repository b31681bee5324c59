//! Which shards listen to a channel, and sending to them: one message each, whatever the number of subscribers.

use super::Publication;
use crate::message::Message;
use crate::post::Post;
use crate::{ShardId, Variant};
use ringcast_proto::delta;

/// Shards with subscribers of one channel.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    shard: ShardId,
    /// Subscribers by [`Variant::index`].
    counts: [u32; Variant::ALL.len()],
}

impl Listener {
    fn subscribers(&self) -> u32 {
        self.counts.iter().sum()
    }
}

impl Listeners {
    /// One more subscriber there.
    pub(crate) fn add(&mut self, shard: ShardId, variant: Variant) {
        let index = match self.0.iter().position(|listener| listener.shard == shard) {
            Some(index) => index,
            None => {
                self.0.reserve_exact(1);
                self.0.push(Listener { shard, counts: Default::default() });
                self.0.len() - 1
            }
        };
        self.0[index].counts[variant.index()] += 1;
    }

    /// One fewer. Every removal matches an earlier `add`; another one is a broken promise of ours.
    pub(crate) fn remove(&mut self, shard: ShardId, variant: Variant) {
        let index = self.0.iter().position(|listener| listener.shard == shard);
        let index = index.expect("an unsubscribe matches a subscribe of the same shard");
        let count = &mut self.0[index].counts[variant.index()];
        *count = count.checked_sub(1).expect("an unsubscribe matches a subscribe of the same variant");
        if self.0[index].subscribers() == 0 {
            self.0.swap_remove(index);
        }
    }

    /// Subscribers on all shards.
    pub(crate) fn subscribers(&self) -> u32 {
        self.0.iter().map(Listener::subscribers).sum()
    }

    /// Whether some subscriber reads this variant.
    fn needs(&self, variant: Variant) -> bool {
        self.0.iter().any(|listener| listener.counts[variant.index()] > 0)
    }

    /// Makes the forms present that subscribers read; the patch of `base`, too, for those who can use one.
    pub(crate) fn encode(&self, publication: &mut Publication, base: Option<&[u8]>, table: &mut delta::Table) {
        // Computed at most once, by the first variant that can use it.
        let mut patch = None;
        for variant in Variant::ALL.into_iter().filter(|variant| self.needs(*variant)) {
            publication.encode(variant.whole());
            if let Some(base) = base.filter(|_| variant.is_delta()) {
                let patch = patch.get_or_insert_with(|| publication.patch(base, table));
                publication.encode_patch(variant, patch.as_ref());
            }
        }
    }

    /// One message to each listening shard.
    pub(crate) fn send(&self, post: &mut Post, mut message: impl FnMut() -> Message) {
        for listener in &self.0 {
            post.send(listener.shard, message());
        }
    }
}
