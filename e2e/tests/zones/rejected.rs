//! What one proxy refuses is told where it belongs, and holds up nothing else.

use anyhow::Context as _;
use serde_json::{Value, json};
use ursa_e2e::eventually;
use ursa_e2e::hosts::Family;
use ursa_e2e::kind::{self, SOON, SYSTEM, kubectl, whole_condition};
use ursa_e2e::vm::Vm;
use ursa_e2e::vm_zone::{VmZone, Workload};

use super::truth::programmed_means_enforced;
use super::world::{World, refusal};

const ZONE: &str = "vms-rejected";
/// Where the machine's own proxy is asked for a service in the east.
const WEB: &str = "http://127.0.0.1:18080/";

/// A zone of machines with one workload, which calls at ports of its own: one of them is taken.
struct Clerk {
    zone: VmZone,
    vm: Vm,
}

impl Clerk {
    async fn start() -> anyhow::Result<Self> {
        let name = format!("ursa-{ZONE}-clerk");
        let (zone, vm) = tokio::try_join!(VmZone::start(ZONE), Vm::start(&name))?;
        Ok(Self { zone, vm })
    }

    fn all(&self) -> [&Vm; 3] {
        [&self.zone.plane, &self.zone.ingress, &self.vm]
    }

    async fn join(&self, world: &World, ports: &[u16]) -> anyhow::Result<()> {
        let tags = json!({"ursamesh.io/service": world.kind.service("web"), "ursamesh.io/port": "80"});
        let outbound: Vec<Value> = ports.iter().map(|port| json!({"port": port, "tags": tags})).collect();
        let clerk = Workload {
            mesh: &world.kind.name,
            name: "clerk",
            services: &["clerk"],
            networking: json!({
                "inbound": [{"port": 8081, "tags": {"ursamesh.io/service": "clerk"}}],
                "outbound": outbound,
            }),
            family: Family::V4,
            exclude_inbound_ports: "22",
        };
        self.zone.join_workload(&self.vm, &clerk).await
    }

    async fn answered(&self, url: &str) -> anyhow::Result<Value> {
        eventually(&format!("{url} answers the machine"), SOON * 2, async || {
            self.vm.workload(&["call", url]).await
        })
        .await
    }
}

/// `ProxyRejected` with Envoy's words and the proxy's name; in `kubectl` and `ursactl`.
async fn is_blamed(world: &World, of: &str, name: &str) -> anyhow::Result<()> {
    let told = |object: &Value| {
        let told = whole_condition(object, "Programmed").context("no condition Programmed")?;
        let message = told["message"].as_str().unwrap_or_default();
        let is_told =
            told["reason"] == "ProxyRejected" && message.contains("clerk") && message.contains("18081");
        anyhow::ensure!(told["status"] == "False" && is_told, "{told}");
        anyhow::Ok(())
    };
    eventually(&format!("{of} {name} is rejected"), SOON * 2, async || {
        let get = ["--namespace", SYSTEM, "get", of, name];
        told(&world.at_global(kind::json(&get)).await?)?;
        let own = ["get", of, name, "--mesh", &world.kind.name, "--output", "json"];
        told(&serde_json::from_str(&world.global.ursactl(&own).await?)?)
    })
    .await
}

/// The rest of what the proxy was told with what it refuses counts, and what does not touch that is in force.
async fn only_that_is_held_up(world: &World, clerk: &Clerk) -> anyhow::Result<()> {
    let kind = &world.kind;
    let route = format!("{}.web", kind.name);
    is_blamed(world, "trafficroute", &route).await?;
    is_blamed(world, "mesh", &kind.name).await?;
    let waited = refusal(world.until("trafficroute/web", "Programmed", "3s")).await?;
    anyhow::ensure!(waited.contains("timed out"), "{waited}");
    world.programmed("all", "30s").await?;
    for port in [18080, 18082] {
        clerk.answered(&format!("http://127.0.0.1:{port}/")).await?;
    }
    let inspect = format!("inspect dataplane clerk --type insight --mesh {} --output json", kind.name);
    let insight = clerk.zone.ursactl(&inspect).await?;
    anyhow::ensure!(insight.contains("18081"), "{insight}");
    // Permissions open and close for the machine's calls as for any other.
    let callers = vec![
        clerk.vm.start_workload(&["flips", WEB]).await?,
        world.in_east(kind.start("client", &["flips", "http://web/"])).await?,
    ];
    programmed_means_enforced(world, callers).await?;
    let still = world.told("trafficroute/web", "Programmed").await?;
    anyhow::ensure!(still["reason"] == "ProxyRejected", "{still}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_refuses_is_told_and_holds_up_nothing_else() -> anyhow::Result<()> {
    let world = World::start("rejected").await?;
    let clerk = Clerk::start().await?;
    let result = async {
        let kind = &world.kind;
        let web = format!("ursamesh.io/service: {}", kind.service("web"));
        let route = format!(
            "sources: [{{match: {{ursamesh.io/service: '*'}}}}], destinations: [{{match: {{{web}}}}}], \
             conf: {{split: [{{weight: 1, destination: {{{web}}}}}]}}"
        );
        world.at_global(kind.permit("all", "*", "*")).await?;
        world.at_global(kind.policy("TrafficRoute", "web", &route)).await?;
        clerk.zone.join_global(&world.global).await?;
        world.until_state(ZONE, "Online").await?;
        clerk.vm.shell("systemd-run --unit occupant ursa-e2e-app serve --http 18081").await?;
        tokio::try_join!(clerk.zone.join_ingress(), clerk.join(&world, &[18080, 18081, 18082]))?;
        clerk.answered(WEB).await?;
        only_that_is_held_up(&world, &clerk).await?;
        // Once the port is free, nothing is refused.
        clerk.vm.shell("systemctl stop occupant").await?;
        world.until("trafficroute/web", "Programmed", "60s").await?;
        world.wait(&format!("mesh/{}", kind.name), "Programmed", "60s").await?;
        clerk.answered("http://127.0.0.1:18081/").await.map(drop)
    }
    .await;
    world.keep_machines(&result, &clerk.all()).await;
    world.at_global(kubectl(&["delete", "zone", ZONE, "--ignore-not-found"])).await?;
    world.end(result).await
}
