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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Body, Command, SurveyRequest, decode, encode};

    const CENTRIFUGO: &str = "4efef984-0428-4d85-96b3-ac62d2717228";
    const RINGCAST: &str = "b4c689c6-45fb-4434-94de-523b070bac95";

    /// Recorded beside Centrifugo 6.9, without the sender.
    #[track_caller]
    fn check(uid: &str, recorded: &'static [u8], body: Body) {
        let bytes = [b"\n$", uid.as_bytes(), recorded].concat();
        assert_eq!(encode(uid, body.clone()), bytes);
        assert_eq!(decode(&bytes.into()), Ok(Command { uid: uid.into(), body: Some(body) }));
    }

    /// E13, E14
    #[test]
    fn questions_for_channels_and_answers_equal_those_of_the_reference() {
        let (op, data) = (OP_CHANNELS.to_owned(), channels("chat:centrifugo").into());
        check(
            CENTRIFUGO,
            b"B\x1f\x08\x04\x12\x08channels\x1a\x11\n\x0fchat:centrifugo",
            Body::SurveyRequest(SurveyRequest { id: 4, op, data }),
        );
        let found = BTreeMap::from([("chat:centrifugo".to_owned(), ChannelInfo { num_clients: 1 })]);
        let answer = SurveyResponse { id: 1 << 32, code: 0, data: encode_channels(found.clone()).into() };
        assert_eq!(channels_answer(&answer), Some(found));
        check(
            CENTRIFUGO,
            b"J\x1f\x08\x80\x80\x80\x80\x10\x1a\x17\n\x15\n\x0fchat:centrifugo\x12\x02\x08\x01",
            Body::SurveyResponse(answer.clone()),
        );
        assert_eq!(channels_answer(&SurveyResponse { code: 2, ..answer.clone() }), None);
        assert_eq!(channels_answer(&SurveyResponse { data: "\n".into(), ..answer }), None);
    }

    /// T10, E14
    #[test]
    fn commands_for_another_node_equal_those_of_the_reference() {
        let request = EmulationRequest { node: RINGCAST.into(), session: "nobody".into(), data: "{}".into() };
        let (op, data) = (OP_EMULATION.to_owned(), emulation(Encoding::Json, &request).into());
        check(
            CENTRIFUGO,
            b"BN\x08\t\x12\x14centrifuge_emulation\x1a4\n$b4c689c6-45fb-4434-94de-523b070bac95\x12\x06nobody\x1a\x04\"{}\"",
            Body::SurveyRequest(SurveyRequest { id: 9, op, data }),
        );
        for (encoding, frame) in
            [(Encoding::Json, &b"{\"id\":1,\n\"x\":\"\xc3\xa9\"}"[..]), (Encoding::Protobuf, b"\x02\x08\x01\"")]
        {
            let request = EmulationRequest { data: Bytes::from_static(frame), ..request.clone() };
            let passed = decode_emulation(&emulation(encoding, &request)).expect("as it is sent");
            assert_eq!(emulated_frame(encoding, &passed.data).as_deref(), Ok(frame));
        }
        assert!(emulated_frame(Encoding::Json, &"{}".into()).is_err());
    }
}
