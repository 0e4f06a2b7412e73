//! From one version to the next, as control planes that speak the schema before this one: in either order, under load,
//! without a failed request, with policies in force throughout.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::Value;
use ursa_crds::schema::CURRENT;
use ursa_e2e::kind::whole_condition;
use ursa_e2e::{Api, Load, MTLS, Multizone, World, ZONES, eventually, route};

/// Generous: the figures are printed, not judged.
const SOON: Duration = Duration::from_secs(10);

/// The mesh with something in it that came with this schema.
fn with_members() -> String {
    format!("{MTLS}  members: {{zones: [aws, east, west]}}\n")
}

/// All calls go to a zone, from everywhere.
async fn steer(mesh: &Multizone, zone: &str) -> anyhow::Result<()> {
    let split =
        format!("{{weight: 1, destination: {{ursamesh.io/service: server, ursamesh.io/zone: {zone}}}}}");
    mesh.global.api()?.apply(&route(&split)).await?;
    mesh.each_reaches(&[zone]).await
}

/// The zones, one after the other, with calls going to another zone after each.
async fn upgrade_zones(mesh: &mut Multizone) -> anyhow::Result<()> {
    for (number, target) in ["west", "aws", "east"].into_iter().enumerate() {
        mesh.zones[number].plane.upgrade().await?;
        in_step(mesh).await?;
        steer(mesh, target).await?;
    }
    Ok(())
}

/// Waits until the mesh says this of whether it is in force.
async fn programmed(api: &Api, status: &str, reason: &str, words: &str) -> anyhow::Result<()> {
    eventually(&format!("Programmed is {status}, {reason}"), SOON * 2, async || {
        let (_, mesh) = api.send(Method::GET, "/meshes/default", None).await?;
        let told = whole_condition(&mesh, "Programmed").with_context(|| mesh.to_string())?;
        anyhow::ensure!(told["observedGeneration"] == mesh["metadata"]["generation"], "{mesh}");
        let message = told["message"].as_str().unwrap_or_default();
        anyhow::ensure!(
            told["status"] == status && told["reason"] == reason && message.contains(words),
            "{told}"
        );
        Ok(())
    })
    .await
}

/// Waits until all zones are in step with global; the schemas that they speak, in the order of their names.
async fn in_step(mesh: &Multizone) -> anyhow::Result<Vec<Value>> {
    eventually("all zones are in step", SOON * 2, async || {
        let (_, zones) = mesh.global.api()?.send(Method::GET, "/zones+state", None).await?;
        let items = zones["items"].as_array().cloned().unwrap_or_default();
        let is_there = |zone: &Value| zone["state"] == "Online" && zone["secondsBehind"] == 0;
        anyhow::ensure!(items.len() == ZONES.len() && items.iter().all(is_there), "{zones}");
        Ok(items.iter().map(|zone| zone["schema"].clone()).collect())
    })
    .await
}

/// What came with this schema is refused by a global control plane of the one before.
async fn refused(api: &Api) -> anyhow::Result<()> {
    let said =
        api.apply(&with_members()).await.err().context("an older global takes what it does not know")?;
    anyhow::ensure!(format!("{said:#}").contains("spec.members"), "{said:#}");
    Ok(())
}

/// All of it as the version before, everybody may call everybody.
async fn start(test: &str) -> anyhow::Result<Multizone> {
    let mut world = World::new(test)?;
    world.schema = Some(CURRENT - 1);
    let mesh = Multizone::start_in(world).await?;
    mesh.open().await?;
    refused(&mesh.global.api()?).await?;
    Ok(mesh)
}

/// After the upgrade: everything is of this schema, and what came with it is in force.
async fn current(mesh: &Multizone) -> anyhow::Result<()> {
    anyhow::ensure!(in_step(mesh).await?.iter().all(|schema| *schema == CURRENT));
    let api = mesh.global.api()?;
    api.apply(&with_members()).await?;
    programmed(
        &api,
        "True",
        "Programmed",
        "all proxies that it touches enforce it: 2 in aws, 2 in east, 2 in west",
    )
    .await?;
    for zone in &mesh.zones {
        let (_, offers) = zone.plane.api()?.send(Method::GET, "/meshes/default/meshzones", None).await?;
        let items = offers["items"].as_array().cloned().unwrap_or_default();
        let tell = items.iter().filter(|offer| !offer["spec"]["identities"].is_null()).count();
        anyhow::ensure!(tell == ZONES.len(), "{}: {offers}", zone.name);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn global_first() -> anyhow::Result<()> {
    let mut mesh = start("upgrade-global-first").await?;
    let load = Load::start(mesh.zones.iter().map(|zone| zone.outbound));
    mesh.global.upgrade().await?;
    anyhow::ensure!(in_step(&mesh).await?.iter().all(|schema| *schema == CURRENT - 1));
    steer(&mesh, "east").await?;
    let api = mesh.global.api()?;
    programmed(&api, "Unknown", "ZoneOutdated", "which does not tell what its proxies enforce").await?;
    // What the zones do not know goes unsaid to them, and not unseen.
    api.apply(&with_members()).await?;
    for zone in ZONES {
        let words = format!("zone {zone} runs schema 1 and does not know spec.members");
        programmed(&api, "False", "ZoneOutdated", &words).await?;
    }
    upgrade_zones(&mut mesh).await?;
    current(&mesh).await?;
    println!("{} requests during the upgrade, none failed", load.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_first() -> anyhow::Result<()> {
    let mut mesh = start("upgrade-zones-first").await?;
    let load = Load::start(mesh.zones.iter().map(|zone| zone.outbound));
    upgrade_zones(&mut mesh).await?;
    refused(&mesh.global.api()?).await?;
    mesh.global.upgrade().await?;
    in_step(&mesh).await?;
    steer(&mesh, "west").await?;
    current(&mesh).await?;
    println!("{} requests during the upgrade, none failed", load.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_does_not_start_on_what_a_later_one_wrote() -> anyhow::Result<()> {
    let world = World::new("upgrade-back")?;
    let mut global = world.global().await?;
    let said = global.downgrade(CURRENT - 1).await.err().context("it starts")?;
    let said = format!("{said:#}");
    anyhow::ensure!(
        said.contains("store.redb") && said.contains("schema 2") && said.contains("backup"),
        "{said}"
    );
    global.upgrade().await
}
