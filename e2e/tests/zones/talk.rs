//! The talk, step by step, by kubectl at global; each step is looked at from every zone.

use std::collections::BTreeMap;

use anyhow::Context as _;
use ursa_e2e::eventually;
use ursa_e2e::kind::{Kind, SOON, kubectl};
use ursa_e2e::talk::{TALK_ZONES, Talk};

use super::world::World;

/// Requests of a step in a zone; shares of a split need more.
const REQUESTS: usize = 60;
const FOR_SHARES: usize = 1_000;

/// Who answers, and how often; requests that are refused count as `refused`, and it is printed how.
async fn seen(talk: &Talk, zone: &str, requests: usize) -> anyhow::Result<BTreeMap<String, usize>> {
    let url = talk.url(zone).await?;
    let (mut seen, mut refusals) = (BTreeMap::new(), BTreeMap::<String, usize>::new());
    for _ in 0..requests {
        let who = match talk.increment(&url).await {
            Ok(answer) => answer.zone,
            Err(error) => {
                *refusals.entry(error.to_string()).or_default() += 1;
                "refused".to_owned()
            }
        };
        *seen.entry(who).or_default() += 1;
    }
    if !refusals.is_empty() {
        println!("{zone}: refused: {refusals:?}");
    }
    Ok(seen)
}

/// From each of the zones exactly these answer.
async fn answered_by(talk: &Talk, zones: &[&str], expected: &[&str]) -> anyhow::Result<()> {
    for zone in zones {
        eventually(&format!("{zone} is answered by {expected:?}"), SOON * 2, async || {
            let seen = seen(talk, zone, REQUESTS).await?;
            anyhow::ensure!(seen.keys().eq(expected), "{seen:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn play(world: &World, talk: &Talk) -> anyhow::Result<()> {
    let apply = async |file: &str, object: &str| {
        talk.apply(file).await?;
        world.wait(object, "Programmed", "30s").await
    };
    for zone in TALK_ZONES {
        answered_by(talk, &[zone], &[zone]).await.context("1: traffic stays in its zone")?;
    }
    talk.apply("mesh-mtls.yaml").await?;
    answered_by(talk, &TALK_ZONES, &["refused"]).await.context("2: mutual TLS, nothing is allowed")?;
    apply("allow-all.yaml", "trafficpermission/allow-all").await?;
    answered_by(talk, &TALK_ZONES, &TALK_ZONES).await.context("3: everything is allowed")?;
    apply("route-east.yaml", "trafficroute/redis").await?;
    answered_by(talk, &TALK_ZONES, &["east"]).await.context("4: all to one zone")?;
    apply("route-half.yaml", "trafficroute/redis").await?;
    for zone in TALK_ZONES {
        let seen = seen(talk, zone, FOR_SHARES).await?;
        println!("{zone}: half and half: {seen:?}");
        // A false alarm is rarer than one in a million: five standard deviations are 79.
        let half = |share: &usize| share.abs_diff(FOR_SHARES / 2) <= 80;
        anyhow::ensure!(
            seen.keys().eq(["aws", "east"].iter()) && seen.values().all(half),
            "5: half to a machine, half to a cluster: {zone} sees {seen:?}"
        );
    }
    apply("only-east.yaml", "trafficpermission/allow-all").await?;
    answered_by(talk, &["aws", "west"], &["refused"]).await.context("6: only the east may call")?;
    answered_by(talk, &["east"], &["aws", "east"]).await.context("6: only the east may call")?;
    apply("deny-demo-app.yaml", "trafficpermission/deny-demo-app").await?;
    answered_by(talk, &TALK_ZONES, &["refused"]).await.context("6: a Deny wins")?;
    talk.delete("deny-demo-app.yaml").await?;
    talk.delete("route-half.yaml").await?;
    apply("allow-all.yaml", "trafficpermission/allow-all").await?;
    answered_by(talk, &TALK_ZONES, &TALK_ZONES).await.context("7: spread again")?;
    apply("route-v1.yaml", "trafficroute/redis").await?;
    talk.second_version("west", true).await?;
    answered_by(talk, &TALK_ZONES, &TALK_ZONES).await.context("8: blue")?;
    apply("route-v2.yaml", "trafficroute/redis").await?;
    answered_by(talk, &TALK_ZONES, &["west-v2"]).await.context("8: green")?;
    apply("route-v1.yaml", "trafficroute/redis").await?;
    answered_by(talk, &TALK_ZONES, &TALK_ZONES).await.context("8: blue again")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_talk_is_played_by_kubectl() -> anyhow::Result<()> {
    let world = World::empty(Kind { name: "demo".into() }).await?;
    let talk = Talk::machines().await?;
    let zone = talk.vms.zone;
    let result = async {
        talk.start(&world.global).await?;
        world.until_state(zone, "Online").await?;
        talk.serves().await?;
        play(&world, &talk).await
    }
    .await;
    world.keep_machines(&result, &talk.all_machines()).await;
    world.at_global(kubectl(&["delete", "zone", zone, "--ignore-not-found"])).await?;
    for file in ["route-v1.yaml", "allow-all.yaml", "deny-demo-app.yaml"] {
        talk.delete(file).await?;
    }
    talk.apply("mesh.yaml").await?;
    world.end(result).await
}
