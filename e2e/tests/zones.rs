//! A global control plane and a zone, each a cluster of its own, steered by kubectl at global.

use anyhow::Context as _;
use serde_json::Value;
use ursa_e2e::eventually;
use ursa_e2e::kind::{Kind, SOON, SYSTEM, apply, at, json, kubectl};
use ursa_e2e::zones::{Global, cluster, connected, install_zones};

const EAST: &str = "east";

/// A mesh made at global, with a caller and a server in the east.
struct World {
    global: Global,
    kind: Kind,
}

impl World {
    async fn at_global<T>(&self, future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        at(&cluster("global").await?, future).await
    }

    async fn in_east<T>(&self, future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        at(&cluster(EAST).await?, future).await
    }

    async fn start(name: &str) -> anyhow::Result<Self> {
        install_zones().await?;
        let world = Self { global: Global::find().await?, kind: Kind::named(name) };
        let kind = &world.kind;
        world.at_global(kind.mtls("Strict")).await?;
        world
            .in_east(async {
                kind.namespace().await?;
                tokio::try_join!(kind.server("web"), kind.client("client")).map(drop)
            })
            .await?;
        Ok(world)
    }

    /// What is written at global counts in the zone.
    async fn steers(&self) -> anyhow::Result<()> {
        self.at_global(self.kind.permit("all", "client", "web")).await?;
        self.in_east(self.kind.answered("client", "http://web/")).await?;
        self.at_global(self.kind.delete_policy("trafficpermission", "all")).await?;
        self.in_east(self.kind.refused("client", "http://web/")).await
    }

    /// Global sees the zone online and in step, in `ursactl` and in `kubectl`.
    async fn until_online(&self) -> anyhow::Result<()> {
        eventually(&format!("{EAST} is online"), SOON * 3, async || {
            let zones = self.global.ursactl(&["inspect", "zones", "--output", "json"]).await?;
            let zones: Value = serde_json::from_str(&zones)?;
            let found = zones["items"].as_array().into_iter().flatten().find(|known| known["name"] == EAST);
            let found = found.with_context(|| format!("no {EAST} in {zones}"))?;
            anyhow::ensure!(found["state"] == "Online" && found["secondsBehind"] == 0, "{found}");
            let columns = self.at_global(kubectl(&["get", "zone", EAST, "--no-headers"])).await?;
            anyhow::ensure!(columns.split_whitespace().any(|cell| cell == "Online"), "{columns}");
            Ok(())
        })
        .await
    }

    async fn end(self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        if let Err(error) = &result {
            println!("{error:#}");
            for name in ["global", EAST] {
                let bundle = at(&cluster(name).await?, self.kind.keep_evidence(name)).await;
                println!("evidence: {}", bundle.display());
            }
            return result;
        }
        self.in_east(self.kind.kubectl(&["delete", "namespace", &self.kind.name, "--wait=false"])).await?;
        self.at_global(kubectl(&["delete", "mesh", &self.kind.name])).await.map(drop)
    }
}

/// What the API server says against it.
async fn refusal<T>(refused: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<String> {
    match refused.await {
        Ok(_) => anyhow::bail!("it is not refused"),
        Err(error) => Ok(error.to_string()),
    }
}

async fn what_belongs_to_global_is_read_only(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.at_global(kind.permit("kept", "client", "web")).await?;
    world.in_east(kind.answered("client", "http://web/")).await?;
    let said = world.in_east(refusal(kind.permit("own", "client", "web"))).await?;
    anyhow::ensure!(said.contains("belongs to the global control plane (https://"), "{said}");
    let said = world
        .in_east(refusal(apply(&format!(
            "{{apiVersion: ursamesh.io/v1alpha1, kind: Mesh, metadata: {{name: {}}}, spec: {{}}}}",
            kind.name
        ))))
        .await?;
    anyhow::ensure!(said.contains("change it there"), "{said}");
    let copies = ["--namespace", SYSTEM, "delete", "trafficpermissions", "--all"];
    let said = world.in_east(refusal(kubectl(&copies))).await?;
    anyhow::ensure!(said.contains("belongs to the global control plane"), "{said}");
    world.in_east(kind.answered("client", "http://web/")).await?;
    world.at_global(kind.delete_policy("trafficpermission", "kept")).await
}

/// The replica of global that leads is killed; another takes the zones over, with nothing lost on the way.
async fn another_replica_takes_over(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.at_global(kind.permit("held", "client", "web")).await?;
    world.in_east(kind.answered("client", "http://web/")).await?;
    let load = world.in_east(kind.load("client", "http://web/")).await?;
    world
        .at_global(async {
            let lease = json(&["--namespace", SYSTEM, "get", "lease", "ursa-cp"]).await?;
            let holder = lease["spec"]["holderIdentity"].as_str().context("nobody leads")?;
            let pod = holder.split('_').next().unwrap_or_default();
            kubectl(&["--namespace", SYSTEM, "delete", "pod", pod, "--grace-period", "0", "--force"]).await
        })
        .await?;
    world.until_online().await?;
    world.at_global(kind.policy(
        "TrafficPermission",
        "late",
        "action: Deny, sources: [{match: {ursamesh.io/service: '*'}}], destinations: [{match: {ursamesh.io/service: nobody}}]",
    ))
    .await?;
    world
        .in_east(eventually("what is written after the takeover arrives", SOON * 3, async || {
            let copies = json(&["--namespace", SYSTEM, "get", "trafficpermissions"]).await?;
            let origin = format!("{}.late", kind.name);
            anyhow::ensure!(copies.to_string().contains(&origin), "not yet");
            Ok(())
        }))
        .await?;
    load.answered_all().await?;
    world.at_global(kind.delete_policy("trafficpermission", "late")).await?;
    world.at_global(kind.delete_policy("trafficpermission", "held")).await?;
    world.in_east(kind.refused("client", "http://web/")).await
}

/// A zone that is deleted at global is out, goes on with what it has, and comes back with another credential.
async fn a_deleted_zone_joins_anew(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.at_global(kind.permit("held", "client", "web")).await?;
    world.in_east(kind.answered("client", "http://web/")).await?;
    world.at_global(kubectl(&["delete", "zone", EAST])).await?;
    let condition = connected(EAST, "False").await?;
    let message = condition["message"].as_str().unwrap_or_default();
    anyhow::ensure!(
        condition["reason"] == "Refused" && message.contains("ursactl zone create east"),
        "{condition}"
    );
    world.in_east(kind.answered("client", "http://web/")).await?;
    world.global.admit(EAST).await?;
    connected(EAST, "True").await?;
    world.until_online().await?;
    world.at_global(kind.delete_policy("trafficpermission", "held")).await?;
    world.in_east(kind.refused("client", "http://web/")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_follows_its_global() -> anyhow::Result<()> {
    let world = World::start("zones").await?;
    let result = async {
        world.until_online().await?;
        world.steers().await?;
        what_belongs_to_global_is_read_only(&world).await?;
        another_replica_takes_over(&world).await?;
        a_deleted_zone_joins_anew(&world).await?;
        world.steers().await
    }
    .await;
    world.end(result).await
}
