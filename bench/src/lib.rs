//! The benchmark of the control plane: `ursa-cp` as real processes, and dataplanes that are clients only: each has a TLS
//! connection of its own, registers, has its certificate signed, subscribes by delta ADS and acknowledges everything.
//!
//! Invariant: nothing is judged by its time; a result that is wrong (a client that never acknowledges, a response to a
//! change that changes nothing) fails the run.

pub mod changes;
pub mod client;
pub mod compare;
pub mod dial;
pub mod figures;
pub mod fleet;
pub mod held;
pub mod leaf;
pub mod machine;
pub mod measures;
pub mod objects;
pub mod plan;
pub mod plane;
pub mod planes;
pub mod plot;
pub mod report;
pub mod scenario;
pub mod seen;
pub mod session;
