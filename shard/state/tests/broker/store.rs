//! A broker for several nodes, in memory: what Redis keeps, and who has subscribed.

use bytes::Bytes;
use ringcast_proto::client::{self as wire, ClientInfo};
use ringcast_state::broker::{
    BrokerAnswer, BrokerAsk, BrokerEvent, BrokerPublication, BrokerPublish, HistoryTerms, Suppression,
};
use ringcast_state::message::ChannelName;
use ringcast_state::{ClientId, Epoch, Position, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Number of a node.
pub type Node = usize;

/// What is kept, and what is on its way to the nodes.
#[derive(Default)]
pub struct Store {
    streams: BTreeMap<ChannelName, Kept>,
    presence: BTreeMap<ChannelName, BTreeMap<ClientId, Arc<ClientInfo>>>,
    results: BTreeMap<(ChannelName, String), (Time, Position)>,
    pub subscribed: BTreeSet<(Node, ChannelName)>,
    /// Told to nodes, oldest first.
    pub events: Vec<(Node, BrokerEvent)>,
    epochs: u32,
    /// Publications made, each at another time.
    published: i64,
}

/// One stream.
struct Kept {
    epoch: Epoch,
    top: u64,
    publications: VecDeque<wire::Publication>,
    expire_at: Time,
    meta_expire_at: Time,
    version: u64,
    version_epoch: String,
}

impl Store {
    /// Comes back empty; who had subscribed is not any more.
    pub fn forget_all(&mut self) {
        let (epochs, published) = (self.epochs, self.published);
        *self = Store { epochs, published, ..Store::default() };
    }

    /// Epoch of a stream that there is.
    pub fn epoch(&self, channel: &str) -> String {
        self.streams[channel].epoch.to_string()
    }

    /// Comes back without the last publications.
    pub fn forget_last(&mut self, channel: &str, count: u64) {
        if let Some(stream) = self.streams.get_mut(channel) {
            stream.top = stream.top.saturating_sub(count);
            stream.publications.retain(|publication| publication.offset <= stream.top);
        }
        self.subscribed.clear();
    }

    /// No presence is kept.
    pub fn is_nobody_present(&self) -> bool {
        self.presence.is_empty()
    }

    pub fn serve(&mut self, node: Node, now: Time, ask: BrokerAsk) -> BrokerAnswer {
        match ask {
            BrokerAsk::Subscribe { channel } => {
                self.subscribed.insert((node, channel));
                BrokerAnswer::Done
            }
            BrokerAsk::Unsubscribe { channel } => {
                self.subscribed.remove(&(node, channel));
                BrokerAnswer::Done
            }
            BrokerAsk::Publish(publish) => self.publish(now, *publish),
            BrokerAsk::PublishJoin { channel, info } => self.member(&channel, &info, true),
            BrokerAsk::PublishLeave { channel, info } => self.member(&channel, &info, false),
            BrokerAsk::History { channel, since, limit, reverse, meta_ttl } => {
                let stream = self.stream(&channel, now, meta_ttl);
                BrokerAnswer::History { top: stream.position(), publications: stream.read(since, limit, reverse) }
            }
            BrokerAsk::RemoveHistory { channel } => {
                if let Some(stream) = self.streams.get_mut(&channel) {
                    stream.publications.clear();
                }
                BrokerAnswer::Done
            }
            BrokerAsk::AddPresence { channel, client, info } => {
                self.presence.entry(channel).or_default().insert(client, info);
                BrokerAnswer::Done
            }
            BrokerAsk::RemovePresence { channel, client, .. } => {
                if let Some(members) = self.presence.get_mut(&channel) {
                    members.remove(&client);
                }
                BrokerAnswer::Done
            }
            BrokerAsk::Presence { channel } | BrokerAsk::PresenceStats { channel } => {
                let members = self.presence.get(&channel).into_iter().flat_map(BTreeMap::values);
                BrokerAnswer::Presence(members.cloned().collect())
            }
        }
    }

    fn publish(&mut self, now: Time, publish: BrokerPublish) -> BrokerAnswer {
        let key = (publish.channel.clone(), publish.idempotency_key.clone());
        let known = self.results.get(&key).filter(|(expire_at, _)| *expire_at > now);
        if let Some((_, position)) = known.filter(|_| !key.1.is_empty()) {
            let suppressed = Some(Suppression::Idempotency);
            return BrokerAnswer::Published { position: position.clone(), suppressed };
        }
        let ttl = publish.idempotency_ttl;
        let answer = match publish.history {
            None => {
                self.tell(publish, Position::default(), None);
                BrokerAnswer::Published { position: Position::default(), suppressed: None }
            }
            Some(terms) => self.append(now, publish, terms),
        };
        if let BrokerAnswer::Published { position, suppressed: None } = &answer {
            self.results.insert(key, (now + ttl, position.clone()));
        }
        answer
    }

    fn append(&mut self, now: Time, publish: BrokerPublish, terms: HistoryTerms) -> BrokerAnswer {
        self.published += 1;
        let time = self.published;
        let stream = self.stream(&publish.channel, now, terms.meta_ttl);
        let same_epoch = publish.version_epoch.is_empty() || publish.version_epoch == stream.version_epoch;
        if publish.version > 0 && same_epoch && publish.version <= stream.version {
            let suppressed = Some(Suppression::Version);
            return BrokerAnswer::Published { position: stream.position(), suppressed };
        }
        // One without a version makes the stream forget it, as with the memory engine; Redis remembers.
        (stream.version, stream.version_epoch) = (publish.version, publish.version_epoch.clone());
        stream.top += 1;
        let position = stream.position();
        let previous = stream.publications.back().map(|last| last.data.clone()).filter(|_| publish.use_delta);
        stream.publications.push_back(content(&publish, position.offset, time));
        while stream.publications.len() > terms.size {
            stream.publications.pop_front();
        }
        stream.expire_at = now + terms.ttl;
        self.tell(publish, position.clone(), previous);
        BrokerAnswer::Published { position, suppressed: None }
    }

    fn tell(&mut self, publish: BrokerPublish, position: Position, previous: Option<Bytes>) {
        let publication = content(&publish, position.offset, self.published);
        let channel = publish.channel;
        let told = BrokerPublication { channel: channel.clone(), position, publication, previous };
        let told = BrokerEvent::Publication(Box::new(told));
        self.tell_all(&channel, &told);
    }

    fn member(&mut self, channel: &ChannelName, info: &Arc<ClientInfo>, joined: bool) -> BrokerAnswer {
        let (channel, info) = (channel.clone(), info.clone());
        self.tell_all(&channel.clone(), &BrokerEvent::Membership { channel, info, joined });
        BrokerAnswer::Done
    }

    fn tell_all(&mut self, channel: &ChannelName, event: &BrokerEvent) {
        let concerned = self.subscribed.iter().filter(|(_, subscribed)| subscribed == channel);
        self.events.extend(concerned.map(|(node, _)| (*node, event.clone())));
    }

    fn stream(&mut self, channel: &ChannelName, now: Time, meta_ttl: Duration) -> &mut Kept {
        if self.streams.get(channel).is_some_and(|stream| stream.meta_expire_at < now) {
            self.streams.remove(channel);
        }
        let epochs = &mut self.epochs;
        let stream = self.streams.entry(channel.clone()).or_insert_with(|| {
            *epochs += 1;
            let letters: String = (0..8).map(|at| char::from(b'a' + (*epochs >> (at * 4) & 15) as u8)).collect();
            Kept {
                epoch: Epoch::from(&*letters),
                top: 0,
                publications: VecDeque::new(),
                expire_at: now,
                meta_expire_at: now,
                version: 0,
                version_epoch: String::new(),
            }
        });
        stream.meta_expire_at = now + meta_ttl;
        if stream.expire_at <= now {
            stream.publications.clear();
        }
        stream
    }
}

impl Kept {
    fn position(&self) -> Position {
        Position { offset: self.top, epoch: self.epoch.clone() }
    }

    fn read(&self, since: Option<u64>, limit: Option<usize>, reverse: bool) -> Vec<wire::Publication> {
        let limit = limit.unwrap_or(usize::MAX);
        let kept = self.publications.iter();
        if !reverse {
            return kept.filter(|kept| kept.offset > since.unwrap_or(0)).take(limit).cloned().collect();
        }
        // A place that the stream has not come to has nothing before it.
        let before = since.map_or(u64::MAX, |since| if since > self.top + 1 { 0 } else { since });
        kept.rev().filter(|kept| kept.offset < before).take(limit).cloned().collect()
    }
}

fn content(publish: &BrokerPublish, offset: u64, number: i64) -> wire::Publication {
    wire::Publication {
        data: publish.data.clone(),
        info: publish.info.as_deref().cloned(),
        offset,
        tags: publish.tags.clone(),
        version: publish.version,
        // As Redis has it.
        time: 1_700_000_000_000 + number,
        ..Default::default()
    }
}
