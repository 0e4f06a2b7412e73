//! Global is lost with its keys, and restored from its backup.

use anyhow::Context as _;
use ursa_e2e::eventually;
use ursa_e2e::kind::{SOON, SYSTEM, json, kubectl};
use ursa_e2e::zones::{Global, connected};

use super::world::{EAST, WEST, World};

/// The credentials that the zones' clusters have are not touched.
async fn lost_and_restored(world: &World, backup: &str) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.admit("kept").await?;
    let said = world.global.ursactl(&["backup", "--file", backup]).await?;
    print!("{said}");
    let created = creation(world, "kept").await?;
    let load = world.in_east(kind.load("client", "http://web/")).await?;

    world.global.lose().await?;
    let fresh = world.global.anew().await?;
    let condition = connected(EAST, "False").await?;
    println!("{condition}");
    let left = world.at_global(kubectl(&["get", "zones,meshes", "--output", "name"])).await?;
    anyhow::ensure!(left.trim() == "mesh.ursamesh.io/default", "it is not empty: {left}");
    world.in_east(kind.answered("client", "http://web/")).await?;

    let begun = std::time::Instant::now();
    let said = fresh.ursactl(&["restore", "--file", backup]).await?;
    print!("{said}");
    anyhow::ensure!(said.contains(EAST) && said.contains(WEST), "{said}");
    for zone in [EAST, WEST] {
        connected(zone, "True").await?;
    }
    println!("ursactl restore at global until its zones follow: {:.1?}", begun.elapsed());
    // By the token and the authority that its administrator had.
    eventually("all replicas show a certificate of the restored authority", SOON * 12, async || {
        world.global.ursactl(&["get", "meshes"]).await
    })
    .await?;
    for zone in [EAST, WEST] {
        world.until_state(zone, "Online").await?;
    }
    anyhow::ensure!(creation(world, "kept").await? != created, "an API server sets creation times itself");
    // And by the token that a pod of the restored one has written since.
    eventually("the administrator's token is another one", SOON * 3, async || {
        Global::find().await?.ursactl(&["get", "meshes"]).await
    })
    .await?;
    println!("{} calls, and none failed", load.answered_all().await?);
    world.shut("kept").await?;
    world.steers().await
}

/// When the API server made a policy of the test's mesh.
async fn creation(world: &World, policy: &str) -> anyhow::Result<String> {
    let name = format!("{}.{policy}", world.kind.name);
    let found = world.at_global(json(&["--namespace", SYSTEM, "get", "trafficpermission", &name])).await?;
    let created = found["metadata"]["creationTimestamp"].as_str();
    created.map(str::to_owned).context("no creation time")
}

/// The other tests need global: if it is not the one that it was, it is one that the zones follow.
async fn make_good(world: &World, backup: &str) -> anyhow::Result<()> {
    let global = world.global.anew().await?;
    if global.ursactl(&["restore", "--file", backup]).await.is_err() {
        for zone in [EAST, WEST] {
            global.admit(zone).await?;
        }
        Global::find().await?.adopt().await?;
    }
    for zone in [EAST, WEST] {
        connected(zone, "True").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_global_is_the_same_again_from_its_backup() -> anyhow::Result<()> {
    let world = World::start("backup").await?;
    let folder = tempfile::tempdir()?;
    let backup = folder.path().join("global.ursa").display().to_string();
    let result = lost_and_restored(&world, &backup).await;
    if result.is_err() {
        println!(
            "evidence: {}",
            world.at_global(async { Ok(world.kind.keep_evidence("global-lost").await) }).await?.display()
        );
        if let Err(error) = make_good(&world, &backup).await {
            println!("global is not what it was: {error:#}");
        }
    }
    world.end(result).await
}
