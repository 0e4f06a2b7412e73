//! A zone gets what global has, and nobody writes that there.

use anyhow::Context as _;
use ursa_e2e::eventually;
use ursa_e2e::kind::{SOON, SYSTEM, apply, json, kubectl};
use ursa_e2e::zones::connected;

use super::world::{EAST, World, refusal};

async fn what_belongs_to_global_is_read_only(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.admit("kept").await?;
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
    world.admit("held").await?;
    let load = world.in_east(kind.load("client", "http://web/")).await?;
    world
        .at_global(async {
            let lease = json(&["--namespace", SYSTEM, "get", "lease", "ursa-cp"]).await?;
            let holder = lease["spec"]["holderIdentity"].as_str().context("nobody leads")?;
            let pod = holder.split('_').next().unwrap_or_default();
            kubectl(&["--namespace", SYSTEM, "delete", "pod", pod, "--grace-period", "0", "--force"]).await
        })
        .await?;
    world.until_state(EAST, "Online").await?;
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
    world.shut("held").await
}

/// A zone that is deleted at global is out, goes on with what it has, and comes back with another credential.
async fn a_deleted_zone_joins_anew(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.admit("held").await?;
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
    world.until_state(EAST, "Online").await?;
    world.shut("held").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_follows_its_global() -> anyhow::Result<()> {
    let world = World::start("zones").await?;
    let result = async {
        world.until_state(EAST, "Online").await?;
        world.steers().await?;
        what_belongs_to_global_is_read_only(&world).await?;
        another_replica_takes_over(&world).await?;
        a_deleted_zone_joins_anew(&world).await?;
        world.steers().await
    }
    .await;
    world.end(result).await
}
