//! The mesh model as Envoy resources: one file a resource or concern, and the bootstrap that starts Envoy.
//!
//! Everything that names an Envoy message lives here; other crates see [`Resource`]s with an opaque body. Equal
//! model parts give equal versions on every replica: a version is a fingerprint of the part of the model that the
//! resource was built from and of [`TRANSLATOR_REVISION`], never of encoded bytes (protobuf maps encode in random
//! order).

mod access_log;
mod bootstrap;
mod capture;
mod change;
mod cluster;
mod endpoint;
mod http;
mod listener;
mod narrowing;
mod pack;
mod parts;
mod resource;
mod resource_set;
mod retry;
mod tls;
mod translate;
mod weigh;
pub mod wire;
mod zone_ingresses;

pub use access_log::{Transport, log_of, peers};
pub use bootstrap::{BootstrapSettings, bootstrap};
pub use change::translate_after;
pub use narrowing::{closed, listener_of_callers, narrows, with_generation};
pub use resource::{Interner, Resource, ResourceKey, ResourceType};
pub use resource_set::ResourceSet;
pub use tls::{IDENTITY_SECRET, identity_secret, reworded};
pub use translate::{endpoint_resource, ingress_endpoint_resource, is_of_inbound, translate};
pub use weigh::{Weight, Weights, weigh};

/// Raised when equal models begin to give other resources than before, so that proxies get the new ones.
pub const TRANSLATOR_REVISION: u32 = 3;
