//! `Dataplane`: one workload's proxy on a machine that is not Kubernetes; there, pods are discovered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{default_mesh, tag};
use crate::{Duration, Tags};

/// Describes one workload's proxy: where it listens, what it serves, what it calls.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ursamesh.io",
    version = "v1alpha1",
    kind = "Dataplane",
    plural = "dataplanes",
    shortname = "dp",
    namespaced,
    category = "ursa",
    status = "crate::Status",
    doc = "One workload's proxy on a virtual machine or other host that is not Kubernetes.",
    printcolumn(name = "Mesh", type_ = "string", json_path = ".spec.mesh"),
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.networking.address"),
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
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.mesh == oldSelf.mesh", "message": "mesh cannot be changed; delete and create the resource"}
]))]
pub struct DataplaneSpec {
    /// The mesh that the workload belongs to.
    #[serde(default = "default_mesh")]
    #[schemars(length(min = 1, max = 63))]
    pub mesh: String,
    /// Addresses and ports.
    pub networking: Networking,
    /// Tags that its data-plane token proves, of which those that the mesh declares are part of its identity. Written by the
    /// control plane whenever the agent registers; what else is written here is replaced then.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub token_tags: Tags,
    /// The id of the data-plane token that its agent came with, or that its certificate was signed on. Written by the control
    /// plane whenever the agent registers; what else is written here is replaced then. If the mesh revokes the token
    /// (`Mesh.spec.revokedTokens`), the dataplane is out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub token_id: Option<String>,
    /// The pod behind it, on Kubernetes. Discovery says it, users never do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub pod: Option<Pod>,
}

/// The pod behind a dataplane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its unique id, which its token is bound to.
    pub uid: String,
    /// The service in its certificate, unless a wish is granted: its oldest Service, else its workload.
    pub service: String,
    /// The service that its annotation wishes to have in its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wished_service: Option<String>,
    /// What its Services wish to be called in the mesh instead of `<name>.<namespace>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wished_names: BTreeMap<String, String>,
    /// What it has as a caller, whatever it serves.
    pub tags: Tags,
    /// Ports of inbounds that are not ready, by Kubernetes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unready: BTreeSet<u16>,
    /// Whether its proxy has started, by Kubernetes, and the pod is not about to end.
    #[serde(default)]
    pub started: bool,
}

/// Addresses and ports of a dataplane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Networking {
    /// The IP address at which other proxies of the zone reach this one.
    #[schemars(with = "String", length(max = 45))]
    pub address: IpAddr,
    /// Set where the kernel sends the workload's traffic to the proxy (see `ursa-init`), so that neither has to know of the
    /// other. Then inbounds are called at the application's own ports, and services at their own names and addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
    /// What the workload serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub inbound: Vec<Inbound>,
    /// What the workload calls, each at a local port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub outbound: Vec<Arc<Outbound>>,
}

/// Where the kernel sends a workload's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capture {
    /// The proxy's port for what the workload is sent; 15006 if left out.
    #[serde(default = "inbound_port")]
    #[schemars(range(min = 1))]
    pub inbound_port: u16,
    /// The proxy's port for what the workload sends; 15001 if left out.
    #[serde(default = "outbound_port")]
    #[schemars(range(min = 1))]
    pub outbound_port: u16,
}

const fn inbound_port() -> u16 {
    15_006
}

const fn outbound_port() -> u16 {
    15_001
}

impl Default for Capture {
    fn default() -> Self {
        Self { inbound_port: inbound_port(), outbound_port: outbound_port() }
    }
}

/// A port that the workload serves through its proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inbound {
    /// The port at which the proxy listens on the dataplane's address.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The address at which the application listens; `127.0.0.1` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub service_address: Option<IpAddr>,
    /// The port at which the application listens; the proxy's port if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub service_port: Option<u16>,
    /// Tags of the instance; `ursamesh.io/service` is required.
    pub tags: Tags,
    /// How the agent finds out whether the application is ready. Without it, it is taken to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
}

impl Inbound {
    /// The value of the service tag; empty if it is missing (validation refuses that).
    pub fn service(&self) -> &str {
        self.tags.get(tag::SERVICE).map_or("", String::as_str)
    }

    /// The protocol that the tags name; TCP if they name none or one that is not known.
    pub fn protocol(&self) -> Protocol {
        self.tags.get(tag::PROTOCOL).and_then(|name| Protocol::parse(name)).unwrap_or_default()
    }
}

/// The application protocol of an inbound: the value of the tag `ursamesh.io/protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Opaque bytes.
    #[default]
    Tcp,
    /// HTTP/1.1.
    Http,
    /// HTTP/2 without upgrade.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
}

impl Protocol {
    /// Every value of the tag.
    pub const NAMES: [(&'static str, Self); 4] =
        [("tcp", Self::Tcp), ("http", Self::Http), ("http2", Self::Http2), ("grpc", Self::Grpc)];

    /// From the tag's value.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, protocol)| *protocol)
    }
}

/// How the agent finds out whether the application is ready to serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.tcp) != has(self.http)", "message": "name exactly one of tcp and http"}
]))]
pub struct Probe {
    /// Ready when a connection opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// Ready when a request is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// Time between two probes; `1s` if left out.
    #[serde(default = "one_second")]
    pub interval: Duration,
    /// Time after which a probe has failed; `1s` if left out.
    #[serde(default = "one_second")]
    pub timeout: Duration,
    /// Failures in a row that take the application out; 2 if left out.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: u32,
    /// Successes in a row that bring it back; 1 if left out.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold: u32,
}

const fn one_second() -> Duration {
    Duration::from_millis(1_000)
}

const fn one() -> u32 {
    1
}

const fn two() -> u32 {
    2
}

/// Ready when a connection to the application's port opens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TcpProbe {}

/// Ready when a GET request is answered with an expected status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpProbe {
    /// The path to ask for.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub path: String,
    /// Statuses that mean ready; 200 to 399 if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub expected_statuses: Vec<u16>,
}

/// A service that the workload calls at a local port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outbound {
    /// The local address; `127.0.0.1` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub address: Option<IpAddr>,
    /// The local port.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Which service: `ursamesh.io/service` is required. Of one that is served at several ports, `ursamesh.io/port` says
    /// which; without it, calls go to all of them in turn.
    pub tags: Tags,
}

impl Outbound {
    /// Where the proxy listens for the workload.
    pub fn local_address(&self) -> IpAddr {
        self.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// The value of the service tag; empty if it is missing (validation refuses that).
    pub fn service(&self) -> &str {
        self.tags.get(tag::SERVICE).map_or("", String::as_str)
    }
}
