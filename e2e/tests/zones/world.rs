//! A mesh of its own for each test, made at global, and what a user does with it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use ursa_e2e::eventually;
use ursa_e2e::kind::{Kind, SOON, SYSTEM, at, json, kubectl, whole_condition};
use ursa_e2e::vm::Vm;
use ursa_e2e::zones::{Global, cluster, install_zones};

pub(super) const EAST: &str = "east";
pub(super) const WEST: &str = "west";

/// The zones are what the tests take away: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A mesh made at global, with a caller and a server in the east.
pub(super) struct World {
    pub(super) global: Global,
    pub(super) kind: Kind,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    pub(super) async fn at_global<T>(
        &self,
        future: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        at(&cluster("global").await?, future).await
    }

    pub(super) async fn in_zone<T>(
        &self,
        zone: &str,
        future: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        at(&cluster(zone).await?, future).await
    }

    pub(super) async fn in_east<T>(
        &self,
        future: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        self.in_zone(EAST, future).await
    }

    /// Global and the zones; nothing of the test's own.
    pub(super) async fn empty(kind: Kind) -> anyhow::Result<Self> {
        let alone = ALONE.lock().await;
        install_zones().await?;
        Ok(Self { global: Global::find().await?, kind, _alone: alone })
    }

    pub(super) async fn start(name: &str) -> anyhow::Result<Self> {
        let world = Self::empty(Kind::named(name)).await?;
        let kind = &world.kind;
        world.at_global(kind.mtls("Strict")).await?;
        world.populate(EAST, "web").await?;
        Ok(world)
    }

    /// Starts a caller and a server in a zone.
    pub(super) async fn populate(&self, zone: &str, server: &str) -> anyhow::Result<()> {
        let kind = &self.kind;
        self.in_zone(zone, async {
            kind.namespace().await?;
            tokio::try_join!(kind.server(server), kind.client("client")).map(drop)
        })
        .await
    }

    /// What is written at global counts in the zone.
    pub(super) async fn steers(&self) -> anyhow::Result<()> {
        self.admit("all").await?;
        self.shut("all").await
    }

    /// A permission of this name lets the caller in the east call the server there.
    pub(super) async fn admit(&self, permission: &str) -> anyhow::Result<()> {
        self.at_global(self.kind.permit(permission, "client", "web")).await?;
        self.in_east(self.kind.answered("client", "http://web/")).await.map(drop)
    }

    /// Without it nobody does.
    pub(super) async fn shut(&self, permission: &str) -> anyhow::Result<()> {
        self.at_global(self.kind.delete_policy("trafficpermission", permission)).await?;
        self.in_east(self.kind.refused("client", "http://web/")).await
    }

    /// How global sees a zone, in `ursactl` and in `kubectl`.
    pub(super) async fn until_state(&self, zone: &str, state: &str) -> anyhow::Result<()> {
        eventually(&format!("{zone} is {state}"), SOON * 3, async || {
            let found = self.inspected(zone).await?;
            anyhow::ensure!(found["state"] == state, "{found}");
            anyhow::ensure!(state != "Online" || found["secondsBehind"] == 0, "{found}");
            let columns = self.at_global(kubectl(&["get", "zone", zone, "--no-headers"])).await?;
            anyhow::ensure!(columns.split_whitespace().any(|cell| cell == state), "{columns}");
            Ok(())
        })
        .await
    }

    /// What `ursactl inspect zones` says of one.
    pub(super) async fn inspected(&self, zone: &str) -> anyhow::Result<Value> {
        let zones = self.global.ursactl(&["inspect", "zones", "--output", "json"]).await?;
        let zones: Value = serde_json::from_str(&zones)?;
        let mut all = zones["items"].as_array().into_iter().flatten();
        all.find(|known| known["name"] == zone).cloned().with_context(|| format!("no {zone} in {zones}"))
    }

    /// A condition of a policy of the test's mesh as `kubectl` shows it at global.
    pub(super) async fn told(&self, policy: &str, condition: &str) -> anyhow::Result<Value> {
        let (kind, name) = policy.split_once('/').context("KIND/NAME")?;
        let object = ["--namespace", SYSTEM, "get", kind, &format!("{}.{name}", self.kind.name)];
        let object = self.at_global(json(&object)).await?;
        whole_condition(&object, condition).cloned().with_context(|| object["status"].to_string())
    }

    /// Who answers calls from the east, and how often.
    pub(super) async fn shares(&self, url: &str, how: &[&str]) -> anyhow::Result<BTreeMap<String, u64>> {
        let counted = self.in_east(self.kind.exec("client", &[&["count", url], how].concat())).await?;
        Ok(serde_json::from_value(counted)?)
    }

    /// Calls from the east, one after the other over one connection, reach so many pods, each as often as any other.
    pub(super) async fn shared_by_pods(&self, url: &str, how: &[&str], pods: usize) -> anyhow::Result<()> {
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
    pub(super) async fn answered_by(&self, url: &str, names: &[&str]) -> anyhow::Result<()> {
        eventually(&format!("{url} is answered by {names:?}"), SOON * 2, async || {
            let seen = self.shares(url, &["40"]).await?;
            anyhow::ensure!(seen.keys().eq(names), "{seen:?}");
            Ok(())
        })
        .await
    }

    /// Waits as a user would for a condition of an object at global (`KIND/NAME`).
    pub(super) async fn wait(&self, object: &str, condition: &str, timeout: &str) -> anyhow::Result<()> {
        let (condition, timeout) = (format!("--for=condition={condition}"), format!("--timeout={timeout}"));
        let wait = ["--namespace", SYSTEM, "wait", &condition, &timeout, object];
        self.at_global(kubectl(&wait)).await.map(drop)
    }

    /// The same for a policy of the test's mesh.
    pub(super) async fn until(&self, policy: &str, condition: &str, timeout: &str) -> anyhow::Result<()> {
        let (kind, name) = policy.split_once('/').context("KIND/NAME")?;
        self.wait(&format!("{kind}/{}.{name}", self.kind.name), condition, timeout).await
    }

    /// Waits as a user would until a permission is in force everywhere.
    pub(super) async fn programmed(&self, permission: &str, timeout: &str) -> anyhow::Result<()> {
        self.until(&format!("trafficpermission/{permission}"), "Programmed", timeout).await
    }

    /// After a failure: keeps what machines said.
    pub(super) async fn keep_machines(&self, result: &anyhow::Result<()>, machines: &[&Vm]) {
        if result.is_ok() {
            return;
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e").join(&self.kind.name);
        for vm in machines {
            println!("evidence: {}", vm.keep_evidence(&folder).await.display());
        }
    }

    pub(super) async fn end(self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        self.end_after(result, async |_| Ok(())).await
    }

    /// The same where something else is to be brought back first, whatever came of the test.
    pub(super) async fn end_after(
        self,
        result: anyhow::Result<()>,
        bring_back: impl AsyncFnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if let Err(error) = &result {
            println!("{error:#}");
            for cluster in ["global", EAST, WEST] {
                let bundle =
                    self.in_zone(cluster, async { Ok(self.kind.keep_evidence(cluster).await) }).await?;
                println!("evidence: {}", bundle.display());
            }
        }
        let back = bring_back(&self).await;
        if let (Err(_), Err(error)) = (&result, &back) {
            println!("what the test has broken is not mended: {error:#}");
        }
        result?;
        back?;
        for zone in [EAST, WEST] {
            let end = ["delete", "namespace", &self.kind.name, "--wait=false", "--ignore-not-found"];
            self.in_zone(zone, kubectl(&end)).await?;
        }
        self.at_global(self.kind.delete_mesh()).await
    }
}

/// What the API server says against it.
pub(super) async fn refusal<T>(refused: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<String> {
    match refused.await {
        Ok(_) => anyhow::bail!("it is not refused"),
        Err(error) => Ok(error.to_string()),
    }
}
