//! What keeps a part reachable, and only where it is to be.

use serde_json::{Value, json};

use super::{Source, service};
use crate::names::Part;

/// Only the ports that are served. Who calls is not narrowed: agents are in any namespace, and the API server and
/// kubelets have no pods that a policy could select.
pub(super) fn policy(source: &Source<'_>, part: Part) -> Value {
    let mut ports: Vec<u16> = service::ports(source, part).into_iter().map(|port| port.pod).collect();
    ports.push(service::DIAGNOSTICS);
    let ports: Vec<Value> = ports.into_iter().map(|port| json!({"port": port, "protocol": "TCP"})).collect();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": source.meta(&source.names.part(part)),
        "spec": {
            "podSelector": {"matchLabels": source.names.selector(part)},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": ports}],
        },
    })
}

/// Nodes are drained one replica at a time; a single replica does not hold a drain up.
pub(super) fn disruption_budget(source: &Source<'_>, part: Part) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": source.meta(&source.names.part(part)),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": source.names.selector(part)},
            // A pod that does not serve may always go: it protects nothing.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    })
}
