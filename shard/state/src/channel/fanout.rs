//! Which shards listen to a channel, and sending to them: one message each, whatever the number of subscribers.

use crate::ShardId;
use crate::message::Message;
use crate::post::Post;
use ringcast_proto::client::Encoding;

/// Shards with subscribers of one channel.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    shard: ShardId,
    json: u32,
    protobuf: u32,
}

impl Listener {
    fn count(&mut self, encoding: Encoding) -> &mut u32 {
        match encoding {
            Encoding::Json => &mut self.json,
            Encoding::Protobuf => &mut self.protobuf,
        }
    }
}

impl Listeners {
    /// One more subscriber there.
    pub(crate) fn add(&mut self, shard: ShardId, encoding: Encoding) {
        if let Some(listener) = self.0.iter_mut().find(|l| l.shard == shard) {
            *listener.count(encoding) += 1;
            return;
        }
        let mut listener = Listener { shard, json: 0, protobuf: 0 };
        *listener.count(encoding) = 1;
        self.0.reserve_exact(1);
        self.0.push(listener);
    }

    /// One fewer. Every removal matches an earlier `add`; another one is a broken promise of ours.
    pub(crate) fn remove(&mut self, shard: ShardId, encoding: Encoding) {
        let index = self.0.iter().position(|l| l.shard == shard);
        let index = index.expect("an unsubscribe matches a subscribe of the same shard");
        let listener = &mut self.0[index];
        let count = listener.count(encoding);
        *count = count.checked_sub(1).expect("an unsubscribe matches a subscribe of the same encoding");
        if listener.json + listener.protobuf == 0 {
            self.0.swap_remove(index);
        }
    }

    /// Subscribers on all shards.
    pub(crate) fn subscribers(&self) -> u32 {
        self.0.iter().map(|l| l.json + l.protobuf).sum()
    }

    /// Whether some subscriber needs this encoding.
    pub(crate) fn needs(&self, encoding: Encoding) -> bool {
        self.0.iter().any(|l| match encoding {
            Encoding::Json => l.json > 0,
            Encoding::Protobuf => l.protobuf > 0,
        })
    }

    /// One message to each listening shard.
    pub(crate) fn send(&self, post: &mut Post, mut message: impl FnMut() -> Message) {
        for listener in &self.0 {
            post.send(listener.shard, message());
        }
    }
}
