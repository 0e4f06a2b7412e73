//! What one proxy is to do.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::fingerprint::hex;
use crate::{IdentityPattern, TrustBundle};

/// Names a proxy in its zone: `<mesh>/<name>`, which is also the node id that it presents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProxyId {
    /// The mesh; empty for a zone ingress, which serves all meshes.
    pub mesh: String,
    /// The name of the dataplane or zone ingress; of one of several pods of an ingress `<ingress>/<pod>`.
    pub name: String,
}

impl ProxyId {
    /// Of this name in this mesh.
    pub fn new(mesh: &str, name: &str) -> Self {
        Self { mesh: mesh.to_owned(), name: name.to_owned() }
    }

    /// One of several pods that run the same zone ingress.
    pub fn replica(ingress: &str, pod: &str) -> Self {
        Self::new("", &format!("{ingress}/{pod}"))
    }

    /// No proxy, but the mesh itself, where something is said of all its proxies together.
    pub fn mesh_itself(mesh: &str) -> Self {
        Self::new(mesh, "")
    }

    /// Whether it is [`Self::mesh_itself`].
    pub fn is_mesh_itself(&self) -> bool {
        self.name.is_empty() && !self.mesh.is_empty()
    }

    /// From a node id: `<mesh>/<name>`, or `/<ingress>/<pod>` of a replica.
    pub fn parse(node_id: &str) -> Option<Self> {
        let (mesh, name) = node_id.split_once('/')?;
        let parts: Vec<&str> = name.split('/').collect();
        let most = if mesh.is_empty() { 2 } else { 1 };
        (parts.len() <= most && parts.iter().all(|part| !part.is_empty())).then(|| Self::new(mesh, name))
    }

    /// The name of the resource that says what the proxy is to do: replicas share it.
    pub fn resource(&self) -> &str {
        self.name.split_once('/').map_or(&self.name, |(resource, _)| resource)
    }

    /// The pod, of a replica.
    pub fn pod(&self) -> Option<&str> {
        self.name.split_once('/').map(|(_, pod)| pod)
    }
}

impl fmt::Display for ProxyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mesh, self.name)
    }
}

/// Everything that one proxy is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyModel {
    /// Which proxy.
    pub id: ProxyId,
    /// Its zone.
    pub zone: String,
    /// What it serves, ordered by address and port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inbounds: Vec<Inbound>,
    /// What it calls, ordered by address and port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbounds: Vec<Arc<Outbound>>,
    /// The subsets that its outbounds use, ordered by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<Arc<Destination>>,
    /// Where the kernel sends the workload's traffic; `None`: the proxy listens at every inbound and outbound itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
    /// For a zone ingress: what it passes on, ordered by SNI.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress_routes: Vec<IngressRoute>,
    /// For a zone ingress: where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_listener: Option<(IpAddr, u16)>,
}

impl ProxyModel {
    /// Of a proxy that is to do nothing.
    pub fn nothing(id: ProxyId, zone: &str) -> Self {
        Self {
            id,
            zone: zone.to_owned(),
            inbounds: Vec::new(),
            outbounds: Vec::new(),
            destinations: Vec::new(),
            capture: None,
            ingress_routes: Vec::new(),
            ingress_listener: None,
        }
    }
}

/// How captured traffic is taken, and what becomes of traffic that no inbound or outbound is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// The proxy's port for what the workload is sent.
    pub inbound_port: u16,
    /// The proxy's port for what the workload sends.
    pub outbound_port: u16,
    /// Whether there is IPv6 to capture.
    pub ipv6: bool,
    /// Whether the workload is reached at ports that no inbound is for.
    pub unknown_inbound: bool,
    /// Whether the workload reaches addresses that no outbound is for; those of the mesh's own range never are.
    pub unknown_outbound: bool,
}

/// The addresses that stand for services of the mesh (RFC 1112: never routed; RFC 4193: locally unique).
pub const VIRTUAL_ADDRESSES: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(240, 0, 0, 0)), 4),
    (IpAddr::V6(Ipv6Addr::new(0xfd75, 0x7273, 0x6100, 0, 0, 0, 0, 0)), 48),
];

/// The application protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// Opaque bytes.
    #[default]
    Tcp,
    /// HTTP/1.1.
    Http,
    /// HTTP/2 (gRPC too).
    Http2,
}

/// A port that the workload serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbound {
    /// Where the proxy listens.
    pub address: IpAddr,
    /// Where the proxy listens.
    pub port: u16,
    /// Where the application listens.
    pub app_address: IpAddr,
    /// Where the application listens.
    pub app_port: u16,
    /// The service.
    pub service: String,
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Mutual TLS; `None`: plaintext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<InboundTls>,
}

/// Mutual TLS of an inbound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboundTls {
    /// The roots of each trust domain that may call.
    pub trust: TrustBundle,
    /// Who may call, ordered; empty: nobody.
    pub allowed: Vec<IdentityPattern>,
    /// Whether callers from outside the mesh are let in, in plaintext or with TLS of their own. They have no identity.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub permissive: bool,
}

/// A service that the workload calls, at a local address. Proxies that have the same share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// Where the proxy listens for the workload.
    pub address: IpAddr,
    /// Where the proxy listens for the workload.
    pub port: u16,
    /// The service.
    pub service: String,
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Where the traffic goes, ordered by destination; shares of weight 0 are left out. Empty: every connection is refused.
    pub shares: Vec<Share>,
}

/// A destination and its share of an outbound's traffic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Which destination of the model.
    pub destination: DestinationId,
    /// Relative to the sum of all shares of the outbound; > 0.
    pub weight: u32,
}

/// The tag of the zone that an instance is in.
const ZONE_TAG: &str = "ursamesh.io/zone";

/// A subset of a service's instances. `subset` holds the tags besides the service, ordered by key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationId {
    /// The mesh.
    pub mesh: String,
    /// The service.
    pub service: String,
    /// Tags that every instance has, besides the service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subset: BTreeMap<String, String>,
}

impl DestinationId {
    /// All instances of a service; in their order the first of the service's.
    pub fn whole(mesh: &str, service: &str) -> Self {
        Self { mesh: mesh.to_owned(), service: service.to_owned(), subset: BTreeMap::new() }
    }

    /// The server name that stands for it on the way between zones: 32 hexadecimal digits of SHA-256 over mesh, service
    /// and subset less the zone, then `.ursa`.
    pub fn sni(&self) -> String {
        format!("{}.ursa", self.anywhere().digest())
    }

    /// The server name that stands for one of its instances in a zone, counted from 0.
    pub fn instance_sni(&self, instance: u32) -> String {
        format!("{instance}.{}", self.sni())
    }

    /// Without the tag of the zone. At the ingress of a zone that says nothing any more, and traffic can be shifted
    /// between zones without their ingresses having to learn of it.
    #[must_use]
    pub fn anywhere(&self) -> Self {
        let mut subset = self.subset.clone();
        subset.remove(ZONE_TAG);
        Self { subset, ..self.clone() }
    }

    /// A name that is unique in a proxy and readable in Envoy's statistics: `<mesh>/<service>` or
    /// `<mesh>/<service>/<8 hex digits of the subset>`.
    pub fn name(&self) -> String {
        let Self { mesh, service, subset } = self;
        if subset.is_empty() {
            format!("{mesh}/{service}")
        } else {
            format!("{mesh}/{service}/{}", &self.digest()[..8])
        }
    }

    fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        let mut part = |text: &str| {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text);
        };
        part(&self.mesh);
        part(&self.service);
        for (key, value) in &self.subset {
            part(key);
            part(value);
        }
        hex(&hasher.finalize()[..16])
    }
}

/// How a proxy reaches a subset of instances. Proxies that have the same share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Which subset.
    pub id: DestinationId,
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// How instances are chosen.
    #[serde(default)]
    pub balancer: Balancer,
    /// Mutual TLS; `None`: plaintext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
}

/// Mutual TLS towards a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// The roots of each trust domain in which the service runs.
    pub trust: TrustBundle,
    /// Who may answer, ordered; empty: nobody.
    pub peers: Vec<IdentityPattern>,
}

/// How instances are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Balancer {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// The one of two random instances that has fewer requests.
    LeastRequest,
    /// By chance.
    Random,
}

/// The instances of a destination as one zone sees them; shared by all its proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSet {
    /// Which subset.
    pub destination: DestinationId,
    /// Where its instances are, ordered.
    pub endpoints: Vec<Endpoint>,
}

/// An instance, or the way to one through its zone's ingress.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// 0 is preferred; the next is used as far as the ones before it are not healthy.
    #[serde(default)]
    pub priority: u32,
    /// The zone that it is in.
    pub zone: String,
    /// Where to connect.
    pub address: IpAddr,
    /// Where to connect.
    pub port: u16,
    /// Its share, relative to the others of the destination; > 0.
    pub weight: u32,
    /// Which of the destination's instances in that zone, counted from 0, where an ingress has to choose it by
    /// [`DestinationId::instance_sni`]: the address is that ingress's, or for the ingress the instance's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<u32>,
    /// Whether it takes traffic.
    #[serde(default)]
    pub state: EndpointState,
}

/// Whether an endpoint takes traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EndpointState {
    /// It does.
    #[default]
    Healthy,
    /// Its agent has not been heard of for a while: it does when there are too few healthy ones.
    Degraded,
}

/// What a zone ingress passes on, without ending TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressRoute {
    /// The subset; its [`DestinationId::sni`] selects it.
    pub destination: DestinationId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_shares_its_resource_and_nothing_else_has_a_pod() {
        let replica = ProxyId::parse("/east.in/pod-1").unwrap();
        assert_eq!(replica, ProxyId::replica("east.in", "pod-1"));
        assert_eq!((replica.resource(), replica.pod()), ("east.in", Some("pod-1")));
        assert_eq!(replica.to_string(), "/east.in/pod-1");
        let single = ProxyId::parse("/east.in").unwrap();
        assert_eq!((single.resource(), single.pod()), ("east.in", None));
        for none in ["east.in", "default/a/b", "/a/b/c", "/", "//", "/a/", "//b", "default/"] {
            assert_eq!(ProxyId::parse(none), None, "{none}");
        }
    }
}
