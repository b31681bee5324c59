//! A backend that calls the server API and checks the answers against the model.

use crate::client::Context;
use crate::model::{PublicationId, payload, payload_id};
use crate::random::Random;
use ringcast_state::{ApiAnswer, ApiCallId, ConnectionId, Time};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Calls without an answer so far, and answers that were kept for the check at rest.
#[derive(Debug, Default)]
pub struct Backend {
    open: BTreeMap<u32, (Time, Call)>,
    sequence: u32,
    /// Answers to the questions asked at rest.
    pub kept: Vec<(Call, Value)>,
    /// The last publication with an idempotency key, and when it was made.
    keyed: Option<(Time, String, PublicationId)>,
}

/// What was called.
#[derive(Clone, Debug)]
pub enum Call {
    Publish {
        channel: String,
        id: PublicationId,
    },
    Broadcast {
        channels: Vec<String>,
        id: PublicationId,
    },
    /// Publications, each to its channel.
    Batch {
        items: Vec<(String, PublicationId)>,
    },
    History {
        channel: String,
    },
    HistoryRemove {
        channel: String,
    },
    Presence {
        channel: String,
    },
    PresenceStats {
        channel: String,
    },
    Channels,
    Info,
    /// Fails where the user is subscribed already.
    Subscribe,
    /// Something else done to the connections of a user.
    Act,
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
        if random.one_in(8) {
            return self.publish_with_key(context, random, channel);
        }
        let id = context.model.new_id();
        context.model.publish(context.now, &channel, id);
        let (skip_history, delta) = (random.one_in(12), random.one_in(2));
        let data = data(random, id);
        let body = json!({"channel": channel, "data": data, "skip_history": skip_history, "delta": delta});
        self.open(context, Call::Publish { channel, id }, "publish", &body)
    }

    /// With a key that may have been used already, as when a backend repeats a call whose answer was lost.
    fn publish_with_key(&mut self, context: &mut Context<'_>, random: &mut Random, channel: String) -> Request {
        let ttl = context.scenario.options.limits.idempotency_ttl / 2;
        let repeated = self.keyed.clone().filter(|(at, ..)| context.now < *at + ttl && random.one_in(2));
        let (at, channel, id) = repeated.unwrap_or_else(|| (context.now, channel, context.model.new_id()));
        context.model.publish(context.now, &channel, id);
        self.keyed = Some((at, channel.clone(), id));
        let body = json!({"channel": channel, "data": data(random, id), "idempotency_key": format!("key {id}")});
        self.open(context, Call::Publish { channel, id }, "publish", &body)
    }

    fn broadcast(&mut self, context: &mut Context<'_>, random: &mut Random) -> Request {
        let id = context.model.new_id();
        let channels = context.scenario.channels.iter().filter(|_| random.one_in(2)).cloned().collect::<Vec<_>>();
        if channels.is_empty() {
            let channel = random.pick(&context.scenario.channels).clone();
            return self.publish(context, random, channel);
        }
        for channel in &channels {
            context.model.publish(context.now, channel, id);
        }
        let body = json!({"channels": channels, "data": data(random, id)});
        self.open(context, Call::Broadcast { channels, id }, "broadcast", &body)
    }

    fn batch(&mut self, context: &mut Context<'_>, random: &mut Random) -> Request {
        let (mut items, mut commands) = (Vec::new(), Vec::new());
        for _ in 0..random.between(1, 6) {
            let (channel, id) = (random.pick(&context.scenario.channels).clone(), context.model.new_id());
            context.model.publish(context.now, &channel, id);
            commands.push(json!({"publish": {"channel": channel, "data": data(random, id)}}));
            items.push((channel, id));
        }
        let body = json!({"commands": commands, "parallel": random.one_in(2)});
        self.open(context, Call::Batch { items }, "batch", &body)
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
        match random.below(8) {
            0..4 => self.open(context, Call::Subscribe, "subscribe", &json!({"user": user, "channel": channel})),
            4 | 5 => self.open(context, Call::Act, "unsubscribe", &json!({"user": user, "channel": channel})),
            6 => self.open(context, Call::Act, "refresh", &json!({"user": user})),
            _ => self.open(context, Call::Act, "disconnect", &json!({"user": user})),
        }
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

    /// Exactly one answer for each call. `keep` keeps it for the check at rest.
    pub fn answered(&mut self, context: &mut Context<'_>, answer: &ApiAnswer, keep: bool) {
        let body = String::from_utf8_lossy(&answer.body);
        context.trace.note(|| format!("backend is told {} {body}", answer.call.sequence));
        assert_eq!(answer.status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let (at, call) = self.open.remove(&answer.call.sequence).expect("a call has one answer");
        match error_code(&body) {
            None => {}
            Some(100) if matches!(call, Call::Subscribe) => {}
            Some(100) => assert!(context.scenario.may_time_out(), "{call:?} failed"),
            Some(108) => assert!(is_unavailable(context, &call), "{call:?} is available"),
            Some(code) => panic!("{call:?} failed with {code}"),
        }
        check(context, at, &call, &body);
        if keep {
            self.kept.push((call, body));
        }
    }
}

fn data(random: &mut Random, id: PublicationId) -> Value {
    let length = if random.one_in(20) { 4000 } else { random.below(100) };
    serde_json::from_slice(&payload(id, length, false)).expect("the payload is JSON")
}

fn error_code(body: &Value) -> Option<u64> {
    body["error"]["code"].as_u64()
}

fn is_unavailable(context: &Context<'_>, call: &Call) -> bool {
    match call {
        Call::History { channel } | Call::HistoryRemove { channel } => {
            !context.scenario.channel_options(channel).has_history()
        }
        Call::Presence { channel } | Call::PresenceStats { channel } => {
            !context.scenario.channel_options(channel).presence
        }
        _ => false,
    }
}

fn check(context: &mut Context<'_>, at: Time, call: &Call, body: &Value) {
    match call {
        Call::Publish { channel, id } => published(context, channel, *id, body),
        Call::Broadcast { channels, id } => {
            for (channel, response) in channels.iter().zip(responses(&body["result"]["responses"])) {
                published(context, channel, *id, response);
            }
        }
        Call::Batch { items } => {
            for ((channel, id), reply) in items.iter().zip(responses(&body["replies"])) {
                let is_failed = error_code(reply).is_some();
                published(
                    context,
                    channel,
                    *id,
                    &if is_failed { reply.clone() } else { json!({"result": reply["publish"]}) },
                );
            }
        }
        Call::History { channel } if error_code(body).is_none() => {
            let read = read_history(body);
            let (top, epoch) = top(body);
            context.model.history(context.scenario, (at, context.now), channel, &read, (top, &epoch), true);
        }
        Call::HistoryRemove { channel } => context.model.removal_done(channel, error_code(body).is_none()),
        _ => {}
    }
}

fn responses(list: &Value) -> &[Value] {
    list.as_array().expect("a list of responses")
}

fn published(context: &mut Context<'_>, channel: &str, id: PublicationId, body: &Value) {
    match error_code(body) {
        None => {
            let (offset, epoch) = top(body);
            context.model.acknowledge(channel, id, Some((offset, &epoch)));
        }
        Some(code) => assert!(code == 100 && context.scenario.may_time_out(), "{channel}: {body}"),
    }
}

/// Offset and epoch of a result.
pub fn top(body: &Value) -> (u64, String) {
    let result = &body["result"];
    (result["offset"].as_u64().unwrap_or(0), result["epoch"].as_str().unwrap_or("").to_owned())
}

fn read_history(body: &Value) -> Vec<(u64, PublicationId)> {
    let publications = body["result"]["publications"].as_array().expect("a list of publications");
    let read = publications.iter().map(|publication| {
        let offset = publication["offset"].as_u64().expect("an offset");
        (offset, payload_id(publication["data"].to_string().as_bytes()))
    });
    read.collect()
}
