//! The wire contracts between Ursa's processes, generated from `proto/`.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic, reason = "generated code")]

/// Agent (`ursa-dp`) and control plane, on port 5678.
pub mod agent {
    tonic::include_proto!("ursa.agent.v1");
}
