//! The end of Ursa on a cluster: nothing of it stays but the resources that users wrote, and their definitions.

use anyhow::Context as _;
use serde_json::Value;
use ursa_e2e::eventually;
use ursa_e2e::kind::{SOON, SYSTEM, install, json, kubectl, ursactl};

/// Everything cluster-scoped that could be Ursa's, by kind and name.
async fn of_the_cluster() -> anyhow::Result<Vec<String>> {
    let kinds = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations,namespaces";
    let all = json(&["get", kinds]).await?;
    let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
    let mut names: Vec<String> = all["items"].as_array().context("items")?.iter().map(name).collect();
    names.retain(|name| name.contains("ursa"));
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_leaves_nothing() -> anyhow::Result<()> {
    install().await?;
    anyhow::ensure!(of_the_cluster().await?.len() > 5, "{:?}", of_the_cluster().await?);
    kubectl(&["--namespace", SYSTEM, "delete", "controlplane", "ursa", "--timeout", "60s"]).await?;
    eventually("what the ControlPlane asked for is gone", SOON * 3, async || {
        let mine = "deployments,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets,networkpolicies,configmaps";
        let selector = "app.kubernetes.io/managed-by=ursa-operator";
        let left = kubectl(&["--namespace", SYSTEM, "get", mine, "--selector", selector, "--output", "name"]).await?;
        anyhow::ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .await?;
    let operator = ursactl(&["install", "operator"]).await?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), operator)?;
    let path = file.path().display().to_string();
    kubectl(&["delete", "--filename", &path, "--ignore-not-found", "--timeout", "120s"]).await?;
    let left = of_the_cluster().await?;
    anyhow::ensure!(left.is_empty(), "these stay: {left:?}");
    // For the tests that come after.
    ursa_e2e::kind::apply(&ursactl(&["install", "crds"]).await?).await.map(drop)
}
