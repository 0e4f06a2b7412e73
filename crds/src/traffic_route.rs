//! `TrafficRoute`: shifts traffic between versions, zones, clouds, VMs and pods by weight.

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::default_mesh;
use crate::{Selector, Tags};

/// Splits the traffic from sources to a service over subsets of instances, by weight.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "TrafficRoute",
    plural = "trafficroutes",
    shortname = "tr",
    namespaced,
    category = "ursa",
    status = "crate::PolicyStatus",
    doc = "Splits the traffic from sources to a service over subsets of its instances, by weight.",
    printcolumn(name = "Mesh", type_ = "string", json_path = ".spec.mesh"),
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
pub struct TrafficRouteSpec {
    /// The mesh that the route belongs to.
    #[serde(default = "default_mesh")]
    #[schemars(length(min = 1, max = 63))]
    pub mesh: String,
    /// Whose traffic: any of these.
    #[schemars(length(min = 1, max = 64))]
    pub sources: Vec<Selector>,
    /// Traffic to which service: any of these.
    #[schemars(length(min = 1, max = 64))]
    pub destinations: Vec<Selector>,
    /// Where it goes.
    pub conf: RouteConf,
}

/// Where the traffic of a route goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.split.exists(s, s.weight > 0)", "message": "at least one weight must be greater than 0"}
]))]
pub struct RouteConf {
    /// Subsets with their weights.
    #[schemars(length(min = 1, max = 64))]
    pub split: Vec<WeightedDestination>,
    /// How the instances of a subset are chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
}

/// A subset of instances and its share of the traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightedDestination {
    /// Relative weight; the share is this divided by the sum of all.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: u32,
    /// Tags that the instances have; `ursamesh.io/service` is required.
    pub destination: Tags,
}

/// How the instances of a subset are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// The algorithm.
    #[serde(rename = "type")]
    pub algorithm: LoadBalancerType,
}

/// Load-balancing algorithms.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum LoadBalancerType {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// The one of two random instances that has fewer requests.
    LeastRequest,
    /// By chance.
    Random,
}
