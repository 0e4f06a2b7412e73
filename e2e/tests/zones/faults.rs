//! Zones whose way to global is cut or long, and zones without global: traffic goes on, and all agree again afterwards.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ursa_e2e::kind::{Running, SOON, json};
use ursa_e2e::links::{self, Cut, Halted};
use ursa_e2e::{eventually, figure, rounds};

use super::world::{EAST, WEST, World};

/// Global's cluster serves again within this time.
const STARTED: Duration = Duration::from_mins(3);

/// What is only there, so that only that zone's proxies judge its callers.
pub(super) fn server(zone: &str) -> &'static str {
    if zone == EAST { "web" } else { "far" }
}

/// In both zones a server of its own, and two that call.
pub(super) async fn populate(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.populate(WEST, server(WEST)).await?;
    for zone in [EAST, WEST] {
        world.in_zone(zone, kind.client("guest")).await?;
    }
    world.at_global(kind.permit("all", "*", "*")).await?;
    world.programmed("all", "60s").await
}

/// Callers in both zones, of both zones.
pub(super) async fn load(world: &World) -> anyhow::Result<Vec<Running>> {
    let kind = &world.kind;
    let mut all = Vec::new();
    for zone in [EAST, WEST] {
        for other in [EAST, WEST] {
            let url = format!("http://{}.mesh/", kind.service(server(other)));
            world.in_zone(zone, kind.answered("client", &url)).await?;
            all.push(world.in_zone(zone, kind.load("client", &url)).await?);
        }
    }
    Ok(all)
}

pub(super) async fn answered_all(load: Vec<Running>) -> anyhow::Result<()> {
    for calls in load {
        calls.answered_all().await?;
    }
    Ok(())
}

/// The guest of a zone calls the server there, once.
pub(super) async fn guest_calls(world: &World, zone: &str) -> anyhow::Result<()> {
    let url = format!("http://{}/", server(zone));
    world.in_zone(zone, world.kind.call("guest", &url)).await.map(drop)
}

/// Everything of the mesh and of zones that a cluster holds: its UID there, by kind and name.
async fn held(world: &World, cluster: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let kinds = "meshes,trafficpermissions,trafficroutes,meshzones,zoneingresses,zones";
    let all = world.in_zone(cluster, json(&["get", kinds, "--all-namespaces"])).await?;
    let mesh = world.kind.name.as_str();
    let mut held = BTreeMap::new();
    for object in all["items"].as_array().context("items")? {
        let (kind, meta) = (&object["kind"], &object["metadata"]);
        let of_all = kind == "ZoneIngress" || kind == "Zone";
        if of_all || object["spec"]["mesh"] == mesh || meta["name"] == mesh {
            held.insert(format!("{kind} {}", meta["name"]), meta["uid"].to_string());
        }
    }
    anyhow::ensure!(held.len() > 2, "{cluster} holds no more than {held:?}");
    Ok(held)
}

/// What each of these clusters holds.
pub(super) async fn held_by(
    world: &World,
    clusters: &[&str],
) -> anyhow::Result<Vec<BTreeMap<String, String>>> {
    let mut all = Vec::new();
    for cluster in clusters {
        all.push(held(world, cluster).await?);
    }
    Ok(all)
}

/// What all clusters hold.
pub(super) async fn all_held(world: &World) -> anyhow::Result<Vec<BTreeMap<String, String>>> {
    held_by(world, &["global", EAST, WEST]).await
}

/// Each cluster holds the very objects that it held before, as soon as all copies of what was deleted are gone; so none was
/// deleted, or deleted and made anew: that would have another UID.
pub(super) async fn nothing_was_lost(
    world: &World,
    before: &[BTreeMap<String, String>],
) -> anyhow::Result<()> {
    eventually("the clusters hold what they held", SOON, async || {
        let after = all_held(world).await?;
        anyhow::ensure!(before == after, "before: {before:#?}; after: {after:#?}");
        Ok(())
    })
    .await
}

/// A policy says that it is not known whether a zone enforces it, and since when.
pub(super) async fn is_unknown(world: &World, policy: &str, zone: &str) -> anyhow::Result<()> {
    eventually(&format!("{policy} is not known to be in force in {zone}"), SOON * 2, async || {
        let told = world.told(policy, "Programmed").await?;
        let message = told["message"].as_str().unwrap_or_default();
        anyhow::ensure!(told["status"] == "Unknown" && told["reason"] == "ZoneAway", "{told}");
        anyhow::ensure!(message.contains(&format!("zone {zone} is away since 2")), "{told}");
        Ok(())
    })
    .await
}

/// The zone goes on with what it has; the other one follows; when the way is whole again, both do.
async fn a_zone_is_cut_off(world: &World, zone: &str, cut: Cut) -> anyhow::Result<Duration> {
    let kind = &world.kind;
    let other = if zone == EAST { WEST } else { EAST };
    let before = all_held(world).await?;
    let fault = links::cut(zone, world.global.sync_socket()?, cut).await?;
    let begun = Instant::now();
    eventually(&format!("{zone}, cut {cut:?}, is Stale"), SOON, async || {
        let seen = world.inspected(zone).await?;
        anyhow::ensure!(seen["state"] == "Stale" && seen["secondsBehind"].as_u64() > Some(0), "{seen}");
        Ok(())
    })
    .await?;
    let noticed = begun.elapsed();
    world.until_state(zone, "Stale").await?;
    is_unknown(world, "trafficpermission/all", zone).await?;
    world.at_global(kind.judge("stop", "Deny", &kind.service("guest"), "'*'")).await?;
    is_unknown(world, "trafficpermission/stop", zone).await?;
    world.in_zone(other, kind.refused("guest", &format!("http://{}/", server(other)))).await?;
    guest_calls(world, zone).await.context("what is not known there is not in force")?;

    drop(fault);
    world.programmed("stop", "30s").await?;
    for zone in [EAST, WEST] {
        anyhow::ensure!(guest_calls(world, zone).await.is_err(), "a guest is answered in {zone}");
    }
    world.until_state(zone, "Online").await?;
    world.programmed("all", "30s").await?;
    world.at_global(kind.delete_policy("trafficpermission", "stop")).await?;
    for zone in [EAST, WEST] {
        let url = format!("http://{}/", server(zone));
        world.in_zone(zone, kind.answered("guest", &url)).await?;
    }
    nothing_was_lost(world, &before).await?;
    Ok(noticed)
}

/// A policy that is deleted while a zone is away is deleted there afterwards.
async fn what_is_deleted_meanwhile_goes(world: &World, zone: &str) -> anyhow::Result<()> {
    let kind = &world.kind;
    let before = all_held(world).await?;
    world.at_global(kind.judge("stop", "Deny", &kind.service("guest"), "'*'")).await?;
    world.programmed("stop", "30s").await?;
    let fault = links::cut(zone, world.global.sync_socket()?, Cut::BothWays).await?;
    world.until_state(zone, "Stale").await?;
    world.at_global(kind.delete_policy("trafficpermission", "stop")).await?;
    anyhow::ensure!(guest_calls(world, zone).await.is_err(), "a guest is answered before {zone} can know");
    drop(fault);
    world.in_zone(zone, kind.answered("guest", &format!("http://{}/", server(zone)))).await?;
    world.until_state(zone, "Online").await?;
    nothing_was_lost(world, &before).await
}

/// Each byte takes its time: a zone is no less connected for that, and changes come later by as much.
async fn the_way_is_long(world: &World, zone: &str, delay: Duration) -> anyhow::Result<()> {
    let kind = &world.kind;
    let before = all_held(world).await?;
    let fault = links::lengthen(zone, world.global.sync_socket()?, delay).await?;
    world.until_state(zone, "Online").await?;
    let mut times = Vec::new();
    for source in ["guest", "nobody"] {
        let begun = Instant::now();
        world.at_global(kind.judge("stop", "Deny", &kind.service(source), "'*'")).await?;
        world.programmed("stop", "30s").await?;
        times.push(begun.elapsed());
        for zone in [EAST, WEST] {
            let answered = guest_calls(world, zone).await.is_ok();
            anyhow::ensure!(
                answered == (source == "nobody"),
                "{source} is denied, and {zone} answered: {answered}"
            );
        }
    }
    anyhow::ensure!(times.iter().all(|time| *time > delay * 2), "it did not go the long way: {times:?}");
    let seen = world.inspected(zone).await?;
    anyhow::ensure!(seen["state"] == "Online", "{seen}");
    println!("figure: kubectl apply at global until Programmed, {delay:?} away: {times:.1?}");
    drop(fault);
    world.until_state(zone, "Online").await?;
    world.at_global(kind.delete_policy("trafficpermission", "stop")).await?;
    nothing_was_lost(world, &before).await
}

/// A zone is connected again, and has all that global has.
pub(super) async fn comes_back(world: &World, zone: &str) -> anyhow::Result<()> {
    eventually(&format!("{zone} is Online"), STARTED, async || {
        let seen = world.inspected(zone).await?;
        anyhow::ensure!(seen["state"] == "Online" && seen["secondsBehind"] == 0, "{seen}");
        Ok(())
    })
    .await
}

/// Zones without global: traffic goes on, also for a pod that is new, and when global is there again all agree.
async fn global_is_away(world: &World, name: &str, halted: Halted) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.in_east(kind.server(name)).await.context("a new pod in a zone without global")?;
    world.in_east(kind.known("client", &format!("http://{name}/"))).await?;
    for zone in [EAST, WEST] {
        guest_calls(world, zone).await?;
    }
    let begun = Instant::now();
    drop(halted);
    eventually("global answers", STARTED, async || world.inspected(EAST).await).await?;
    for zone in [EAST, WEST] {
        comes_back(world, zone).await?;
    }
    println!("figure: global's cluster runs again, until both zones are in step: {:.1?}", begun.elapsed());
    let url = format!("http://{}.mesh/", kind.service(name));
    eventually("the other zone knows what is new", SOON * 3, async || {
        world.in_zone(WEST, kind.call("client", &url)).await
    })
    .await?;
    Ok(())
}

async fn zones_without_global(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    let before = all_held(world).await?;
    global_is_away(world, "late", Halted::frozen("global").await?).await.context("frozen")?;
    nothing_was_lost(world, &before).await?;
    // Kubernetes takes a minute and a half to start.
    for _ in 0..rounds(0, 1) {
        global_is_away(world, "later", Halted::stopped("global").await?).await.context("stopped")?;
        nothing_was_lost(world, &before).await?;
    }
    // Global steers as before.
    world.at_global(kind.judge("stop", "Deny", &kind.service("guest"), "'*'")).await?;
    world.programmed("stop", "60s").await?;
    for zone in [EAST, WEST] {
        anyhow::ensure!(guest_calls(world, zone).await.is_err(), "a guest is answered in {zone}");
    }
    world.at_global(kind.delete_policy("trafficpermission", "stop")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_outlive_their_links_to_global() -> anyhow::Result<()> {
    let world = World::start("links").await?;
    let result = async {
        populate(&world).await?;
        let load = load(&world).await?;
        let mut noticed = Vec::new();
        for _ in 0..rounds(1, 5) {
            for (zone, cut) in [(EAST, Cut::BothWays), (WEST, Cut::ToGlobal), (EAST, Cut::FromGlobal)] {
                let cut_off = a_zone_is_cut_off(&world, zone, cut).await;
                noticed.push(cut_off.with_context(|| format!("{zone}, cut {cut:?}"))?);
            }
            what_is_deleted_meanwhile_goes(&world, WEST).await?;
            the_way_is_long(&world, EAST, Duration::from_millis(500)).await?;
        }
        figure("a cut link is noticed", noticed)?;
        answered_all(load).await
    }
    .await;
    world.end(result).await
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_outlive_global() -> anyhow::Result<()> {
    let world = World::start("alone").await?;
    let result = async {
        populate(&world).await?;
        let load = load(&world).await?;
        zones_without_global(&world).await?;
        answered_all(load).await
    }
    .await;
    world.end(result).await
}
