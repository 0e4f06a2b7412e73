//! Services of control plane and webhook.

use serde_json::{Value, json};
use ursa_crds::ControlPlaneMode;

use super::Source;
use crate::names::Part;

/// A port of a part: its name in the Service, there, and in the pod.
pub(super) struct Port {
    pub(super) name: &'static str,
    pub(super) service: u16,
    pub(super) pod: u16,
}

const fn same(name: &'static str, port: u16) -> Port {
    Port { name, service: port, pod: port }
}

/// Health and metrics, reached by kubelets and Prometheus, not by the Service.
pub(super) const DIAGNOSTICS: u16 = 5680;

/// The REST API.
pub(super) const API: u16 = 5682;

/// The ports that clients use.
pub(super) fn ports(source: &Source<'_>, part: Part) -> Vec<Port> {
    match part {
        Part::ControlPlane => {
            let mut ports = vec![same("grpc-agents", 5678), same("https-api", API)];
            if source.spec.mode == ControlPlaneMode::Global {
                ports.push(same("grpc-sync", 5685));
            }
            ports
        }
        Part::Webhook => vec![Port { name: "https-webhook", service: 443, pod: 5443 }],
    }
}

pub(super) fn object(source: &Source<'_>, part: Part) -> Value {
    let ports: Vec<Value> = ports(source, part)
        .into_iter()
        .map(|port| json!({"name": port.name, "port": port.service, "targetPort": port.pod, "protocol": "TCP"}))
        .collect();
    let mut metadata = source.meta(&source.names.service(part));
    let service_type = match part {
        Part::ControlPlane => {
            if !source.spec.service.annotations.is_empty() {
                metadata["annotations"] = json!(source.spec.service.annotations);
            }
            source.spec.service.service_type.as_str()
        }
        Part::Webhook => "ClusterIP",
    };
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"type": service_type, "selector": source.names.selector(part), "ports": ports},
    })
}
