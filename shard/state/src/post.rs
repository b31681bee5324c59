//! Sending messages to shards, this one included.

use crate::ShardId;
use crate::message::Message;
use crate::outbox::Outbox;
use std::collections::VecDeque;

/// Where messages of a shard go: to the others' outboxes, or to itself without a ring.
#[derive(Debug)]
pub(crate) struct Post {
    own: ShardId,
    /// For this shard; handled before the call that made them returns.
    local: VecDeque<Message>,
    /// One per shard; that of the own one stays empty.
    outboxes: Vec<Outbox>,
}

impl Post {
    pub(crate) fn new(own: ShardId, shards: u16, outbox_bytes_max: usize) -> Self {
        let outboxes = (0..shards).map(|_| Outbox::new(outbox_bytes_max)).collect();
        Post { own, local: VecDeque::new(), outboxes }
    }

    pub(crate) fn own(&self) -> ShardId {
        self.own
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.outboxes.len() as u16).map(ShardId)
    }

    pub(crate) fn send(&mut self, to: ShardId, message: Message) {
        if to == self.own {
            self.local.push_back(message);
        } else {
            self.outboxes[to.index()].push(message);
        }
    }

    /// The next message of this shard to itself.
    pub(crate) fn next_local(&mut self) -> Option<Message> {
        self.local.pop_front()
    }

    pub(crate) fn outboxes(&self) -> impl Iterator<Item = &Outbox> {
        self.outboxes.iter()
    }

    pub(crate) fn outbox(&mut self, to: ShardId) -> &mut Outbox {
        &mut self.outboxes[to.index()]
    }
}
