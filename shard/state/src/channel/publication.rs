//! A publication with its encodings.

use super::Epoch;
use bytes::Bytes;
use ringcast_proto::client::{self as wire, Encoding};
use std::sync::Arc;

/// What was published, and what of it is encoded already. Immutable, so shards share it.
#[derive(Debug)]
pub struct Publication {
    /// Position in the stream; 0 when it is in none.
    pub offset: u64,
    /// Epoch of the stream; empty when it is in none.
    pub epoch: Epoch,
    content: wire::Publication,
    json: Encoded,
    protobuf: Encoded,
}

/// One encoding of a publication, without the envelope that names the channel.
#[derive(Clone, Debug)]
pub enum Encoded {
    /// Nobody needed it yet.
    Absent,
    /// The encoded message.
    Body(Bytes),
    /// The payload is not JSON: a JSON client that should get it is closed with `INAPPROPRIATE_PROTOCOL`.
    Impossible,
}

impl Publication {
    pub(crate) fn new(content: wire::Publication, epoch: Epoch) -> Self {
        Publication { offset: content.offset, epoch, content, json: Encoded::Absent, protobuf: Encoded::Absent }
    }

    /// The same with this encoding present.
    pub(crate) fn encode(&mut self, encoding: Encoding) {
        let slot = match encoding {
            Encoding::Json => &mut self.json,
            Encoding::Protobuf => &mut self.protobuf,
        };
        if let Encoded::Absent = slot {
            *slot = match wire::encode_publication(encoding, &self.content) {
                Ok(body) => Encoded::Body(body),
                Err(_) => Encoded::Impossible,
            };
        }
    }

    /// One encoding; `Absent` only when the home knew of no receiver for it.
    pub fn encoded(&self, encoding: Encoding) -> &Encoded {
        match encoding {
            Encoding::Json => &self.json,
            Encoding::Protobuf => &self.protobuf,
        }
    }

    /// Payload, publisher and tags.
    pub fn content(&self) -> &wire::Publication {
        &self.content
    }

    /// Bytes that it holds, roughly.
    pub(crate) fn weight(&self) -> usize {
        let encoded = |e: &Encoded| if let Encoded::Body(bytes) = e { bytes.len() } else { 0 };
        self.content.data.len() + encoded(&self.json) + encoded(&self.protobuf)
    }
}

/// Makes sure that a stored publication carries `encoding`; a new copy takes its place if it was shared without.
pub(crate) fn ensure_encoded(stored: &mut Arc<Publication>, encoding: Encoding) {
    if !matches!(stored.encoded(encoding), Encoded::Absent) {
        return;
    }
    if let Some(alone) = Arc::get_mut(stored) {
        alone.encode(encoding);
        return;
    }
    let mut copy = Publication {
        offset: stored.offset,
        epoch: stored.epoch.clone(),
        content: stored.content.clone(),
        json: stored.json.clone(),
        protobuf: stored.protobuf.clone(),
    };
    copy.encode(encoding);
    *stored = Arc::new(copy);
}
