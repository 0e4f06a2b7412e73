//! The talk over two clusters and a zone of virtual machines: in each zone a Redis and the counter application, in the mesh
//! `default`; what is applied to it are the files of `demo/resources/`.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::hosts::Family;
use crate::kind::{Kind, SYSTEM, apply, at, image, kubectl};
use crate::vm::Vm;
use crate::vm_zone::{VmZone, Workload};
use crate::zones::{Global, cluster, node_address};
use crate::{binary, eventually};

/// The zones.
pub const TALK_ZONES: [&str; 3] = ["aws", "east", "west"];
/// That of the virtual machines.
const MACHINES: &str = "aws";
/// The namespace of the pods.
const NAMESPACE: &str = "demo";
/// Where demo-app is on a virtual machine, and on a node of a cluster.
const PORTS: [u16; 2] = [5000, 30500];
/// Workloads are ready within this time.
const READY: Duration = Duration::from_mins(1);

/// What plays.
#[derive(Debug)]
pub struct Talk {
    /// The namespace of the pods.
    pub kind: Kind,
    /// The zone of the virtual machines.
    pub vms: VmZone,
    /// The machine of its Redis.
    pub redis: Vm,
    /// The machine of its demo-app.
    pub demo_app: Vm,
    client: reqwest::Client,
}

/// An answer of demo-app.
#[derive(Debug)]
pub struct Increment {
    /// The zone of the Redis that counted; `zone-v2` if it is of that version.
    pub zone: String,
    /// What it counted to.
    pub counter: u64,
}

impl Talk {
    /// Starts the machines; nothing of Ursa runs on them yet.
    pub async fn machines() -> anyhow::Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let (vms, redis, demo_app) = tokio::try_join!(
            VmZone::start(MACHINES),
            Vm::start("ursa-aws-redis"),
            Vm::start("ursa-aws-demo-app"),
        )?;
        Ok(Self { kind: Kind { name: NAMESPACE.into() }, vms, redis, demo_app, client })
    }

    /// Applies a file of `demo/resources/` at global, by kubectl as a user would.
    pub async fn apply(&self, file: &str) -> anyhow::Result<()> {
        self.at_global("apply", &["--server-side", "--force-conflicts"], file).await
    }

    /// Deletes what a file of `demo/resources/` names.
    pub async fn delete(&self, file: &str) -> anyhow::Result<()> {
        self.at_global("delete", &["--ignore-not-found"], file).await
    }

    async fn at_global(&self, verb: &str, options: &[&str], file: &str) -> anyhow::Result<()> {
        let path = format!("{}/../demo/resources/{file}", env!("CARGO_MANIFEST_DIR"));
        let command = ["--namespace", SYSTEM, verb, "--filename", &path];
        at(&cluster("global").await?, kubectl(&[&command[..], options].concat())).await.map(drop)
    }

    /// Makes the mesh at global, joins the zone of virtual machines, and starts the workloads in all zones.
    pub async fn start(&self, global: &Global) -> anyhow::Result<()> {
        self.apply("mesh.yaml").await?;
        self.vms.join_global(global).await?;
        tokio::try_join!(self.in_cluster("east"), self.in_cluster("west"), self.on_machines()).map(drop)
    }

    async fn in_cluster(&self, zone: &str) -> anyhow::Result<()> {
        at(&cluster(zone).await?, async {
            let kind = &self.kind;
            apply(&format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, labels: {{ursamesh.io/sidecar-injection: enabled}}}}}}"
            ))
            .await?;
            kind.apply(&filled(include_str!("../../demo/kind/workloads.yaml"), zone)?).await?;
            tokio::try_join!(kind.ready("redis"), kind.ready("demo-app")).map(drop)
        })
        .await
    }

    /// A second version of Redis in a zone that is a cluster; `false`: it ends.
    pub async fn second_version(&self, zone: &str, wanted: bool) -> anyhow::Result<()> {
        at(&cluster(zone).await?, async {
            if !wanted {
                return self.kind.kubectl(&["delete", "deployment", "redis-v2"]).await.map(drop);
            }
            self.kind.apply(&filled(include_str!("../../demo/kind/redis-v2.yaml"), zone)?).await?;
            self.kind.ready("redis-v2").await
        })
        .await
    }

    async fn on_machines(&self) -> anyhow::Result<()> {
        self.vms.join_ingress().await?;
        let join = async |vm: &Vm, name: &str, inbound: Value| {
            let networking = json!({"capture": {}, "inbound": inbound});
            let services = &[name];
            // A person's browser is not in the mesh.
            let exclude_inbound_ports = "22,5000";
            let mesh = ursa_crds::DEFAULT_MESH;
            let family = Family::V4;
            let workload = Workload { mesh, name, services, networking, family, exclude_inbound_ports };
            self.vms.join_workload(vm, &workload).await
        };
        let tags = |service: &str, protocol: &str| json!({"ursamesh.io/service": service, "ursamesh.io/protocol": protocol, "version": "v1"});
        let redis = async {
            self.redis.install(&binary("ursa-demo")?).await?;
            self.redis.install(&redis_server()?).await?;
            self.redis.service(&format!("ursa-demo redis --zone {MACHINES}")).await?;
            let probed = json!({"port": 6379, "tags": tags("redis", "tcp"), "readinessProbe": {"tcp": {}}});
            join(&self.redis, "redis", json!([probed])).await
        };
        let demo_app = async {
            self.demo_app.install(&binary("ursa-demo")?).await?;
            let serve =
                format!("ursa-demo app --zone {MACHINES} --listen 0.0.0.0:5000 --redis redis.mesh:6379");
            self.demo_app.service(&serve).await?;
            join(&self.demo_app, "demo-app", json!([{"port": 5001, "tags": tags("demo-app", "http")}])).await
        };
        tokio::try_join!(redis, demo_app).map(drop)
    }

    /// Where a person reaches demo-app in a zone.
    pub async fn url(&self, zone: &str) -> anyhow::Result<String> {
        let [on_machine, on_node] = PORTS;
        if zone == MACHINES {
            return Ok(format!("http://{}:{on_machine}", self.demo_app.address));
        }
        Ok(format!("http://{}:{on_node}", at(&cluster(zone).await?, node_address()).await?))
    }

    /// One request to demo-app in a zone.
    pub async fn increment(&self, url: &str) -> anyhow::Result<Increment> {
        let response = self.client.post(format!("{url}/increment")).send().await?;
        let (status, text) = (response.status(), response.text().await?);
        anyhow::ensure!(status.is_success(), "{status}: {text}");
        let answer: Value = serde_json::from_str(&text)?;
        let zone = answer["zone"].as_str().with_context(|| text.clone())?.to_owned();
        Ok(Increment { zone, counter: answer["counter"].as_u64().with_context(|| text.clone())? })
    }

    /// Waits until demo-app counts in every zone.
    pub async fn serves(&self) -> anyhow::Result<()> {
        for zone in TALK_ZONES {
            let url = self.url(zone).await?;
            eventually(&format!("demo-app in {zone} counts"), READY, async || self.increment(&url).await)
                .await?;
        }
        Ok(())
    }

    /// The machines.
    pub fn all_machines(&self) -> [&Vm; 4] {
        [&self.vms.plane, &self.vms.ingress, &self.redis, &self.demo_app]
    }
}

fn filled(manifest: &str, zone: &str) -> anyhow::Result<String> {
    Ok(manifest.replace("IMAGE", &image("ursa-demo")?).replace("ZONE", zone))
}

fn redis_server() -> anyhow::Result<std::path::PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&folders).map(|folder| folder.join("redis-server")).find(|f| f.exists());
    found.context("no redis-server in PATH: run `scripts/install-redis`")
}
