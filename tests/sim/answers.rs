//! What a backend is told: each answer is checked against what was called and what is known.

use crate::backend::Backend;
use crate::client::Context;
use crate::content::PublicationId;
use ringcast_proto::client::{ClientInfo, Publication};
use ringcast_state::{ApiAnswer, Time};
use serde_json::{Value, json};
use std::collections::BTreeMap;

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
    /// Publications, each to its channel, and questions about history.
    Batch {
        items: Vec<Call>,
        is_parallel: bool,
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
    /// Something done to the connections of a user.
    Act,
}

impl Backend {
    /// Exactly one answer for each call. `keep` keeps it for the check at rest.
    pub fn answered(&mut self, context: &mut Context<'_>, answer: &ApiAnswer, keep: bool) {
        let body = String::from_utf8_lossy(&answer.body);
        context.trace.note(|| format!("backend is told {} {body}", answer.call.sequence));
        assert_eq!(answer.status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let (at, call) = self.open.remove(&answer.call.sequence).expect("a call has one answer");
        check(context, at, &call, &body);
        if keep {
            self.kept.push((call, body));
        }
    }
}

/// Offset and epoch of a result.
pub fn top(body: &Value) -> (u64, String) {
    let result = &body["result"];
    (result["offset"].as_u64().unwrap_or(0), result["epoch"].as_str().unwrap_or("").to_owned())
}

/// Publications of a history.
pub fn read_history(body: &Value) -> Vec<Publication> {
    let publications = body["result"]["publications"].as_array().expect("a list of publications");
    publications.iter().map(publication).collect()
}

pub fn is_error(body: &Value) -> bool {
    error_code(body).is_some()
}

fn error_code(body: &Value) -> Option<u64> {
    body["error"]["code"].as_u64()
}

fn publication(value: &Value) -> Publication {
    let tags = value["tags"].as_object().into_iter().flatten();
    let tags = tags.map(|(name, tag)| (name.clone(), tag.as_str().expect("a tag is text").to_owned()));
    Publication {
        offset: value["offset"].as_u64().expect("an offset"),
        data: value["data"].to_string().into(),
        tags: tags.collect(),
        info: Some(&value["info"]).filter(|info| !info.is_null()).map(client_info),
        ..Publication::default()
    }
}

/// A client as the API shows it.
pub fn client_info(value: &Value) -> ClientInfo {
    let text = |name: &str| value[name].as_str().unwrap_or("").to_owned();
    let payload = |name: &str| Some(&value[name]).filter(|info| !info.is_null()).map(Value::to_string);
    let (conn_info, chan_info) = (payload("conn_info").unwrap_or_default(), payload("chan_info").unwrap_or_default());
    ClientInfo { user: text("user"), client: text("client"), conn_info: conn_info.into(), chan_info: chan_info.into() }
}

fn check(context: &mut Context<'_>, at: Time, call: &Call, body: &Value) {
    let error = error_code(body);
    if let Some(code) = error {
        assert!(is_excused(context, call, code), "{call:?} failed with {code}");
    }
    match call {
        Call::Publish { channel, id } => published(context, channel, *id, body),
        Call::Broadcast { channels, id } => {
            let responses = list(&body["result"]["responses"]);
            assert_eq!(responses.len(), channels.len(), "one response for each channel");
            for (channel, response) in channels.iter().zip(responses) {
                let one = Call::Publish { channel: channel.clone(), id: *id };
                check(context, at, &one, response);
            }
        }
        Call::Batch { items, is_parallel } => batch_done(context, at, items, *is_parallel, body),
        Call::History { channel } if error.is_none() => {
            let read = read_history(body);
            let (top, epoch) = top(body);
            context.model.history(context.scenario, (at, context.now), channel, &read, (top, &epoch), true);
        }
        Call::HistoryRemove { channel } => context.model.removal_done(channel, error.is_none()),
        Call::Presence { channel } if error.is_none() => {
            for info in body["result"]["presence"].as_object().into_iter().flatten() {
                context.model.check_info(channel, &client_info(info.1));
            }
        }
        _ => {}
    }
}

fn batch_done(context: &mut Context<'_>, at: Time, items: &[Call], is_parallel: bool, body: &Value) {
    let replies = list(&body["replies"]);
    assert_eq!(replies.len(), items.len(), "one reply for each command");
    let mut tops = BTreeMap::new();
    for (item, reply) in items.iter().zip(replies) {
        let (name, channel) = match item {
            Call::Publish { channel, .. } => ("publish", channel),
            Call::History { channel } => ("history", channel),
            item => panic!("not in a batch: {item:?}"),
        };
        let body = if is_error(reply) { reply.clone() } else { json!({"result": reply[name]}) };
        check(context, at, item, &body);
        // Without `parallel` a command begins when the one before is done.
        let (offset, epoch) = top(&body);
        let is_keyed = context.model.is_keyed(item);
        if offset > 0 && !is_parallel && !is_keyed {
            let before = tops.insert((channel.clone(), epoch), offset).unwrap_or(0);
            assert!(offset >= before, "{channel}: {offset} behind {before} in one batch");
        }
    }
}

fn is_excused(context: &Context<'_>, call: &Call, code: u64) -> bool {
    let scenario = context.scenario;
    let channel = match call {
        Call::History { channel } | Call::HistoryRemove { channel } => channel,
        Call::Presence { channel } | Call::PresenceStats { channel } => channel,
        Call::Publish { channel, .. } => channel,
        // Subscribing fails where the user is subscribed already.
        Call::Act => return matches!(code, 100 | 102),
        _ => return code == 100 && scenario.may_time_out(),
    };
    let options = scenario.channel_options(channel);
    let is_off = match call {
        Call::Publish { .. } => false,
        Call::History { .. } | Call::HistoryRemove { .. } => !options.has_history(),
        _ => !options.presence,
    };
    match code {
        100 => scenario.may_time_out(),
        102 => scenario.may_be_unknown(channel),
        108 => is_off || scenario.may_be_unknown(channel),
        _ => false,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn published(context: &mut Context<'_>, channel: &str, id: PublicationId, body: &Value) {
    let (offset, epoch) = top(body);
    let result = if is_error(body) { Err(()) } else { Ok(Some((offset, &*epoch))) };
    context.model.answered(context.now, channel, id, result);
}
