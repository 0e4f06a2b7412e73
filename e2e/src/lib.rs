//! What tests as a user need: the built binaries, real Envoys and a real Redis as child processes on loopback
//! addresses of the test's own, and waits that have a condition and a bound.
//!
//! Invariant: whatever a test starts ends with it, and what it logged stays under `target/e2e/<test>/` if it fails.

mod api;
mod apps;
pub mod cluster;
mod figure;
pub mod hosts;
pub mod kind;
pub mod links;
mod load;
mod multizone;
mod net;
pub mod older;
mod process;
mod relay;
mod repeat;
mod resources;
pub mod talk;
pub mod vm;
pub mod vm_zone;
mod wait;
mod world;
pub mod zones;

pub use api::Api;
pub use apps::{Banner, Conversation, Echo, answer, call, refused, refused_plaintext};
pub use figure::figure;
pub use load::Load;
pub use multizone::{Multizone, ZONES, Zone, shares};
pub use net::Addresses;
pub use process::{Process, binary, envoy};
pub use repeat::rounds;
pub use resources::{ANYBODY, MTLS, corp_root, permission, route, secret};
pub use ursa_demo::peer::Peer;
pub use wait::{eventually, now};
pub use world::{Agent, ControlPlane, Workload, World};
