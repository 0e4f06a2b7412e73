//! `ZoneIngress`: where traffic from other zones enters a zone. One serves all meshes.
//!
//! It is either registered (its agent brings `networking`, or it is a copy of another zone's), or what an operator sets up
//! for the control plane that it names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt as _;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definitions::with_rule;

use crate::{LocalRef, Resources};

mod service;
mod status;

pub use service::IngressServiceSpec;
pub use status::ZoneIngressStatus;

/// Where a zone ingress listens unless something else is said.
pub const INGRESS_PORT: u16 = 10_001;

/// A proxy that takes traffic from other zones and passes it on, without ending TLS.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "ZoneIngress",
    plural = "zoneingresses",
    shortname = "zi",
    namespaced,
    category = "ursa",
    status = "ZoneIngressStatus",
    doc = "Where traffic from other zones enters a zone.",
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.zone"),
    printcolumn(name = "Control Plane", type_ = "string", json_path = ".spec.controlPlaneRef.name"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address"),
    printcolumn(name = "Port", type_ = "integer", json_path = ".status.port", priority = 1),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1
    ),
    printcolumn(name = "Services", type_ = "integer", json_path = ".status.services", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.networking) != has(self.controlPlaneRef)",
        "message": "exactly one of controlPlaneRef (the operator sets it up) and networking (it is registered) is needed"
    },
    {
        "rule": "has(self.controlPlaneRef) || !(has(self.replicas) || has(self.service) || has(self.resources) || has(self.nodeSelector) || has(self.tolerations))",
        "message": "replicas, service, resources, nodeSelector and tolerations are for the operator: they need controlPlaneRef"
    },
    {
        "rule": "!has(self.controlPlaneRef) || !has(self.zone)",
        "message": "zone is that of the control plane: leave it out where controlPlaneRef is given"
    },
    {
        "rule": "has(self.controlPlaneRef) == has(oldSelf.controlPlaneRef) && (!has(self.controlPlaneRef) || self.controlPlaneRef.name == oldSelf.controlPlaneRef.name)",
        "message": "controlPlaneRef cannot be changed; create another ZoneIngress"
    }
]))]
pub struct ZoneIngressSpec {
    /// The zone; set by its control plane.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub zone: String,
    /// Of one that is registered: where the proxy listens; `0.0.0.0` or `::` if `advertised` says where it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networking: Option<SocketSpec>,
    /// Where other zones reach it; where it listens if left out. The operator finds it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised: Option<SocketSpec>,
    /// The ControlPlane of the namespace for whose zone the operator sets it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_ref: Option<LocalRef>,
    /// How many replicas the operator sets up; 2 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: Option<i32>,
    /// How other zones reach what the operator sets up: by a load balancer at port 10001 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<IngressServiceSpec>,
    /// What a replica may use; 100m CPU and 128Mi of memory are requested if left out.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Labels of the nodes that replicas may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that replicas tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,
}

impl ZoneIngressSpec {
    /// Where other zones reach it; `None`: that is not known yet.
    pub fn reached_at(&self) -> Option<SocketSpec> {
        self.advertised.or(self.networking).filter(|socket| !socket.address.is_unspecified())
    }

    /// How many replicas the operator sets up.
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(2)
    }
}

/// The ServiceAccount of the pods that the operator runs for a ZoneIngress: by it a control plane knows them.
pub fn ingress_account(name: &str) -> String {
    format!("{name}{ACCOUNT_SUFFIX}")
}

/// The ZoneIngress whose pods have this ServiceAccount; the reverse of [`ingress_account`].
pub fn ingress_of_account(account: &str) -> Option<&str> {
    account.strip_suffix(ACCOUNT_SUFFIX).filter(|name| !name.is_empty())
}

/// The operator makes no other accounts that end so.
const ACCOUNT_SUFFIX: &str = "-proxy";

/// The definition, with a rule for names, which the types cannot carry.
pub(crate) fn definition() -> CustomResourceDefinition {
    with_rule(
        ZoneIngress::crd(),
        "!has(self.spec.controlPlaneRef) || (self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 40)",
        "with controlPlaneRef the name must be a DNS label of at most 40 characters that starts with a letter: the name of a Service is made of it",
    )
}

/// An IP address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "isIP(self.address)", "message": "address must be an IP address: Envoys of other zones resolve no names"}
]))]
pub struct SocketSpec {
    /// The IP address.
    #[schemars(with = "String", length(max = 45))]
    pub address: IpAddr,
    /// The port.
    #[serde(default = "ingress_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
}

const fn ingress_port() -> u16 {
    INGRESS_PORT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> ZoneIngressSpec {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn it_is_reached_where_it_says_and_nowhere_while_that_is_not_known() {
        let reached = |yaml: &str| spec(yaml).reached_at().map(|at| (at.address.to_string(), at.port));
        assert_eq!(reached("networking: {address: 10.0.0.9}"), Some(("10.0.0.9".into(), 10_001)));
        let both = "{networking: {address: 0.0.0.0}, advertised: {address: 203.0.113.7, port: 1}}";
        assert_eq!(reached(both), Some(("203.0.113.7".into(), 1)));
        assert_eq!(reached("networking: {address: 0.0.0.0}"), None);
        assert_eq!(reached("controlPlaneRef: {name: ursa}"), None);
    }

    #[test]
    fn an_account_leads_back_to_its_ingress_and_to_no_other() {
        for name in ["ingress", "a-proxy", "proxy", "ingress-2"] {
            assert_eq!(ingress_of_account(&ingress_account(name)), Some(name));
        }
        for account in ["ingress", "default", "-proxy", "ingress-proxy-2", "ursa-cp"] {
            assert_eq!(ingress_of_account(account), None, "{account}");
        }
    }

    #[test]
    fn a_service_is_a_load_balancer_at_the_port_of_zone_ingresses_unless_it_says_otherwise() {
        let IngressServiceSpec { service_type, annotations, port, node_port } =
            spec("{controlPlaneRef: {name: ursa}, service: {}}").service.unwrap();
        assert_eq!((service_type.as_str(), port, node_port), ("LoadBalancer", 10_001, None));
        assert!(annotations.is_empty());
    }
}
