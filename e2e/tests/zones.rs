//! A global control plane and two zones, each a cluster of its own, steered by kubectl at global.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use ursa_e2e::kind::{Kind, Running, SOON, SYSTEM, apply, at, json, kubectl, server, whole_condition};
use ursa_e2e::zones::{Global, cluster, connected, install_zones};
use ursa_e2e::{eventually, figure, now, rounds};

const EAST: &str = "east";
const WEST: &str = "west";

/// The zones are what the tests take away: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A mesh made at global, with a caller and a server in the east.
struct World {
    global: Global,
    kind: Kind,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    async fn at_global<T>(&self, future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        at(&cluster("global").await?, future).await
    }

    async fn in_zone<T>(
        &self,
        zone: &str,
        future: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        at(&cluster(zone).await?, future).await
    }

    async fn in_east<T>(&self, future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        self.in_zone(EAST, future).await
    }

    async fn start(name: &str) -> anyhow::Result<Self> {
        let alone = ALONE.lock().await;
        install_zones().await?;
        let world = Self { global: Global::find().await?, kind: Kind::named(name), _alone: alone };
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

    /// How global sees a zone, in `ursactl` and in `kubectl`.
    async fn until_state(&self, zone: &str, state: &str) -> anyhow::Result<()> {
        eventually(&format!("{zone} is {state}"), SOON * 3, async || {
            let zones = self.global.ursactl(&["inspect", "zones", "--output", "json"]).await?;
            let zones: Value = serde_json::from_str(&zones)?;
            let found = zones["items"].as_array().into_iter().flatten().find(|known| known["name"] == zone);
            let found = found.with_context(|| format!("no {zone} in {zones}"))?;
            anyhow::ensure!(found["state"] == state, "{found}");
            anyhow::ensure!(state != "Online" || found["secondsBehind"] == 0, "{found}");
            let columns = self.at_global(kubectl(&["get", "zone", zone, "--no-headers"])).await?;
            anyhow::ensure!(columns.split_whitespace().any(|cell| cell == state), "{columns}");
            Ok(())
        })
        .await
    }

    /// Who answers calls from the east, and how often.
    async fn shares(&self, url: &str, how: &[&str]) -> anyhow::Result<BTreeMap<String, u64>> {
        let counted = self.in_east(self.kind.exec("client", &[&["count", url], how].concat())).await?;
        Ok(serde_json::from_value(counted)?)
    }

    /// Calls from the east, one after the other over one connection, reach so many pods, each as often as any other.
    async fn shared_by_pods(&self, url: &str, how: &[&str], pods: usize) -> anyhow::Result<()> {
        let how = [&["240", "--pods"], how].concat();
        eventually(&format!("{url} is shared by {pods} pods"), SOON * 2, async || {
            let seen = self.shares(url, &how).await?;
            let fair = 240 / u64::try_from(pods)?;
            // Each of a proxy's threads takes its turns.
            let is_fair = |count: &u64| count.abs_diff(fair) <= 10;
            anyhow::ensure!(seen.len() == pods && seen.values().all(is_fair), "{seen:?}");
            println!("240 calls of {url} ({how:?}): {seen:?}");
            Ok(())
        })
        .await
    }

    /// Calls from the east are soon answered by these, and by no others.
    async fn answered_by(&self, url: &str, names: &[&str]) -> anyhow::Result<()> {
        eventually(&format!("{url} is answered by {names:?}"), SOON * 2, async || {
            let seen = self.shares(url, &["40"]).await?;
            anyhow::ensure!(seen.keys().eq(names), "{seen:?}");
            Ok(())
        })
        .await
    }

    /// Waits as a user would for a condition of a policy (`KIND/NAME`).
    async fn until(&self, policy: &str, condition: &str, timeout: &str) -> anyhow::Result<()> {
        let (kind, name) = policy.split_once('/').context("KIND/NAME")?;
        let policy = format!("{kind}/{}.{name}", self.kind.name);
        let (condition, timeout) = (format!("--for=condition={condition}"), format!("--timeout={timeout}"));
        let wait = ["--namespace", SYSTEM, "wait", &condition, &timeout, &policy];
        self.at_global(kubectl(&wait)).await.map(drop)
    }

    /// Waits as a user would until a permission is in force everywhere.
    async fn programmed(&self, permission: &str, timeout: &str) -> anyhow::Result<()> {
        self.until(&format!("trafficpermission/{permission}"), "Programmed", timeout).await
    }

    async fn end(self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        if let Err(error) = &result {
            println!("{error:#}");
            for cluster in ["global", EAST, WEST] {
                let bundle =
                    self.in_zone(cluster, async { Ok(self.kind.keep_evidence(cluster).await) }).await?;
                println!("evidence: {}", bundle.display());
            }
            return result;
        }
        for zone in [EAST, WEST] {
            let end = ["delete", "namespace", &self.kind.name, "--wait=false", "--ignore-not-found"];
            self.in_zone(zone, kubectl(&end)).await?;
        }
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
    world.until_state(EAST, "Online").await?;
    world.at_global(kind.delete_policy("trafficpermission", "held")).await?;
    world.in_east(kind.refused("client", "http://web/")).await
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

/// With three pods.
fn three(server: &str) -> String {
    server.replace("replicas: 1", "replicas: 3")
}

/// A service of both zones, and two that only the west has.
async fn services_are_those_of_all_zones(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    world
        .in_zone(WEST, async {
            kind.namespace().await?;
            // It answers by another name than the east's.
            kind.apply(
                &three(&server("web")).replace(r#""--name", "web""#, r#""--name", "web of the west""#),
            )
            .await?;
            kind.apply(&three(&server("far"))).await?;
            kind.apply(
                &three(&server("far2")).replace("appProtocol: http", "appProtocol: kubernetes.io/h2c"),
            )
            .await?;
            kind.ready("web").await?;
            kind.ready("far").await?;
            kind.ready("far2").await
        })
        .await?;
    world.at_global(kind.permit("all", "*", "*")).await?;
    world.answered_by("http://web/", &["web", "web of the west"]).await?;
    world.shared_by_pods("http://web/", &[], 4).await?;
    let far = format!("http://{}.mesh/", kind.service("far"));
    world.answered_by(&far, &["far"]).await?;
    world.shared_by_pods(&far, &[], 3).await?;
    world.shared_by_pods(&format!("http://{}.mesh/", kind.service("far2")), &["--http2"], 3).await?;
    let heard = world
        .in_east(kind.exec("client", &["listen", &format!("{}.mesh:9000", kind.service("far"))]))
        .await?;
    anyhow::ensure!(heard.to_string().contains("far"), "a server that speaks first: {heard}");
    let caller = world.in_east(kind.answered("client", &far)).await?["caller"].clone();
    let caller = caller.as_str().unwrap_or_default().to_owned();
    anyhow::ensure!(
        caller.contains(&format!("URI=spiffe://east.{}.ursa/service/client.", kind.name)),
        "{caller}"
    );
    // Both sides of a permission may be in different zones.
    world.at_global(kind.permit("all", "nobody", "*")).await?;
    world.in_east(kind.refused("client", &far)).await?;
    world.at_global(kind.permit("all", "*", "*")).await?;
    world.answered_by("http://web/", &["web", "web of the west"]).await
}

/// While its user wants nothing sent to a zone, the others serve.
async fn a_disabled_zone_is_passed_over(world: &World) -> anyhow::Result<()> {
    let enabled = |enabled: bool| format!(r#"{{"spec": {{"enabled": {enabled}}}}}"#);
    world.at_global(kubectl(&["patch", "zone", WEST, "--type", "merge", "--patch", &enabled(false)])).await?;
    world.until_state(WEST, "Disabled").await?;
    world.answered_by("http://web/", &["web"]).await?;
    world.at_global(kubectl(&["patch", "zone", WEST, "--type", "merge", "--patch", &enabled(true)])).await?;
    world.until_state(WEST, "Online").await?;
    world.answered_by("http://web/", &["web", "web of the west"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_serve_one_another() -> anyhow::Result<()> {
    let world = World::start("across").await?;
    let result = async {
        services_are_those_of_all_zones(&world).await?;
        a_disabled_zone_is_passed_over(&world).await?;
        world.at_global(world.kind.delete_policy("trafficpermission", "all")).await
    }
    .await;
    world.end(result).await
}

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

/// Once `kubectl wait` returns, not one request follows the old rule, in any zone.
async fn programmed_means_enforced(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.at_global(kind.permit("all", "client", "web")).await?;
    world.programmed("all", "60s").await?;
    let mut calls = Vec::new();
    for zone in [EAST, WEST] {
        let running = world.in_zone(zone, kind.start("client", &["flips", "http://web/"])).await?;
        calls.push(running);
    }
    let (mut opened, mut closed) = (Vec::new(), Vec::new());
    for turn in 0..rounds(6, 50) {
        let allowed = turn % 2 == 1;
        let begun = Instant::now();
        world.at_global(kind.permit("all", if allowed { "client" } else { "nobody" }, "web")).await?;
        world.programmed("all", "30s").await?;
        if allowed { &mut opened } else { &mut closed }.push(begun.elapsed());
        let since = now();
        for calls in &mut calls {
            settled(calls, allowed, since).await.with_context(|| format!("turn {turn}"))?;
        }
    }
    let until = "kubectl wait says Programmed in two zones";
    figure(&format!("kubectl apply at global of a permission that opens, until {until}"), opened)?;
    figure(&format!("kubectl apply at global of a permission that closes, until {until}"), closed)?;
    for calls in calls {
        calls.end().await?;
    }
    Ok(())
}

/// Proxies that do not answer are waited for, and named.
async fn who_lags_is_named(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    let (stopped, pods) = world.in_zone(WEST, kind.stop_proxies("web")).await?;
    world.at_global(kind.permit("all", "*", "web")).await?;
    let waited = refusal(world.programmed("all", "8s")).await?;
    anyhow::ensure!(waited.contains("timed out"), "{waited}");
    let name = format!("{}.all", kind.name);
    let policy = world.at_global(json(&["--namespace", SYSTEM, "get", "trafficpermission", &name])).await?;
    let told = whole_condition(&policy, "Programmed").context("no condition Programmed")?;
    anyhow::ensure!(told["status"] == "False" && told["reason"] == "Pending", "{told}");
    let zones = policy["status"]["zones"].as_array().cloned().unwrap_or_default();
    anyhow::ensure!(zones.len() == 2, "{zones:?}");
    anyhow::ensure!(zones[0]["name"] == EAST && zones[0]["acked"] == zones[0]["total"], "{zones:?}");
    for pod in &pods {
        let dataplane = format!("{pod}.{}", kind.name);
        let message = told["message"].as_str().unwrap_or_default();
        anyhow::ensure!(message.contains(&dataplane), "{told}");
        anyhow::ensure!(zones[1]["laggards"].to_string().contains(&dataplane), "{zones:?}");
    }
    let get = ["get", "trafficpermission", &name, "--mesh", &kind.name, "--output", "json"];
    let shown: Value = serde_json::from_str(&world.global.ursactl(&get).await?)?;
    let condition = whole_condition(&shown, "Programmed").context("ursactl shows no condition")?;
    anyhow::ensure!(condition["status"] == "False", "{condition}");
    drop(stopped);
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
async fn what_is_programmed_is_enforced() -> anyhow::Result<()> {
    let world = World::start("truth").await?;
    let result = async {
        let kind = &world.kind;
        world
            .in_zone(WEST, async {
                kind.namespace().await?;
                tokio::try_join!(kind.server("web"), kind.client("client")).map(drop)
            })
            .await?;
        programmed_means_enforced(&world).await?;
        who_lags_is_named(&world).await?;
        what_is_named_and_not_there_is_told(&world).await?;
        world.at_global(kind.delete_policy("trafficpermission", "all")).await
    }
    .await;
    world.end(result).await
}
