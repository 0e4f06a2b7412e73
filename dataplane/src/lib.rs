//! The agent beside Envoy: relays delta xDS, keeps the workload's key and certificate, starts and drains Envoy.
//!
//! Invariant: Envoy never outlives the agent, and comes up from the last-good set when the control plane is away.

pub mod admin;
pub mod backoff;
pub mod certificates;
pub mod config;
pub mod cp;
pub mod dataplane_file;
pub mod dns;
pub mod drain;
pub mod duration;
pub mod envoy;
pub mod exec;
pub mod files;
pub mod health;
pub mod http1;
pub mod join;
pub mod peers;
pub mod probe;
pub mod run;
pub mod xds;
