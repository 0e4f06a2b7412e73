//! The command line.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};

/// The operator of the service mesh Ursa: sets up control planes and webhooks in a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "ursa-operator", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the operator until SIGTERM or SIGINT.
    Run(RunArgs),
}

/// Flags of `ursa-operator run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The operator's own namespace: it acts on the ControlPlanes in it
    #[arg(long, env = "URSA_OPERATOR_NAMESPACE", default_value = "ursa-system")]
    pub namespace: String,
    /// The image of control planes and webhooks whose ControlPlane names none
    #[arg(long, env = "URSA_OPERATOR_IMAGE", default_value = concat!("ursa:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// The image of sidecars where the ControlPlane names none
    #[arg(long, env = "URSA_OPERATOR_DATAPLANE_IMAGE", default_value = concat!("ursa-dp:", env!("CARGO_PKG_VERSION")))]
    pub dataplane_image: String,
    /// The operator's own ServiceAccount: the webhook is not asked about what it writes
    #[arg(long, env = "URSA_OPERATOR_SERVICE_ACCOUNT", default_value = "ursa-operator")]
    pub service_account: String,
    /// One of a kind among the operators of the namespace [default: made up at each start]
    #[arg(long, env = "URSA_OPERATOR_IDENTITY")]
    pub identity: Option<String>,
    /// Health and metrics
    #[arg(long, env = "URSA_OPERATOR_DIAGNOSTICS_ADDRESS", default_value = "0.0.0.0:5680")]
    pub diagnostics_address: SocketAddr,
    /// What is logged: a level, or tracing directives
    #[arg(long, env = "URSA_OPERATOR_LOG", default_value = "info")]
    pub log: String,
}
