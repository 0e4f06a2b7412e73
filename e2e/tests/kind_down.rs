//! What holds on a cluster while parts of Ursa are down. Pods of others are made then, too, so no other test runs beside.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ursa_e2e::eventually;
use ursa_e2e::kind::{Kind, SOON, SYSTEM, Usage, json, kubectl, usage, with};

/// Replicas of a Deployment of Ursa's own, and waits until there are so many.
async fn scale(deployment: &str, replicas: u32) -> anyhow::Result<()> {
    let to = format!("--replicas={replicas}");
    kubectl(&["--namespace", SYSTEM, "scale", "deployment", deployment, &to]).await?;
    eventually(&format!("{replicas} of {deployment}"), SOON * 3, async || {
        let found = json(&["--namespace", SYSTEM, "get", "deployment", deployment]).await?;
        let ready = found["status"]["readyReplicas"].as_u64().unwrap_or_default();
        anyhow::ensure!(ready == u64::from(replicas), "{}", found["status"]);
        let selector = format!("app.kubernetes.io/name={deployment}");
        let pods = json(&["--namespace", SYSTEM, "get", "pods", "--selector", &selector]).await?;
        let count = pods["items"].as_array().map_or(0, Vec::len);
        anyhow::ensure!(count == replicas as usize, "{count} pods");
        Ok(())
    })
    .await
}

/// Without any replica of the webhook, and without the operator, which would bring it back.
async fn while_the_webhook_is_down(kind: &Kind) -> anyhow::Result<()> {
    // A pod that is to be in the mesh is refused, and its author is told why.
    let file = tempfile::NamedTempFile::new()?;
    let meshed = "{apiVersion: v1, kind: Pod, metadata: {name: meshed}, spec: {containers: [{name: app, image: none}]}}";
    std::fs::write(file.path(), meshed)?;
    let path = file.path().display().to_string();
    let refusal = kind.kubectl(&["create", "--filename", &path]).await.map(drop);
    let said = refusal.err().map(|error| error.to_string()).unwrap_or_default();
    anyhow::ensure!(said.contains("injection.ursamesh.io"), "not refused, or without the reason: {said:?}");
    // All others start: outside the mesh, in namespaces without the label, of the system, of Ursa itself.
    kind.stranger("outside").await?;
    let pods = ["--namespace", SYSTEM, "delete", "pods", "--selector", "app.kubernetes.io/name=ursa-cp"];
    kubectl(&pods).await?;
    let status = ["--namespace", SYSTEM, "rollout", "status", "deployment/ursa-cp", "--timeout", "60s"];
    kubectl(&status).await.context("the control plane starts")?;
    let dns = ["--namespace", "kube-system", "delete", "pods", "--selector", "k8s-app=kube-dns"];
    kubectl(&dns).await?;
    let status =
        ["--namespace", "kube-system", "rollout", "status", "deployment/coredns", "--timeout", "60s"];
    kubectl(&status).await.context("the cluster's DNS starts")?;
    // What is in the mesh stays there.
    kind.known("client", "http://web/").await.map(drop)
}

async fn after_the_first_replica_is_back(kind: &Kind) -> anyhow::Result<()> {
    let back = Instant::now();
    kind.client("late").await?;
    println!("a meshed pod is ready {} ms after the first replica", back.elapsed().as_millis());
    kind.known("late", "http://web/").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_webhook_serves_only_meshed_pods_wait() -> anyhow::Result<()> {
    with("webhook-down", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"))?;
        kind.permit("all", "*", "web").await?;
        kind.mtls("Strict").await?;
        kind.known("client", "http://web/").await?;
        let seen = async {
            scale("ursa-operator", 0).await?;
            scale("ursa-webhook", 0).await?;
            while_the_webhook_is_down(kind).await?;
            scale("ursa-webhook", 1).await?;
            after_the_first_replica_is_back(kind).await
        }
        .await;
        // Whatever was seen: the operator brings the webhook back as it is to be.
        scale("ursa-operator", 1).await?;
        seen?;
        eventually("the operator brings the second replica", Duration::from_mins(1), async || {
            let found = json(&["--namespace", SYSTEM, "get", "deployment", "ursa-webhook"]).await?;
            anyhow::ensure!(found["status"]["availableReplicas"] == 2, "{}", found["status"]);
            Ok(())
        })
        .await
    })
    .await?;
    what_is_idle_does_nothing().await
}

/// After all that the tests made and removed. What works without a pause uses a core, or its share of one.
async fn what_is_idle_does_nothing() -> anyhow::Result<()> {
    eventually("Ursa is idle", Duration::from_mins(3), async || {
        let ours = usage().await?.into_iter().filter(|usage| usage.namespace == SYSTEM);
        let (busy, idle): (Vec<_>, Vec<_>) = ours.partition(|usage| usage.millicores > 50);
        anyhow::ensure!(busy.is_empty() && idle.len() >= 5, "busy: {busy:?}, idle: {idle:?}");
        for Usage { container, millicores, mebibytes, .. } in idle {
            println!("figure: {container} at rest: {mebibytes} MiB, {millicores}m CPU");
        }
        Ok(())
    })
    .await
}
