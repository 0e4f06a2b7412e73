//! One run: so many dataplanes, from connecting to each kind of change.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::client::Plan;
use crate::figures::{Figures, Latency};
use crate::fleet::{Effect, Fleet};
use crate::planes::{Plane, Planes};

const PERMISSION: &str = "/meshes/default/trafficpermissions/everybody";
const ROUTE: &str = "/meshes/default/trafficroutes/bench";
/// The service whose instances and routes change.
const SERVICE: &str = "service-0";

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Dataplanes in the zone that is measured.
    pub dataplanes: usize,
    /// Times that each change is made.
    pub changes: usize,
    /// Times that what is stored is stored again.
    pub no_ops: usize,
}

/// Measures; the state lies in this folder meanwhile.
pub async fn run(effort: Effort, folder: &Path) -> anyhow::Result<Figures> {
    let Effort { dataplanes, changes, no_ops: repetitions } = effort;
    let services = (dataplanes / 10).max(1);
    let mut figures = Figures { dataplanes, services, ..Figures::default() };
    let planes = Planes::start(folder).await?;
    planes.global.put("/meshes/default", &mesh()).await?;
    planes.global.put(PERMISSION, &permission("*")).await?;

    let plans = |zone: &str, count| (0..count).map(|at| Plan::new(zone, at, services)).collect::<Vec<_>>();
    let far = plans("far", 1);
    let tokens = Fleet::tokens(&planes.far, &far).await?;
    let far = Fleet::connect(&planes.far, far, tokens).await?;
    let near = plans("near", dataplanes);
    let tokens = Fleet::tokens(&planes.near, &near).await?;
    step("tokens are made");
    let (memory, cpu, from) = (planes.near.memory_kib()?, planes.near.cpu()?, Instant::now());
    let mut near = Fleet::connect(&planes.near, near, tokens).await?;
    figures.connect_all_seconds = from.elapsed().as_secs_f64();
    near.quiet().await?;
    far.quiet().await?;
    figures.connect_all_cpu_seconds = planes.near.cpu()?.saturating_sub(cpu).as_secs_f64();
    let grown = planes.near.memory_kib()?.saturating_sub(memory);
    figures.memory_per_proxy_kib = ratio(grown, dataplanes);
    step(&format!("all are connected after {:.1} s", figures.connect_all_seconds));

    policy_changes(&planes, &near, &far, changes, &mut figures).await?;
    step("policies have changed");
    route_changes(&planes.global, &near, changes, &mut figures).await?;
    step("routes have changed");
    endpoint_changes(&planes.near, &near, changes, &mut figures).await?;
    step("endpoints have changed");
    figures.no_op_responses = no_ops(&planes.global, &mut near, repetitions).await?;
    ensure!(figures.no_op_responses == 0, "{} responses although nothing changed", figures.no_op_responses);
    step("nothing has changed");
    Ok(figures)
}

fn step(what: &str) {
    println!("  {what}");
}

/// Everybody may call, or everybody of one service: changes the inbound of every proxy.
async fn policy_changes(
    planes: &Planes,
    near: &Fleet,
    far: &Fleet,
    changes: usize,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let (mut latencies, mut far_latencies, mut cpu) = (Vec::new(), Vec::new(), Duration::ZERO);
    for number in 0..changes {
        let source = if number % 2 == 0 { SERVICE } else { "*" };
        let (before, from) = (planes.near.cpu()?, Instant::now());
        let counts = (near.counts(), far.counts());
        planes.global.put(PERMISSION, &permission(source)).await?;
        let effect = near.effect_since(from, counts.0, |_| true).await?;
        cpu += planes.near.cpu()?.saturating_sub(before);
        latencies.extend(effect.latencies);
        let effect = far.effect_since(from, counts.1, |_| true).await?;
        far_latencies.extend(effect.latencies);
    }
    figures.policy_change = Latency::of(latencies);
    figures.policy_change_cpu_seconds = each(cpu, changes);
    figures.far_zone = Latency::of(far_latencies);
    Ok(())
}

async fn route_changes(
    global: &Plane,
    near: &Fleet,
    changes: usize,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let mut latencies = Vec::new();
    for number in 0..changes {
        let balancer = if number % 2 == 0 { "LeastRequest" } else { "Random" };
        let route = route(balancer);
        let effect = near.effect(global.put(ROUTE, &route), calls_it).await?;
        latencies.extend(effect.latencies);
    }
    figures.route_change = Latency::of(latencies);
    Ok(())
}

fn calls_it(plan: &Plan) -> bool {
    plan.calls.iter().any(|service| service == SERVICE)
}

async fn endpoint_changes(
    plane: &Plane,
    near: &Fleet,
    changes: usize,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let instance = near.clients.iter().find(|client| client.plan.serves == SERVICE);
    let instance = instance.context("the service has an instance")?;
    let (mut latencies, mut bytes, mut proxies, mut cpu) = (Vec::new(), 0, 0, Duration::ZERO);
    for number in 0..changes {
        let before = plane.cpu()?;
        let Effect { latencies: all, bytes: sent, .. } =
            near.effect(instance.ready(number % 2 == 1), calls_it).await?;
        cpu += plane.cpu()?.saturating_sub(before);
        bytes += sent;
        proxies += all.len();
        latencies.extend(all);
    }
    figures.endpoint_change = Latency::of(latencies);
    figures.endpoint_change_cpu_seconds = each(cpu, changes);
    figures.endpoint_change_bytes = ratio(bytes, changes);
    figures.endpoint_change_proxies = ratio(proxies as u64, changes);
    Ok(())
}

/// Stores what is stored, and registers who is registered; how many responses that caused.
async fn no_ops(global: &Plane, near: &mut Fleet, repetitions: usize) -> anyhow::Result<u64> {
    near.quiet().await?;
    let before = near.counts().0;
    for _ in 0..repetitions {
        global.put(PERMISSION, &permission("*")).await?;
        global.put(ROUTE, &route("Random")).await?;
        near.clients.first_mut().context("there is a client")?.register_again().await?;
    }
    near.quiet().await?;
    Ok(near.counts().0 - before)
}

fn each(sum: Duration, changes: usize) -> f64 {
    sum.as_secs_f64() / f64::from(u32::try_from(changes).unwrap_or(u32::MAX).max(1))
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn ratio(sum: u64, count: usize) -> f64 {
    sum as f64 / count.max(1) as f64
}

fn mesh() -> Value {
    let mtls = json!({"enabledBackend": "ca-1", "backends": [{"name": "ca-1", "type": "Builtin"}]});
    json!({"apiVersion": "ursamesh.io/v1alpha1", "kind": "Mesh", "spec": {"mtls": mtls}})
}

fn permission(source: &str) -> Value {
    let service = |name: &str| json!([{"match": {"ursamesh.io/service": name}}]);
    let spec = json!({"sources": service(source), "destinations": service("*")});
    json!({"apiVersion": "ursamesh.io/v1alpha1", "kind": "TrafficPermission", "spec": spec})
}

fn route(balancer: &str) -> Value {
    let service = |name: &str| json!([{"match": {"ursamesh.io/service": name}}]);
    let split = json!([{"weight": 1, "destination": {"ursamesh.io/service": SERVICE}}]);
    let conf = json!({"split": split, "loadBalancer": {"type": balancer}});
    let spec = json!({"sources": service("*"), "destinations": service(SERVICE), "conf": conf});
    json!({"apiVersion": "ursamesh.io/v1alpha1", "kind": "TrafficRoute", "spec": spec})
}
