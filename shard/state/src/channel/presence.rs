//! Who is in a channel. With the memory engine an entry lives exactly as long as its subscription. Source: behaviour §4.

use crate::ClientId;
use ringcast_proto::client::ClientInfo;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Members by client id; the order makes answers the same for the same state.
#[derive(Debug, Default)]
pub(crate) struct Presence(BTreeMap<ClientId, Arc<ClientInfo>>);

impl Presence {
    pub(crate) fn add(&mut self, client: ClientId, info: Arc<ClientInfo>) {
        self.0.insert(client, info);
    }

    pub(crate) fn remove(&mut self, client: ClientId) {
        self.0.remove(&client);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn members(&self) -> Vec<Arc<ClientInfo>> {
        self.0.values().cloned().collect()
    }
}
