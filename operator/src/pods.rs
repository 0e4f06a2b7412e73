//! What the pods of all parts have in common. Pure.

use serde_json::{Value, json};
use ursa_crds::Resources;

/// Spread over nodes, as far as that can be.
pub(crate) fn affinity(selector: &Value) -> Value {
    json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": selector}},
    }]}})
}

/// Spread over the cloud's zones, as far as that can be.
pub(crate) fn spread(selector: &Value) -> Value {
    json!([{
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector},
        "matchLabelKeys": ["pod-template-hash"],
    }])
}

/// What a container may use: what is asked for, or these requests.
pub(crate) fn resources(asked: &Resources, cpu: &str, memory: &str) -> Value {
    if asked.is_empty() {
        return json!({"requests": {"cpu": cpu, "memory": memory}});
    }
    json!(asked.requirements())
}

/// An environment variable.
pub(crate) fn variable(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

/// One that the kubelet fills in from the pod.
pub(crate) fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}
