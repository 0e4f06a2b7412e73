//! Clusters of their own for a global control plane and its zones.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::kind::{
    SYSTEM, apply, at, install_control_plane, install_operator, kubectl, ursactl, whole_condition,
};
use crate::{eventually, kind, links};

static CLUSTERS: OnceCell<String> = OnceCell::const_new();
static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// The kubeconfig of a cluster: `global`, or a zone's. The first call makes all of them.
pub async fn cluster(name: &str) -> anyhow::Result<PathBuf> {
    let all = CLUSTERS.get_or_try_init(make_clusters).await?;
    let found = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.map(PathBuf::from).with_context(|| format!("there is no cluster {name} in {all}"))
}

async fn make_clusters() -> anyhow::Result<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/test-zones");
    let made = Command::new(script).stdin(Stdio::null()).stderr(Stdio::inherit()).output().await;
    let made = made.with_context(|| format!("cannot run {script}"))?;
    anyhow::ensure!(made.status.success(), "{script} failed; what it said is above");
    Ok(String::from_utf8(made.stdout)?)
}

/// Sets up global and its zones, as the README says, once.
pub async fn install_zones() -> anyhow::Result<()> {
    INSTALLED
        .get_or_try_init(async || {
            Global::install().await?;
            let global = Global::find().await?;
            tokio::try_join!(links::mend("east"), links::mend("west"))?;
            tokio::try_join!(global.join("east"), global.join("west")).map(drop)
        })
        .await
        .copied()
}

/// The global control plane, as its administrator reaches it.
#[derive(Debug)]
pub struct Global {
    address: String,
    node_ports: Value,
    files: TempDir,
}

impl Global {
    async fn install() -> anyhow::Result<()> {
        at(&cluster("global").await?, async {
            install_operator().await?;
            let address = node_address().await?;
            install_control_plane(&["--mode", "global", "--type", "node-port", "--tls-name", &address]).await
        })
        .await
    }

    /// Installs another one where zones and users look for this one, which is lost.
    pub async fn replace(&self) -> anyhow::Result<Self> {
        Self::install().await?;
        let ports = self.node_ports.as_array().into_iter().flatten();
        let ports: Vec<Value> =
            ports.map(|port| json!({"port": port["port"], "nodePort": port["nodePort"]})).collect();
        let patch = json!({"spec": {"ports": ports}}).to_string();
        let patch = ["--namespace", SYSTEM, "patch", "service", "ursa", "--patch", &patch];
        at(&cluster("global").await?, kubectl(&patch)).await?;
        Self::find().await
    }

    /// That is installed.
    pub async fn find() -> anyhow::Result<Self> {
        at(&cluster("global").await?, async {
            let service = kind::json(&["--namespace", SYSTEM, "get", "service", "ursa"]).await?;
            let files = tempfile::tempdir()?;
            let admin = ["exec", "deployment/ursa-cp", "--", "/usr/local/bin/ursa-cp", "admin-token"];
            let token = kubectl(&[&["--namespace", SYSTEM], &admin[..]].concat()).await?;
            std::fs::write(files.path().join("token"), token)?;
            let bundle = [
                "get",
                "secret",
                "ursa-cp-tls",
                "--output",
                "go-template={{index .data \"ca.crt\" | base64decode}}",
            ];
            std::fs::write(
                files.path().join("ca.pem"),
                kubectl(&[&["--namespace", SYSTEM], &bundle[..]].concat()).await?,
            )?;
            Ok(Self { address: node_address().await?, node_ports: service["spec"]["ports"].clone(), files })
        })
        .await
    }

    fn url(&self, port: &str) -> anyhow::Result<String> {
        let mut ports = self.node_ports.as_array().into_iter().flatten();
        let port = ports
            .find(|known| known["name"] == port)
            .with_context(|| format!("no {port}: {}", self.node_ports))?;
        Ok(format!("https://{}:{}", self.address, port["nodePort"]))
    }

    /// Where zones find it.
    pub fn sync_address(&self) -> anyhow::Result<String> {
        self.url("grpc-sync")
    }

    /// The same as a socket of its node.
    pub fn sync_socket(&self) -> anyhow::Result<SocketAddr> {
        let address = self.sync_address()?;
        let socket = address.strip_prefix("https://").unwrap_or(&address);
        socket.parse().with_context(|| address.clone())
    }

    /// What `ursactl` prints about it.
    pub async fn ursactl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (api, file) =
            (self.url("https-api")?, |name: &str| self.files.path().join(name).display().to_string());
        let common = ["--api", &api, "--token-file", &file("token"), "--ca-file", &file("ca.pem")];
        ursactl(&[arguments, &common].concat()).await
    }

    /// Gives a zone's cluster its credential.
    pub async fn admit(&self, zone: &str) -> anyhow::Result<()> {
        let credential = self.ursactl(&["zone", "create", zone]).await?;
        at(&cluster(zone).await?, apply(&credential)).await.map(drop)
    }

    async fn join(&self, zone: &str) -> anyhow::Result<()> {
        let (address, secret) = (self.sync_address()?, format!("zone-{zone}"));
        at(&cluster(zone).await?, install_operator()).await?;
        self.admit(zone).await?;
        let global = ["--global-address", &address, "--credential-secret", &secret];
        at(
            &cluster(zone).await?,
            install_control_plane(&[&["--mode", "zone", "--zone", zone], &global[..]].concat()),
        )
        .await?;
        let told = connected(zone, "True").await?;
        if told["message"].as_str().is_some_and(|message| message.contains("another store than before")) {
            // In the place of another one, which a run that was killed has lost.
            self.ursactl(&["adopt"]).await?;
        }
        at(&cluster(zone).await?, install_ingress()).await
    }
}

/// By a port of the node: there is no load balancer here.
async fn install_ingress() -> anyhow::Result<()> {
    apply(&ursactl(&["install", "zone-ingress", "--type", "node-port"]).await?).await?;
    let ready = ["wait", "--for=condition=Ready", "--timeout=2m", "zoneingress/ingress"];
    kubectl(&[&["--namespace", SYSTEM], &ready[..]].concat()).await.map(drop)
}

/// Where the other clusters reach this one's nodes.
pub(crate) async fn node_address() -> anyhow::Result<String> {
    let path = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
    let all = kubectl(&["get", "nodes", "--output", path]).await?;
    Ok(all.split(' ').next().context("no address")?.to_owned())
}

/// Waits until the zone says this of its connection to global; the condition. The kubelet takes up to a minute and a half to
/// show pods a changed credential.
pub async fn connected(zone: &str, status: &str) -> anyhow::Result<Value> {
    let what = format!("zone {zone}: ConnectedToGlobal is {status}");
    at(
        &cluster(zone).await?,
        eventually(&what, Duration::from_mins(3), async || {
            let of = kind::json(&["--namespace", SYSTEM, "get", "controlplane", "ursa"]).await?;
            let found = whole_condition(&of, "ConnectedToGlobal").filter(|found| found["status"] == status);
            found.cloned().with_context(|| of["status"].to_string())
        }),
    )
    .await
}
