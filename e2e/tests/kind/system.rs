//! Ursa's own parts on the cluster: their certificates, their operator, what they may do.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use ursa_e2e::eventually;
use ursa_e2e::kind::{SOON, SYSTEM, condition, json, kubectl, with};

async fn resource_version(secret: &str) -> anyhow::Result<Value> {
    let secret = json(&["--namespace", SYSTEM, "get", "secret", secret]).await?;
    Ok(secret["metadata"]["uid"].clone())
}

/// What a log of a program's pods says since then.
async fn says(program: &str, since: &str, words: &str) -> anyhow::Result<()> {
    let selector = format!("app.kubernetes.io/name={program}");
    let arguments =
        ["--namespace", SYSTEM, "logs", "--selector", &selector, "--since-time", since, "--tail", "-1"];
    let said = kubectl(&arguments).await?;
    anyhow::ensure!(said.contains(words), "{program} does not say {words:?} yet");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_under_traffic() -> anyhow::Result<()> {
    with("certs", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"))?;
        kind.mtls("Strict").await?;
        kind.permit("all", "client", "web").await?;
        kind.answered("client", "http://web/").await?;
        let load = kind.load("client", "http://web/").await?;
        let since = jiff::Timestamp::now().to_string();
        for secret in ["ursa-cp-tls", "ursa-webhook-tls"] {
            let before = resource_version(secret).await?;
            kubectl(&["--namespace", SYSTEM, "delete", "secret", secret]).await?;
            eventually(&format!("the operator makes {secret} anew"), SOON, async || {
                anyhow::ensure!(resource_version(secret).await? != before, "it is still the former");
                Ok(())
            })
            .await?;
        }
        eventually("the control plane shows it", SOON, async || {
            says("ursa-cp", &since, "shows another certificate").await
        })
        .await?;
        // Who connects now trusts it: a new pod, through the webhook, to the control plane.
        kind.client("newcomer").await?;
        kind.permit("newcomer", "newcomer", "web").await?;
        kind.answered("newcomer", "http://web/").await?;
        load.answered_all().await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_in_the_middle_goes_on_where_it_was() -> anyhow::Result<()> {
    ursa_e2e::kind::install().await?;
    let scale = async |replicas: u32| {
        let patch = format!("{{\"spec\":{{\"webhook\":{{\"replicas\":{replicas}}}}}}}");
        let change =
            ["--namespace", SYSTEM, "patch", "controlplane", "ursa", "--type", "merge", "--patch", &patch];
        kubectl(&change).await
    };
    let stands = async |replicas: u32| {
        eventually(&format!("{replicas} webhooks"), Duration::from_mins(1), async || {
            let found = json(&["--namespace", SYSTEM, "get", "deployment", "ursa-webhook"]).await?;
            anyhow::ensure!(found["status"]["availableReplicas"] == replicas, "{}", found["status"]);
            let cp = json(&["--namespace", SYSTEM, "get", "controlplane", "ursa"]).await?;
            let seen = cp["status"]["observedGeneration"] == cp["metadata"]["generation"];
            anyhow::ensure!(seen && condition(&cp, "Ready").as_deref() == Some("True"), "{}", cp["status"]);
            Ok(())
        })
        .await
    };
    scale(3).await?;
    let name = "app.kubernetes.io/name=ursa-operator";
    let kill =
        ["--namespace", SYSTEM, "delete", "pods", "--selector", name, "--grace-period", "0", "--force"];
    kubectl(&kill).await?;
    let result = stands(3).await;
    scale(2).await?;
    result?;
    stands(2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_runs_where_pods_are_restricted() -> anyhow::Result<()> {
    ursa_e2e::kind::install().await?;
    let namespace = json(&["get", "namespace", SYSTEM]).await?;
    let enforced = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    anyhow::ensure!(enforced == "restricted", "the namespace enforces {enforced}");
    for program in ["ursa-operator", "ursa-cp", "ursa-webhook"] {
        let selector = format!("app.kubernetes.io/name={program}");
        let pods = json(&["--namespace", SYSTEM, "get", "pods", "--selector", &selector]).await?;
        let pods = pods["items"].as_array().context("pods")?;
        let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count();
        anyhow::ensure!(running > 0, "no {program} runs");
    }
    Ok(())
}
