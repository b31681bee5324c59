//! Names of sessions: who knows one may send commands for the connection by other requests.

use crate::{ClientId, ConnectionId, ShardId};
use ring::hmac;

/// Makes and reads the names of one shard. A name says where its connection is and proves that it was given out here, so that
/// no connection has to remember its own.
#[derive(Debug)]
pub(crate) struct Sessions {
    key: hmac::Key,
}

/// Bits of a name that version and variant of a UUID take; the proof goes without them.
const FIXED: u128 = 0xf << 76 | 0x3 << 62;

/// Where the place of the connection stands: 16 bits of the shard, 32 of the slot. The other 74 are the proof.
const SHARD_SHIFT: u32 = 112;
const SLOT_SHIFT: u32 = 80;

impl Sessions {
    /// `secret` is that of one shard, which alone reads what it gave out.
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Sessions { key: hmac::Key::new(hmac::HMAC_SHA256, &secret) }
    }

    /// The name for a connection, in the form of a version 4 UUID.
    pub(crate) fn name(&self, shard: ShardId, connection: ConnectionId) -> ClientId {
        let mut place = [0; 10];
        place[..2].copy_from_slice(&shard.0.to_be_bytes());
        place[2..6].copy_from_slice(&connection.slot.to_be_bytes());
        place[6..].copy_from_slice(&connection.generation.to_be_bytes());
        let tag = hmac::sign(&self.key, &place);
        let mut proof = [0; 16];
        proof.copy_from_slice(&tag.as_ref()[..16]);
        let proof = u128::from_be_bytes(proof) & ((1 << SLOT_SHIFT) - 1) & !FIXED;
        let place = u128::from(shard.0) << SHARD_SHIFT | u128::from(connection.slot) << SLOT_SHIFT;
        ClientId(place | proof | 0x4 << 76 | 0x2 << 62)
    }

    /// The place that a name gives, proof or not; `None` when it has not the form of one.
    pub(crate) fn place(name: &str) -> Option<(ShardId, u32, ClientId)> {
        let id = parse(name)?;
        Some((ShardId((id.0 >> SHARD_SHIFT) as u16), (id.0 >> SLOT_SHIFT) as u32, id))
    }

    /// Whether the name is that of the connection; takes as long whatever is wrong.
    pub(crate) fn is_name_of(&self, name: ClientId, shard: ShardId, connection: ConnectionId) -> bool {
        let right = self.name(shard, connection).0 ^ name.0;
        std::hint::black_box(right) == 0
    }
}

/// A UUID as it is written: lower-case digits in five groups.
fn parse(text: &str) -> Option<ClientId> {
    let is_hyphen = |place| matches!(place, 8 | 13 | 18 | 23);
    if text.len() != 36 || !text.is_ascii() {
        return None;
    }
    text.bytes()
        .enumerate()
        .try_fold(0u128, |id, (place, byte)| match (is_hyphen(place), byte) {
            (true, b'-') => Some(id),
            (false, b'0'..=b'9' | b'a'..=b'f') => {
                let digit = char::from(byte).to_digit(16)?;
                Some(id << 4 | u128::from(digit))
            }
            _ => None,
        })
        .map(ClientId)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTION: ConnectionId = ConnectionId { slot: 0xfffe_1234, generation: 7 };

    #[test]
    fn name_leads_to_its_connection_and_to_no_other() {
        let sessions = Sessions::new([1; 32]);
        let name = sessions.name(ShardId(513), CONNECTION);
        let (shard, slot, id) = Sessions::place(&name.to_string()).unwrap();
        assert_eq!((shard, slot, id), (ShardId(513), CONNECTION.slot, name));
        assert!(sessions.is_name_of(id, ShardId(513), CONNECTION));
        assert!(!sessions.is_name_of(id, ShardId(513), ConnectionId { generation: 8, ..CONNECTION }));
        assert!(!sessions.is_name_of(id, ShardId(512), CONNECTION));
        assert!(!sessions.is_name_of(ClientId(id.0 ^ 1), ShardId(513), CONNECTION));
        assert!(!Sessions::new([2; 32]).is_name_of(id, ShardId(513), CONNECTION));
    }

    #[test]
    fn name_looks_like_a_version_4_uuid() {
        let name = Sessions::new([1; 32]).name(ShardId(1), CONNECTION).to_string();
        let digits: Vec<char> = name.chars().collect();
        assert_eq!((digits.len(), digits[14]), (36, '4'));
        assert!(matches!(digits[19], '8' | '9' | 'a' | 'b'), "{name}");
    }

    #[test]
    fn other_texts_are_no_names() {
        for text in [
            "",
            "x",
            "00000000-0000-4000-8000-00000000000",
            "00000000-0000-4000-8000-00000000000G",
            "00000000_0000-4000-8000-000000000000",
            "é0000000-0000-4000-8000-0000000000",
        ] {
            assert_eq!(Sessions::place(text), None, "{text}");
        }
    }
}
