//! `status` of a `ControlPlane`, written by the operator, but for one condition.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The condition of a zone that says whether it is connected to global. The zone's control plane writes it.
pub const CONNECTED_TO_GLOBAL: &str = "ConnectedToGlobal";
/// The field manager of that condition, whoever writes it, so that nobody takes parts of it from another.
pub const CONNECTION_MANAGER: &str = "ursa-cp";

/// How far what was asked for is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneStatus {
    /// The generation of the specification that the operator acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The version that runs, or that is being rolled out while `Progressing` is true: the tag or digest of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `Ready`, `Progressing`, `Degraded` and, of a zone, `ConnectedToGlobal`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
