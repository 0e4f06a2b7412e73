//! What a zone knows of a mesh.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use ursa_crds::{MeshSpec, Object, Tags, WorkloadIdentity};
use ursa_model::{EndpointState, Protocol, TrustBundle};

/// What a zone knows of a mesh.
#[derive(Clone, Debug)]
pub struct MeshInput {
    /// The mesh.
    pub name: String,
    /// The zone that looks.
    pub zone: String,
    /// The mesh's specification.
    pub spec: MeshSpec,
    /// Roots of every zone known in the mesh, the own one included; empty while mutual TLS is off.
    pub trust: TrustBundle,
    /// Dataplanes of the own zone.
    pub instances: Vec<Instance>,
    /// Where workloads whose traffic is captured call services, ordered.
    pub addresses: Arc<[ServiceAddress]>,
    /// The other zones.
    pub remotes: Vec<RemoteZone>,
    /// `TrafficPermission`s of the mesh.
    pub permissions: Vec<Arc<Object>>,
    /// `TrafficRoute`s of the mesh.
    pub routes: Vec<Arc<Object>>,
}

/// A dataplane with what is observed of it.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The `Dataplane`.
    pub dataplane: Arc<Object>,
    /// Inbound ports that do not serve at the moment.
    pub unready_ports: BTreeSet<u16>,
    /// Whether its agent is heard of.
    pub state: EndpointState,
    /// Whether it is about to stop, or has yet to start.
    pub out_of_service: bool,
}

/// An address at which workloads call a port of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAddress {
    /// The address.
    pub address: IpAddr,
    /// The port that is called there.
    pub port: u16,
    /// The service.
    pub service: String,
    /// What it wishes to be called in the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wished: Option<String>,
    /// The service's port: another than what is called where one calls an instance.
    pub service_port: u16,
    /// Whether workloads of some mesh serve it: then who is not in that mesh does not reach it in the clear either.
    #[serde(default)]
    pub meshed: bool,
    /// The dataplane that is called, where the address is that of one instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// What is known of another zone.
#[derive(Clone, Debug)]
pub struct RemoteZone {
    /// Its name.
    pub zone: String,
    /// Where its ingresses are reached.
    pub ingresses: Vec<(IpAddr, u16)>,
    /// What it offers.
    pub services: Vec<RemoteService>,
    /// Who its workloads are; `None` if it does not say that.
    pub identities: Option<Vec<WorkloadIdentity>>,
}

/// Instances of a service that have the same tags, as far as anybody asks for tags.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoteService {
    /// The service's tag, and those that a route's destination names.
    pub tags: Tags,
    /// How many are ready.
    pub instances: u32,
    /// The protocol.
    pub protocol: Protocol,
    /// Primary services of the workloads that serve it: the names in their certificates.
    pub identity_services: BTreeSet<String>,
}
