//! `ZoneInsight`: what global observes of one zone's control plane. Written by it only.

use jiff::Timestamp;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What global observes of a zone. The resource's name is the zone's.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "ZoneInsight",
    plural = "zoneinsights",
    category = "ursa",
    doc = "What global observes of one zone's control plane. Written by global only.",
    printcolumn(name = "Connected", type_ = "boolean", json_path = ".spec.connected"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Schema", type_ = "integer", json_path = ".spec.schema"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
pub struct ZoneInsightSpec {
    /// Whether its stream is open.
    #[serde(default)]
    pub connected: bool,
    /// When it connected last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub connected_at: Option<Timestamp>,
    /// When its stream ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub disconnected_at: Option<Timestamp>,
    /// Version of its control plane.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The newest schema that its control plane speaks; 0: it never said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub schema: u32,
    /// Why it cannot connect, if it speaks no schema that global speaks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub incompatible: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(schema: &u32) -> bool {
    *schema == 0
}
