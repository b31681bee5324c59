//! Channels that pass on to another process: a home writes down what it has of each, and another home reads it.

use super::publication::Publication;
use super::results::Results;
use super::{HomeChannel, Homes, Stream, retention};
use crate::options::Options;
use crate::random::Random;
use crate::wheel::Wheel;
use crate::{Now, Time};
use ringcast_proto::DecodeError;
use ringcast_proto::client as wire;
use ringcast_proto::handover::{ChannelPart, PART_BYTES, append};
use std::sync::Arc;

/// Bytes of a list of records from which on it is given out.
const LIST_BYTES: usize = 256 << 10;

/// Writes parts of channels, and gives out what is long enough.
struct Writer<'a> {
    list: Vec<u8>,
    part: ChannelPart,
    /// Of the part, roughly.
    bytes: usize,
    give: &'a mut dyn FnMut(Vec<u8>) -> bool,
    /// False once nobody wants more.
    is_wanted: bool,
}

impl Writer<'_> {
    /// Something of so many bytes was added to the part.
    fn added(&mut self, name: &str, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= PART_BYTES {
            self.end_part(name);
        }
    }

    fn end_part(&mut self, name: &str) {
        append(&mut self.list, name, &std::mem::take(&mut self.part));
        self.bytes = 0;
        if self.list.len() >= LIST_BYTES {
            self.end_list();
        }
    }

    fn end_list(&mut self) {
        if self.is_wanted && !self.list.is_empty() {
            self.is_wanted = (self.give)(std::mem::take(&mut self.list));
        }
    }
}

impl HomeChannel {
    fn write_down(&self, now: Time, writer: &mut Writer<'_>) -> u64 {
        /// What a publication has besides its payload, roughly, and what the others have.
        const OVERHEAD: usize = 64;
        writer.part.stream = self.stream.as_ref().map(|stream| stream.write_down(now));
        for result in self.results.iter().flat_map(|results| results.write_down(now)) {
            writer.part.results.push(result);
            writer.added(&self.name, OVERHEAD);
        }
        for member in self.presence.iter().flat_map(|presence| presence.write_down()) {
            writer.part.members.push(member);
            writer.added(&self.name, 2 * OVERHEAD);
        }
        let mut publications = 0;
        for publication in self.stream.iter().flat_map(|stream| stream.publications()) {
            let content = publication.content();
            writer.part.publications.push(content.clone());
            writer.added(&self.name, content.data.len() + OVERHEAD);
            publications += 1;
        }
        if writer.part != ChannelPart::default() {
            writer.end_part(&self.name);
        }
        publications
    }

    fn has_something(&self) -> bool {
        self.stream.is_some() || self.results.is_some() || self.presence.is_some()
    }
}

impl Homes {
    /// Writes every channel that holds something, and gives out list after list of records; nothing is changed. Ends early when
    /// `give` says false. Returns how many channels and publications that were.
    pub(crate) fn write_down(&self, now: Time, give: &mut dyn FnMut(Vec<u8>) -> bool) -> Written {
        let mut writer = Writer { list: Vec::new(), part: ChannelPart::default(), bytes: 0, give, is_wanted: true };
        let mut written = Written::default();
        for channel in self.channels.iter().filter(|channel| channel.has_something()) {
            if !writer.is_wanted {
                return written;
            }
            written += Written { channels: 1, publications: channel.write_down(now, &mut writer) };
        }
        writer.end_list();
        written
    }

    /// Takes a part of a channel in. What was here under its name before has no subscribers.
    pub(crate) fn read_in(
        &mut self,
        now: Now,
        (name, part): (&str, ChannelPart),
        (options, random, wheel): (&Options, &mut Random, &mut Wheel),
    ) -> Result<Written, DecodeError> {
        let index = match self.find(name) {
            Some(index) => index,
            None => self.find_or_insert(&name.into(), random),
        };
        let channel = &mut self.channels[index];
        let mut written = Written { channels: 0, publications: part.publications.len() as u64 };
        if let Some(stream) = &part.stream {
            channel.stream = Some(Box::new(Stream::read_in(stream, now.at)));
            written.channels = 1;
        }
        if !part.publications.is_empty() {
            let stream = channel.stream.as_mut().ok_or(BROKEN)?;
            read_publications(stream, part.publications, now.at)?;
        }
        if !part.results.is_empty() {
            let results = channel.results.get_or_insert_with(|| Box::new(Results::new(random.next_u32().into())));
            for result in part.results {
                results.read_in(result, now.at);
            }
            written.channels = 1;
        }
        if !part.members.is_empty() {
            let presence = channel.presence.get_or_insert_with(Box::default);
            presence.read_in(part.members, now.at);
        }
        // A part that is not the last one leaves a stream that nobody may read yet: it is only settled, which looks at times.
        self.settle(index, wheel, &options.limits);
        Ok(written)
    }

    /// Whether all parts have come: a stream that lacks some would have its offsets wrong. Cuts what the options do not keep.
    pub(crate) fn is_whole(&mut self, options: &Options) -> bool {
        let mut is_whole = true;
        for index in self.channels.places() {
            let Some(channel) = self.channels.get_mut(index) else { continue };
            let Some(stream) = &mut channel.stream else { continue };
            is_whole &= stream.is_whole();
            let (_, own) = options.channel.resolve_known(&channel.name);
            if let Some(retention) = retention(&options.channel, own) {
                stream.keep(retention.size);
            }
        }
        is_whole
    }
}

/// How much was written down or read in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Channels.
    pub channels: u64,
    /// Publications in their streams.
    pub publications: u64,
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.channels += other.channels;
        self.publications += other.publications;
    }
}

const BROKEN: DecodeError = DecodeError { reason: "publications are not those of a stream", position: 0 };

fn read_publications(stream: &mut Stream, publications: Vec<wire::Publication>, now: Time) -> Result<(), DecodeError> {
    let epoch = stream.position().epoch;
    for content in publications {
        let publication = Publication::new(content, epoch.clone(), now, now);
        if !stream.take_back(Arc::new(publication)) {
            return Err(BROKEN);
        }
    }
    Ok(())
}
