//! The real agent with a real Envoy, against a control plane over real TLS that is part of the test.
//!
//! Invariant: every wait has a condition and a bound.
#![allow(clippy::unwrap_used, reason = "what fails in a test is to end it, in its helpers too")]

mod agent;
mod caller;
mod drain;
mod health;
mod identity;
mod mesh;
mod narrowings;
mod peers;
mod plane;
mod plane_tls;
mod readiness;
mod refusals;
mod startup;
mod survival;
mod traffic;
mod wait;
