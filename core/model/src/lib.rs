//! The mesh model: what one proxy is to do, said without a word of Envoy or Kubernetes.
//!
//! `core/policy` makes a [`ProxyModel`] from resources; `core/envoy` makes Envoy resources from it. Equal inputs
//! give equal models: every collection is ordered, and [`fingerprint`] of any part is the same on every replica.

mod fingerprint;
mod identity;
mod proxy;
mod shared;
mod token_id;

pub use fingerprint::{Fingerprint, fingerprint, hex};
pub use identity::{IdentityPattern, ParseSpiffeIdError, SpiffeId, TrustBundle, TrustDomain};
pub use proxy::{
    Balancer, Capture, Destination, DestinationId, Endpoint, EndpointSet, EndpointState, Inbound, InboundTls,
    IngressRoute, Outbound, Protocol, ProxyId, ProxyModel, Share, UpstreamTls, VIRTUAL_ADDRESSES,
};
pub use shared::{Shared, Sweep};
pub use token_id::{TOKEN_ID_OID, decode_token_id, encode_token_id};
