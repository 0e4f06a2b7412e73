//! The command line: every flag can be an environment variable, `URSA_DP_…`.
//!
//! Invariant: past this module values are parsed; nothing else reads flags or the environment.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::duration;
use crate::health::Probes;
use crate::join::JoinArgs;

/// The agent beside Envoy.
#[derive(Debug, Parser)]
#[command(name = "ursa-dp", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `ursa-dp` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a workload's proxy.
    Run(Box<Config>),
    /// Make a workload's proxy a service of this host, by systemd, and start it.
    Join(Box<JoinArgs>),
    /// Print what Envoy's administration interface says: /config_dump, /clusters, /stats, /listeners, … (it is only read).
    Admin(AdminArgs),
    /// Become Envoy, and die with the parent.
    #[command(hide = true)]
    ExecEnvoy(ExecEnvoy),
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// What the resource has to be, so that a mistaken file is noticed; its kind decides if left out.
    #[arg(long, env = "URSA_DP_PROXY_TYPE", value_name = "TYPE")]
    pub proxy_type: Option<ProxyType>,
    /// File with the Dataplane or ZoneIngress resource, YAML or JSON.
    #[arg(long, env = "URSA_DP_DATAPLANE_FILE", value_name = "FILE", required_unless_present = "pod_name")]
    pub dataplane_file: Option<PathBuf>,
    /// In a pod: its name. The control plane discovers the rest.
    #[arg(
        long,
        env = "URSA_DP_POD_NAME",
        value_name = "NAME",
        conflicts_with = "dataplane_file",
        requires = "pod_namespace"
    )]
    pub pod_name: Option<String>,
    /// In a pod: its namespace.
    #[arg(long, env = "URSA_DP_POD_NAMESPACE", value_name = "NAMESPACE")]
    pub pod_namespace: Option<String>,
    /// In a pod of a zone ingress: the `ZoneIngress`.
    #[arg(long, env = "URSA_DP_INGRESS_NAME", value_name = "NAME", requires = "pod_name")]
    pub ingress_name: Option<String>,
    /// In a pod: the mesh that it is in.
    #[arg(long, env = "URSA_DP_MESH", value_name = "MESH", default_value = "default")]
    pub mesh: String,
    /// File with the token that proves who this is; read anew for each connection.
    #[arg(long, env = "URSA_DP_TOKEN_FILE", value_name = "FILE")]
    pub token_file: PathBuf,
    /// Address of the zone's control plane.
    #[arg(long, env = "URSA_DP_CP_ADDRESS", value_name = "https://HOST:PORT")]
    pub cp_address: CpAddress,
    /// File with the certificates (PEM) by which the control plane is trusted; nothing else is.
    #[arg(long, env = "URSA_DP_CA_FILE", value_name = "FILE", required_unless_present = "ca_pem")]
    pub ca_file: Option<PathBuf>,
    /// These certificates themselves, where there is no file.
    #[arg(
        long,
        env = "URSA_DP_CA_PEM",
        value_name = "PEM",
        conflicts_with = "ca_file",
        hide_env_values = true
    )]
    pub ca_pem: Option<String>,
    /// Folder for what outlives a restart: key, certificate, last-good configuration. Each proxy needs its own.
    #[arg(long, env = "URSA_DP_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Folder for sockets, with a short path. Each proxy needs its own.
    #[arg(long, env = "URSA_DP_RUN_DIR", value_name = "DIR")]
    pub run_dir: PathBuf,
    /// Envoy's program file.
    #[arg(long, env = "URSA_DP_ENVOY", value_name = "FILE", default_value = "envoy")]
    pub envoy: PathBuf,
    /// Envoy's worker threads; one a core if left out.
    #[arg(long, env = "URSA_DP_CONCURRENCY", value_name = "N")]
    pub concurrency: Option<u32>,
    /// How long connections may take to finish when the proxy stops.
    #[arg(long, env = "URSA_DP_DRAIN_TIME", value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    pub drain_time: Duration,
    /// Where the kubelet asks whether the proxy is ready; nowhere if left out.
    #[arg(long, env = "URSA_DP_HEALTH_ADDRESS", value_name = "ADDRESS:PORT")]
    pub health_address: Option<SocketAddr>,
    /// The application's probes, which are asked there too; JSON, as the webhook writes it.
    #[arg(long, env = "URSA_DP_PROBES", value_name = "JSON")]
    pub probes: Option<Probes>,
    /// The pod's addresses; at the first one the application is probed.
    #[arg(long, env = "URSA_DP_POD_IPS", value_name = "ADDRESS,…", value_delimiter = ',')]
    pub pod_ips: Vec<IpAddr>,
    /// Port at which DNS is answered, at 127.0.0.1 and ::1; where traffic is captured 15053, elsewhere none if left out.
    #[arg(long, env = "URSA_DP_DNS_PORT", value_name = "PORT")]
    pub dns_port: Option<u16>,
    /// What to log: error, warn, info, debug, trace, or directives such as `info,ursa_dp=debug`.
    #[arg(long, env = "URSA_DP_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

/// What a proxy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProxyType {
    /// The proxy of a workload: a Dataplane.
    Dataplane,
    /// The entry of a zone: a `ZoneIngress`.
    Ingress,
}

impl ProxyType {
    /// The kind of its resource.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Dataplane => "Dataplane",
            Self::Ingress => "ZoneIngress",
        }
    }
}

/// Arguments of `admin`.
#[derive(Clone, Debug, Args)]
pub struct AdminArgs {
    /// The proxy's folder for sockets, as for `run`.
    #[arg(long, env = "URSA_DP_RUN_DIR", value_name = "DIR")]
    pub run_dir: PathBuf,
    /// What to ask for, such as `/config_dump` or `/stats?filter=rbac`.
    #[arg(value_name = "PATH")]
    pub path: String,
}

/// Arguments of `exec-envoy`.
#[derive(Clone, Debug, Args)]
pub struct ExecEnvoy {
    /// Process id of the agent.
    #[arg(long)]
    pub parent: i32,
    /// Envoy's program file and its arguments.
    #[arg(required = true, last = true)]
    pub command: Vec<OsString>,
}

/// Where the control plane listens for agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpAddress {
    /// Host name or IP address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The control plane's port for agents.
const DEFAULT_PORT: u16 = 5678;

impl fmt::Display for CpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Why a text is no address of a control plane.
#[derive(Debug, thiserror::Error)]
#[error("must be https://HOST:PORT")]
pub struct ParseAddressError;

impl FromStr for CpAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: http::Uri = text.parse().map_err(|_| ParseAddressError)?;
        let authority = uri.authority().ok_or(ParseAddressError)?.as_str();
        let plain =
            !authority.contains('@') && uri.path().trim_end_matches('/').is_empty() && uri.query().is_none();
        if uri.scheme_str() != Some("https") || !plain {
            return Err(ParseAddressError);
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(ParseAddressError)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match uri.port_u16() {
            Some(port) => port,
            None if authority.ends_with(|c: char| c.is_ascii_digit())
                && authority.contains(&format!("{host}:")) =>
            {
                return Err(ParseAddressError); // There is one, but it is out of range.
            }
            None => DEFAULT_PORT,
        };
        Ok(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn only_https_addresses_are_taken() {
        let address: CpAddress = "https://cp.example".parse().unwrap();
        assert_eq!(address, CpAddress { host: "cp.example".into(), port: 5678 });
        let address: CpAddress = "https://[::1]:7000/".parse().unwrap();
        assert_eq!((address.host.as_str(), address.to_string().as_str()), ("::1", "[::1]:7000"));
        for text in
            ["", "cp:5678", "http://cp:5678", "https://cp:5678/path", "https://:1", "https://cp:99999"]
        {
            assert!(text.parse::<CpAddress>().is_err(), "{text}");
        }
    }
}
