//! Messages waiting for one other shard, and what is given up when that shard does not keep up.

use crate::message::{ChannelName, Message};
use std::collections::{HashSet, VecDeque};

/// First in, first out, to one shard.
///
/// Bound: `Limits::outbox_max_size`, bytes. Full: deliveries, joins and leaves shrink to one
/// [`Message::Insufficient`] per channel, which makes the subscribers there recover; everything else stays, for losing
/// it would leave a client without an answer or a count wrong. Seen in `shed`.
#[derive(Debug)]
pub struct Outbox {
    queue: VecDeque<Message>,
    bytes: usize,
    bytes_max: usize,
    /// Channels whose mark is in the queue with no new subscription behind it.
    marked: HashSet<ChannelName, foldhash::fast::FixedState>,
    shed: u64,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Outbox { queue: VecDeque::new(), bytes: 0, bytes_max, marked: HashSet::default(), shed: 0 }
    }

    /// Appends, or sheds.
    pub(crate) fn push(&mut self, message: Message) {
        let message = match message {
            Message::Deliver { channel, .. } | Message::Membership { channel, .. } if self.is_full() => {
                self.shed += 1;
                if !self.marked.insert(channel.clone()) {
                    return;
                }
                Message::Insufficient { channel }
            }
            message => message,
        };
        if let Message::Subscribed(subscribed) = &message {
            // A subscription behind the mark is not covered by it: the next loss needs a new one.
            self.marked.remove(&subscribed.channel);
        }
        self.bytes += message.weight();
        self.queue.push_back(message);
    }

    fn is_full(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Oldest message.
    pub fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.bytes -= message.weight();
        if let Message::Insufficient { channel } = &message {
            self.marked.remove(channel);
        }
        Some(message)
    }

    /// Hands messages to `take` until it gives one back, which stays the oldest.
    pub fn drain(&mut self, mut take: impl FnMut(Message) -> Result<(), Message>) {
        while let Some(message) = self.pop() {
            if let Err(message) = take(message) {
                self.put_back(message);
                return;
            }
        }
    }

    fn put_back(&mut self, message: Message) {
        self.bytes += message.weight();
        // Its mark is not remembered again: a later loss then makes a second mark, which does no harm.
        self.queue.push_front(message);
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Deliveries, joins and leaves given up so far.
    pub fn shed(&self) -> u64 {
        self.shed
    }
}
