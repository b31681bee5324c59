//! Names of keys and PUB/SUB channels, and which Redis a channel belongs to. Source: behaviour §10.1.

use super::command::Argument;

/// What is kept or said under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PUB/SUB channel of publications, joins and leaves.
    Client,
    /// Stream of publications.
    Stream,
    /// Epoch, top and version of a stream.
    StreamMeta,
    /// List of publications.
    List,
    /// Epoch and top of a list.
    ListMeta,
    /// Who is there: client id to `ClientInfo`.
    PresenceData,
    /// Until when they are.
    PresenceExpire,
    /// Connections of each user.
    PresenceUserClients,
    /// Until when users are there.
    PresenceUserExpire,
    /// Result of a publication with an idempotency key.
    Result,
}

impl Kind {
    fn infix(self) -> &'static str {
        match self {
            Kind::Client => ".client.",
            Kind::Stream => ".stream.",
            Kind::StreamMeta => ".stream.meta.",
            Kind::List => ".list.",
            Kind::ListMeta => ".list.meta.",
            Kind::PresenceData => ".presence.data.",
            Kind::PresenceExpire => ".presence.expire.",
            Kind::PresenceUserClients => ".presence.user.clients.",
            Kind::PresenceUserExpire => ".presence.user.expire.",
            Kind::Result => ".result.",
        }
    }
}

/// How names are made.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Config key `engine.redis.prefix`, `centrifugo` by default.
    pub prefix: String,
    /// Redis Cluster: the channel stands in braces, so that all keys of a channel are on one node.
    pub cluster: bool,
}

impl Keys {
    /// The name for a channel, to be written into a command.
    pub fn name<'a>(&'a self, kind: Kind, channel: &'a str) -> impl Argument + 'a {
        Name { keys: self, kind, channel, idempotency_key: None }
    }

    /// The name of the result that an idempotency key has in a channel.
    pub fn result<'a>(&'a self, channel: &'a str, idempotency_key: &'a str) -> impl Argument + 'a {
        Name { keys: self, kind: Kind::Result, channel, idempotency_key: Some(idempotency_key) }
    }

    /// The PUB/SUB channel of all nodes.
    pub fn control(&self) -> String {
        format!("{}.control", self.prefix)
    }

    /// The PUB/SUB channel of one node.
    pub fn node(&self, id: &str) -> String {
        format!("{}.node.{id}", self.prefix)
    }

    /// The PUB/SUB channel on which a node hears whether it hears.
    pub fn probe(&self, id: &str) -> String {
        format!("{}.node.{id}.probe", self.prefix)
    }

    /// The channel whose messages come on this PUB/SUB channel.
    pub fn channel<'a>(&self, name: &'a str) -> Option<&'a str> {
        let channel = name.strip_prefix(self.prefix.as_str())?.strip_prefix(Kind::Client.infix())?;
        if self.cluster { channel.strip_prefix('{')?.strip_suffix('}') } else { Some(channel) }
    }
}

struct Name<'a> {
    keys: &'a Keys,
    kind: Kind,
    channel: &'a str,
    idempotency_key: Option<&'a str>,
}

impl Name<'_> {
    fn parts(&self) -> [&str; 7] {
        let [open, close] = if self.keys.cluster { ["{", "}"] } else { ["", ""] };
        let (dot, key) = self.idempotency_key.map_or(("", ""), |key| (".", key));
        [&self.keys.prefix, self.kind.infix(), open, self.channel, close, dot, key]
    }
}

impl Argument for Name<'_> {
    fn length(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.parts().iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    }
}

/// Which of `count` Redis shards a channel is on: FNV-1a of 64 bits into jump consistent hash, as Centrifugo does.
pub fn consistent_index(channel: &str, count: usize) -> usize {
    let mut key = channel
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let (mut bucket, mut next) = (0, 0_u64);
    while next < count as u64 {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * ((1_u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as u64;
    }
    bucket as usize
}

/// The slot of a channel's keys in Redis Cluster, in which the channel stands in braces.
pub fn slot_of_tag(channel: &str) -> u16 {
    let tag = channel.split_once('}').map_or(channel, |(tag, _)| tag);
    crc(tag.as_bytes()) % SLOTS
}

/// Slots of a cluster.
pub const SLOTS: u16 = 16384;

/// The slot of a key in Redis Cluster: CRC-16/XMODEM of what stands in the first braces, or of all of it.
/// Source: Redis Cluster specification, "Key distribution model".
pub fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').filter(|close| *close > 0).map(|close| &rest[..close])
    });
    crc(tag.unwrap_or(key)) % SLOTS
}

fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(argument: impl Argument, want: &str) {
        let mut out = Vec::new();
        argument.write(&mut out);
        assert_eq!((String::from_utf8(out).unwrap().as_str(), argument.length()), (want, want.len()));
    }

    /// E02, E05, E14
    /// Names as the reference gives them.
    #[test]
    fn keys_have_the_names_that_the_reference_gives_them() {
        let keys = Keys { prefix: "centrifugo".into(), cluster: false };
        check(keys.name(Kind::StreamMeta, "hh:r"), "centrifugo.stream.meta.hh:r");
        check(keys.result("hh:r", "ik"), "centrifugo.result.hh:r.ik");
        assert_eq!(keys.channel("centrifugo.client.hh:r"), Some("hh:r"));
        assert_eq!(keys.channel("other.client.hh:r"), None);
        let keys = Keys { cluster: true, ..keys };
        check(keys.name(Kind::PresenceUserExpire, "a"), "centrifugo.presence.user.expire.{a}");
        check(keys.result("a", "k"), "centrifugo.result.{a}.k");
        assert_eq!(keys.channel("centrifugo.client.{a}"), Some("a"));
    }

    /// E05
    /// Examples of the Redis Cluster specification.
    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
        for channel in ["a", "a{b}c", "a}b", "{a}"] {
            assert_eq!(slot_of_tag(channel), slot(format!("p.client.{{{channel}}}").as_bytes()), "{channel}");
        }
    }
}
