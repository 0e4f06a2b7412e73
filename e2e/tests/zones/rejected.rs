//! What an Envoy refuses is told on what caused it, at global, in Envoy's words; and nothing else is held up by it.

use anyhow::Context as _;
use serde_json::Value;
use ursa_e2e::kind::{SOON, SYSTEM, apply, json, kubectl, whole_condition};
use ursa_e2e::{eventually, misencoded_root};

use super::world::World;

/// What Envoy says of the root.
const ENVOY: &str = "Failed to load trusted CA certificate";

async fn mesh_says(world: &World) -> anyhow::Result<Value> {
    let mesh = world.at_global(json(&["get", "mesh", &world.kind.name])).await?;
    whole_condition(&mesh, "Programmed").cloned().with_context(|| mesh["status"].to_string())
}

/// A root that our validation takes and Envoy does not becomes one more authority of the mesh.
async fn a_bad_root_is_brought(world: &World) -> anyhow::Result<()> {
    let mesh = &world.kind.name;
    let (certificate, key) = misencoded_root()?;
    let secrets = [("cert", certificate), ("key", key)].map(|(part, value)| {
        let data = serde_json::json!({ "value": value });
        format!(
            "{{apiVersion: v1, kind: Secret, type: ursamesh.io/secret, metadata: {{name: {mesh}-{part}, namespace: {SYSTEM}, \
             labels: {{ursamesh.io/mesh: {mesh}}}}}, stringData: {data}}}"
        )
    });
    world.at_global(apply(&secrets.join("\n---\n"))).await?;
    let corp = format!(
        "{{name: corp, type: Provided, conf: {{cert: {{secret: {mesh}-cert}}, key: {{secret: {mesh}-key}}}}}}"
    );
    let spec = format!(
        "mtls: {{enabledBackend: ca, mode: Strict, backends: [{{name: ca, type: Builtin}}, {corp}]}}"
    );
    world.at_global(world.kind.mesh(&spec)).await
}

async fn heard(world: &World) -> anyhow::Result<bool> {
    let heard = world.in_east(world.kind.exec("client", &["listen", "web:9000"])).await?;
    Ok(heard["heard"].as_str().is_some_and(|heard| !heard.is_empty()))
}

async fn until_heard(world: &World, expected: bool) -> anyhow::Result<()> {
    eventually(&format!("the server that speaks first is heard: {expected}"), SOON, async || {
        anyhow::ensure!(heard(world).await? == expected, "not so");
        Ok(())
    })
    .await
}

async fn a_refusal_is_told_and_holds_up_nothing(world: &World) -> anyhow::Result<()> {
    let kind = &world.kind;
    world.at_global(kind.permit("all", "client", "web")).await?;
    world.programmed("all", "60s").await?;
    let load = world.in_east(kind.load("client", "http://web/")).await?;
    until_heard(world, true).await?;
    let held = world.in_east(kind.start("client", &["hold", "web:9001"])).await?;

    a_bad_root_is_brought(world).await?;
    let told = eventually("the mesh says who refused it", SOON * 2, async || {
        let told = mesh_says(world).await?;
        anyhow::ensure!(told["status"] == "False" && told["reason"] == "ProxyRejected", "{told}");
        Ok(told)
    })
    .await?;
    let message = told["message"].as_str().unwrap_or_default();
    anyhow::ensure!(message.starts_with("zone east: proxy ") && message.contains(ENVOY), "{told}");
    anyhow::ensure!(!message.contains("lets nobody in"), "it takes nothing from anybody: {told}");
    println!("{message}");
    // What they had before counts.
    anyhow::ensure!(heard(world).await?, "the last good trust is gone");
    let held = held.stop().await?;
    anyhow::ensure!(held["cut"] == false, "{held}");
    load.answered_all().await?;

    // Requests are judged by what Envoy takes, ...
    world.at_global(kind.permit("all", "nobody", "web")).await?;
    world.in_east(kind.refused("client", "http://web/")).await?;
    // ... and a narrowing that it does not take lets nobody in.
    until_heard(world, false).await?;
    eventually("the permission says who refused it", SOON * 2, async || {
        let told = world.told("trafficpermission/all", "Programmed").await?;
        let message = told["message"].as_str().unwrap_or_default();
        anyhow::ensure!(told["status"] == "False" && told["reason"] == "ProxyRejected", "{told}");
        anyhow::ensure!(message.contains(ENVOY) && message.contains("lets nobody in"), "{told}");
        println!("{message}");
        Ok(())
    })
    .await?;
    world.at_global(kind.permit("all", "client", "web")).await?;
    world.in_east(kind.answered("client", "http://web/")).await?;

    world.at_global(kind.mtls("Strict")).await?;
    world.wait(&format!("mesh/{}", kind.name), "Programmed", "30s").await?;
    world.programmed("all", "30s").await?;
    anyhow::ensure!(heard(world).await?, "Programmed, and the server that speaks first is not heard");
    world.in_east(kind.answered("client", "http://web/")).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_envoy_refuses_is_told() -> anyhow::Result<()> {
    let world = World::start("rejected").await?;
    let result = a_refusal_is_told_and_holds_up_nothing(&world).await;
    // Also after a failure: the secrets are in use as long as the mesh names them.
    world.at_global(world.kind.mtls("Strict")).await?;
    for part in ["cert", "key"] {
        let secret = format!("{}-{part}", world.kind.name);
        let delete = ["--namespace", SYSTEM, "delete", "secret", &secret, "--ignore-not-found"];
        world.at_global(kubectl(&delete)).await?;
    }
    world.end(result).await
}
