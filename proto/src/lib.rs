//! The wire contracts between Ursa's processes, generated from `proto/`, how a process reaches a control plane, and
//! how both notice that the other is gone.

mod connect;
pub mod keepalive;

pub use connect::{ConnectError, connect, connect_as};

/// Agent (`ursa-dp`) and control plane, on port 5678.
pub mod agent {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        reason = "generated code"
    )]
    tonic::include_proto!("ursa.agent.v1");
}

/// Replicas of one control plane, on port 5678.
pub mod replicas {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        reason = "generated code"
    )]
    tonic::include_proto!("ursa.replicas.v1");
}

/// Zone and global control plane, on port 5685.
pub mod sync {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        reason = "generated code"
    )]
    tonic::include_proto!("ursa.sync.v1");
}
