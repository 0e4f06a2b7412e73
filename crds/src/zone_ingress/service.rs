//! The Service of a zone ingress.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{INGRESS_PORT, ingress_port};
use crate::ServiceType;

/// How other zones reach a zone ingress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.nodePort) || self.type != 'ClusterIP'",
    "message": "nodePort is for the types NodePort and LoadBalancer"
}]))]
pub struct IngressServiceSpec {
    /// The type of the Service. With `ClusterIP` it is reached only where the cluster's own network is.
    #[serde(default = "load_balancer", rename = "type")]
    pub service_type: ServiceType,
    /// Its annotations, which cloud providers read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
    /// Its port.
    #[serde(default = "ingress_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The port of every node; Kubernetes chooses one if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub node_port: Option<u16>,
}

const fn load_balancer() -> ServiceType {
    ServiceType::LoadBalancer
}

impl Default for IngressServiceSpec {
    fn default() -> Self {
        Self {
            service_type: load_balancer(),
            annotations: BTreeMap::new(),
            port: INGRESS_PORT,
            node_port: None,
        }
    }
}
