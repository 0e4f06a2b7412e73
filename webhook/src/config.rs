//! Configuration: flags, then environment, then defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Flags of `ursa-webhook run`. Each can also be given in the environment.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Where the API server's requests are served, over TLS.
    #[arg(long, env = "URSA_WEBHOOK_ADDRESS", default_value = "0.0.0.0:5443")]
    pub(crate) address: SocketAddr,
    /// The server's certificate and what it was signed by, PEM; read again when it changes.
    #[arg(long, env = "URSA_WEBHOOK_TLS_CERT_FILE")]
    pub(crate) tls_cert_file: PathBuf,
    /// The certificate's key, PEM; read again when it changes.
    #[arg(long, env = "URSA_WEBHOOK_TLS_KEY_FILE")]
    pub(crate) tls_key_file: PathBuf,
    /// The settings of sidecars, YAML; read again when they change.
    #[arg(long, env = "URSA_WEBHOOK_SETTINGS_FILE")]
    pub(crate) settings_file: PathBuf,
    /// Health and metrics.
    #[arg(long, env = "URSA_WEBHOOK_DIAGNOSTICS_ADDRESS", default_value = "0.0.0.0:5680")]
    pub(crate) diagnostics_address: SocketAddr,
    /// The namespace of Ursa itself, whose pods get no sidecar.
    #[arg(long, env = "URSA_WEBHOOK_NAMESPACE", default_value = "ursa-system")]
    pub(crate) namespace: String,
    /// In a zone: its global control plane, to which most resources belong.
    #[arg(long, env = "URSA_WEBHOOK_GLOBAL_ADDRESS")]
    pub(crate) global_address: Option<String>,
    /// What is logged: a level, or tracing directives.
    #[arg(long, env = "URSA_WEBHOOK_LOG", default_value = "info")]
    pub(crate) log: String,
}
