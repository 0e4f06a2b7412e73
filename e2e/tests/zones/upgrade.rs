//! From the version before to this one, cluster by cluster, on stores on which this one has written before: under load, without
//! a failed call, with policies in force throughout.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::Value;
use ursa_crds::schema::CURRENT;
use ursa_e2e::kind::{Running, SOON, SYSTEM, json, kubectl, whole_condition};
use ursa_e2e::older::{self, Older};
use ursa_e2e::{eventually, rounds};

use super::faults::{all_held, nothing_was_lost, populate, server};
use super::world::{EAST, WEST, World};

const GLOBAL: &str = "global";
const CLUSTERS: [&str; 3] = [GLOBAL, EAST, WEST];
/// In which order the clusters are upgraded.
const ORDERS: [[&str; 3]; 2] = [CLUSTERS, [EAST, WEST, GLOBAL]];
const OUTDATED: u32 = CURRENT - 1;

/// Clusters that are still of the version before.
type Behind = BTreeMap<&'static str, Older>;

fn other(zone: &str) -> &'static str {
    if zone == EAST { WEST } else { EAST }
}

/// The server of the other zone, by its name in the mesh.
fn across(world: &World, zone: &str) -> String {
    format!("http://{}.mesh/", world.kind.service(server(other(zone))))
}

/// Callers in each zone of the other, over connections that stay and over new ones.
async fn load(world: &World) -> anyhow::Result<Vec<Running>> {
    let mut all = Vec::new();
    for zone in [EAST, WEST] {
        let url = across(world, zone);
        world.in_zone(zone, world.kind.answered("client", &url)).await?;
        for how in [&["load", "--callers", "1"][..], &["load", "--callers", "1", "--anew"]] {
            let arguments = [how, &[&url]].concat();
            all.push(world.in_zone(zone, world.kind.start("client", &arguments)).await?);
        }
    }
    Ok(all)
}

/// Waits until each zone is in step with global and of its version.
async fn in_step(world: &World, behind: &Behind) -> anyhow::Result<()> {
    for zone in [EAST, WEST] {
        let schema = if behind.contains_key(zone) { OUTDATED } else { CURRENT };
        eventually(&format!("{zone} speaks schema {schema}, and is in step"), SOON * 3, async || {
            let seen = world.inspected(zone).await?;
            let is_there = seen["state"] == "Online" && seen["secondsBehind"] == 0;
            anyhow::ensure!(is_there && seen["schema"] == schema, "{seen}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The version before does not start on what users wrote with fields of this one: another test's talk has granted names.
async fn take_out_what_is_later(world: &World) -> anyhow::Result<()> {
    let patch =
        ["patch", "mesh", "default", "--type", "merge", "--patch", "{\"spec\": {\"services\": null}}"];
    world.at_global(kubectl(&patch)).await?;
    write_mesh(world, false).await
}

/// All clusters at once, each one replica after the other.
async fn go_back(world: &World) -> anyhow::Result<Behind> {
    let back = |name| Older::start(name, OUTDATED);
    let (global, east, west) = tokio::try_join!(back(GLOBAL), back(EAST), back(WEST))?;
    let behind = Behind::from([(GLOBAL, global), (EAST, east), (WEST, west)]);
    in_step(world, &behind).await?;
    Ok(behind)
}

/// The operator comes first, and brings the definitions; then it upgrades the control plane.
async fn upgrade(world: &World, behind: &mut Behind, name: &'static str) -> anyhow::Result<()> {
    drop(behind.remove(name));
    older::upgraded(name).await?;
    in_step(world, behind).await
}

/// A caller that is new in each zone, and may call, learns the name of what is in the other.
async fn newcomers(world: &World, name: &str) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.at_global(kind.permit(name, name, "*")).await?;
    for zone in [EAST, WEST] {
        let comes = async {
            kind.client(name).await?;
            kind.answered(name, &across(world, zone)).await
        };
        world.in_zone(zone, comes).await.with_context(|| format!("{name} in {zone}"))?;
    }
    world.at_global(kind.delete_policy("trafficpermission", name)).await
}

/// What is written at global counts in both zones. It allows: a `Deny` would also refuse those callers of a zone of the first
/// schema that serve nothing, since it does not say who they are.
async fn steers(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    let url = |zone| format!("http://{}/", server(zone));
    for zone in [EAST, WEST] {
        world.in_zone(zone, kind.refused("guest", &url(zone))).await?;
    }
    world.at_global(kind.permit("guest", "guest", "*")).await?;
    for zone in [EAST, WEST] {
        world.in_zone(zone, kind.answered("guest", &url(zone))).await?;
    }
    world.at_global(kind.delete_policy("trafficpermission", "guest")).await?;
    for zone in [EAST, WEST] {
        world.in_zone(zone, kind.refused("guest", &url(zone))).await?;
    }
    Ok(())
}

/// The mesh with a field that came with this version, or without.
async fn write_mesh(world: &World, with_members: bool) -> anyhow::Result<()> {
    let members = if with_members { ", members: {zones: [east, west]}" } else { "" };
    let mtls = "mtls: {enabledBackend: ca, mode: Strict, backends: [{name: ca, type: Builtin}]}";
    world.at_global(world.kind.mesh(&format!("{mtls}{members}"))).await
}

/// Waits until a condition of the mesh, as it is now, has this status and reason, and a message with these words and not those.
async fn told(
    world: &World,
    condition: &str,
    (status, reason): (&str, &str),
    words: &[String],
    not: &[String],
) -> anyhow::Result<()> {
    eventually(&format!("{condition} is {status}, {reason}"), SOON * 3, async || {
        let mesh = world.at_global(json(&["get", "mesh", &world.kind.name])).await?;
        let told = whole_condition(&mesh, condition).with_context(|| mesh["status"].to_string())?;
        let message = told["message"].as_str().unwrap_or_default();
        let is_news = told["observedGeneration"] == mesh["metadata"]["generation"];
        anyhow::ensure!(is_news && told["status"] == status && told["reason"] == reason, "{told}");
        anyhow::ensure!(words.iter().all(|word| message.contains(word)), "{told}");
        anyhow::ensure!(!not.iter().any(|word| message.contains(word)), "{told}");
        Ok(())
    })
    .await
}

/// What came with this version is not taken by a global of the version before.
async fn is_refused(world: &World) -> anyhow::Result<()> {
    write_mesh(world, true).await?;
    let words = ["spec.members", "upgrade it"].map(str::to_owned);
    told(world, "Accepted", ("False", "Invalid"), &words, &[]).await?;
    write_mesh(world, false).await?;
    told(world, "Accepted", ("True", "Accepted"), &[], &[]).await
}

/// It is taken by one of this version, and the zones of the version before are named.
async fn says_who_is_behind(world: &World, behind: &Behind) -> anyhow::Result<()> {
    write_mesh(world, true).await?;
    let (words, not): (Vec<_>, Vec<_>) = [EAST, WEST].into_iter().partition(|zone| behind.contains_key(zone));
    let of = |zone: &str| format!("zone {zone} runs schema {OUTDATED} and does not know spec.members");
    let [words, not] = [words, not].map(|zones| zones.into_iter().map(of).collect::<Vec<_>>());
    let expected = if words.is_empty() { ("True", "Programmed") } else { ("False", "ZoneOutdated") };
    told(world, "Programmed", expected, &words, &not).await
}

/// What only this version says of zones is on each cluster's API server.
async fn all_is_said(world: &World) -> anyhow::Result<()> {
    for name in CLUSTERS {
        eventually(&format!("all is said at {name}"), SOON, async || {
            let all = ["--namespace", SYSTEM, "get", "meshzones"];
            let all = world.in_zone(name, json(&all)).await?;
            let of_mesh = |offer: &&Value| offer["spec"]["mesh"] == world.kind.name.as_str();
            let offers: Vec<_> = all["items"].as_array().into_iter().flatten().filter(of_mesh).collect();
            let is_said = |offer: &&Value| !offer["spec"]["identities"].is_null();
            anyhow::ensure!(offers.len() == 2 && offers.iter().all(is_said), "{offers:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Back, and from there to this version again, in this order.
async fn back_and_on(
    world: &World,
    behind: &mut Behind,
    order: [&'static str; 3],
    newcomer: &str,
) -> anyhow::Result<()> {
    take_out_what_is_later(world).await?;
    all_is_said(world).await?;
    let before = all_held(world).await?;
    let load = load(world).await?;
    *behind = go_back(world).await?;
    newcomers(world, newcomer).await?;
    is_refused(world).await?;
    for name in order {
        upgrade(world, behind, name).await.with_context(|| name)?;
        steers(world).await.with_context(|| format!("{name} is upgraded"))?;
        if !behind.contains_key(GLOBAL) {
            says_who_is_behind(world, behind).await.with_context(|| format!("{name} is upgraded"))?;
        }
    }
    all_is_said(world).await?;
    nothing_was_lost(world, &before).await?;
    for calls in load {
        calls.answered_all().await?;
    }
    Ok(())
}

/// A zone of the version before starts on copies of what came with this one.
async fn a_zone_goes_back(world: &World, behind: &mut Behind) -> anyhow::Result<()> {
    let load = load(world).await?;
    behind.insert(WEST, Older::start(WEST, OUTDATED).await?);
    in_step(world, behind).await?;
    newcomers(world, "latest").await?;
    steers(world).await?;
    says_who_is_behind(world, behind).await?;
    upgrade(world, behind, WEST).await?;
    says_who_is_behind(world, behind).await?;
    all_is_said(world).await?;
    for calls in load {
        calls.answered_all().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make test-long"]
async fn clusters_are_upgraded_one_after_the_other() -> anyhow::Result<()> {
    let world = World::start("upgrade").await?;
    let mut behind = Behind::new();
    let result = async {
        populate(&world).await?;
        world.at_global(world.kind.permit("all", "client", "*")).await?;
        for (number, order) in ORDERS.into_iter().take(rounds(1, 2)).enumerate() {
            let newcomer = format!("late-{number}");
            back_and_on(&world, &mut behind, order, &newcomer).await.with_context(|| format!("{order:?}"))?;
        }
        for _ in 0..rounds(0, 1) {
            a_zone_goes_back(&world, &mut behind).await?;
        }
        world.at_global(world.kind.delete_policy("trafficpermission", "all")).await
    }
    .await;
    let upgraded = async move |_: &World| {
        drop(behind);
        for name in CLUSTERS {
            older::upgraded(name).await?;
        }
        Ok(())
    };
    world.end_after(result, upgraded).await
}
