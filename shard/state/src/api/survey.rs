//! Calls that ask every shard: channels and info.

use super::Origin;
use crate::Now;
use crate::glob::Glob;
use crate::message::{Message, NodeAsker, Survey, SurveyAnswer};
use crate::metrics::{Action, micros};
use crate::shard::{Shard, Waiting};
use crate::{RequestId, ShardId, Time};
use ringcast_proto::api::{ApiResult, ChannelInfo, ChannelsResult, InfoResult, NodeResult};
use ringcast_proto::codes::ApiError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A survey with its answers so far.
#[derive(Debug)]
pub(crate) struct Gathering {
    purpose: Purpose,
    missing: usize,
    found: Found,
    began_at: Time,
}

/// Who wants to know.
#[derive(Debug)]
enum Purpose {
    /// A call that concerns this node alone.
    Call(Origin),
    /// A call for which other nodes are asked, too.
    Cluster(RequestId),
    /// Another node.
    Node(NodeAsker),
}

#[derive(Debug)]
enum Found {
    Channels(BTreeMap<String, ChannelInfo>),
    Info { node: Box<NodeResult>, has_anonymous: bool },
}

impl Shard {
    pub(super) fn api_channels(&mut self, now: Now, origin: &Origin, pattern: String) -> Result<(), ApiError> {
        Glob::new(&pattern).ok_or(ApiError::INTERNAL)?;
        let purpose = match self.survey_channels(now, origin, &pattern)? {
            Some(request) => Purpose::Cluster(request),
            None => Purpose::Call(origin.clone()),
        };
        self.survey(now, purpose, Survey::Channels { pattern }, Found::Channels(BTreeMap::new()));
        Ok(())
    }

    pub(super) fn api_info(&mut self, now: Now, origin: &Origin) -> Result<(), ApiError> {
        let options = &self.options.node;
        let node = NodeResult {
            uid: options.uid.clone(),
            name: options.name.clone(),
            version: options.version.clone(),
            uptime: (now.at - self.started_at).as_secs() as u32,
            ..NodeResult::default()
        };
        let found = Found::Info { node: Box::new(node), has_anonymous: false };
        self.survey(now, Purpose::Call(origin.clone()), Survey::Info, found);
        Ok(())
    }

    /// Asks the shards on behalf of another node.
    pub(crate) fn gather_for_node(&mut self, now: Now, asker: NodeAsker, question: Survey) {
        self.survey(now, Purpose::Node(asker), question, Found::Channels(BTreeMap::new()));
    }

    fn survey(&mut self, now: Now, purpose: Purpose, question: Survey, found: Found) {
        let shards: Vec<ShardId> = self.post.shards().collect();
        let gathering = Gathering { purpose, missing: shards.len(), found, began_at: now.at };
        let request = self.ask(now, Waiting::ApiSurvey(Box::new(gathering)));
        let question = Arc::new(question);
        for shard in shards {
            self.post.send(shard, Message::Survey { request, question: Arc::clone(&question) });
        }
    }

    /// What this shard has to report.
    pub(crate) fn report(&mut self, to: ShardId, request: RequestId, question: &Survey) {
        let answer = match question {
            Survey::Channels { pattern } => {
                let glob = Glob::new(pattern);
                let is_wanted = |name: &str| glob.as_ref().is_some_and(|glob| glob.matches(name));
                let brokered = self.brokered.iter().flat_map(|brokered| brokered.iter_active());
                let active = self
                    .homes
                    .iter_active()
                    .chain(brokered)
                    .filter(|(name, _)| is_wanted(name) && !self.delivery.hides(name));
                SurveyAnswer::Channels(active.map(|(name, subscribers)| (name.clone(), subscribers)).collect())
            }
            Survey::Info => SurveyAnswer::Info {
                num_clients: self.live_clients() as u32,
                num_users: self.users.count() as u32,
                has_anonymous: !self.users.local("").is_empty(),
                num_channels: self.active_channels() as u32,
                num_subs: self.hub.live() as u32,
            },
        };
        self.post.send(to, Message::SurveyIs { request, answer: Box::new(answer) });
    }

    /// A shard has reported.
    pub(crate) fn survey_is(&mut self, now: Now, request: RequestId, answer: SurveyAnswer) {
        let Some(Waiting::ApiSurvey(gathering)) = self.pending.get_mut(request) else { return };
        gathering.add(answer);
        if gathering.missing > 0 {
            return;
        }
        if let Some(Waiting::ApiSurvey(gathering)) = self.pending.take(request) {
            let Gathering { purpose, found, began_at, .. } = *gathering;
            match (purpose, found) {
                (Purpose::Cluster(request), Found::Channels(channels)) => self.own_channels(now, request, Ok(channels)),
                (Purpose::Node(asker), Found::Channels(channels)) => self.gathered_for_node(asker, Some(channels)),
                (Purpose::Call(origin), found) => {
                    // The reference knows the numbers of `info` without asking.
                    if matches!(found, Found::Channels(_)) {
                        self.note_survey(now, began_at);
                    }
                    let result = found.into_result(self.other_nodes());
                    self.complete(now, &origin, Ok(result));
                }
                (purpose, found) => debug_assert!(false, "{found:?} is not what {purpose:?} wants"),
            }
        }
    }

    /// A shard has not reported in time.
    pub(crate) fn gathered_late(&mut self, now: Now, gathering: Gathering) {
        match gathering.purpose {
            Purpose::Call(origin) => self.complete_late(now, &origin),
            Purpose::Cluster(request) => self.own_channels(now, request, Err(ApiError::INTERNAL)),
            Purpose::Node(asker) => self.gathered_for_node(asker, None),
        }
    }

    pub(crate) fn note_survey(&mut self, now: Now, began_at: Time) {
        self.metrics.act(Action::Survey);
        self.metrics.surveys.record(micros(began_at, now.at));
    }
}

impl Gathering {
    fn add(&mut self, answer: SurveyAnswer) {
        self.missing -= 1;
        match (&mut self.found, answer) {
            (Found::Channels(all), SurveyAnswer::Channels(some)) => {
                let named = some.into_iter().map(|(name, num_clients)| (name.to_string(), ChannelInfo { num_clients }));
                all.extend(named);
            }
            (
                Found::Info { node, has_anonymous },
                SurveyAnswer::Info { num_clients, num_users, has_anonymous: some_anonymous, num_channels, num_subs },
            ) => {
                node.num_clients += num_clients;
                node.num_users += num_users;
                node.num_channels += num_channels;
                node.num_subs += num_subs;
                *has_anonymous |= some_anonymous;
            }
            _ => debug_assert!(false, "a shard answers the question that it was asked"),
        }
    }
}

impl Found {
    fn into_result(self, others: &[NodeResult]) -> ApiResult {
        match self {
            Found::Channels(channels) => ApiResult::Channels(ChannelsResult { channels }),
            Found::Info { mut node, has_anonymous } => {
                // All anonymous connections together are one user.
                node.num_users += u32::from(has_anonymous);
                let nodes = std::iter::once(*node).chain(others.iter().cloned()).collect();
                ApiResult::Info(InfoResult { nodes })
            }
        }
    }
}
