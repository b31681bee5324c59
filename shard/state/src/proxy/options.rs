//! Which backend is asked about what.

use ringcast_proto::codes::ReplyError;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A backend: its place in the list that the control plane keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProxyId(pub u16);

/// A list that the control plane keeps. Questions that are on their way when another takes its place still mean the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyListId(pub u32);

/// What is asked of backends, besides what the namespaces of channels say.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Which list the places are in: every reload makes another.
    pub list: ProxyListId,
    /// Group `client.proxy.connect`: asked who a client without a token is. `None` unless `enabled`.
    pub connect: Option<ProxyId>,
    /// Group `client.proxy.refresh`: asked whether a connection goes on whose time is over; clients do not refresh it then.
    /// `None` unless `enabled`.
    pub refresh: Option<ProxyId>,
    /// Config group `rpc`.
    pub rpc: RpcOptions,
    /// Keys `emulated_headers` of all proxies, in lower case: headers of connect commands that are kept.
    pub emulated_headers: BTreeSet<String>,
    /// Key `include_connection_meta` of some proxy: the meta of connections is kept.
    pub include_connection_meta: bool,
    /// After this a question without an answer has failed. Longer than the `timeout` of every proxy, so that it is the last
    /// resort. Default 2 s.
    pub give_up_after: Duration,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            list: ProxyListId(0),
            connect: None,
            refresh: None,
            rpc: RpcOptions::default(),
            emulated_headers: BTreeSet::new(),
            include_connection_meta: false,
            give_up_after: Duration::from_secs(2),
        }
    }
}

/// Config group `rpc`: who serves which methods.
#[derive(Clone, Debug)]
pub struct RpcOptions {
    /// Group `rpc.without_namespace`; `None` unless `proxy_enabled`.
    pub without_namespace: Option<ProxyId>,
    /// Key `rpc.namespaces`, by name; `None` where `proxy_enabled` is not set.
    pub namespaces: BTreeMap<String, Option<ProxyId>>,
    /// Key `rpc.namespace_boundary`. Default `:`.
    pub namespace_boundary: String,
}

impl Default for RpcOptions {
    fn default() -> Self {
        Self { without_namespace: None, namespaces: BTreeMap::new(), namespace_boundary: ":".into() }
    }
}

impl RpcOptions {
    /// Some method is served by a backend.
    pub(crate) fn is_served(&self) -> bool {
        self.without_namespace.is_some() || self.namespaces.values().any(Option::is_some)
    }

    /// Who serves a method.
    pub(crate) fn resolve(&self, method: &str) -> Result<ProxyId, ReplyError> {
        let boundary = Some(&*self.namespace_boundary).filter(|boundary| !boundary.is_empty());
        let proxy = match boundary.and_then(|boundary| method.split_once(boundary)) {
            None | Some(("", _)) => self.without_namespace,
            Some((namespace, _)) => *self.namespaces.get(namespace).ok_or(ReplyError::METHOD_NOT_FOUND)?,
        };
        proxy.ok_or(ReplyError::NOT_AVAILABLE)
    }
}
