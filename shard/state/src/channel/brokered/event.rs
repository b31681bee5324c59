//! What the broker tells: publications, joins and leaves, lost connections, and answers.

use super::{Brokered, Channel, Waiting};
use crate::broker::{BrokerAnswer, BrokerError, BrokerEvent, BrokerNews, BrokerPublication};
use crate::channel::{Context, Epoch, Position, Publication};
use crate::message::Message;
use crate::metrics::BrokerMessage;
use bytes::Bytes;
use ringcast_proto::client as wire;
use ringcast_proto::codes::ReplyError;
use std::sync::Arc;

impl Brokered {
    /// Takes one piece of news.
    pub(crate) fn handle_news(&mut self, context: &mut Context<'_>, news: BrokerNews) {
        match news {
            // Of the shard, not of its channels.
            BrokerNews::Command(_)
            | BrokerNews::Survey(_)
            | BrokerNews::Nodes(_)
            | BrokerNews::Left(_)
            | BrokerNews::Told(..) => (),
            BrokerNews::Answer(request, answer) => {
                self.unanswered = self.unanswered.saturating_sub(1);
                // One that came late has been given up.
                if let Some(waiting) = self.pending.take(request) {
                    self.answered(context, waiting, answer);
                }
            }
            BrokerNews::Event(BrokerEvent::Publication(publication)) => self.publication(context, *publication),
            BrokerNews::Event(BrokerEvent::Membership { channel, info, joined }) => {
                let message = if joined { BrokerMessage::Join } else { BrokerMessage::Leave };
                context.metrics.broker_received[message as usize] += 1;
                let Some(index) = self.find(&channel) else { return };
                let Channel { name, listeners, .. } = &self.channels[index];
                let message = || Message::Membership { channel: name.clone(), info: info.clone(), joined };
                listeners.send(context.post, message);
            }
            BrokerNews::Event(BrokerEvent::Hearing { channels }) => {
                for channel in channels {
                    if let Some(index) = self.find(&channel) {
                        self.level(context, self.place(index));
                    }
                }
            }
        }
    }

    fn answered(&mut self, context: &mut Context<'_>, waiting: Waiting, answer: BrokerAnswer) {
        match (waiting, answer) {
            (waiting, BrokerAnswer::Failed(BrokerError::Unavailable)) => {
                self.failed(context, waiting, ReplyError::INTERNAL);
            }
            (waiting, BrokerAnswer::Failed(BrokerError::Unsupported)) => {
                self.failed(context, waiting, ReplyError::NOT_AVAILABLE);
            }
            (waiting, BrokerAnswer::Failed(BrokerError::BadChannel)) => {
                self.failed(context, waiting, ReplyError::BAD_REQUEST);
            }
            (Waiting::Nobody, _) => {}
            (Waiting::Subscribe(place), BrokerAnswer::Done) => self.subscribed(context, place),
            (Waiting::Enter(place, waiter), BrokerAnswer::Done) => self.admit(context, place, waiter),
            (Waiting::Read(place), BrokerAnswer::History { top, publications }) => {
                self.was_read(context, place, top, publications);
            }
            (Waiting::Question(origin), answer) => origin.answer(context, answer),
            (waiting, answer) => {
                debug_assert!(false, "{answer:?} is no answer for {waiting:?}");
                self.failed(context, waiting, ReplyError::INTERNAL);
            }
        }
    }

    fn publication(&mut self, context: &mut Context<'_>, told: BrokerPublication) {
        context.metrics.broker_received[BrokerMessage::Publication as usize] += 1;
        let Some(index) = self.find(&told.channel) else { return };
        let channel = &mut self.channels[index];
        let position = Position { epoch: channel.known_epoch(told.position.epoch), ..told.position };
        let (now, is_kept, time) = (context.now.at, position.offset > 0, told.publication.time);
        if is_kept && channel.has(&position) {
            return;
        }
        let content = wire::Publication { offset: position.offset, ..stripped(told.publication) };
        let publication = Arc::new(Publication::new(content, position.epoch.clone(), now, now));
        if is_kept {
            channel.top = Some(position);
            channel.top_time = time;
            if let Some(reading) = &mut channel.reading {
                reading.keep(Arc::clone(&publication));
            }
        }
        channel.hand_on(context, publication, told.previous);
    }
}

impl Channel {
    /// The epoch, in the memory of the one that is known already.
    pub(super) fn known_epoch(&self, epoch: Epoch) -> Epoch {
        match &self.top {
            Some(top) if top.epoch == epoch => top.epoch.clone(),
            _ => epoch,
        }
    }

    fn has(&self, position: &Position) -> bool {
        self.top.as_ref().is_some_and(|top| top.epoch == position.epoch && position.offset <= top.offset)
    }

    /// Sends a publication to the listening shards; as a patch of `base`, too, for those who can use one.
    pub(super) fn hand_on(&mut self, context: &mut Context<'_>, publication: Arc<Publication>, base: Option<Bytes>) {
        let mut publication = publication;
        let base = base.filter(|_| !self.is_base_lost);
        self.is_base_lost = publication.offset == 0;
        let encoded = Arc::make_mut(&mut publication);
        self.listeners.encode(encoded, base.as_deref(), context.delta_table);
        let deliver = || Message::Deliver { channel: self.name.clone(), publication: Arc::clone(&publication) };
        self.listeners.send(context.post, deliver);
    }
}

/// What of a publication is for clients.
pub(super) fn stripped(content: wire::Publication) -> wire::Publication {
    wire::Publication { time: 0, epoch: String::new(), delta: false, prev_data: Bytes::new(), ..content }
}
