//! Messages on the subject of a channel: pushes of the client protocol, with what nodes need besides in the publication.

use crate::DecodeError;
use crate::client::{ClientInfo, Join, Leave, Publication};
use bytes::Bytes;
use prost::Message as _;

/// Tag that carries the epoch between nodes; clients do not see it.
const EPOCH_TAG: &str = "__centrifugo_epoch";

const MALFORMED: DecodeError = DecodeError::new("not a message of a channel in NATS", 0);

#[derive(Clone, PartialEq, prost::Message)]
struct Push {
    #[prost(string, tag = "2")]
    channel: String,
    #[prost(message, optional, tag = "4")]
    publication: Option<Publication>,
    #[prost(message, optional, tag = "5")]
    join: Option<Join>,
    #[prost(message, optional, tag = "6")]
    leave: Option<Leave>,
}

/// What a message says. Each has the channel that it was published to.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "almost all are publications, and each is taken apart at once")]
pub enum ChannelMessage {
    /// A publication.
    Publication {
        /// Channel.
        channel: String,
        /// It; no epoch, no delta flag.
        publication: Publication,
        /// Epoch of its offset; empty where it has none, as all that comes from this broker alone.
        epoch: String,
    },
    /// Somebody came.
    Join(String, ClientInfo),
    /// Somebody went.
    Leave(String, ClientInfo),
}

/// Reads a message.
pub fn decode_channel_message(data: Bytes) -> Result<ChannelMessage, DecodeError> {
    let Push { channel, publication, join, leave } = Push::decode(data)?;
    match (publication, join, leave) {
        (Some(mut publication), _, _) => {
            let epoch = publication.tags.remove(EPOCH_TAG).unwrap_or_default();
            let epoch = if publication.offset > 0 { epoch } else { String::new() };
            publication.delta = false;
            Ok(ChannelMessage::Publication { channel, publication, epoch })
        }
        (None, Some(join), _) => Ok(ChannelMessage::Join(channel, join.info.unwrap_or_default())),
        (None, None, Some(leave)) => Ok(ChannelMessage::Leave(channel, leave.info.unwrap_or_default())),
        (None, None, None) => Err(MALFORMED),
    }
}

/// A publication; its `delta` says whether who can may get the difference to the one before.
pub fn encode_publication(channel: &str, publication: Publication) -> Vec<u8> {
    Push { channel: channel.to_owned(), publication: Some(publication), join: None, leave: None }.encode_to_vec()
}

/// Somebody came.
pub fn encode_join(channel: &str, info: &ClientInfo) -> Vec<u8> {
    let join = Some(Join { info: Some(info.clone()) });
    Push { channel: channel.to_owned(), publication: None, join, leave: None }.encode_to_vec()
}

/// Somebody went.
pub fn encode_leave(channel: &str, info: &ClientInfo) -> Vec<u8> {
    let leave = Some(Leave { info: Some(info.clone()) });
    Push { channel: channel.to_owned(), publication: None, join: None, leave }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E07
    #[test]
    fn messages_come_back_without_what_is_for_nodes_alone() {
        let tags = [("a", "b"), (EPOCH_TAG, "e")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let sent = Publication { data: "1".into(), offset: 3, delta: true, tags: tags.into(), ..Default::default() };
        let tags = [("a".to_owned(), "b".to_owned())].into();
        let publication = Publication { tags, delta: false, ..sent.clone() };
        let want = ChannelMessage::Publication { channel: "c".into(), publication, epoch: "e".into() };
        assert_eq!(decode_channel_message(encode_publication("c", sent).into()), Ok(want));

        let info = ClientInfo { user: "u".into(), client: "i".into(), ..Default::default() };
        let join = decode_channel_message(encode_join("c", &info).into());
        assert_eq!(join, Ok(ChannelMessage::Join("c".into(), info.clone())));
        let leave = decode_channel_message(encode_leave("c", &info).into());
        assert_eq!(leave, Ok(ChannelMessage::Leave("c".into(), info)));
    }

    /// E07
    #[test]
    fn broken_messages_are_refused() {
        for bad in [&b""[..], b"\x12\x01c", b"\x22\xff", b"{}"] {
            assert!(decode_channel_message(Bytes::from_static(bad)).is_err(), "{bad:?}");
        }
    }
}
