//! A backend that calls the server API: what it asks for.

use crate::answers::Call;
use crate::client::Context;
use crate::content::{PublicationId, payload, tags};
use crate::model::{Publish, info_of};
use crate::random::Random;
use ringcast_state::{ApiCallId, ConnectionId, Time};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Calls without an answer so far, and answers that were kept for the check at rest.
#[derive(Debug, Default)]
pub struct Backend {
    pub(super) open: BTreeMap<u32, (Time, Call)>,
    sequence: u32,
    /// Answers to the questions asked at rest.
    pub kept: Vec<(Call, Value)>,
    /// The last publication with an idempotency key: channel and key.
    keyed: Option<(String, String)>,
    /// Counts the versions that were given.
    version: u64,
}

/// A call as the HTTP server hands it to a shard.
pub struct Request {
    pub call: ApiCallId,
    pub path: &'static str,
    pub body: Vec<u8>,
}

impl Backend {
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// The process was killed: nothing that is under way is ever answered.
    pub fn lost(&mut self, context: &mut Context<'_>) {
        for (_, call) in std::mem::take(&mut self.open).into_values() {
            lost(context, &call);
        }
    }

    fn open(&mut self, context: &mut Context<'_>, call: Call, path: &'static str, body: &Value) -> Request {
        context.trace.note(|| format!("backend calls {path} {body}"));
        self.sequence += 1;
        let sequence = self.sequence;
        self.open.insert(sequence, (context.now, call));
        let connection = ConnectionId { slot: 7, generation: 7 };
        Request { call: ApiCallId { connection, sequence }, path, body: body.to_string().into_bytes() }
    }

    /// A call of some kind.
    pub fn call(&mut self, context: &mut Context<'_>, random: &mut Random, users: &[String]) -> Request {
        let channel = random.pick(&context.scenario.channels).clone();
        match random.below(20) {
            0..10 => self.publish(context, random, channel),
            10 | 11 => self.broadcast(context, random),
            12 => self.batch(context, random),
            13 => self.history(context, channel),
            14 => self.presence(context, channel, random.one_in(2)),
            15 => self.open(context, Call::Channels, "channels", &json!({})),
            16 => self.open(context, Call::Info, "info", &json!({})),
            17 if random.one_in(4) => self.history_remove(context, channel),
            18 | 19 if context.scenario.acts_on_users => self.act(context, random, users, &channel),
            _ => self.publish(context, random, channel),
        }
    }

    fn publish(&mut self, context: &mut Context<'_>, random: &mut Random, channel: String) -> Request {
        let (channel, id, body) = self.publication(context, random, channel);
        self.open(context, Call::Publish { channel, id }, "publish", &body)
    }

    /// A publication for a channel, mostly the one given, and the body that says so.
    fn publication(
        &mut self,
        context: &mut Context<'_>,
        random: &mut Random,
        mut channel: String,
    ) -> (String, PublicationId, Value) {
        let mut publish = Publish { at: context.now, has_tags: random.one_in(2), ..Publish::default() };
        let skip_history = random.one_in(12);
        match random.below(12) {
            0 => {
                // As when a backend repeats a call whose answer was lost, but with another payload, to tell them apart.
                let repeated = self.keyed.clone().filter(|(known, _)| *known == channel && random.one_in(2));
                let key = repeated.map(|(_, key)| key);
                publish.key = key.unwrap_or_else(|| format!("key {}", random.below(1000)));
                self.keyed = Some((channel.clone(), publish.key.clone()));
            }
            1 if self.keyed.is_some() => {
                (channel, publish.key) = self.keyed.clone().expect("there is one");
            }
            2 | 3 => (publish.version, publish.version_epoch) = self.some_version(random),
            _ => {}
        }
        let id = context.model.new_id();
        let body = json!({
            "channel": channel,
            "data": data(id),
            "tags": if publish.has_tags { tags(id) } else { BTreeMap::new() },
            "skip_history": skip_history,
            "delta": random.one_in(2),
            "idempotency_key": publish.key,
            "version": publish.version,
            "version_epoch": publish.version_epoch,
        });
        context.model.publish(&channel, id, publish);
        (channel, id, body)
    }

    /// Mostly one that grows; sometimes an old one, or one of another epoch.
    fn some_version(&mut self, random: &mut Random) -> (u64, &'static str) {
        self.version += 1;
        let version = if random.one_in(3) { random.between(1, self.version) } else { self.version };
        (version, *random.pick(&["", "", "a", "b"]))
    }

    fn broadcast(&mut self, context: &mut Context<'_>, random: &mut Random) -> Request {
        let channels = context.scenario.channels.iter().filter(|_| random.one_in(2)).cloned().collect::<Vec<_>>();
        if channels.is_empty() {
            let channel = random.pick(&context.scenario.channels).clone();
            return self.publish(context, random, channel);
        }
        let id = context.model.new_id();
        let key = if random.one_in(6) { format!("key {}", random.below(1000)) } else { String::new() };
        let publish = Publish { at: context.now, has_tags: random.one_in(2), key, ..Publish::default() };
        let body = json!({
            "channels": channels,
            "data": data(id),
            "tags": if publish.has_tags { tags(id) } else { BTreeMap::new() },
            "idempotency_key": publish.key,
        });
        for channel in &channels {
            context.model.publish(channel, id, publish.clone());
        }
        self.open(context, Call::Broadcast { channels, id }, "broadcast", &body)
    }

    fn batch(&mut self, context: &mut Context<'_>, random: &mut Random) -> Request {
        let (mut items, mut commands) = (Vec::new(), Vec::new());
        for _ in 0..random.between(1, 6) {
            let channel = random.pick(&context.scenario.channels).clone();
            if random.one_in(6) {
                commands.push(json!({"history": {"channel": channel, "limit": -1}}));
                items.push(Call::History { channel });
                continue;
            }
            let (channel, id, body) = self.publication(context, random, channel);
            commands.push(json!({"publish": body}));
            items.push(Call::Publish { channel, id });
        }
        let is_parallel = random.one_in(2);
        let body = json!({"commands": commands, "parallel": is_parallel});
        self.open(context, Call::Batch { items, is_parallel }, "batch", &body)
    }

    fn history(&mut self, context: &mut Context<'_>, channel: String) -> Request {
        let body = json!({"channel": channel, "limit": -1});
        self.open(context, Call::History { channel }, "history", &body)
    }

    fn history_remove(&mut self, context: &mut Context<'_>, channel: String) -> Request {
        context.model.removal_sent(&channel);
        let body = json!({"channel": channel});
        self.open(context, Call::HistoryRemove { channel }, "history_remove", &body)
    }

    fn presence(&mut self, context: &mut Context<'_>, channel: String, stats: bool) -> Request {
        let body = json!({"channel": channel});
        if stats {
            return self.open(context, Call::PresenceStats { channel }, "presence_stats", &body);
        }
        self.open(context, Call::Presence { channel }, "presence", &body)
    }

    fn act(&mut self, context: &mut Context<'_>, random: &mut Random, users: &[String], channel: &str) -> Request {
        let user = random.pick(users);
        let (path, body) = match random.below(10) {
            0..5 => ("subscribe", subscribe_body(context, random, user, channel)),
            5 | 6 => ("unsubscribe", json!({"user": user, "channel": channel})),
            7 => {
                let expire_at = if random.one_in(2) { seconds_ahead(context.unix_ms, random) } else { 0 };
                ("refresh", json!({"user": user, "expire_at": expire_at, "expired": random.one_in(8)}))
            }
            8 => ("disconnect", json!({"user": user})),
            _ => ("disconnect", json!({"user": user, "disconnect": {"code": 4001, "reason": "for a reason"}})),
        };
        self.open(context, Call::Act, path, &body)
    }

    /// Everything that can be asked of a quiet world.
    pub fn ask_everything(&mut self, context: &mut Context<'_>) -> Vec<Request> {
        let mut requests = vec![
            self.open(context, Call::Channels, "channels", &json!({})),
            self.open(context, Call::Info, "info", &json!({})),
        ];
        for channel in context.scenario.channels.clone() {
            let options = context.scenario.channel_options(&channel);
            if options.has_history() {
                requests.push(self.history(context, channel.clone()));
            }
            if options.presence {
                requests.push(self.presence(context, channel.clone(), false));
                requests.push(self.presence(context, channel, true));
            }
        }
        requests
    }
}

fn lost(context: &mut Context<'_>, call: &Call) {
    match call {
        Call::Publish { channel, id } => context.model.answered(context.now, channel, *id, Err(())),
        Call::Broadcast { channels, id } => {
            for channel in channels {
                context.model.answered(context.now, channel, *id, Err(()));
            }
        }
        Call::Batch { items, .. } => items.iter().for_each(|item| lost(context, item)),
        // History is gone as it is.
        Call::HistoryRemove { channel } => context.model.removal_done(channel, true),
        _ => {}
    }
}

fn subscribe_body(context: &mut Context<'_>, random: &mut Random, user: &str, channel: &str) -> Value {
    let has_end = context.scenario.expires && random.one_in(3);
    let expire_at = if has_end { seconds_ahead(context.unix_ms, random) } else { 0 };
    let info: Value = serde_json::from_str(&info_of(channel)).expect("an info is JSON");
    let mut body = json!({"user": user, "channel": channel, "info": info, "data": {"expire_at": expire_at}, "expire_at": expire_at});
    if let Some((offset, epoch)) = context.model.some_position(channel).filter(|_| random.one_in(2)) {
        let offset = offset.saturating_sub(random.below(4) as u64);
        body["recover_since"] = json!({"offset": offset, "epoch": epoch});
    }
    body
}

/// A second in the near future, as expiries are told.
pub fn seconds_ahead(unix_ms: u64, random: &mut Random) -> i64 {
    (unix_ms / 1000 + random.scale(2, 40)) as i64
}

fn data(id: PublicationId) -> Value {
    serde_json::from_slice(&payload(id, false)).expect("the payload is JSON")
}
