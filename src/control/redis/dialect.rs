//! Questions of the shards as commands of Redis. Source: behaviour §10.1.

use super::answer::{Expected, Page};
use super::options::RedisOptions;
use super::scripts::{self, Script};
use ring::rand::{SecureRandom as _, SystemRandom};
use ringcast_proto::client::Publication;
use ringcast_proto::redis::{CommandWriter, Encoded, Keys, Kind, encode_join, encode_leave};
use ringcast_state::broker::{BrokerAsk, BrokerPublish, HistoryTerms};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Life of the result of an idempotency key for which the publisher names none.
const RESULT_TTL: Duration = Duration::from_secs(300);

/// Random bytes are drawn from the system so many at a time.
const RANDOM_BYTES: usize = 512;

/// How one engine speaks to one Redis.
pub struct Dialect {
    /// Names.
    pub keys: Keys,
    lists: bool,
    presence_ttl: Duration,
    map_users: bool,
    field_ttl: bool,
    /// Nothing may be written where presence is read.
    at_replica: bool,
    random: Random,
}

impl Dialect {
    /// Of an engine with these options.
    pub fn new(options: &RedisOptions, cluster: bool) -> Self {
        Self {
            keys: Keys { prefix: options.prefix.clone(), cluster },
            lists: options.history_use_lists,
            presence_ttl: options.presence_ttl,
            map_users: options.presence_user_mapping,
            field_ttl: options.presence_hash_field_ttl,
            at_replica: false,
            random: Random::default(),
        }
    }

    /// The same for replicas, which only read.
    pub fn at_replica(self) -> Self {
        Self { at_replica: true, ..self }
    }

    /// Adds the command for a question, and says what its answer will look like. Questions about subscriptions are not asked here.
    pub fn write(&mut self, ask: BrokerAsk, out: &mut Vec<u8>) -> Expected {
        let mut writer = CommandWriter::new(out);
        let keys = &self.keys;
        match ask {
            BrokerAsk::Publish(publish) => return self.publish(*publish, out),
            BrokerAsk::PublishJoin { channel, info } => {
                writer.begin(3).word("PUBLISH").word(keys.name(Kind::Client, &channel)).word(encode_join(&info));
            }
            BrokerAsk::PublishLeave { channel, info } => {
                writer.begin(3).word("PUBLISH").word(keys.name(Kind::Client, &channel)).word(encode_leave(&info));
            }
            BrokerAsk::History { channel, since, limit, reverse, meta_ttl } => {
                return self.history(&channel, Page { since, limit, reverse }, meta_ttl, out);
            }
            BrokerAsk::RemoveHistory { channel } => {
                let kind = if self.lists { Kind::List } else { Kind::Stream };
                writer.begin(2).word("DEL").word(keys.name(kind, &channel));
            }
            BrokerAsk::AddPresence { channel, info, .. } => {
                let ttl = seconds(self.presence_ttl);
                self.presence(&scripts::ADD_PRESENCE, 7, &channel, &mut writer);
                writer.word(ttl).word(since_1970().as_secs() + ttl).word(&*info.client).word(Encoded(&*info));
                writer.word(&*info.user).word(flag(self.map_users)).word(flag(self.field_ttl));
            }
            BrokerAsk::RemovePresence { channel, info, .. } => {
                self.presence(&scripts::REMOVE_PRESENCE, 4, &channel, &mut writer);
                writer.word(&*info.client).word(&*info.user).word(flag(self.map_users)).word(flag(self.field_ttl));
            }
            BrokerAsk::PresenceStats { channel } if self.map_users => {
                let script =
                    if self.at_replica { &scripts::COUNT_PRESENCE_AT_REPLICA } else { &scripts::COUNT_PRESENCE };
                self.presence(script, 2, &channel, &mut writer);
                writer.word(since_1970().as_secs()).word(flag(self.field_ttl));
                return Expected::PresenceStats;
            }
            BrokerAsk::Presence { channel } | BrokerAsk::PresenceStats { channel } => {
                let script = if self.at_replica { &scripts::READ_PRESENCE_AT_REPLICA } else { &scripts::READ_PRESENCE };
                call(&mut writer, script, 2, 2);
                writer.word(keys.name(Kind::PresenceExpire, &channel)).word(keys.name(Kind::PresenceData, &channel));
                writer.word(since_1970().as_secs()).word(flag(self.field_ttl));
                return Expected::Presence;
            }
            BrokerAsk::Subscribe { .. } | BrokerAsk::Unsubscribe { .. } => {
                unreachable!("subscriptions have a connection of their own")
            }
        }
        Expected::Done
    }

    /// The keys that both scripts about an entry take.
    fn presence(&self, script: &Script, words: usize, channel: &str, writer: &mut CommandWriter<'_>) {
        call(writer, script, 4, words);
        let kinds = [Kind::PresenceExpire, Kind::PresenceData, Kind::PresenceUserExpire, Kind::PresenceUserClients];
        for kind in kinds {
            writer.word(self.keys.name(kind, channel));
        }
    }

    fn publish(&mut self, publish: BrokerPublish, out: &mut Vec<u8>) -> Expected {
        let mut writer = CommandWriter::new(out);
        let history = publish.history.filter(|terms| terms.size > 0 && !terms.ttl.is_zero());
        let publication = Publication {
            data: publish.data,
            info: publish.info.as_deref().cloned(),
            tags: publish.tags,
            time: since_1970().as_millis() as i64,
            // Without history no script says it.
            delta: publish.use_delta && history.is_none(),
            version: publish.version,
            ..Publication::default()
        };
        let result_ttl = match (publish.idempotency_key.as_str(), publish.idempotency_ttl) {
            ("", _) => None,
            (_, Duration::ZERO) => Some(seconds(RESULT_TTL)),
            (_, ttl) => Some(seconds(ttl)),
        };
        let result = self.keys.result(&publish.channel, &publish.idempotency_key);
        let to = self.keys.name(Kind::Client, &publish.channel);
        match (history, result_ttl) {
            (None, None) => {
                writer.begin(3).word("PUBLISH").word(to).word(Encoded(&publication));
                Expected::Said
            }
            (None, Some(ttl)) => {
                call(&mut writer, &scripts::PUBLISH_ONCE, 1, 3);
                writer.word(result).word(Encoded(&publication)).word(to).word(ttl);
                Expected::SaidOnce
            }
            (Some(HistoryTerms { size, ttl, meta_ttl }), _) => {
                let epoch = self.random.epoch();
                let (script, kinds, size, words) = if self.lists {
                    (&scripts::ADD_TO_LIST, [Kind::List, Kind::ListMeta], size - 1, 8)
                } else {
                    (&scripts::ADD_TO_STREAM, [Kind::Stream, Kind::StreamMeta], size, 10)
                };
                // In a cluster, a key that is not there keeps a slot from being used while it moves.
                call(&mut writer, script, if result_ttl.is_some() { 3 } else { 2 }, words);
                for kind in kinds {
                    writer.word(self.keys.name(kind, &publish.channel));
                }
                if result_ttl.is_some() {
                    writer.word(result);
                }
                writer.word(Encoded(&publication)).word(size as u64).word(seconds(ttl)).word(to);
                writer.word(seconds(meta_ttl)).word(&epoch[..]);
                match result_ttl {
                    Some(ttl) => writer.word(ttl),
                    None => writer.word(""),
                };
                writer.word(flag(publish.use_delta));
                if !self.lists {
                    writer.word(publish.version).word(publish.version_epoch.as_str());
                }
                Expected::Added
            }
        }
    }

    fn history(&mut self, channel: &str, page: Page, meta_ttl: Duration, out: &mut Vec<u8>) -> Expected {
        let epoch = self.random.epoch();
        let mut writer = CommandWriter::new(out);
        let keys = &self.keys;
        if self.lists {
            call(&mut writer, &scripts::READ_LIST, 2, 3);
            writer.word(keys.name(Kind::List, channel)).word(keys.name(Kind::ListMeta, channel));
            writer.word(flag(page.limit != Some(0))).word(seconds(meta_ttl)).word(&epoch[..]);
            return Expected::List(page);
        }
        let from = match (page.since, page.reverse) {
            (None, _) => 0,
            (Some(offset), false) => offset.saturating_add(1),
            (Some(offset), true) => offset.wrapping_sub(1),
        };
        let nothing_before = page.reverse && page.since == Some(1);
        let with = page.limit != Some(0) && !nothing_before;
        call(&mut writer, &scripts::READ_STREAM, 2, 6);
        writer.word(keys.name(Kind::Stream, channel)).word(keys.name(Kind::StreamMeta, channel));
        writer.word(flag(with)).word(from).word(page.limit.unwrap_or(0) as u64).word(flag(page.reverse));
        writer.word(seconds(meta_ttl)).word(&epoch[..]);
        Expected::Stream
    }
}

/// The head of a script's call; its keys and words follow.
fn call(writer: &mut CommandWriter<'_>, script: &Script, keys: usize, words: usize) {
    writer.begin(3 + keys + words).word("EVALSHA").word(script.digest()).word(keys as u64);
}

fn flag(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

/// Whole seconds, as Redis counts them; not none where there is some time.
fn seconds(span: Duration) -> u64 {
    if span.is_zero() { 0 } else { span.as_secs().max(1) }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Bytes of the system's generator, drawn many at a time.
struct Random {
    source: SystemRandom,
    bytes: [u8; RANDOM_BYTES],
    left: usize,
}

impl Default for Random {
    fn default() -> Self {
        Self { source: SystemRandom::new(), bytes: [0; RANDOM_BYTES], left: 0 }
    }
}

impl Random {
    fn take<const COUNT: usize>(&mut self) -> [u8; COUNT] {
        if self.left < COUNT {
            self.source.fill(&mut self.bytes).expect("the system gives random bytes");
            self.left = RANDOM_BYTES;
        }
        self.left -= COUNT;
        std::array::from_fn(|index| self.bytes[self.left + index])
    }

    /// Eight letters, as the reference names epochs.
    fn epoch(&mut self) -> [u8; 8] {
        const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        self.take::<8>().map(|byte| LETTERS[usize::from(byte) % LETTERS.len()])
    }
}
