//! `DataplaneInsight`: what a zone's control plane observes of one proxy. Written by it only; global gets a copy.

use std::net::IpAddr;

use jiff::Timestamp;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Tags;
use crate::common::default_mesh;

/// What is observed of one proxy. The resource's name is `<zone>.<dataplane>`. Written when something changes, so counts
/// of what happens all the time are not in it, but for peers without an identity, which agents tell every few seconds at
/// most.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "DataplaneInsight",
    plural = "dataplaneinsights",
    shortname = "dpi",
    namespaced,
    category = "ursa",
    doc = "What a zone's control plane observes of one proxy. Written by control planes only.",
    printcolumn(name = "Mesh", type_ = "string", json_path = ".spec.mesh"),
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.zone"),
    printcolumn(name = "Connected", type_ = "boolean", json_path = ".spec.connected"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
pub struct DataplaneInsightSpec {
    /// The mesh.
    #[serde(default = "default_mesh")]
    #[schemars(length(min = 1, max = 63))]
    pub mesh: String,
    /// The zone.
    #[schemars(length(min = 1, max = 63))]
    pub zone: String,
    /// The dataplane's name.
    #[schemars(length(min = 1, max = 253))]
    pub dataplane: String,
    /// Where the proxy is reached.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// What it serves, in the order of the dataplane.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub inbounds: Vec<ObservedInbound>,
    /// Whether its agent is connected.
    #[serde(default)]
    pub connected: bool,
    /// When its agent connected last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub connected_at: Option<Timestamp>,
    /// When its agent was lost last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub disconnected_at: Option<Timestamp>,
    /// Since when nobody knows whether its agent is connected: the replica of the control plane that it talked to is not heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub unheard_since: Option<Timestamp>,
    /// The id of the data-plane token that its agent came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub token_id: Option<String>,
    /// Version of the agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent_version: String,
    /// Version of Envoy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub envoy_version: String,
    /// The last certificate that was signed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ObservedCertificate>,
    /// What Envoy refused and still lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub rejections: Vec<ObservedRejection>,
    /// Whom its inbounds have let in without an identity of the mesh since its agent started: those that `mode: Strict`
    /// would refuse. Newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub unauthenticated_peers: Vec<UnauthenticatedPeer>,
}

impl DataplaneInsightSpec {
    /// The name of the resource about this dataplane.
    pub fn name(zone: &str, dataplane: &str) -> String {
        format!("{zone}.{dataplane}")
    }
}

/// What a proxy serves at a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedInbound {
    /// The proxy's port.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Its tags.
    pub tags: Tags,
    /// Whether it gets traffic.
    pub ready: bool,
}

/// A certificate that was signed for a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedCertificate {
    /// The backend of the mesh that signed it.
    pub backend: String,
    /// Its end of life.
    #[schemars(with = "String")]
    pub expires: Timestamp,
}

/// A resource that Envoy refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedRejection {
    /// Envoy's type of the resource, a type URL.
    #[serde(rename = "type")]
    pub type_url: String,
    /// The resource's name.
    pub name: String,
    /// The version that was refused.
    pub version: String,
    /// Envoy's words.
    pub message: String,
}

/// The most [`UnauthenticatedPeer`]s of a proxy that are kept.
pub const MAX_UNAUTHENTICATED_PEERS: usize = 512;

/// Who was let in at an inbound without an identity of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnauthenticatedPeer {
    /// The inbound's port.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// How it called.
    pub transport: PeerTransport,
    /// Its IP address; left out: others, more than the agent tells apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 45))]
    pub address: Option<IpAddr>,
    /// The dataplane of this zone that had the address when this was written, as `MESH/NAME`; left out: none, or several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub dataplane: Option<String>,
    /// Connections, or requests of plaintext HTTP.
    pub count: u64,
    /// When the last of them began.
    #[schemars(with = "String")]
    pub last_seen: Timestamp,
}

/// How a peer without an identity of the mesh calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PeerTransport {
    /// In the clear.
    Plaintext,
    /// By TLS that is not the mesh's.
    Tls,
}
