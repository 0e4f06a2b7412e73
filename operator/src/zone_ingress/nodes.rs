//! The cluster's nodes, as far as other zones reach them. They are watched only while some ZoneIngress is reached at a port of
//! nodes. Invariant: a heartbeat causes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt as _};
use tokio::sync::{mpsc, watch};
use tracing::warn;

/// What matters of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Whether it can take traffic.
    pub ready: bool,
    /// Its addresses outside the cluster's network.
    pub external: Vec<IpAddr>,
    /// Its addresses in the cluster's network.
    pub internal: Vec<IpAddr>,
}

impl NodeFacts {
    fn of(node: &Node) -> Self {
        let status = node.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        let of_type = |wanted: &str| {
            let all = status.addresses.iter().flatten().filter(|address| address.type_ == wanted);
            all.filter_map(|address| address.address.parse().ok()).collect()
        };
        Self {
            ready: ready && node.metadata.deletion_timestamp.is_none(),
            external: of_type("ExternalIP"),
            internal: of_type("InternalIP"),
        }
    }
}

/// Nodes by name.
pub type AllNodes = BTreeMap<String, NodeFacts>;

/// Access to what is known; cheap to clone, all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Names of the ZoneIngresses that want to know.
    wanted: watch::Sender<BTreeSet<String>>,
    /// `None`: not listed yet.
    known: watch::Sender<Option<AllNodes>>,
}

impl Nodes {
    /// Says whether a ZoneIngress wants to know.
    pub(super) fn want(&self, ingress: &str, wants: bool) {
        self.0
            .wanted
            .send_if_modified(|all| if wants { all.insert(ingress.to_owned()) } else { all.remove(ingress) });
    }

    /// All nodes; `None`: not listed yet.
    pub(super) fn known(&self) -> Option<AllNodes> {
        self.0.known.borrow().clone()
    }

    /// Follows nodes while somebody wants to know, and says when they have changed, for as long as it is polled.
    pub(super) async fn follow(&self, client: &Client, changed: mpsc::Sender<()>) {
        let mut wanted = self.0.wanted.subscribe();
        loop {
            // The sender is in `self`.
            let _ = wanted.wait_for(|all| !all.is_empty()).await;
            tokio::select! {
                () = self.watch(client, &changed) => {}
                _ = wanted.wait_for(BTreeSet::is_empty) => {}
            }
            self.0.known.send_replace(None);
        }
    }

    async fn watch(&self, client: &Client, changed: &mpsc::Sender<()>) {
        let api = Api::<Node>::all(client.clone());
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut listing = AllNodes::new();
        while let Some(event) = events.next().await {
            let news = match event {
                Ok(Event::Init) => {
                    listing.clear();
                    false
                }
                Ok(Event::InitApply(node)) => {
                    listing.insert(node.name_any(), NodeFacts::of(&node));
                    false
                }
                Ok(Event::InitDone) => {
                    let listed = std::mem::take(&mut listing);
                    self.change(|known| *known = Some(listed))
                }
                Ok(Event::Apply(node)) => self.change(|known| {
                    known.get_or_insert_default().insert(node.name_any(), NodeFacts::of(&node));
                }),
                Ok(Event::Delete(node)) => self.change(|known| {
                    known.get_or_insert_default().remove(&node.name_any());
                }),
                Err(error) => {
                    warn!(%error, "cannot follow nodes; trying again");
                    false
                }
            };
            if news {
                // One that waits says the same.
                let _ = changed.try_send(());
            }
        }
    }

    /// Whether the change was one.
    fn change(&self, change: impl FnOnce(&mut Option<AllNodes>)) -> bool {
        self.0.known.send_if_modified(|known| {
            let before = known.clone();
            change(known);
            *known != before
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_node_its_addresses_and_its_readiness_matter() {
        let node = |ready: &str, heartbeat: &str| {
            let node = json!({
                "metadata": {"name": "n"},
                "status": {
                    "conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat}],
                    "addresses": [
                        {"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"},
                        {"type": "ExternalIP", "address": "203.0.113.1"}, {"type": "InternalIP", "address": "fd00::1"},
                    ],
                },
            });
            NodeFacts::of(&serde_json::from_value(node).unwrap())
        };
        let facts = node("True", "2026-01-01T00:00:00Z");
        assert!(facts.ready);
        assert_eq!(facts.external, ["203.0.113.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(facts.internal, ["10.0.0.1", "fd00::1"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert_eq!(facts, node("True", "2026-01-01T00:05:00Z"));
        assert!(!node("Unknown", "2026-01-01T00:00:00Z").ready);
    }

    #[tokio::test]
    async fn nodes_are_known_only_while_somebody_wants_to_know() {
        let nodes = Nodes::default();
        nodes.want("a", true);
        nodes.want("b", true);
        nodes.want("a", false);
        assert_eq!(*nodes.0.wanted.borrow(), BTreeSet::from(["b".to_owned()]));
        assert!(nodes.known().is_none(), "unknown is not empty");
        assert!(nodes.change(|known| *known = Some(AllNodes::new())));
        assert!(!nodes.change(|known| *known = Some(AllNodes::new())), "it is no news");
    }
}
