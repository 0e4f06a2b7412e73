//! What crosses the network between pods.

use anyhow::Context as _;
use serde_json::Value;
use ursa_e2e::kind::{Kind, deployment, json, with};

/// In every answer of the server that speaks first, and in the path of every call.
const TEXTS: [&str; 2] = ["web speaks first", "plain-to-read"];

/// A pod that sees what the node sees.
async fn sniffer(kind: &Kind) -> anyhow::Result<()> {
    let security = "securityContext: {runAsUser: 0, capabilities: {add: [NET_RAW]}}";
    let pod = deployment("sniffer", &["serve"], "ursamesh.io/sidecar-injection: disabled", security);
    kind.apply(&pod.replace("containers: [", "hostNetwork: true, containers: [")).await?;
    kind.ready("sniffer").await
}

/// Some calls; how many frames of the server's had each of the texts in them, and how many frames there were.
async fn seen(kind: &Kind, server: &str) -> anyhow::Result<([u64; 2], u64)> {
    let sniffer = kind.start("sniffer", &["sniff", "--address", server, TEXTS[0], TEXTS[1]]).await?;
    for _ in 0..5 {
        kind.answered("client", &format!("http://web/{}", TEXTS[1])).await?;
        let banner = kind.exec("client", &["listen", "web:9000"]).await?;
        anyhow::ensure!(banner["heard"].as_str().is_some_and(|heard| heard.contains(TEXTS[0])), "{banner}");
    }
    let said = sniffer.stop().await?;
    println!("{said}");
    let number = |value: &Value| value.as_u64().context("a number");
    Ok(([number(&said["found"][0])?, number(&said["found"][1])?], number(&said["frames"])?))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_between_pods_is_plain_to_read() -> anyhow::Result<()> {
    with("wire", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"), sniffer(kind))?;
        let pods = json(&["--namespace", &kind.name, "get", "pods", "--selector", "app=web"]).await?;
        let server = pods["items"][0]["status"]["podIP"].as_str().context("an address")?;
        // Who looks is not blind.
        let (found, _) = seen(kind, server).await?;
        anyhow::ensure!(found.iter().all(|count| *count >= 5), "without mutual TLS: {found:?}");
        kind.permit("all", "client", "web").await?;
        kind.mtls("Strict").await?;
        kind.known("client", "http://web/").await?;
        let (found, frames) = seen(kind, server).await?;
        anyhow::ensure!(found == [0, 0], "with mutual TLS: {found:?}");
        anyhow::ensure!(frames > 50, "{frames} frames: was anything seen?");
        Ok(())
    })
    .await
}
