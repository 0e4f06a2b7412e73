//! `Programmed` against what traffic does.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use ursa_e2e::kind::{Running, SYSTEM, json, whole_condition};
use ursa_e2e::{figure, now, rounds};

use super::world::{EAST, WEST, World, refusal};

/// What calls that never stop have come to: `allowed`, and none that began after `since` came to anything else.
async fn settled(calls: &mut Running, allowed: bool, since: Duration) -> anyhow::Result<()> {
    let mut last = None;
    while let Ok(said) = tokio::time::timeout(Duration::from_millis(300), calls.said()).await {
        last = Some(said?);
    }
    let last = last.context("calls came to the same as before")?;
    anyhow::ensure!(last["answered"] == allowed, "calls end with {last}");
    anyhow::ensure!(
        last["last"].as_u64().map(Duration::from_millis) <= Some(since),
        "a call followed the old rule after {since:?}: {last}"
    );
    Ok(())
}

/// Once `kubectl wait` returns, not one request follows the old rule, whoever calls. `all` is the permission that lets them.
pub(super) async fn programmed_means_enforced(world: &World, callers: Vec<Running>) -> anyhow::Result<()> {
    let kind = &world.kind;
    let mut callers = callers;
    let (mut opened, mut closed) = (Vec::new(), Vec::new());
    for turn in 0..rounds(6, 50) {
        let allowed = turn % 2 == 1;
        let begun = Instant::now();
        world.at_global(kind.permit("all", if allowed { "*" } else { "nobody" }, "*")).await?;
        world.programmed("all", "30s").await?;
        if allowed { &mut opened } else { &mut closed }.push(begun.elapsed());
        let since = now();
        for calls in &mut callers {
            settled(calls, allowed, since).await.with_context(|| format!("turn {turn}"))?;
        }
    }
    let until = format!("kubectl wait says Programmed in {} zones", callers.len());
    figure(&format!("kubectl apply at global of a permission that opens, until {until}"), opened)?;
    figure(&format!("kubectl apply at global of a permission that closes, until {until}"), closed)?;
    for calls in callers {
        calls.end().await?;
    }
    Ok(())
}

/// Half of the proxies, over two zones, do not answer: they are waited for, and named.
async fn who_lags_is_named(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    let mut halves = Vec::new();
    for zone in [EAST, WEST] {
        let half = async {
            kind.kubectl(&["scale", "deployment/web", "--replicas", "2"]).await?;
            kind.ready("web").await?;
            kind.stop_half("web").await
        };
        halves.push(world.in_zone(zone, half).await?);
    }
    world.at_global(kind.permit("all", "*", "web")).await?;
    let waited = refusal(world.programmed("all", "8s")).await?;
    anyhow::ensure!(waited.contains("timed out"), "{waited}");
    let name = format!("{}.all", kind.name);
    let policy = world.at_global(json(&["--namespace", SYSTEM, "get", "trafficpermission", &name])).await?;
    let told = whole_condition(&policy, "Programmed").context("no condition Programmed")?;
    anyhow::ensure!(told["status"] == "False" && told["reason"] == "Pending", "{told}");
    let zones = policy["status"]["zones"].as_array().cloned().unwrap_or_default();
    anyhow::ensure!(zones.len() == 2 && zones[0]["name"] == EAST && zones[1]["name"] == WEST, "{zones:?}");
    for (zone, (stopped, pods)) in zones.iter().zip(&halves) {
        anyhow::ensure!(stopped.len() == 1 && zone["acked"] == 1 && zone["total"] == 2, "{zones:?}");
        for pod in pods {
            let dataplane = format!("{pod}.{}", kind.name);
            let message = told["message"].as_str().unwrap_or_default();
            anyhow::ensure!(message.contains(&dataplane), "{told}");
            anyhow::ensure!(zone["laggards"].to_string().contains(&dataplane), "{zones:?}");
        }
    }
    let get = ["get", "trafficpermission", &name, "--mesh", &kind.name, "--output", "json"];
    let shown: Value = serde_json::from_str(&world.global.ursactl(&get).await?)?;
    let condition = whole_condition(&shown, "Programmed").context("ursactl shows no condition")?;
    anyhow::ensure!(condition["status"] == "False", "{condition}");
    drop(halves);
    world.programmed("all", "30s").await
}

/// A route that names nobody says so, and all the same is in force.
async fn what_is_named_and_not_there_is_told(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    let web = format!("ursamesh.io/service: {}", kind.service("web"));
    let route = |destination: &str| {
        format!(
            "sources: [{{match: {{ursamesh.io/service: '*'}}}}], destinations: [{{match: {{{web}}}}}], \
             conf: {{split: [{{weight: 1, destination: {{{destination}}}}}]}}"
        )
    };
    world.at_global(kind.policy("TrafficRoute", "web", &route(&format!("{web}, version: v9")))).await?;
    for condition in ["ResolvedRefs=False", "Programmed"] {
        world.until("trafficroute/web", condition, "30s").await?;
    }
    world.at_global(kind.policy("TrafficRoute", "web", &route(&web))).await?;
    world.until("trafficroute/web", "ResolvedRefs", "30s").await?;
    world.at_global(kind.delete_policy("trafficroute", "web")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_what_is_in_the_way() -> anyhow::Result<()> {
    let world = World::start("truth").await?;
    let result = async {
        let kind = &world.kind;
        world.populate(WEST, "web").await?;
        who_lags_is_named(&world).await?;
        what_is_named_and_not_there_is_told(&world).await?;
        world.at_global(kind.delete_policy("trafficpermission", "all")).await
    }
    .await;
    world.end(result).await
}
