//! Which policies reach which proxy, in what order, merged how; and whether a resource makes sense at all.
//!
//! [`validate`] judges one resource. [`MeshView`] holds what a zone knows of a mesh and says what each proxy is to do.
//! Pure: values in, values out. Invariant: the order of the inputs never matters.

mod change;
mod endpoints;
mod explain;
mod facts;
mod grants;
mod identities;
mod inbound;
mod input;
mod local;
mod members;
mod named;
mod names;
mod order;
mod permission;
mod policies;
mod proxy;
mod reach;
mod route;
mod selector;
mod services;
mod source;
mod validate;
mod view;
mod workload;

pub use change::Touched;
pub use explain::{InboundPolicies, OutboundPolicies, OutboundReason, ProxyPolicies, ReachingPermission};
pub use grants::is_member_zone;
pub use inbound::protocol;
pub use input::{Instance, MeshInput, RemoteService, RemoteZone, ServiceAddress};
pub use selector::has_in_zone;
pub use validate::{token_tag_problems, validate, validate_among};
pub use view::MeshView;
pub use workload::{exclusion, revocation};
