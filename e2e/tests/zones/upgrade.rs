//! From one version to the next: the operators first, then global and the zones, in either order, each replica by replica;
//! with calls from zone to zone that never stop, and none that fails.

use std::process::Stdio;

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;
use ursa_crds::schema::CURRENT;
use ursa_e2e::eventually;
use ursa_e2e::kind::{SOON, SYSTEM, control_plane_runs, image, kubectl};

use super::world::{EAST, WEST, World};

const GLOBAL: &str = "global";

/// The image of control planes that speak the schema before this one, in all clusters.
async fn older_image() -> anyhow::Result<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/test-older-image");
    let mut command = Command::new(script);
    command.arg((CURRENT - 1).to_string()).stdin(Stdio::null()).stderr(Stdio::inherit());
    let made = command.output().await.with_context(|| format!("cannot run {script}"))?;
    anyhow::ensure!(made.status.success(), "{script} failed; what it said is above");
    Ok(String::from_utf8(made.stdout)?.trim().to_owned())
}

/// Pins a cluster's control plane to an image, or leaves the choice to its operator, and waits until all of it runs.
async fn run_image(world: &World, cluster: &str, pinned: Option<&str>) -> anyhow::Result<()> {
    let patch = serde_json::json!({"spec": {"image": pinned}}).to_string();
    let patch = ["--namespace", SYSTEM, "patch", "controlplane", "ursa", "--type", "merge", "--patch", &patch];
    let runs = pinned.map_or_else(|| image("ursa"), |pinned| Ok(pinned.to_owned()))?;
    world
        .in_zone(cluster, async {
            kubectl(&patch).await?;
            control_plane_runs(&runs).await
        })
        .await
}

/// Waits until both zones are in step with global and speak these schemas, as its administrator sees it.
async fn speak(world: &World, east: u32, west: u32) -> anyhow::Result<()> {
    eventually(&format!("east speaks schema {east}, west {west}"), SOON * 6, async || {
        let zones = world.global.ursactl(&["inspect", "zones", "--output", "json"]).await?;
        let zones: Value = serde_json::from_str(&zones)?;
        for (zone, schema) in [(EAST, east), (WEST, west)] {
            let mut all = zones["items"].as_array().into_iter().flatten();
            let found = all.find(|known| known["name"] == zone).with_context(|| zones.to_string())?;
            let is_there = found["state"] == "Online" && found["secondsBehind"] == 0;
            anyhow::ensure!(is_there && found["schema"] == schema, "{found}");
        }
        Ok(())
    })
    .await
}

/// The operators of all clusters are replaced; control planes that name an image stay as they are.
async fn operators(world: &World) -> anyhow::Result<()> {
    let of_operator = |words: &[&'static str]| [&["--namespace", SYSTEM], words, &["deployment/ursa-operator"]].concat();
    for cluster in [GLOBAL, EAST, WEST] {
        world
            .in_zone(cluster, async {
                kubectl(&of_operator(&["rollout", "restart"])).await?;
                kubectl(&of_operator(&["rollout", "status", "--timeout=2m"])).await
            })
            .await?;
    }
    Ok(())
}

/// Control planes of the version before, upgraded in this order.
async fn upgrade(world: &World, older: &str, order: [&str; 3]) -> anyhow::Result<()> {
    let (kind, previous) = (&world.kind, CURRENT - 1);
    for cluster in [GLOBAL, EAST, WEST] {
        run_image(world, cluster, Some(older)).await?;
    }
    speak(world, previous, previous).await?;
    let url = |server: &str| format!("http://{}.mesh/", kind.service(server));
    world.in_east(kind.answered("client", &url("far"))).await?;
    world.in_zone(WEST, kind.answered("client", &url("near"))).await?;
    let loads = [
        world.in_east(kind.load("client", &url("far"))).await?,
        world.in_zone(WEST, kind.load("client", &url("near"))).await?,
    ];
    operators(world).await?;
    speak(world, previous, previous).await?;
    let (mut east, mut west) = (previous, previous);
    for cluster in order {
        run_image(world, cluster, None).await?;
        match cluster {
            EAST => east = CURRENT,
            WEST => west = CURRENT,
            _ => {}
        }
        speak(world, east, west).await?;
        world.steers().await?;
    }
    world.programmed("far", "60s").await?;
    for load in loads {
        load.answered_all().await?;
    }
    Ok(())
}

async fn in_both_orders(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.populate(EAST, "near").await?;
    world.populate(WEST, "far").await?;
    for server in ["near", "far"] {
        world.at_global(kind.permit(server, "client", server)).await?;
    }
    let older = older_image().await?;
    upgrade(world, &older, [GLOBAL, EAST, WEST]).await.context("global first")?;
    upgrade(world, &older, [WEST, EAST, GLOBAL]).await.context("zones first")?;
    for server in ["near", "far"] {
        world.at_global(kind.delete_policy("trafficpermission", server)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_costs_no_request() -> anyhow::Result<()> {
    let world = World::start("upgrade").await?;
    let result = in_both_orders(&world).await;
    // The clusters are other tests', too.
    let mut restored = Ok(());
    for cluster in [GLOBAL, EAST, WEST] {
        restored = restored.and(run_image(&world, cluster, None).await);
    }
    world.end(result.and(restored)).await
}
