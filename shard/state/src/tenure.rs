//! The right of a shard to order its channels, which passes on to another process. Source: `src/upgrade` says in which order.

use crate::channel::Written;
use crate::message::Message;
use crate::shard::Shard;
use crate::{Now, ShardId, Time};
use ringcast_proto::DecodeError;
use ringcast_proto::codes::ReplyError;
use ringcast_proto::handover::{ChannelPart, Records};

/// Messages that may wait for a home. What is asked beyond fails with error 100; subscribers are counted nevertheless.
const WAITING_MAX: usize = 1 << 16;

/// Whether the homes of a shard act.
#[derive(Debug, Default)]
pub(crate) enum Tenure {
    /// They do.
    #[default]
    Held,
    /// What they are asked waits: their channels are being written down.
    Resting(Vec<(ShardId, Message)>),
    /// Another process has their channels.
    Ceded,
}

impl Shard {
    /// Lets the homes rest and writes their channels down: gives out list after list of records, until `give` says false. Nothing
    /// is lost: `reclaim` undoes it. Where a broker orders channels there is nothing to write.
    pub fn write_channels(&mut self, now: Now, give: &mut dyn FnMut(Vec<u8>) -> bool) -> Written {
        if self.brokered.is_some() {
            return Written::default();
        }
        self.tenure = Tenure::Resting(Vec::new());
        self.homes.write_down(now.at, give)
    }

    /// The homes act again, beginning with what waits. Does nothing if they have not rested.
    pub fn reclaim(&mut self, now: Now) {
        self.settle_waiting(now, Tenure::Held);
    }

    /// The channels are another process's: what would change one fails from now on, and what is asked about one. Subscribers are
    /// still counted until they are gone. Where a broker orders channels they are everybody's, and nothing changes.
    pub fn cede(&mut self, now: Now) {
        if self.brokered.is_none() {
            self.settle_waiting(now, Tenure::Ceded);
        }
    }

    fn settle_waiting(&mut self, now: Now, tenure: Tenure) {
        if let Tenure::Resting(waiting) = std::mem::replace(&mut self.tenure, tenure) {
            for (from, message) in waiting {
                self.dispatch_to_home(now, from, message);
            }
        }
        self.handle_local(now);
    }

    /// Takes in what another process has written of channels whose home is here; skips the others. Before anybody subscribes.
    pub fn read_channels(&mut self, now: Now, list: &[u8]) -> Result<Written, DecodeError> {
        let mut read = Written::default();
        for record in Records::new(list) {
            let (name, bytes) = record?;
            if self.home(name) == self.post.own() {
                let part = ChannelPart::read(bytes)?;
                let Shard { homes, options, random, wheel, .. } = self;
                read += homes.read_in(now, (name, part), (options, random, wheel))?;
            }
        }
        Ok(read)
    }

    /// Whether all of it has come.
    pub fn has_whole_channels(&mut self) -> bool {
        self.homes.is_whole(&self.options)
    }

    /// What a home is asked while it does not act. Gives back what it may do nevertheless.
    pub(crate) fn hold_back(&mut self, from: ShardId, message: Message) -> Option<Message> {
        match &mut self.tenure {
            Tenure::Held => return Some(message),
            Tenure::Resting(waiting) if waiting.len() < WAITING_MAX || !is_question(&message) => {
                waiting.push((from, message));
                return None;
            }
            Tenure::Resting(_) | Tenure::Ceded => {}
        }
        let error = ReplyError::INTERNAL;
        let answer = match message {
            // Late ones are counted and not answered; the client hears that it has to reconnect.
            Message::Subscribe(mut subscribe) => {
                subscribe.deadline = Time(0);
                return Some(Message::Subscribe(subscribe));
            }
            Message::Publish(publish) => Message::Published { request: publish.request, result: Err(error) },
            Message::HistoryRemove(ask) => Message::Published { request: ask.request, result: Err(error) },
            Message::Presence(ask) => Message::PresenceIs { request: ask.request, members: Err(error) },
            Message::History(ask) => Message::HistoryIs { request: ask.request, result: Err(error) },
            message => return Some(message),
        };
        self.post.send(from, answer);
        None
    }
}

/// It can be answered with an error, and nothing else has to be done.
fn is_question(message: &Message) -> bool {
    matches!(message, Message::Publish(_) | Message::HistoryRemove(_) | Message::Presence(_) | Message::History(_))
}
