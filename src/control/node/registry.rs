//! Which other nodes are there.

use ringcast_proto::api::NodeResult;
use ringcast_proto::control::Node;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A node that says nothing for so long is gone, as in the reference.
const SILENCE_MAX: Duration = Duration::from_secs(7);

/// Other nodes by id. Bound: nodes that spoke within 7 s, and no more than [`NODES_MAX`].
#[derive(Default)]
pub struct Registry {
    nodes: BTreeMap<String, (NodeResult, Instant)>,
    has_changed: bool,
}

/// More are not looked at: somebody makes them up.
const NODES_MAX: usize = 4096;

impl Registry {
    /// Notes what a node says about itself; true if it was not known.
    pub fn add(&mut self, node: Node, now: Instant) -> bool {
        let is_new = !self.nodes.contains_key(&node.uid);
        if is_new && self.nodes.len() >= NODES_MAX {
            return false;
        }
        let result = NodeResult {
            uid: node.uid.clone(),
            name: node.name,
            version: node.version,
            num_clients: node.num_clients,
            num_users: node.num_users,
            num_channels: node.num_channels,
            uptime: node.uptime,
            num_subs: node.num_subs,
            ..NodeResult::default()
        };
        self.nodes.insert(node.uid, (result, now));
        self.has_changed = true;
        is_new
    }

    /// The node leaves.
    pub fn remove(&mut self, uid: &str) {
        self.has_changed |= self.nodes.remove(uid).is_some();
    }

    /// Whether anything is different since the last time; nodes that are silent for too long go.
    pub fn take_changed(&mut self, now: Instant) -> bool {
        let before = self.nodes.len();
        self.nodes.retain(|_, (_, heard)| now.saturating_duration_since(*heard) <= SILENCE_MAX);
        std::mem::take(&mut self.has_changed) || self.nodes.len() != before
    }

    /// All of them.
    pub fn nodes(&self) -> Arc<[NodeResult]> {
        self.nodes.values().map(|(node, _)| node.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E13
    #[test]
    fn nodes_go_when_they_say_so_or_nothing() {
        let (mut registry, start) = (Registry::default(), Instant::now());
        let node = |uid: &str| Node { uid: uid.into(), ..Node::default() };
        let uids = |registry: &Registry| registry.nodes().iter().map(|node| node.uid.clone()).collect::<Vec<_>>();
        assert!(registry.add(node("a"), start) && registry.add(node("b"), start) && registry.add(node("c"), start));
        assert!(!registry.add(node("b"), start + SILENCE_MAX));
        registry.remove("c");
        assert!(registry.take_changed(start + SILENCE_MAX));
        assert_eq!(uids(&registry), ["a", "b"]);
        assert!(!registry.take_changed(start + SILENCE_MAX));
        assert!(registry.take_changed(start + SILENCE_MAX + Duration::from_secs(1)));
        assert_eq!(uids(&registry), ["b"]);
    }
}
