//! What a ZoneIngress asks for: every object, and its status. Pure.
//!
//! Invariant: equal inputs give equal objects in the same order, the one in which they can be applied.

mod address;
mod deployment;
mod status;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use ursa_crds::{INGRESS_PORT, IngressServiceSpec, ServiceType, ZoneIngress, ZoneIngressSpec};

pub use status::Status;

use super::observe::{Observed, Plane};
use crate::names::IngressNames;

/// What is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Every object, as server-side apply takes it.
    pub objects: Vec<Value>,
    /// What is told to users once they are applied.
    pub status: Status,
}

/// What the parts of a plan are made from.
struct Source<'a> {
    names: IngressNames,
    uid: &'a str,
    spec: &'a ZoneIngressSpec,
    service: IngressServiceSpec,
    selector: BTreeMap<String, String>,
}

impl Source<'_> {
    /// The metadata of each object: all have one name, and go with the ZoneIngress.
    fn meta(&self) -> Value {
        json!({
            "name": self.names.object(),
            "namespace": self.names.namespace,
            "labels": self.names.labels(),
            "ownerReferences": [{
                "apiVersion": ursa_crds::API_VERSION,
                "kind": "ZoneIngress",
                "name": self.names.name,
                "uid": self.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        })
    }
}

/// What is to be for a ZoneIngress that names a ControlPlane, given what is seen of it.
pub fn plan(ingress: &ZoneIngress, observed: &Observed) -> Plan {
    let meta = &ingress.metadata;
    let names = IngressNames::new(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    let source = Source {
        selector: names.selector(),
        names,
        uid: meta.uid.as_deref().unwrap_or_default(),
        spec: &ingress.spec,
        service: ingress.spec.service.clone().unwrap_or_default(),
    };
    let objects = match &observed.control_plane {
        Plane::NotFound | Plane::Global | Plane::Starting => Vec::new(),
        Plane::Known(access) => vec![
            account(&source),
            service(&source),
            policy(&source),
            disruption_budget(&source),
            deployment::object(&source, access),
        ],
    };
    let status = status::status(&source, ingress, observed);
    Plan { objects, status }
}

/// By which control planes know the pods: it may do nothing.
fn account(source: &Source<'_>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": source.meta(),
        "automountServiceAccountToken": false,
    })
}

fn service(source: &Source<'_>) -> Value {
    let IngressServiceSpec { service_type, annotations, port, node_port } = &source.service;
    let mut metadata = source.meta();
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    let mut port =
        json!({"name": "tls-ingress", "port": port, "targetPort": INGRESS_PORT, "protocol": "TCP"});
    if let Some(node_port) = node_port.filter(|_| *service_type != ServiceType::ClusterIP) {
        port["nodePort"] = json!(node_port);
    }
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"type": service_type.as_str(), "selector": source.selector, "ports": [port]},
    })
}

/// Only the ports that are served. Who calls is not narrowed: other zones are anywhere, and TLS says who they are.
fn policy(source: &Source<'_>) -> Value {
    let ports =
        [INGRESS_PORT, ursa_inject::agent::HEALTH_PORT].map(|port| json!({"port": port, "protocol": "TCP"}));
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": source.meta(),
        "spec": {
            "podSelector": {"matchLabels": source.selector},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": ports}],
        },
    })
}

/// Nodes are drained one replica at a time; a single replica does not hold a drain up.
fn disruption_budget(source: &Source<'_>) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": source.meta(),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": source.selector},
            // A pod that does not serve may always go: it protects nothing.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    })
}
