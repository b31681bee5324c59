//! What a process tells the one that takes its place about the channels that it orders: a list of records, each a part of one
//! channel. Read by another process of this program, whose shards skip what is not theirs without decoding it.

use crate::DecodeError;
use crate::client::{ClientInfo, Publication};
use bytes::Bytes;
use prost::Message as _;

/// Bytes of publications from which on a channel goes on in another part.
pub const PART_BYTES: usize = 128 << 10;

/// A part of a channel. A list that is long goes on in the next part of the same name, where nothing else is repeated.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChannelPart {
    /// Its stream, if it has one; in the first part.
    #[prost(message, optional, tag = "1")]
    pub stream: Option<Stream>,
    /// What the stream keeps, in order and without a gap up to its top.
    #[prost(message, repeated, tag = "2")]
    pub publications: Vec<Publication>,
    /// Results of publishes with an idempotency key, oldest first.
    #[prost(message, repeated, tag = "3")]
    pub results: Vec<Remembered>,
    /// Who is present.
    #[prost(message, repeated, tag = "4")]
    pub members: Vec<Member>,
}

/// A stream without its publications.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Stream {
    /// Its epoch.
    #[prost(string, tag = "1")]
    pub epoch: String,
    /// Offset of the last publication, kept or not.
    #[prost(uint64, tag = "2")]
    pub top: u64,
    /// Microseconds until the publications go.
    #[prost(uint64, tag = "3")]
    pub expire_in: u64,
    /// Microseconds until the position goes.
    #[prost(uint64, tag = "4")]
    pub meta_expire_in: u64,
    /// Version of the last publication; 0 for none.
    #[prost(uint64, tag = "5")]
    pub version: u64,
    /// Epoch of that.
    #[prost(string, tag = "6")]
    pub version_epoch: String,
    /// How many publications follow, in this part and the next ones.
    #[prost(uint64, tag = "7")]
    pub publications: u64,
}

/// What a publish with an idempotency key brought.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Remembered {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Offset; 0 without history.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// Epoch; empty without history.
    #[prost(string, tag = "3")]
    pub epoch: String,
    /// Microseconds until it is forgotten.
    #[prost(uint64, tag = "4")]
    pub expire_in: u64,
}

/// Somebody who is present.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Member {
    /// The client, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub client: Bytes,
    /// What others see of it.
    #[prost(message, optional, tag = "2")]
    pub info: Option<ClientInfo>,
}

/// Appends a part of the channel of this name.
pub fn append(out: &mut Vec<u8>, name: &str, part: &ChannelPart) {
    let length = |bytes: usize| u32::try_from(bytes).expect("a record has less than 4 GiB").to_le_bytes();
    out.extend_from_slice(&length(name.len()));
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&length(part.encoded_len()));
    part.encode(out).expect("memory has room");
}

/// The records of a list: each the name of a channel, and a part of it for [`ChannelPart::read`]. Ends behind the first that is broken.
pub struct Records<'a> {
    rest: &'a [u8],
    /// Bytes before the rest.
    position: usize,
}

impl<'a> Records<'a> {
    /// Of a list.
    pub fn new(list: &'a [u8]) -> Self {
        Self { rest: list, position: 0 }
    }

    fn take(&mut self) -> Result<&'a [u8], DecodeError> {
        let short = DecodeError::new("a record is longer than what is there", self.position);
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or(short)?;
        let (taken, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(short)?;
        self.position += 4 + taken.len();
        self.rest = rest;
        Ok(taken)
    }

    fn record(&mut self) -> Result<(&'a str, &'a [u8]), DecodeError> {
        let name = std::str::from_utf8(self.take()?);
        let name = name.map_err(|_| DecodeError::new("a channel's name is not UTF-8", self.position))?;
        Ok((name, self.take()?))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a str, &'a [u8]), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

impl ChannelPart {
    /// Reads one; every payload is copied, so that none keeps the list alive.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self::decode(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> ChannelPart {
        let stream = Stream { epoch: "abc".into(), top: 2, publications: 2, expire_in: 7, ..Stream::default() };
        let publication = |offset| Publication { offset, data: Bytes::from_static(b"{}"), ..Publication::default() };
        let member = Member { client: Bytes::from_static(&[7; 16]), info: Some(ClientInfo::default()) };
        ChannelPart {
            stream: Some(stream),
            publications: vec![publication(1), publication(2)],
            results: vec![Remembered { key: "key".into(), offset: 2, ..Remembered::default() }],
            members: vec![member],
        }
    }

    #[test]
    fn parts_come_back_in_order_with_the_names_of_their_channels() {
        let mut list = Vec::new();
        append(&mut list, "one", &part());
        append(&mut list, "", &ChannelPart::default());
        append(&mut list, "one", &part());
        let read = Records::new(&list).map(|record| {
            let (name, bytes) = record.expect("whole");
            (name, ChannelPart::read(bytes).expect("a part"))
        });
        assert_eq!(read.collect::<Vec<_>>(), [("one", part()), ("", ChannelPart::default()), ("one", part())]);
    }

    #[test]
    fn broken_lists_are_refused_and_do_not_panic() {
        let mut list = Vec::new();
        append(&mut list, "one", &part());
        for end in 1..list.len() {
            assert!(Records::new(&list[..end]).any(|record| record.is_err()), "cut at {end}");
        }
        for at in 0..list.len() {
            let mut broken = list.clone();
            broken[at] ^= 0xff;
            Records::new(&broken).flatten().for_each(|(_, bytes)| drop(ChannelPart::read(bytes)));
        }
    }
}
