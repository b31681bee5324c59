//! One life of the connection: what the shards ask goes out, with a ping behind each batch; once its pong has come the batch was
//! carried out. Messages come under the number of their subscription.

use super::connection::{Info, Input, refused};
use super::{Order, Task};
use crate::control::redis::{Asker, News, Question, Told};
use crate::control::socket::Outgoing;
use bytes::Bytes;
use ringcast_proto::client::{ClientInfo, Publication};
use ringcast_proto::nats::{
    ChannelMessage, Operation, decode_channel_message, encode_join, encode_leave, encode_publication, write_ping,
    write_pong, write_publish, write_subscribe, write_unsubscribe,
};
use ringcast_state::Position;
use ringcast_state::broker::{BrokerAnswer, BrokerAsk, BrokerError, BrokerEvent, BrokerPublication, BrokerPublish};
use ringcast_state::message::ChannelName;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use tracing::warn;

/// Numbers of the subscriptions for control; those of channels follow.
const CONTROL_SIDS: [u64; 2] = [1, 2];

/// Subscriptions that are asked for again at a time.
const RESUMED_MAX: usize = 512;

/// Channels that are subscribed: acknowledged, or to be again once NATS is back.
pub struct Channels {
    by_name: HashMap<ChannelName, u64>,
    by_sid: HashMap<u64, ChannelName>,
    next: u64,
}

impl Default for Channels {
    fn default() -> Self {
        Self { by_name: HashMap::new(), by_sid: HashMap::new(), next: CONTROL_SIDS[1] + 1 }
    }
}

impl Channels {
    /// Number of channels.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The number of a channel that is subscribed from now on, and whether it was not before.
    fn add(&mut self, channel: &ChannelName) -> (u64, bool) {
        if let Some(sid) = self.by_name.get(channel) {
            return (*sid, false);
        }
        let sid = self.next;
        self.next += 1;
        self.by_name.insert(channel.clone(), sid);
        self.by_sid.insert(sid, channel.clone());
        (sid, true)
    }

    /// The number that it had.
    pub fn remove(&mut self, channel: &str) -> Option<u64> {
        let sid = self.by_name.remove(channel)?;
        self.by_sid.remove(&sid);
        Some(sid)
    }
}

/// What was sent before a ping, and who waits for its pong.
struct Batch {
    owed: Vec<Owed>,
    /// Who waits for messages to other nodes to be taken.
    told: Vec<Told>,
    /// The last of the subscriptions after a lost connection: the shards are told.
    is_resumed: bool,
    since: Instant,
}

/// An answer to be given once the pong has come.
struct Owed {
    asker: Asker,
    answer: BrokerAnswer,
    /// What it is about, to find it when the server does not permit it.
    subject: String,
    /// The channel, where it is subscribed.
    subscribed: Option<ChannelName>,
}

/// One life of the connection.
pub struct Talk<'a> {
    task: &'a mut Task,
    pub out: Outgoing,
    /// Pings without a pong. Bound: each holds questions of the shards, which are bounded, or was sent after a silence.
    batches: VecDeque<Batch>,
    heard_at: Instant,
    max_payload: usize,
    news: News,
}

impl<'a> Talk<'a> {
    /// Subscribes to control, and to what was subscribed before.
    pub fn begin(task: &'a mut Task, info: &Info) -> Self {
        let (out, heard_at) = (Outgoing::default(), Instant::now());
        let mut talk = Talk {
            task,
            out,
            batches: VecDeque::new(),
            heard_at,
            max_payload: info.max_payload,
            news: News::default(),
        };
        let subjects = &talk.task.subjects;
        for (subject, sid) in [subjects.control(), subjects.node(&talk.task.node)].iter().zip(CONTROL_SIDS) {
            write_subscribe(subject, sid, &mut talk.out.bytes);
        }
        let channels: Vec<_> = talk.task.channels.by_sid.iter().map(|(sid, name)| (*sid, name.clone())).collect();
        let parts = channels.len().div_ceil(RESUMED_MAX).max(1);
        for part in 0..parts {
            for (sid, channel) in channels.iter().skip(part * RESUMED_MAX).take(RESUMED_MAX) {
                if let Some(subject) = talk.task.subjects.to_subscribe(channel) {
                    write_subscribe(&subject, *sid, &mut talk.out.bytes);
                }
            }
            talk.ping(Vec::new(), Vec::new(), part + 1 == parts);
        }
        talk
    }

    fn ping(&mut self, owed: Vec<Owed>, told: Vec<Told>, is_resumed: bool) {
        write_ping(&mut self.out.bytes);
        self.batches.push_back(Batch { owed, told, is_resumed, since: Instant::now() });
    }

    /// Tells the shards what there is to tell.
    pub fn tell(&mut self) {
        self.news.tell(&*self.task.listener);
    }

    /// When a pong is late, or nothing was heard for so long that it is time to ask whether somebody is there.
    pub fn look_again_at(&self, patience: Duration) -> Instant {
        self.batches.front().map_or(self.heard_at, |batch| batch.since.max(self.heard_at)) + patience
    }

    /// At the time of `look_again_at`.
    pub fn check_silence(&mut self) -> io::Result<()> {
        if !self.batches.is_empty() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within write_timeout"));
        }
        self.ping(Vec::new(), Vec::new(), false);
        Ok(())
    }

    /// Takes orders, in their order.
    pub fn take(&mut self, orders: impl Iterator<Item = Order>) {
        let (mut owed, mut told) = (Vec::new(), Vec::new());
        for order in orders {
            match order {
                Order::Tell { subject, message, said } => {
                    write_publish(&subject, &message, &mut self.out.bytes);
                    told.extend(said);
                }
                Order::Ask(questions) => owed.extend(questions.into_iter().filter_map(|question| self.ask(question))),
            }
        }
        // Also behind messages alone: it shows that the server is there.
        self.ping(owed, told, false);
    }

    /// Writes it, or answers at once.
    fn ask(&mut self, question: Question) -> Option<Owed> {
        let asker = question.asker();
        match self.write(question.asked.ask) {
            Step::Sent { answer, subject, subscribed } => Some(Owed { asker, answer, subject, subscribed }),
            Step::Answered(answer) => {
                self.news.answer(asker, answer);
                None
            }
        }
    }

    fn write(&mut self, ask: BrokerAsk) -> Step {
        match ask {
            BrokerAsk::Subscribe { channel } => self.subscribe(channel),
            BrokerAsk::Unsubscribe { channel } => {
                if let Some(sid) = self.task.channels.remove(&channel) {
                    write_unsubscribe(sid, &mut self.out.bytes);
                }
                Step::Answered(BrokerAnswer::Done)
            }
            BrokerAsk::Publish(publish) => {
                let said = BrokerAnswer::Published { position: Position::default(), suppressed: None };
                let channel = publish.channel.clone();
                let is_raw = self.task.subjects.is_raw();
                let message = if is_raw { publish.data } else { publication(*publish).into() };
                self.publish(self.task.subjects.to_publish(&channel), &message, said)
            }
            BrokerAsk::PublishJoin { .. } | BrokerAsk::PublishLeave { .. } if self.task.subjects.is_raw() => {
                Step::Answered(BrokerAnswer::Done)
            }
            BrokerAsk::PublishJoin { channel, info } => {
                // As in the reference, where a pattern may have members.
                self.publish(
                    self.task.subjects.to_subscribe(&channel),
                    &encode_join(&channel, &info),
                    BrokerAnswer::Done,
                )
            }
            BrokerAsk::PublishLeave { channel, info } => self.publish(
                self.task.subjects.to_subscribe(&channel),
                &encode_leave(&channel, &info),
                BrokerAnswer::Done,
            ),
            BrokerAsk::History { .. }
            | BrokerAsk::RemoveHistory { .. }
            | BrokerAsk::AddPresence { .. }
            | BrokerAsk::RemovePresence { .. }
            | BrokerAsk::Presence { .. }
            | BrokerAsk::PresenceStats { .. } => Step::Answered(BrokerAnswer::Failed(BrokerError::Unsupported)),
        }
    }

    fn subscribe(&mut self, channel: ChannelName) -> Step {
        let Some(subject) = self.task.subjects.to_subscribe(&channel) else {
            return Step::Answered(BrokerAnswer::Failed(BrokerError::BadChannel));
        };
        let (sid, is_new) = self.task.channels.add(&channel);
        if is_new {
            write_subscribe(&subject, sid, &mut self.out.bytes);
        }
        Step::Sent { answer: BrokerAnswer::Done, subject, subscribed: Some(channel) }
    }

    fn publish(&mut self, subject: Option<String>, message: &[u8], answer: BrokerAnswer) -> Step {
        let Some(subject) = subject else {
            return Step::Answered(BrokerAnswer::Failed(BrokerError::BadChannel));
        };
        if message.len() > self.max_payload {
            // The server would close the connection.
            let (bytes, max) = (message.len(), self.max_payload);
            warn!(subject, bytes, max, "a message is longer than max_payload of NATS");
            return Step::Answered(BrokerAnswer::Failed(BrokerError::Unavailable));
        }
        write_publish(&subject, message, &mut self.out.bytes);
        Step::Sent { answer, subject, subscribed: None }
    }

    /// Understands what came.
    pub fn hear(&mut self, input: &mut Input) -> io::Result<()> {
        self.heard_at = Instant::now();
        while let Some(operation) = input.next()? {
            match operation {
                Operation::Message { sid, subject, payload } => self.message(sid, &subject, payload),
                Operation::Ping => write_pong(&mut self.out.bytes),
                Operation::Pong => self.pong(),
                Operation::Ok => (),
                Operation::Error(text) => self.refused(&text)?,
                Operation::Info(text) => {
                    let info = Info::read(&text)?;
                    self.max_payload = info.max_payload;
                    self.task.dialler.learn(&info);
                }
            }
        }
        Ok(())
    }

    /// All of the oldest batch was carried out.
    fn pong(&mut self) {
        let Some(batch) = self.batches.pop_front() else { return };
        for owed in batch.owed {
            self.news.answer(owed.asker, owed.answer);
        }
        batch.told.into_iter().for_each(|told| told.tell(true, &mut self.news));
        if batch.is_resumed {
            self.tell_hearing();
        }
    }

    /// All that was subscribed before is again.
    fn tell_hearing(&mut self) {
        let mut homes: HashMap<_, Vec<ChannelName>> = HashMap::new();
        for channel in self.task.channels.by_name.keys() {
            homes.entry(self.task.listener.home(channel)).or_default().push(channel.clone());
        }
        for (home, channels) in homes {
            self.news.event(home, BrokerEvent::Hearing { channels });
        }
    }

    /// Something is not permitted: those who asked for it are told. After everything else the server closes.
    fn refused(&mut self, text: &[u8]) -> io::Result<()> {
        let words = String::from_utf8_lossy(text);
        if !words.to_ascii_lowercase().contains("permissions violation") {
            return Err(refused(text));
        }
        warn!(error = %words, "NATS does not permit something to this user");
        let subject = words.split('"').nth(1).unwrap_or_default();
        let is_subscription = words.to_ascii_lowercase().contains("subscription");
        let Some(batch) = self.batches.front_mut() else { return Ok(()) };
        let is_meant = |owed: &mut Owed| owed.subject == subject && owed.subscribed.is_some() == is_subscription;
        for owed in batch.owed.extract_if(.., is_meant) {
            if let Some(channel) = &owed.subscribed {
                self.task.channels.remove(channel);
            }
            self.news.refuse(owed.asker);
        }
        Ok(())
    }

    fn message(&mut self, sid: u64, subject: &[u8], payload: Bytes) {
        if CONTROL_SIDS.contains(&sid) {
            // What is wrong with it, is logged.
            let _ = self.task.control.hear(&payload, &*self.task.listener, &mut self.news);
            return;
        }
        // Nobody hears it any more.
        let Some(channel) = self.task.channels.by_sid.get(&sid) else { return };
        if self.task.subjects.is_raw() {
            let subject = String::from_utf8_lossy(subject);
            let name = self.task.subjects.raw_name(&subject).to_owned();
            let publication = Publication { data: payload, channel: name, ..Publication::default() };
            let told = BrokerPublication {
                channel: channel.clone(),
                position: Position::default(),
                publication,
                previous: None,
            };
            let event = BrokerEvent::Publication(Box::new(told));
            return self.news.event(self.task.listener.home(channel), event);
        }
        let wildcards = self.task.subjects.allow_wildcards().then(|| channel.clone());
        match decode_channel_message(payload) {
            Ok(message) => {
                let (channel, event) = event(wildcards, message);
                self.news.event(self.task.listener.home(&channel), event);
            }
            Err(error) => {
                let subject = String::from_utf8_lossy(subject);
                warn!(%subject, %error, "a message in NATS is none of Centrifugo's");
            }
        }
    }

    /// The connection is gone: nobody gets an answer any more.
    pub fn end(mut self) {
        for batch in std::mem::take(&mut self.batches) {
            for owed in batch.owed {
                if let Some(channel) = &owed.subscribed {
                    self.task.channels.remove(channel);
                }
                self.news.refuse(owed.asker);
            }
            batch.told.into_iter().for_each(|told| told.tell(false, &mut self.news));
        }
        self.tell();
    }
}

/// What became of a question.
enum Step {
    /// It was written. The rest is as in [`Owed`].
    Sent {
        answer: BrokerAnswer,
        subject: String,
        subscribed: Option<ChannelName>,
    },
    Answered(BrokerAnswer),
}

fn publication(publish: BrokerPublish) -> Vec<u8> {
    let publication = Publication {
        data: publish.data,
        info: publish.info.as_deref().cloned(),
        tags: publish.tags,
        delta: publish.use_delta,
        time: since_1970().as_millis() as i64,
        ..Publication::default()
    };
    encode_publication(&publish.channel, publication)
}

/// An event, and the channel that it is for: with wildcards the one that was subscribed, which may be a pattern.
fn event(subscribed: Option<ChannelName>, message: ChannelMessage) -> (ChannelName, BrokerEvent) {
    match message {
        ChannelMessage::Publication { channel, mut publication, epoch } => {
            let heard = match subscribed {
                None => ChannelName::from(channel),
                Some(subscribed) => {
                    publication.channel = channel;
                    subscribed
                }
            };
            let position = match epoch.is_empty() {
                true => Position::default(),
                false => Position { offset: publication.offset, epoch: epoch.as_str().into() },
            };
            let told = BrokerPublication { channel: heard.clone(), position, publication, previous: None };
            (heard, BrokerEvent::Publication(Box::new(told)))
        }
        ChannelMessage::Join(channel, info) => membership(channel.into(), info, true),
        ChannelMessage::Leave(channel, info) => membership(channel.into(), info, false),
    }
}

fn membership(channel: ChannelName, info: ClientInfo, joined: bool) -> (ChannelName, BrokerEvent) {
    (channel.clone(), BrokerEvent::Membership { channel, info: Arc::new(info), joined })
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
