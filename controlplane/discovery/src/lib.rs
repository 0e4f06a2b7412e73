//! Discovery on Kubernetes: Pods, Services and EndpointSlices become dataplanes and addresses, as they change. Nothing is
//! polled, and nothing is written to the API server.
//!
//! ```text
//! watches ─▶ facts (what matters) ─▶ World (pure) ─▶ store (in memory) and index
//! ```
//!
//! Invariant: nothing is said before everything has been listed once, for unknown is not empty.

mod facts;
mod follow;
mod world;

pub use follow::start;
