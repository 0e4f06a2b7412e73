//! `MeshZone`: what one zone offers in one mesh, and by which roots its workloads are known. Written by the zone's
//! control plane only; it carries services, not instances, so that what crosses zones grows with services.

use std::collections::BTreeSet;

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Tags;
use crate::common::default_mesh;

/// What one zone offers in one mesh. The resource's name is the zone's.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "MeshZone",
    plural = "meshzones",
    namespaced,
    category = "ursa",
    doc = "What one zone offers in one mesh, and the roots of its workloads' certificates. Written by control planes only.",
    printcolumn(name = "Mesh", type_ = "string", json_path = ".spec.mesh"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
pub struct MeshZoneSpec {
    /// The mesh.
    #[serde(default = "default_mesh")]
    #[schemars(length(min = 1, max = 63))]
    pub mesh: String,
    /// The roots of the zone's trust domain, PEM; empty while mutual TLS is off.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub roots: String,
    /// The backends of the mesh whose roots are among `roots`, ordered by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub backends: Vec<ZoneBackend>,
    /// Server names of the subsets that routes name and its ingresses know, ordered.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = 100_000))]
    pub subsets: BTreeSet<String>,
    /// What it offers, ordered by tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100_000))]
    pub services: Vec<AvailableService>,
    /// Who its workloads are, those that only call included, ordered; left out by control planes that do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100_000))]
    pub identities: Option<Vec<WorkloadIdentity>>,
}

/// The identity of workloads of a zone, without the names of their proxies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentity {
    /// The primary service.
    #[schemars(length(min = 1, max = 253))]
    pub service: String,
    /// The namespace; left out where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The tags in it: those that the mesh declares as identity and the workloads may carry.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// A backend of the mesh, as far as one zone relies on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneBackend {
    /// The backend's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// How many proxies of the zone hold a certificate of it that has not expired.
    pub proxies: u32,
}

/// Instances of a service that have the same tags, as far as any route names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AvailableService {
    /// The service's tag, and those that a route's destination names.
    pub tags: Tags,
    /// How many are ready.
    pub instances: u32,
    /// The protocol, as the tag `ursamesh.io/protocol` says it.
    pub protocol: String,
    /// Primary services of the workloads that serve it: the names in their certificates.
    pub identity_services: BTreeSet<String>,
}
