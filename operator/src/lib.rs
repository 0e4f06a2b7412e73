//! The operator: makes ControlPlanes and ZoneIngresses of a Kubernetes cluster what they say.
//!
//! Each controller observes (I/O), plans (pure) and applies (I/O). Invariant: only the holder of the Lease writes.

mod args;
pub mod certificates;
pub mod cluster;
mod conditions;
pub mod control_plane;
mod definitions;
mod diagnostics;
mod injection;
pub mod install;
mod metrics;
pub mod names;
mod pods;
mod run;
pub mod zone_ingress;

pub use args::{Cli, Command, RunArgs};
pub use run::run;
