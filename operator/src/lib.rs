//! The operator: makes ControlPlanes of a Kubernetes cluster what they say.
//!
//! Each controller observes (I/O), plans (pure) and applies (I/O). Invariant: only the holder of the Lease writes.

mod args;
pub mod certificates;
pub mod cluster;
pub mod control_plane;
mod definitions;
mod diagnostics;
mod injection;
pub mod install;
mod metrics;
pub mod names;
mod run;

pub use args::{Cli, Command, RunArgs};
pub use run::run;
