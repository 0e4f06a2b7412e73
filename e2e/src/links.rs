//! Faults of what a zone needs of others: its way to global, by rules in the kernel of its node's network, and global itself.
//! Needs root, as the clusters do.
//!
//! Invariant: a fault ends with its value, also when a test fails.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::eventually;
use crate::relay::Relay;
use crate::vm::{SCRIPT, docker};

/// The table of our rules.
const TABLE: &str = "ip ursa_fault";

/// Which packets on a zone's way to global are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All.
    BothWays,
    /// Those that the zone sends.
    ToGlobal,
    /// Those that global sends.
    FromGlobal,
}

/// A zone's way to global that is not as it was.
#[derive(Debug)]
pub struct Fault {
    node: String,
    _relay: Option<Relay>,
}

impl Drop for Fault {
    fn drop(&mut self) {
        let undo = ["exec", &self.node, "nft", "delete", "table"];
        told_to_undo(&[&undo[..], &TABLE.split(' ').collect::<Vec<_>>()].concat());
    }
}

/// The container of a cluster's only node.
fn node(cluster: &str) -> String {
    format!("{cluster}-control-plane")
}

/// `docker`, where nobody can be told that it failed.
fn told_to_undo(arguments: &[&str]) {
    let mut command = Command::new(SCRIPT);
    command.arg("docker").args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => {}
        failed => println!("docker {arguments:?}: {failed:?}"),
    }
}

/// Ends what a run that was killed has left of faults.
pub(crate) async fn mend(zone: &str) -> anyhow::Result<()> {
    // Of a table that is there, or is made for this.
    let gone = format!("table {TABLE} {{}}\ndelete table {TABLE}\n");
    let load = ["exec", "--interactive", &node(zone), "nft", "--file", "-"];
    docker(&load, Some(&gone)).await.map(drop)
}

/// Loses packets between the pods of a zone's cluster and global (where its port for zones is).
pub async fn cut(zone: &str, global: SocketAddr, cut: Cut) -> anyhow::Result<Fault> {
    let (address, port) = (global.ip(), global.port());
    let to = format!("ip daddr {address} tcp dport {port} drop\n");
    let from = format!("ip saddr {address} tcp sport {port} drop\n");
    let rules = match cut {
        Cut::BothWays => to + &from,
        Cut::ToGlobal => to,
        Cut::FromGlobal => from,
    };
    let chain = format!("chain cut {{ type filter hook forward priority -1\n{rules}}}");
    break_by(zone, &chain, None).await
}

/// Sends what goes between the pods of a zone's cluster and global by a way on which it takes so much longer, in each direction.
/// Connections that are open begin anew.
pub async fn lengthen(zone: &str, global: SocketAddr, delay: Duration) -> anyhow::Result<Fault> {
    let (address, port, node) = (global.ip(), global.port(), node(zone));
    let routes = docker(&["exec", &node, "ip", "route", "show", "default"], None).await?;
    let gateway = routes.split_whitespace().nth(2).with_context(|| format!("no gateway in {routes}"))?;
    let relay = Relay::start(gateway.parse::<IpAddr>()?, global, delay).await?;
    let chain = format!(
        "chain detour {{ type nat hook prerouting priority -101\nip daddr {address} tcp dport {port} dnat to {}\n}}",
        relay.address
    );
    let fault = break_by(zone, &chain, Some(relay)).await?;
    // What the kernel knows already would go the old way.
    let forget = format!(
        "conntrack --delete --proto tcp --orig-dst {address} --orig-port-dst {port} >/dev/null 2>&1 || true"
    );
    docker(&["exec", &node, "sh", "-c", &forget], None).await?;
    Ok(fault)
}

async fn break_by(zone: &str, chain: &str, relay: Option<Relay>) -> anyhow::Result<Fault> {
    // Made before the rules, so that they never outlive it.
    let fault = Fault { node: node(zone), _relay: relay };
    let table = format!("table {TABLE} {{\n{chain}\n}}\n");
    docker(&["exec", "--interactive", &fault.node, "nft", "--file", "-"], Some(&table)).await?;
    Ok(fault)
}

/// A cluster that does not run.
#[derive(Debug)]
pub struct Halted {
    node: String,
    undo: &'static str,
}

impl Drop for Halted {
    fn drop(&mut self) {
        told_to_undo(&[self.undo, &self.node]);
    }
}

impl Halted {
    /// Freezes all of a cluster's processes: whoever waits for an answer waits.
    pub async fn frozen(cluster: &str) -> anyhow::Result<Self> {
        // On a busy machine the kernel may not freeze all of them in the time that the engine gives it.
        eventually("the cluster is frozen", Duration::from_mins(1), async || {
            Self::by(cluster, "pause", "unpause").await
        })
        .await
    }

    /// Stops a cluster, as a machine is shut down.
    pub async fn stopped(cluster: &str) -> anyhow::Result<Self> {
        Self::by(cluster, "stop", "start").await
    }

    async fn by(cluster: &str, command: &str, undo: &'static str) -> anyhow::Result<Self> {
        let halted = Self { node: node(cluster), undo };
        docker(&[command, &halted.node], None).await?;
        Ok(halted)
    }
}
