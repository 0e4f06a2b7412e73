//! The real webhook over real TLS, with namespaces from an API server that is part of the test; and once with a real
//! one, that of the cluster that `KUBECONFIG` names.
//!
//! Invariant: every wait has a condition and a bound.
#![allow(clippy::unwrap_used, reason = "what fails in a test is to end it, in its helpers too")]

mod abuse;
mod cluster;
mod folder;
mod kubernetes;
mod lifecycle;
mod mutate;
mod other;
mod reload;
mod review;
mod validate;
mod wait;
mod webhook;
