//! How long things take, and what they use: printed for people, and held against generous bounds only.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;
use ursa_e2e::kind::{SYSTEM, Usage, image, usage, with};
use ursa_e2e::{figure, now, rounds};

fn client() -> impl Future<Output = kube::Result<Client>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::try_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_the_injection_of_a_pod_takes() -> anyhow::Result<()> {
    with("figures-injection", async |kind| {
        let api = Api::<Pod>::namespaced(client().await?, &kind.name);
        let pod = |label: &str| {
            serde_json::from_value(json!({
                "metadata": {"generateName": "p-", "labels": {"ursamesh.io/sidecar-injection": label}},
                "spec": {"containers": [{"name": "app", "image": image("ursa-e2e-app")?}]},
            }))
            .map_err(anyhow::Error::from)
        };
        let (with, without): (Pod, Pod) = (pod("enabled")?, pod("disabled")?);
        // A dry run asks the webhook and stores nothing.
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let mut times = (Vec::new(), Vec::new());
        for _ in 0..rounds(50, 1000) {
            for (pod, times) in [(&with, &mut times.0), (&without, &mut times.1)] {
                let start = Instant::now();
                api.create(&params, pod).await?;
                times.push(start.elapsed());
            }
        }
        figure("a pod created with injection", times.0)?;
        figure("a pod created without injection", times.1)
    })
    .await
}

/// When what a caller sees turns next.
async fn turned(calls: &mut ursa_e2e::kind::Running, to: bool) -> anyhow::Result<Duration> {
    loop {
        let told = calls.said().await?;
        if told["answered"] == to {
            return Ok(Duration::from_millis(told["at"].as_u64().context("a time")?));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_soon_a_permission_takes_effect() -> anyhow::Result<()> {
    with("figures-permission", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"))?;
        kind.mtls("Strict").await?;
        kind.permit("allow", "client", "web").await?;
        kind.known("client", "http://web/").await?;
        let mut calls = kind.start("client", &["flips", "http://web/"]).await?;
        let mut times = (Vec::new(), Vec::new());
        for _ in 0..rounds(5, 50) {
            let start = now();
            kind.delete_policy("trafficpermission", "allow").await?;
            times.0.push(turned(&mut calls, false).await?.saturating_sub(start));
            let start = now();
            kind.permit("allow", "client", "web").await?;
            times.1.push(turned(&mut calls, true).await?.saturating_sub(start));
        }
        calls.end().await?;
        figure("kubectl delete of a permission, until a request is refused", times.0)?;
        figure("kubectl apply of a permission, until a request is answered", times.1)?;
        for Usage { namespace, pod, container, millicores, mebibytes } in usage().await? {
            if [SYSTEM, &kind.name].contains(&namespace.as_str()) {
                println!("figure: {container} of {pod}: {mebibytes} MiB, {millicores}m CPU");
            }
        }
        Ok(())
    })
    .await
}
