//! Discovery on Kubernetes: Pods, Services and EndpointSlices become dataplanes and addresses, and what the operator sets up
//! as zone ingresses become those, as they change. Nothing is polled, and nothing is written to the API server but how many
//! services an ingress passes on.
//!
//! ```text
//! watches ─▶ facts (what matters) ─▶ World (pure) ─▶ store (in memory) and index
//! ```
//!
//! Invariant: nothing is said before everything has been listed once, for unknown is not empty.

mod facts;
mod follow;
mod ingresses;
mod world;

pub use follow::start;
pub use ingresses::{IngressesOf, follow_ingresses};
