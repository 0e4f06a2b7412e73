//! The benchmark of the control plane: a global and two zones as real processes, and dataplanes that are clients only:
//! each has a TLS connection of its own, registers, subscribes by delta ADS and acknowledges everything.
//!
//! Invariant: nothing is judged by its time; a result that is wrong (a client that never acknowledges, a response to a
//! change that changes nothing) fails the run.

pub mod client;
pub mod figures;
pub mod fleet;
pub mod machine;
pub mod planes;
pub mod report;
pub mod run;
