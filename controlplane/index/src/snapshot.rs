//! What one proxy is to get.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ursa_envoy::{ResourceSet, Weights, weigh};
use ursa_model::{EndpointSet, ProxyModel, SpiffeId};
use ursa_policy::ProxyPolicies;

/// Names of services, fully qualified, and their addresses.
pub type Names = BTreeMap<String, IpAddr>;

/// What one proxy is to get, at one point of the index's history.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The index's number when it changed last; grows.
    pub sequence: u64,
    /// Every resource.
    pub resources: Arc<ResourceSet>,
    /// Names of services and their addresses, for a workload whose traffic is captured.
    pub names: Option<Arc<Names>>,
    /// Of a zone ingress: server names that it passes on with this, where they have instances.
    pub server_names: Arc<BTreeSet<String>>,
    /// The certificate that the agent is to have; `None` while mutual TLS is off.
    pub identity: Option<IdentityGrant>,
    /// Why the proxy may not be in its mesh, for people: then it is to get nothing.
    pub exclusion: Option<String>,
}

/// What a proxy is to do, and why.
#[derive(Clone, Debug)]
pub struct ProxyView {
    /// What it is to do.
    pub config: ProxyModel,
    /// Where its destinations are, in their order.
    pub endpoints: Vec<EndpointSet>,
    /// Why.
    pub policies: ProxyPolicies,
}

impl ProxyView {
    /// How much of its configuration each part of it makes.
    pub fn weights(&self) -> Weights {
        weigh(&self.config, &self.endpoints)
    }
}

/// The certificate that an agent is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityGrant {
    /// The identity in it.
    pub spiffe_id: SpiffeId,
    /// The CA backend of the mesh that signs.
    pub backend: String,
    /// Names the signing root.
    pub signer: String,
    /// How long it lives.
    pub lifetime: Duration,
}
