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

    /// More waits than its bound.
    pub(crate) fn is_full(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;
    use crate::channel::Epoch;
    use crate::message::Subscribed;
    use crate::{Publication, RequestId, Variant};
    use ringcast_proto::client as wire;
    use std::sync::Arc;

    /// A message by the first letter of its kind and its channel.
    fn message(kind: &str) -> Message {
        let (kind, channel) = kind.split_at(1);
        let channel: ChannelName = channel.into();
        let request = RequestId { slot: 0, generation: 0 };
        match kind {
            "d" => {
                let content = wire::Publication { data: vec![0; 100].into(), ..Default::default() };
                let publication =
                    Arc::new(Publication::new(content, Epoch::default(), Time::default(), Time::default()));
                Message::Deliver { channel, publication }
            }
            "j" => Message::Membership { channel, info: Arc::default(), joined: true },
            "s" => Message::Subscribed(Box::new(Subscribed { request, channel, top: None, recovery: None })),
            "u" => {
                let (variant, member) = (Variant::Json, None);
                Message::Unsubscribe(Box::new(crate::message::Unsubscribe {
                    channel,
                    variant,
                    positioned: false,
                    member,
                }))
            }
            _ => panic!("{kind}"),
        }
    }

    fn name(message: &Message) -> String {
        match message {
            Message::Deliver { channel, .. } => format!("d{channel}"),
            Message::Membership { channel, .. } => format!("j{channel}"),
            Message::Subscribed(subscribed) => format!("s{}", subscribed.channel),
            Message::Unsubscribe(unsubscribe) => format!("u{}", unsubscribe.channel),
            Message::Insufficient { channel } => format!("!{channel}"),
            message => panic!("{message:?}"),
        }
    }

    fn pop_all(outbox: &mut Outbox) -> String {
        let names = std::iter::from_fn(|| outbox.pop()).map(|message| name(&message));
        names.collect::<Vec<_>>().join(" ")
    }

    /// Pushes messages into an outbox that is full after the first delivery, and wants these to come out.
    #[track_caller]
    fn check(push: &str, want: &str) {
        let mut outbox = Outbox::new(100);
        push.split(' ').for_each(|kind| outbox.push(message(kind)));
        assert_eq!(pop_all(&mut outbox), want, "{push}");
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn deliveries_joins_and_leaves_over_the_bound_shrink_to_one_mark_per_channel() {
        check("da da ja db da db", "da !a !b");
    }

    #[test]
    fn messages_of_control_are_never_shed() {
        check("da ub sc ua uc", "da ub sc ua uc");
    }

    #[test]
    fn subscription_behind_a_mark_needs_a_mark_of_its_own() {
        check("da da sa da da", "da !a sa !a");
        check("da da sb da", "da !a sb");
    }

    #[test]
    fn mark_that_was_taken_does_not_stand_for_later_losses() {
        let mut outbox = Outbox::new(100);
        ["da", "ub", "ub", "da"].into_iter().for_each(|kind| outbox.push(message(kind)));
        for want in ["da", "ub", "ub", "!a"] {
            assert_eq!(outbox.pop().as_ref().map(name).as_deref(), Some(want));
        }
        outbox.push(message("da"));
        outbox.push(message("da"));
        assert_eq!(pop_all(&mut outbox), "da !a");
        assert_eq!(outbox.shed(), 2);
    }

    #[test]
    fn message_that_is_not_taken_stays_the_oldest() {
        let mut outbox = Outbox::new(1 << 20);
        ["da", "ub", "sc"].into_iter().for_each(|kind| outbox.push(message(kind)));
        let before = outbox.bytes();
        let mut room = 1;
        outbox.drain(|message| {
            if room == 0 {
                return Err(message);
            }
            room -= 1;
            Ok(())
        });
        assert!(outbox.bytes() < before);
        assert_eq!(pop_all(&mut outbox), "ub sc");
        assert!(outbox.is_empty());
    }
}
