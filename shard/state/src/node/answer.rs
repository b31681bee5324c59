//! Answers to the questions of other nodes. Source: behaviour §10.3.

use crate::Now;
use crate::broker::NodeMessage;
use crate::glob::Glob;
use crate::message::{Message, NodeAsker, Survey};
use crate::session::Sessions;
use crate::shard::Shard;
use ringcast_proto::api::ChannelInfo;
use ringcast_proto::control::survey::{self as wire, OP_CHANNELS, OP_EMULATION, emulation_codes};
use ringcast_proto::control::{Body, SurveyRequest, SurveyResponse, survey_codes};
use std::collections::BTreeMap;

/// Questions about channels that the shards are asked for at a time. More are answered with an error.
const ANSWERING_MAX: usize = 64;

/// Bytes of an answer. Redis gives a subscriber up for whom more than 32 MiB wait, by default, and with it the node that asked; a longer
/// answer is replaced with an error.
const ANSWER_BYTES_MAX: usize = 16 << 20;

impl Shard {
    /// Another node asks. Each question gets one answer.
    pub(super) fn asked_by_node(&mut self, now: Now, uid: String, request: SurveyRequest) {
        let asker = NodeAsker { uid, id: request.id };
        let refused = match &*request.op {
            OP_CHANNELS => self.channels_for_node(now, &asker, &request.data),
            OP_EMULATION => self.emulation_of_node(&asker, &request.data),
            _ => Err(survey_codes::METHOD_NOT_FOUND),
        };
        if let Err(code) = refused {
            self.answer_node(asker, code, Vec::new());
        }
    }

    fn channels_for_node(&mut self, now: Now, asker: &NodeAsker, data: &[u8]) -> Result<(), u32> {
        let pattern = wire::decode_channels(data).ok_or(survey_codes::INVALID_REQUEST)?;
        Glob::new(&pattern).ok_or(survey_codes::INVALID_REQUEST)?;
        if self.cluster.answering >= ANSWERING_MAX {
            return Err(survey_codes::INTERNAL_ERROR);
        }
        self.cluster.answering += 1;
        self.gather_for_node(now, asker.clone(), Survey::Channels { pattern });
        Ok(())
    }

    /// Passes commands on to the shard that has the connection, which answers.
    fn emulation_of_node(&mut self, asker: &NodeAsker, data: &[u8]) -> Result<(), u32> {
        let request = wire::decode_emulation(data).ok_or(emulation_codes::BAD_REQUEST)?;
        let place = Sessions::place(&request.session);
        let (shard, slot, session) =
            place.filter(|(shard, ..)| self.compass().has(*shard)).ok_or(emulation_codes::NO_SESSION)?;
        if shard != self.post.own() && self.post.outbox(shard).is_full() {
            return Err(survey_codes::INTERNAL_ERROR);
        }
        self.post
            .send(shard, Message::Emulate { slot, session, data: request.data, asker: Some(Box::new(asker.clone())) });
        Ok(())
    }

    /// The shards of this node have answered, or could not.
    pub(crate) fn gathered_for_node(&mut self, asker: NodeAsker, channels: Option<BTreeMap<String, ChannelInfo>>) {
        self.cluster.answering -= 1;
        match channels.map(wire::encode_channels).filter(|answer| answer.len() <= ANSWER_BYTES_MAX) {
            Some(answer) => self.answer_node(asker, 0, answer),
            None => self.answer_node(asker, survey_codes::INTERNAL_ERROR, Vec::new()),
        }
    }

    pub(crate) fn answer_node(&mut self, asker: NodeAsker, code: u32, data: Vec<u8>) {
        let response = SurveyResponse { id: asker.id, code, data: data.into() };
        let body = Body::SurveyResponse(response);
        self.cluster.messages.push(NodeMessage { to: Some(asker.uid), body, teller: None });
    }
}
