//! `MeshZoneInsight`: how far the proxies of one zone enforce the resources of one mesh. Written by the zone's control plane
//! only; global gets a copy.

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::default_mesh;

/// How far a zone enforces a mesh. The resource's name is the zone's. Written when something of it changes.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "MeshZoneInsight",
    plural = "meshzoneinsights",
    namespaced,
    category = "ursa",
    doc = "How far the proxies of one zone enforce the resources of one mesh. Written by control planes only.",
    printcolumn(name = "Mesh", type_ = "string", json_path = ".spec.mesh"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
pub struct MeshZoneInsightSpec {
    /// The mesh.
    #[serde(default = "default_mesh")]
    #[schemars(length(min = 1, max = 63))]
    pub mesh: String,
    /// Of the mesh itself and each of its policies that the zone knows, ordered by UID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100_000))]
    pub resources: Vec<Enforcement>,
}

/// The most names of proxies that are said of a resource.
pub const MAX_LAGGARDS: usize = 10;

/// How far the proxies of a zone enforce a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Enforcement {
    /// The resource's UID, as its owner knows it.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
    /// Which state of it.
    pub generation: u64,
    /// Whether every proxy that it touches, and every replica of the zone's control plane, is known to follow it.
    pub enforced: bool,
    /// How many proxies follow it.
    pub acked: u32,
    /// How many it touches.
    pub total: u32,
    /// Of how many of them nobody knows: the replica of the control plane that they talk to is not heard of.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unheard: u32,
    /// Names of some that do not follow it, ordered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub laggards: Vec<String>,
    /// What some of them refused of it, ordered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub rejections: Vec<Refusal>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What a proxy refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The proxy: its dataplane's name.
    #[schemars(length(min = 1, max = 253))]
    pub dataplane: String,
    /// Envoy's words.
    pub message: String,
}
