//! `ControlPlane`: a control plane in a cluster, as the operator sets it up. It is the cluster's own: no store keeps it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt as _;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definitions::with_rule;

mod parts;
mod status;

pub use parts::{
    Amount, CertIssuer, FailurePolicy, IssuerRef, LocalRef, LogLevel, PullPolicy, Resources, ServiceSpec,
    ServiceType, SidecarRunMode, SidecarSpec, StoreSpec, StoreType, TlsSpec, WebhookSpec, ZoneMembership,
};
pub use status::{CONNECTED_TO_GLOBAL, CONNECTION_MANAGER, ControlPlaneStatus};

/// The zone of a control plane that names none.
pub const DEFAULT_ZONE: &str = "default";

/// A control plane with the webhook that puts sidecars into pods. The operator of its namespace sets both up.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "ControlPlane",
    plural = "controlplanes",
    shortname = "cp",
    namespaced,
    category = "ursa",
    status = "ControlPlaneStatus",
    doc = "A control plane of the service mesh in this cluster, with the webhook that puts sidecars into pods.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
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
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.mode != 'Zone' || (has(self.zone) && has(self.zone.name) && has(self.zone.globalAddress) && has(self.zone.credentialSecretRef))",
        "message": "mode Zone needs zone.name, zone.globalAddress and zone.credentialSecretRef"
    },
    {
        "rule": "self.mode == 'Zone' || !has(self.zone) || !(has(self.zone.globalAddress) || has(self.zone.credentialSecretRef) || has(self.zone.globalCaSecretRef))",
        "message": "zone.globalAddress, zone.credentialSecretRef and zone.globalCaSecretRef are for mode Zone only"
    },
    {
        "rule": "self.mode != 'Global' || !has(self.zone)",
        "message": "a global control plane is in no zone: leave zone out"
    },
    {"rule": "self.mode == oldSelf.mode", "message": "mode cannot be changed; create another ControlPlane"},
    {
        "rule": "(has(self.zone) && has(self.zone.name) ? self.zone.name : 'default') == (has(oldSelf.zone) && has(oldSelf.zone.name) ? oldSelf.zone.name : 'default')",
        "message": "zone.name cannot be changed: certificates of workloads are made of it; create another ControlPlane"
    }
]))]
pub struct ControlPlaneSpec {
    /// What the control plane is.
    #[serde(default)]
    pub mode: ControlPlaneMode,
    /// How many replicas serve.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,
    /// The zone that it is responsible for; `default` if left out. A global one is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneMembership>,
    /// Where resources are kept.
    #[serde(default)]
    pub store: StoreSpec,
    /// The image of the control plane and the webhook; the operator's own choice, which upgrades with it, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// The image of sidecars; the operator's own choice if left out. Pods get another one when they start anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub dataplane_image: Option<String>,
    /// When images are pulled; Kubernetes decides by the tag if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Secrets of the namespace with credentials for the registry of `image`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<LocalRef>,
    /// What a replica may use; 100m CPU and 128Mi of memory are requested if left out.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Labels of the nodes that replicas of control plane and webhook may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that replicas of control plane and webhook tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,
    /// How the control plane is reached.
    #[serde(default)]
    pub service: ServiceSpec,
    /// The sidecars that pods get; annotations of a pod override some.
    #[serde(default)]
    pub sidecar: SidecarSpec,
    /// The webhook that puts sidecars into pods and validates resources.
    #[serde(default)]
    pub webhook: WebhookSpec,
    /// Where the certificates of control plane and webhook come from. Workloads' certificates have nothing to do with it.
    #[serde(default)]
    pub tls: TlsSpec,
    /// What the control plane and the webhook log.
    #[serde(default)]
    pub log_level: LogLevel,
}

const fn two() -> i32 {
    2
}

impl ControlPlaneSpec {
    /// The zone's name; `None` of a global control plane.
    pub fn zone_name(&self) -> Option<&str> {
        if self.mode == ControlPlaneMode::Global {
            return None;
        }
        Some(self.zone.as_ref().and_then(|zone| zone.name.as_deref()).unwrap_or(DEFAULT_ZONE))
    }
}

/// The Secret with the authority that the operator makes for a ControlPlane, and its key.
pub fn authority_secret(control_plane: &str) -> String {
    format!("{control_plane}-ca")
}

/// The Secret with the certificate of a ControlPlane's pods, and what it is trusted by.
pub fn tls_secret(control_plane: &str) -> String {
    format!("{control_plane}-cp-tls")
}

/// The definition, with a rule for names, which the types cannot carry.
pub(crate) fn definition() -> CustomResourceDefinition {
    with_rule(
        ControlPlane::crd(),
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 40",
        "the name must be a DNS label of at most 40 characters that starts with a letter: names of Services are made of it",
    )
}

/// What a control plane is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ControlPlaneMode {
    /// One zone, no global.
    #[default]
    Standalone,
    /// Takes what users write and sends it to the zones.
    Global,
    /// One of several zones.
    Zone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_specification_is_a_standalone_of_two_replicas() {
        let spec: ControlPlaneSpec = serde_json::from_str("{}").unwrap();
        assert_eq!(
            (spec.mode, spec.replicas, spec.zone_name()),
            (ControlPlaneMode::Standalone, 2, Some("default"))
        );
        assert_eq!((spec.webhook.replicas, spec.webhook.failure_policy), (2, FailurePolicy::Fail));
        assert_eq!(
            serde_json::from_value::<ControlPlaneSpec>(serde_json::to_value(&spec).unwrap()).unwrap(),
            spec
        );
    }
}
