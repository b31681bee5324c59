//! What backends may hear of a client besides who it is.

use super::ProxyOptions;
use crate::client::Client;
use crate::transport::Headers;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a client brought with it, as far as some backend may hear of it. Questions share it with their client.
///
/// Bound: the limits of requests and of messages. Clients that bring nothing of the kind have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Background {
    /// Headers of the request that opened the connection, or metadata of GRPC.
    pub headers: Option<Arc<Headers>>,
    /// Stand in for headers that a browser cannot set: of the connect command, names in lower case.
    pub emulated: BTreeMap<String, String>,
    /// Data of the connection that clients do not see; empty for none.
    pub meta: Bytes,
}

impl Client {
    /// Keeps what the connect command has for headers.
    pub(crate) fn keep_emulated(&mut self, headers: BTreeMap<String, String>, options: &ProxyOptions) {
        let lower = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let kept: BTreeMap<_, _> = lower.filter(|(name, _)| options.emulated_headers.contains(name)).collect();
        if !kept.is_empty() {
            self.change_background(|background| background.emulated = kept);
        }
    }

    /// Keeps the meta of the connection. An empty one changes nothing.
    pub(crate) fn keep_meta(&mut self, meta: Bytes, options: &ProxyOptions) {
        if !meta.is_empty() && options.include_connection_meta {
            self.change_background(|background| background.meta = meta);
        }
    }

    fn change_background(&mut self, change: impl FnOnce(&mut Background)) {
        change(Arc::make_mut(self.background.get_or_insert_default()));
    }
}
