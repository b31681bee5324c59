//! What nodes ask each other and how they answer. Source: behaviour §10.3.

use super::SurveyResponse;
use crate::DecodeError;
use crate::api::{ChannelInfo, ChannelsRequest, ChannelsResult};
use crate::client::{EmulationRequest, Encoding};
use crate::json;
use bytes::Bytes;
use prost::Message as _;
use std::collections::BTreeMap;

/// Which channels do you have; data is a `ChannelsRequest` of the server API, the answer a `ChannelsResult`.
pub const OP_CHANNELS: &str = "channels";

/// Commands for a connection of yours; data is an [`EmulationRequest`], the answer has none. In a request that came in JSON
/// the commands are a JSON string, with its quotes.
pub const OP_EMULATION: &str = "centrifuge_emulation";

/// Codes of the answer to [`OP_EMULATION`].
pub mod emulation_codes {
    /// The request cannot be understood.
    pub const BAD_REQUEST: u32 = 1;
    /// There is no such connection.
    pub const NO_SESSION: u32 = 2;
}

/// The question for channels; `pattern` is empty for all.
pub fn channels(pattern: &str) -> Vec<u8> {
    ChannelsRequest { pattern: pattern.to_owned() }.encode_to_vec()
}

/// The pattern in a question for channels.
pub fn decode_channels(data: &[u8]) -> Option<String> {
    ChannelsRequest::decode(data).ok().map(|request| request.pattern)
}

/// The answer to a question for channels.
pub fn encode_channels(channels: BTreeMap<String, ChannelInfo>) -> Vec<u8> {
    ChannelsResult { channels }.encode_to_vec()
}

/// The channels of an answer; `None` if the node could not say.
pub fn channels_answer(response: &SurveyResponse) -> Option<BTreeMap<String, ChannelInfo>> {
    let result = (response.code == 0).then(|| ChannelsResult::decode(response.data.clone()).ok())?;
    result.map(|result| result.channels)
}

/// Commands as they are passed on; `encoding` is that of the request they came with.
pub fn emulation(encoding: Encoding, request: &EmulationRequest) -> Vec<u8> {
    let data = match encoding {
        Encoding::Protobuf => request.data.clone(),
        Encoding::Json => {
            let mut quoted = Vec::with_capacity(request.data.len() + 2);
            json::write_json_string(&String::from_utf8_lossy(&request.data), &mut quoted);
            quoted.into()
        }
    };
    EmulationRequest { data, ..request.clone() }.encode_to_vec()
}

/// Commands that another node passes on.
pub fn decode_emulation(data: &[u8]) -> Option<EmulationRequest> {
    EmulationRequest::decode(data).ok()
}

/// The frame in the data of commands that were passed on, for a connection of this encoding.
pub fn emulated_frame(encoding: Encoding, data: &Bytes) -> Result<Bytes, DecodeError> {
    match encoding {
        Encoding::Protobuf => Ok(data.clone()),
        Encoding::Json => json::decode_alone::<String>(data).map(Bytes::from),
    }
}
