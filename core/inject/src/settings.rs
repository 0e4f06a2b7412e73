//! What a cluster's administrator says about sidecars; the operator writes it, the webhook reads it.

use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

/// The settings of all sidecars of a cluster: a YAML document in camelCase. Annotations of a pod override some.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The image with `ursa-dp`, `ursa-init` and Envoy.
    pub image: String,
    /// When the image is pulled: `Always`, `IfNotPresent` or `Never`; Kubernetes decides if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// How sidecars reach the zone's control plane.
    pub control_plane: ControlPlaneAccess,
    /// How the sidecar runs in the pod.
    #[serde(default)]
    pub mode: SidecarMode,
    /// Of the sidecar, where a pod says nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// What sidecars log: error, warn, info, debug, trace.
    #[serde(default = "info")]
    pub log_level: String,
}

/// How sidecars reach the zone's control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlPlaneAccess {
    /// `https://HOST:PORT` of its gRPC server for agents.
    pub address: String,
    /// The certificates, PEM, by which it is trusted; nothing else is.
    pub ca_pem: String,
}

/// How the sidecar runs in the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SidecarMode {
    /// An init container with `restartPolicy: Always`: it starts before all others and ends after them.
    /// Source: <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>.
    #[default]
    Native,
    /// A container beside the others, for clusters without native sidecars. Init containers run before it.
    Container,
}

fn info() -> String {
    "info".to_owned()
}
