//! `ZoneIngress`: where traffic from other zones enters a zone. One serves all meshes.

use std::net::IpAddr;

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A proxy that takes traffic from other zones and passes it on, without ending TLS.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "ZoneIngress",
    plural = "zoneingresses",
    shortname = "zi",
    category = "ursa",
    status = "crate::Status",
    doc = "Where traffic from other zones enters a zone.",
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.zone"),
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.advertised.address"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
pub struct ZoneIngressSpec {
    /// The zone; set by its control plane.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub zone: String,
    /// Where the proxy listens.
    pub networking: SocketSpec,
    /// Where other zones reach it; where it listens if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised: Option<SocketSpec>,
}

impl ZoneIngressSpec {
    /// Where other zones reach it.
    pub fn reached_at(&self) -> SocketSpec {
        self.advertised.unwrap_or(self.networking)
    }
}

/// An IP address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
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
    10_001
}
