//! Questions to other nodes: which channels they have, and commands for a connection that another node has. Source: behaviour §10.3.

use crate::api::Origin;
use crate::broker::{NodeMessage, Teller};
use crate::client::EmulationError;
use crate::pending::Pending;
use crate::shard::{ApiAnswer, ApiCallId, Shard};
use crate::{Now, RequestId, ShardId, Time};
use ringcast_proto::api::{ApiResult, ChannelInfo, ChannelsResult};
use ringcast_proto::client::{EmulationRequest, Encoding};
use ringcast_proto::codes::ApiError;
use ringcast_proto::control::survey::{self as wire, OP_CHANNELS, OP_EMULATION};
use ringcast_proto::control::{Body, SurveyRequest, SurveyResponse};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long nodes may take to answer, as in the reference.
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions of a shard about channels that wait for nodes; each holds what came so far. More are refused.
const CHANNELS_SURVEYS_MAX: usize = 64;

/// Requests with commands for other nodes that wait. More are refused.
const EMULATIONS_MAX: usize = 1024;

/// Questions of one shard to other nodes, each until all that were there have answered.
#[derive(Debug)]
pub(crate) struct Surveys {
    waiting: Pending<Survey>,
    channels: usize,
    emulations: usize,
}

/// One question.
#[derive(Debug)]
enum Survey {
    Channels(Box<ChannelsSurvey>),
    /// Commands; the node that has the connection answers when it has taken them.
    Emulation {
        call: ApiCallId,
        node: String,
    },
}

/// See [`Survey`].
#[derive(Debug)]
struct ChannelsSurvey {
    origin: Origin,
    /// Nodes that have not answered.
    awaited: BTreeSet<String>,
    /// The shards of this node have not.
    awaits_own: bool,
    /// Of all that have.
    channels: BTreeMap<String, ChannelInfo>,
    began_at: Time,
}

/// The number under which other nodes know a question leads back to the shard that asked.
fn number(shard: ShardId, request: RequestId) -> u64 {
    debug_assert!(request.slot < 1 << 16, "surveys are bounded");
    u64::from(request.generation) << 32 | u64::from(shard.0) << 16 | u64::from(request.slot & 0xffff)
}

/// Reads what [`number`] made.
pub(super) fn place(number: u64) -> (ShardId, RequestId) {
    let request = RequestId { slot: number as u32 & 0xffff, generation: (number >> 32) as u32 };
    (ShardId((number >> 16) as u16), request)
}

impl Default for Surveys {
    fn default() -> Self {
        Surveys { waiting: Pending::new(), channels: 0, emulations: 0 }
    }
}

impl Surveys {
    /// When `Shard::give_up_surveys` has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.waiting.next_timeout()
    }

    fn take(&mut self, request: RequestId) -> Option<Survey> {
        let survey = self.waiting.take(request)?;
        self.forget(&survey);
        Some(survey)
    }

    fn take_overdue(&mut self, now: Time) -> Option<Survey> {
        let (_, survey) = self.waiting.take_overdue(now)?;
        self.forget(&survey);
        Some(survey)
    }

    fn forget(&mut self, survey: &Survey) {
        match survey {
            Survey::Channels(_) => self.channels -= 1,
            Survey::Emulation { .. } => self.emulations -= 1,
        }
    }

    fn channels_mut(&mut self, request: RequestId) -> Option<&mut ChannelsSurvey> {
        match self.waiting.get_mut(request) {
            Some(Survey::Channels(survey)) => Some(survey),
            Some(Survey::Emulation { .. }) | None => None,
        }
    }
}

impl Shard {
    /// Asks all other nodes for their channels; what the own shards have is to be given to `own_channels`. `None` where there
    /// are no other nodes.
    pub(crate) fn survey_channels(
        &mut self,
        now: Now,
        origin: &Origin,
        pattern: &str,
    ) -> Result<Option<RequestId>, ApiError> {
        let awaited: BTreeSet<String> = self.other_nodes().iter().map(|node| node.uid.clone()).collect();
        if awaited.is_empty() {
            return Ok(None);
        }
        if self.cluster.surveys.channels >= CHANNELS_SURVEYS_MAX {
            return Err(ApiError::INTERNAL);
        }
        let (origin, channels, began_at) = (origin.clone(), BTreeMap::new(), now.at);
        let survey = ChannelsSurvey { origin, awaited, awaits_own: true, channels, began_at };
        self.cluster.surveys.channels += 1;
        let request =
            self.ask_nodes(now, Survey::Channels(Box::new(survey)), None, OP_CHANNELS, wire::channels(pattern));
        Ok(Some(request))
    }

    /// Commands for a connection of another node; `call` is answered with 204 when it has them. Source: protocol §14.
    pub fn forward_emulation(
        &mut self,
        now: Now,
        call: ApiCallId,
        encoding: Encoding,
        request: &EmulationRequest,
    ) -> Result<(), EmulationError> {
        let node = &request.node;
        if !self.other_nodes().iter().any(|other| other.uid == *node) {
            return Err(EmulationError::UnknownNode);
        }
        if self.cluster.surveys.emulations >= EMULATIONS_MAX {
            return Err(EmulationError::Busy);
        }
        self.cluster.surveys.emulations += 1;
        let survey = Survey::Emulation { call, node: node.clone() };
        self.ask_nodes(now, survey, Some(node.clone()), OP_EMULATION, wire::emulation(encoding, request));
        Ok(())
    }

    fn ask_nodes(&mut self, now: Now, survey: Survey, to: Option<String>, op: &str, data: Vec<u8>) -> RequestId {
        let request = self.cluster.surveys.waiting.insert(survey, now.at + PATIENCE);
        let id = number(self.post.own(), request);
        let body = Body::SurveyRequest(SurveyRequest { id, op: op.to_owned(), data: data.into() });
        self.cluster.messages.push(NodeMessage { to, body, teller: Some(Teller::Survey(request)) });
        request
    }

    /// The broker took a question, or nobody will answer it.
    pub(crate) fn nodes_asked(&mut self, now: Now, request: RequestId, is_told: bool) {
        if !is_told {
            self.end_survey(now, request, Err(ApiError::INTERNAL));
        }
    }

    /// Another node answers. What nobody waits for any more is dropped.
    pub(super) fn answered_by_node(&mut self, now: Now, uid: &str, response: SurveyResponse) {
        let (_, request) = place(response.id);
        match self.cluster.surveys.waiting.get_mut(request) {
            // The reference does not look at the code either: who sends commands could do nothing about it.
            Some(Survey::Emulation { node, .. }) if node == uid => self.end_survey(now, request, Ok(())),
            Some(Survey::Channels(survey)) => {
                // A node that came meanwhile answers, too; nobody is counted twice.
                if !survey.awaited.remove(uid) {
                    return;
                }
                match wire::channels_answer(&response) {
                    Some(channels) => {
                        survey.add(channels);
                        self.end_survey_if_whole(now, request);
                    }
                    None => self.end_survey(now, request, Err(ApiError::INTERNAL)),
                }
            }
            Some(Survey::Emulation { .. }) | None => {}
        }
    }

    /// The shards of this node have answered, or could not.
    pub(crate) fn own_channels(
        &mut self,
        now: Now,
        request: RequestId,
        channels: Result<BTreeMap<String, ChannelInfo>, ApiError>,
    ) {
        let Some(survey) = self.cluster.surveys.channels_mut(request) else { return };
        match channels {
            Ok(channels) => {
                survey.awaits_own = false;
                survey.add(channels);
                self.end_survey_if_whole(now, request);
            }
            Err(error) => self.end_survey(now, request, Err(error)),
        }
    }

    /// A node has left: its channels count no more, and its connections are gone.
    pub(crate) fn node_left(&mut self, now: Now, uid: &str) {
        for request in self.cluster.surveys.waiting.requests() {
            match self.cluster.surveys.waiting.get_mut(request) {
                Some(Survey::Emulation { node, .. }) if node == uid => self.end_survey(now, request, Ok(())),
                Some(Survey::Channels(survey)) => {
                    survey.awaited.remove(uid);
                    self.end_survey_if_whole(now, request);
                }
                Some(Survey::Emulation { .. }) | None => {}
            }
        }
    }

    fn end_survey_if_whole(&mut self, now: Now, request: RequestId) {
        let is_whole = |survey: &mut ChannelsSurvey| !survey.awaits_own && survey.awaited.is_empty();
        if self.cluster.surveys.channels_mut(request).is_some_and(is_whole) {
            self.end_survey(now, request, Ok(()));
        }
    }

    fn end_survey(&mut self, now: Now, request: RequestId, outcome: Result<(), ApiError>) {
        if let Some(survey) = self.cluster.surveys.take(request) {
            self.complete_survey(now, survey, outcome);
        }
    }

    /// Some node did not answer in time.
    pub(crate) fn give_up_surveys(&mut self, now: Now) {
        while let Some(survey) = self.cluster.surveys.take_overdue(now.at) {
            self.complete_survey(now, survey, Err(ApiError::INTERNAL));
        }
    }

    fn complete_survey(&mut self, now: Now, survey: Survey, outcome: Result<(), ApiError>) {
        match survey {
            Survey::Channels(survey) => {
                let ChannelsSurvey { origin, channels, began_at, .. } = *survey;
                self.note_survey(now, began_at);
                let result = outcome.map(|()| ApiResult::Channels(ChannelsResult { channels }));
                self.complete(now, &origin, result);
            }
            Survey::Emulation { call, .. } => {
                let status = if outcome.is_ok() { 204 } else { 500 };
                self.answers.push_back(ApiAnswer::empty(call, status));
            }
        }
    }
}

impl ChannelsSurvey {
    fn add(&mut self, channels: BTreeMap<String, ChannelInfo>) {
        if self.channels.is_empty() {
            self.channels = channels;
            return;
        }
        for (name, info) in channels {
            let sum = self.channels.entry(name).or_default();
            sum.num_clients = sum.num_clients.saturating_add(info.num_clients);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_leads_back_to_who_asked() {
        let request = RequestId { slot: 0xabcd, generation: 0xffff_fffe };
        assert_eq!(place(number(ShardId(513), request)), (ShardId(513), request));
    }
}
