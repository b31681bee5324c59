//! Messages on the PUB/SUB channel of a channel. Source: behaviour §10.1.

use super::command::{Argument, Encoded};
use super::value::number;
use crate::DecodeError;
use crate::client::{ClientInfo, Publication};
use bytes::Bytes;
use prost::Message as _;

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "almost all are publications, and each is taken apart at once")]
pub enum ClientMessage {
    /// A publication.
    Publication {
        /// It, with its offset; no epoch, no delta flag.
        publication: Publication,
        /// Epoch of the stream; empty without history.
        epoch: String,
        /// Who wants it gets the difference to the one before.
        use_delta: bool,
        /// Payload of the one before in the stream, where there is one and a difference is wanted.
        previous: Option<Bytes>,
    },
    /// Somebody came.
    Join(ClientInfo),
    /// Somebody went.
    Leave(ClientInfo),
}

const MALFORMED: DecodeError = DecodeError::new("not a message of a channel in Redis", 0);

/// Reads a message; also an entry of a history in a list.
pub fn decode_client_message(data: &Bytes) -> Result<ClientMessage, DecodeError> {
    let Some(rest) = data.strip_prefix(b"__") else { return publication(data.clone(), 0, "", None) };
    match rest.first() {
        Some(b'j') => Ok(ClientMessage::Join(ClientInfo::decode(after_header(data)?)?)),
        Some(b'l') => Ok(ClientMessage::Leave(ClientInfo::decode(after_header(data)?)?)),
        Some(b'p') => plain(data, rest),
        Some(b'd') => with_previous(data, rest),
        _ => Err(MALFORMED),
    }
}

/// What stands after the second `__`.
fn after_header(data: &Bytes) -> Result<Bytes, DecodeError> {
    let end = memchr::memmem::find(&data[2..], b"__").ok_or(MALFORMED)?;
    Ok(data.slice(end + 4..))
}

/// `__p1:<offset>:<epoch>__<publication>`
fn plain(data: &Bytes, rest: &[u8]) -> Result<ClientMessage, DecodeError> {
    let header = memchr::memmem::find(rest, b"__").ok_or(MALFORMED)?;
    let header = std::str::from_utf8(&rest[..header]).map_err(|_| MALFORMED)?;
    let mut parts = header.splitn(3, ':').skip(1);
    let offset = parts.next().and_then(|offset| number(offset.as_bytes())).ok_or(MALFORMED)?;
    let epoch = parts.next().ok_or(MALFORMED)?;
    publication(after_header(data)?, offset, epoch, None)
}

/// `__d1:<offset>:<epoch>:<length>:<publication before>:<length>:<publication>`
fn with_previous(data: &Bytes, rest: &[u8]) -> Result<ClientMessage, DecodeError> {
    let mut at = data.len() - rest.len();
    let until_colon = |at: &mut usize| {
        let end = *at + memchr::memchr(b':', &data[*at..]).ok_or(MALFORMED)?;
        let part = data.slice(*at..end);
        *at = end + 1;
        Ok::<_, DecodeError>(part)
    };
    let blob = |at: &mut usize| {
        let length = number(&until_colon(at)?).and_then(|length| usize::try_from(length).ok()).ok_or(MALFORMED)?;
        let end = at.checked_add(length).filter(|end| *end <= data.len()).ok_or(MALFORMED)?;
        let part = data.slice(*at..end);
        *at = end;
        Ok::<_, DecodeError>(part)
    };
    until_colon(&mut at)?;
    let offset = number(&until_colon(&mut at)?).ok_or(MALFORMED)?;
    let epoch = until_colon(&mut at)?;
    let before = blob(&mut at)?;
    if data.get(at) != Some(&b':') {
        return Err(MALFORMED);
    }
    at += 1;
    let current = blob(&mut at)?;
    publication(current, offset, std::str::from_utf8(&epoch).map_err(|_| MALFORMED)?, Some(before))
}

fn publication(data: Bytes, offset: u64, epoch: &str, before: Option<Bytes>) -> Result<ClientMessage, DecodeError> {
    let mut publication = Publication::decode(data)?;
    if publication.offset == 0 {
        publication.offset = offset;
    }
    let own_epoch = std::mem::take(&mut publication.epoch);
    let own_previous = std::mem::take(&mut publication.prev_data);
    let use_delta = std::mem::take(&mut publication.delta) || before.is_some() || !own_previous.is_empty();
    let previous = match before {
        _ if !own_previous.is_empty() => Some(own_previous),
        Some(before) if !before.is_empty() => Some(Publication::decode(before_of(before))?.data),
        _ => None,
    };
    let epoch = if own_epoch.is_empty() { epoch.to_owned() } else { own_epoch };
    Ok(ClientMessage::Publication { publication, epoch, use_delta, previous })
}

/// In a list the publication before carries its own header, which stands in the message with it.
fn before_of(before: Bytes) -> Bytes {
    if before.starts_with(b"__p1:") { after_header(&before).unwrap_or_default() } else { before }
}

/// `__j__<client info>`
pub fn encode_join(info: &ClientInfo) -> impl Argument + '_ {
    Membership { mark: b"__j__", info: Encoded(info) }
}

/// `__l__<client info>`
pub fn encode_leave(info: &ClientInfo) -> impl Argument + '_ {
    Membership { mark: b"__l__", info: Encoded(info) }
}

struct Membership<'a> {
    mark: &'static [u8],
    info: Encoded<'a, ClientInfo>,
}

impl Argument for Membership<'_> {
    fn length(&self) -> usize {
        self.mark.len() + self.info.length()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.mark);
        self.info.write(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pub_bytes(data: &'static str) -> Vec<u8> {
        Publication { data: Bytes::from_static(data.as_bytes()), ..Publication::default() }.encode_to_vec()
    }

    fn message(head: &str, tail: &[u8]) -> Bytes {
        [head.as_bytes(), tail].concat().into()
    }

    #[track_caller]
    fn check(data: &Bytes, want: (&str, u64, &str, bool, Option<&str>)) {
        match decode_client_message(data) {
            Ok(ClientMessage::Publication { publication, epoch, use_delta, previous }) => {
                let got = (publication.data, publication.offset, epoch, use_delta, previous);
                let (data, offset, epoch, use_delta, previous) = want;
                let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
                assert_eq!(got, (bytes(data), offset, epoch.to_owned(), use_delta, previous.map(bytes)));
            }
            other => panic!("{other:?}"),
        }
    }

    /// E02
    #[test]
    fn publications_are_read_in_all_their_wrappers() {
        let (one, two) = (pub_bytes("1"), pub_bytes("__22__"));
        check(&one.clone().into(), ("1", 0, "", false, None));
        check(&message("__p1:7:abc__", &two), ("__22__", 7, "abc", false, None));
        let first = [format!("0::{}:", one.len()).as_bytes(), &one].concat();
        check(&message("__d1:1:abc:", &first), ("1", 1, "abc", true, None));
        let body = [format!("{}:", two.len()).as_bytes(), &two, format!(":{}:", one.len()).as_bytes(), &one].concat();
        check(&message("__d1:8:abc:", &body), ("1", 8, "abc", true, Some("__22__")));
    }

    /// E02
    #[test]
    fn joins_and_leaves_come_back() {
        let info = ClientInfo { user: "u".into(), client: "c".into(), ..ClientInfo::default() };
        let mut out = Vec::new();
        encode_join(&info).write(&mut out);
        assert_eq!(decode_client_message(&out.into()), Ok(ClientMessage::Join(info.clone())));
        let mut out = Vec::new();
        encode_leave(&info).write(&mut out);
        assert_eq!(decode_client_message(&out.into()), Ok(ClientMessage::Leave(info)));
    }

    /// E02
    #[test]
    fn broken_messages_are_refused() {
        for bad in
            ["__", "__p1:7__", "__p1:x:abc__", "__d1:1:abc:9:", "__d1:1:abc:0:1:x", "__x__", "__p1:7:abc", "\u{1}"]
        {
            assert!(decode_client_message(&Bytes::copy_from_slice(bad.as_bytes())).is_err(), "{bad}");
        }
    }
}
