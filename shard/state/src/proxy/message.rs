//! What a backend is asked, and what it may answer. Source: behaviour §9.

use super::{Background, ProxyId, ProxyListId};
use crate::{ClientId, RequestId, TransportKind};
use bytes::Bytes;
use ringcast_proto::client::Encoding;
use ringcast_proto::codes::{Disconnect, ReplyError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A question to a backend. Tell `Shard::handle_proxy_answer` what came of it, at most once.
#[derive(Clone, Debug)]
pub struct ProxyQuestion {
    /// Where the answer is awaited.
    pub request: RequestId,
    /// Which backend.
    pub proxy: (ProxyListId, ProxyId),
    /// On whose behalf.
    pub asker: ProxyAsker,
    /// What the client wants.
    pub event: ProxyEvent,
}

/// The client that a question is about: what every event tells of it.
#[derive(Clone, Debug)]
pub struct ProxyAsker {
    /// Its id.
    pub client: ClientId,
    /// How it is connected.
    pub transport: TransportKind,
    /// Its protocol.
    pub encoding: Encoding,
    /// Its user; empty for an anonymous one.
    pub user: Arc<str>,
    /// What it brought with it.
    pub background: Option<Arc<Background>>,
}

/// What a client wants. Payloads are as they came; how they travel (`binary_encoding`) is up to whoever asks the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the client's command")]
pub enum ProxyEvent {
    /// To publish into a channel.
    Publish { channel: Arc<str>, data: Bytes },
    /// To have a method called.
    Rpc { method: String, data: Bytes },
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyAnswer {
    /// The result of [`ProxyEvent::Publish`].
    Publish(PublishAnswer),
    /// The result of [`ProxyEvent::Rpc`]: its data, empty for none.
    Rpc(Bytes),
    /// The command is refused.
    Error(ReplyError),
    /// The client is closed.
    Disconnect(Disconnect),
    /// No answer, or none that can be read.
    Failed,
}

/// How a publication is to be made. The default publishes what the client sent, as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishAnswer {
    /// In place of what the client sent.
    pub data: Option<Bytes>,
    /// Not kept in history.
    pub skip_history: bool,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Empty for none.
    pub idempotency_key: String,
    /// Subscribers that can may get the difference to the publication before; what the namespace says does not count.
    pub delta: bool,
    /// Version; 0 for none.
    pub version: u64,
    /// Epoch of the version.
    pub version_epoch: String,
}
