//! What annotations make of a pod's sidecar.

use anyhow::Context as _;
use serde_json::Value;
use ursa_e2e::eventually;
use ursa_e2e::kind::{Kind, SOON, deployment, json, server, with};

/// The same workload with annotations in flow style.
fn annotated(workload: &str, annotations: &str) -> String {
    workload.replacen(
        "metadata: {labels:",
        &format!("metadata: {{annotations: {{{annotations}}}, labels:"),
        1,
    )
}

/// The only pod of a workload.
async fn pod(kind: &Kind, app: &str) -> anyhow::Result<Value> {
    let pods = json(&["--namespace", &kind.name, "get", "pods", "--selector", &format!("app={app}")]).await?;
    pods["items"].get(0).cloned().with_context(|| format!("no pod of {app}"))
}

fn names(containers: &Value) -> Vec<&str> {
    containers.as_array().into_iter().flatten().filter_map(|container| container["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_excluded_is_not_captured() -> anyhow::Result<()> {
    with("excluded", async |kind| {
        kind.apply(&annotated(&server("web"), "ursamesh.io/exclude-inbound-ports: '9000'")).await?;
        let around = "ursamesh.io/exclude-outbound-ports: '80'";
        kind.apply(&annotated(&deployment("around", &["serve"], "", ""), around)).await?;
        tokio::try_join!(
            kind.ready("web"),
            kind.ready("around"),
            kind.client("client"),
            kind.stranger("stranger")
        )?;
        kind.mtls("Strict").await?;
        kind.permit("all", "*", "web").await?;
        kind.known("client", "http://web/").await?;
        // What it sends to port 80 is plaintext.
        kind.refused("around", "http://web/").await?;
        eventually("a stranger hears what is said at the excluded port", SOON, async || {
            let heard = kind.exec("stranger", &["listen", "web:9000"]).await?;
            anyhow::ensure!(heard["heard"] == "web speaks first\n", "{heard}");
            Ok(())
        })
        .await?;
        kind.refused("stranger", "http://web/").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_has_what_its_pod_asks_for() -> anyhow::Result<()> {
    with("asked", async |kind| {
        let asked = "ursamesh.io/proxy-cpu-request: 11m, ursamesh.io/proxy-cpu-limit: '1', ursamesh.io/proxy-memory-request: 70Mi, \
                     ursamesh.io/proxy-memory-limit: 300Mi, ursamesh.io/proxy-log-level: debug, ursamesh.io/tags: 'color=blue'";
        kind.apply(&annotated(&server("web"), asked)).await?;
        kind.ready("web").await?;
        let pod = pod(kind, "web").await?;
        let sidecar = pod["spec"]["initContainers"]
            .as_array()
            .and_then(|all| all.iter().find(|container| container["name"] == "ursa-dp"))
            .context("a sidecar")?;
        let resources = serde_json::json!({
            "requests": {"cpu": "11m", "memory": "70Mi"}, "limits": {"cpu": "1", "memory": "300Mi"},
        });
        anyhow::ensure!(sidecar["resources"] == resources, "{}", sidecar["resources"]);
        let name = pod["metadata"]["name"].as_str().context("a name")?;
        let said = kind.kubectl(&["logs", name, "--container", "ursa-dp"]).await?;
        anyhow::ensure!(said.contains("DEBUG") || said.contains("[debug]"), "it does not log for debugging");
        Ok(())
    })
    .await
}

/// For clusters that know no native sidecars: capture begins after the pod's own init containers.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_may_be_a_plain_container() -> anyhow::Result<()> {
    with("plain", async |kind| {
        let mode = "ursamesh.io/sidecar-mode: Container";
        // An init container calls the API server's port: it is answered, by whatever status, before there is a proxy.
        let first = "initContainers: [{name: first, image: IMAGE, command: [/usr/local/bin/ursa-e2e-app, reach, 'kubernetes.default:443']}], containers: [";
        kind.apply(&annotated(&server("web"), mode)).await?;
        let client = deployment("client", &["serve"], "", "").replace("containers: [", first);
        kind.apply(&annotated(&client, mode)).await?;
        tokio::try_join!(kind.ready("web"), kind.ready("client"), kind.stranger("stranger"))?;
        let pod = pod(kind, "client").await?;
        anyhow::ensure!(names(&pod["spec"]["initContainers"]) == ["first", "ursa-init"], "{}", pod["spec"]);
        anyhow::ensure!(names(&pod["spec"]["containers"]) == ["ursa-dp", "app"], "{}", pod["spec"]);
        kind.mtls("Strict").await?;
        kind.permit("all", "client", "web").await?;
        kind.known("client", "http://web/").await?;
        kind.refused("stranger", "http://web/").await
    })
    .await
}
