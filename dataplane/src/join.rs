//! `ursa-dp join`: makes this host's proxy a service of systemd, which starts with the host and joins the mesh.
//!
//! Invariants: nothing is changed before all that was given is known to be usable; what is private is readable by the
//! proxy's user only; joining again with other files changes the proxy to these.

mod host;
mod plan;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::config::CpAddress;
use crate::cp::Trust;
use crate::dataplane_file;
use plan::{CAPTURE_UNIT, PROXY_UNIT, Plan, Proxy};

/// Arguments of `join`.
#[derive(Clone, Debug, Args)]
pub struct JoinArgs {
    /// File with the Dataplane or ZoneIngress resource, YAML or JSON.
    #[arg(long, value_name = "FILE")]
    dataplane_file: PathBuf,
    /// File with the token that proves who this is (ursactl generate dataplane-token, or ingress-token).
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// File with the certificates (PEM) by which the control plane is trusted; nothing else is.
    #[arg(long, value_name = "FILE")]
    ca_file: PathBuf,
    /// Address of the zone's control plane.
    #[arg(long, value_name = "https://HOST:PORT")]
    cp_address: CpAddress,
    /// Envoy's program file.
    #[arg(long, value_name = "FILE", default_value = "/usr/local/bin/envoy")]
    envoy: PathBuf,
    /// Where the Dataplane says `capture`: ports at which this host is reached without the proxy.
    #[arg(long, value_name = "PORTS", default_value = "22")]
    exclude_inbound_ports: String,
    /// How long the proxy may take until it serves.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = crate::duration::parse)]
    timeout: Duration,
}

/// Joins: what was done, for people.
pub fn join(arguments: &JoinArgs) -> anyhow::Result<String> {
    let JoinArgs { dataplane_file, token_file, ca_file, .. } = arguments;
    let file = dataplane_file::read(dataplane_file, None)?;
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let token = read(token_file)?;
    anyhow::ensure!(!token.trim().is_empty(), "{} is empty: it must hold a token", token_file.display());
    let ca = read(ca_file)?;
    Trust::Pem(ca.clone()).roots().with_context(|| format!("in {}", ca_file.display()))?;
    host::is_ready_for(&arguments.envoy)?;
    host::make_users()?;
    let plan = Plan::new(&Proxy {
        resource: file.bytes,
        captured: file.captured,
        token,
        ca,
        cp_address: &arguments.cp_address,
        envoy: &arguments.envoy,
        exclude_inbound_ports: &arguments.exclude_inbound_ports,
        users: &host::users()?,
    });
    for file in &plan.files {
        host::write(file)?;
    }
    host::systemctl(&["daemon-reload"])?;
    if plan.captured {
        host::systemctl(&["enable", CAPTURE_UNIT])?;
        // Also when it is up already: its settings may be others.
        host::systemctl(&["reload-or-restart", CAPTURE_UNIT])?;
    } else {
        host::systemctl(&["disable", "--now", CAPTURE_UNIT])?;
    }
    host::systemctl(&["enable", PROXY_UNIT])?;
    host::start_proxy(arguments.timeout)?;
    let capture = if plan.captured { "; this host's traffic is captured" } else { "" };
    Ok(format!("{} serves, by {PROXY_UNIT}{capture}", file.proxy))
}
