//! `TrafficPermission`: who may call whom, once mutual TLS is on.

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Selector;
use crate::common::default_mesh;

/// Allows or denies traffic from sources to destinations. With mutual TLS on, traffic that no permission
/// allows is refused; any `Deny` that matches wins.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "TrafficPermission",
    plural = "trafficpermissions",
    shortname = "tp",
    namespaced,
    category = "ursa",
    status = "crate::PolicyStatus",
    doc = "Who may call whom: the union of all that allow, less what any denies.",
    printcolumn(name = "Mesh", type_ = "string", json_path = ".spec.mesh"),
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].reason",
        priority = 1
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Programmed')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.mesh == oldSelf.mesh", "message": "mesh cannot be changed; delete and create the resource"}
]))]
pub struct TrafficPermissionSpec {
    /// The mesh that the permission belongs to.
    #[serde(default = "default_mesh")]
    #[schemars(length(min = 1, max = 63))]
    pub mesh: String,
    /// What happens to traffic that matches.
    #[serde(default)]
    pub action: Action,
    /// Who calls: any of these.
    #[schemars(length(min = 1, max = 64))]
    pub sources: Vec<Selector>,
    /// Who is called: any of these.
    #[schemars(length(min = 1, max = 64))]
    pub destinations: Vec<Selector>,
}

/// What a [`TrafficPermissionSpec`] does to traffic that matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// Admits it, unless a `Deny` matches too.
    #[default]
    Allow,
    /// Refuses it.
    Deny,
}
