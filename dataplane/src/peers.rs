//! Whom the proxy's inbounds let in without an identity of the mesh (mode Permissive): counted by peer from Envoy's access
//! logs, and told to the control plane, so that an administrator sees whom mode Strict would refuse.
//!
//! Invariant: whatever calls, what is kept and told is bounded.

mod access_log;
mod counter;

pub use access_log::AccessLog;
pub use counter::{Peer, PeerCounter, Seen};
