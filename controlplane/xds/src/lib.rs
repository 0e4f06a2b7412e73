//! The gRPC server for agents on port 5678: sessions, certificate signing and delta ADS, over TLS.
//!
//! Invariant: a caller reaches only what belongs to the proxy that it has proved to be.

mod access;
mod ads;
mod peers;
mod review;
mod revocation;
mod session;
mod stream;

pub use review::Reviewer;
pub use stream::{Answer, DeltaStream};

use std::sync::Arc;
use std::time::Duration;

use ursa_envoy::wire::AggregatedDiscoveryServiceServer;
use ursa_identity::Tokens;
use ursa_index::{Authority, Index};
use ursa_proto::agent::agent_server::AgentServer;
use ursa_store::Store;

/// What the server works with.
#[derive(Clone, Debug)]
pub struct Context {
    /// The zone's name.
    pub zone: String,
    /// Where dataplanes are registered.
    pub store: Store,
    /// Where snapshots come from.
    pub index: Index,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// Verifies data-plane tokens.
    pub tokens: Arc<Tokens>,
    /// On Kubernetes: verifies pods' tokens.
    pub reviewer: Option<Reviewer>,
    /// How long an agent's session lasts at most, so that agents come to share replicas; `None`: for ever.
    pub session_age: Option<Duration>,
}

/// The gRPC services. To be called within a runtime.
pub fn routes(context: Context) -> tonic::service::Routes {
    let revocations = revocation::Revocations::follow(&context.store);
    let agents = session::AgentService::new(context.clone(), revocations.clone());
    tonic::service::Routes::new(AgentServer::new(agents))
        .add_service(AggregatedDiscoveryServiceServer::new(ads::AdsService::new(context, revocations)))
}
