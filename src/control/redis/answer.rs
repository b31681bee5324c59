//! What Redis answers, as the shards understand it.

use bytes::Bytes;
use prost::Message as _;
use ringcast_proto::client::{ClientInfo, Publication};
use ringcast_proto::redis::{ClientMessage, Value, decode_client_message};
use ringcast_state::broker::{BrokerAnswer, BrokerError, Suppression};
use ringcast_state::{Epoch, Position};
use std::sync::Arc;
use tracing::warn;

/// What the answer to a command looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Anything but an error.
    Done,
    /// Of `PUBLISH`.
    Said,
    /// Of the script that publishes once for each idempotency key.
    SaidOnce,
    /// Of the scripts that add to a history.
    Added,
    /// Of the script that reads a stream.
    Stream,
    /// Of the script that reads a list, which gives all of it.
    List(Page),
    /// Of the script that reads presence.
    Presence,
    /// Of the script that counts it.
    PresenceStats,
}

/// The part of a history that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Exclusive start.
    pub since: Option<u64>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Newest first.
    pub reverse: bool,
}

/// The answer for a shard. What cannot be understood is a failure, and logged.
pub fn read(expected: Expected, value: Value) -> BrokerAnswer {
    if let Value::Error(text) = &value {
        warn!(error = %String::from_utf8_lossy(text), "Redis refused a command");
        return BrokerAnswer::Failed(BrokerError::Unavailable);
    }
    understand(expected, value).unwrap_or_else(|| {
        warn!("an answer of Redis is not what its script gives: is something else written under our keys?");
        BrokerAnswer::Failed(BrokerError::Unavailable)
    })
}

fn understand(expected: Expected, value: Value) -> Option<BrokerAnswer> {
    Some(match expected {
        Expected::Done => BrokerAnswer::Done,
        Expected::Said => BrokerAnswer::Published { position: Position::default(), suppressed: None },
        Expected::SaidOnce => {
            let suppressed = (value.number()? == 1).then_some(Suppression::Idempotency);
            BrokerAnswer::Published { position: Position::default(), suppressed }
        }
        Expected::Added => {
            let parts = value.into_array()?;
            let suppressed = match parts.get(2)?.number()? {
                1 => Some(Suppression::Idempotency),
                2 => Some(Suppression::Version),
                _ => None,
            };
            BrokerAnswer::Published { position: position(&parts)?, suppressed }
        }
        Expected::Stream => {
            let mut parts = value.into_array()?;
            let entries = if parts.len() > 2 { parts.swap_remove(2).into_array()? } else { Vec::new() };
            let publications = entries.into_iter().map(stream_entry).collect::<Option<_>>()?;
            BrokerAnswer::History { top: position(&parts)?, publications }
        }
        Expected::List(page) => {
            let mut parts = value.into_array()?;
            let entries = if parts.len() > 2 { parts.swap_remove(2).into_array()? } else { Vec::new() };
            let publications = entries.iter().rev().map(list_entry).collect::<Option<Vec<_>>>()?;
            BrokerAnswer::History { top: position(&parts)?, publications: page.cut(publications) }
        }
        Expected::PresenceStats => {
            let parts = value.into_array()?;
            let number = |index: usize| parts.get(index)?.number().and_then(|number| u32::try_from(number).ok());
            BrokerAnswer::PresenceStats { clients: number(0)?, users: number(1)? }
        }
        Expected::Presence => {
            let fields = value.into_array()?;
            let infos = fields.chunks(2).map(|pair| client_info(pair.get(1)?)).collect::<Option<_>>()?;
            BrokerAnswer::Presence(infos)
        }
    })
}

fn position(parts: &[Value]) -> Option<Position> {
    // An answer under an idempotency key of a publication without history has no offset.
    let offset = match parts.first()? {
        Value::Null => 0,
        value => value.number()?,
    };
    let epoch = std::str::from_utf8(parts.get(1)?.text()?).ok()?;
    Some(Position { offset, epoch: Epoch::from(epoch) })
}

/// `[id, [field, value, ...]]`, where the id is the offset and the field `d`.
fn stream_entry(entry: Value) -> Option<Publication> {
    let entry = entry.into_array()?;
    let [id, fields] = <[Value; 2]>::try_from(entry).ok()?;
    let id = std::str::from_utf8(id.text()?).ok()?.split_once('-')?.0.parse().ok()?;
    let fields = fields.into_array()?;
    let data = fields.chunks(2).find(|pair| pair[0].text().is_some_and(|name| name == "d"))?.get(1)?.text()?.clone();
    publication(data, id)
}

fn publication(data: Bytes, offset: u64) -> Option<Publication> {
    Some(Publication { offset, ..Publication::decode(data).ok()? })
}

fn list_entry(entry: &Value) -> Option<Publication> {
    match decode_client_message(entry.text()?).ok()? {
        ClientMessage::Publication { publication, .. } => Some(publication),
        ClientMessage::Join(_) | ClientMessage::Leave(_) => None,
    }
}

fn client_info(value: &Value) -> Option<Arc<ClientInfo>> {
    ClientInfo::decode(value.text()?.clone()).ok().map(Arc::new)
}

impl Page {
    /// The part of a whole history, oldest first, that is asked for.
    fn cut(self, mut publications: Vec<Publication>) -> Vec<Publication> {
        match (self.since, self.reverse) {
            (Some(since), false) => publications.retain(|publication| publication.offset > since),
            (Some(since), true) => publications.retain(|publication| publication.offset < since),
            (None, _) => (),
        }
        if self.reverse {
            publications.reverse();
        }
        publications.truncate(self.limit.unwrap_or(usize::MAX));
        publications
    }
}
