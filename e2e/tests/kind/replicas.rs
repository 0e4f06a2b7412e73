//! Replicas of the control plane: whichever is asked, it knows the same.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use ursa_e2e::eventually;
use ursa_e2e::kind::{Kind, SYSTEM, json, kubectl, with};

/// Replicas agree within this time, also when one is replaced.
pub(super) const BOUND: Duration = Duration::from_secs(30);

/// The replicas that serve: their pods' names.
async fn replicas() -> anyhow::Result<Vec<String>> {
    let selector = "app.kubernetes.io/name=ursa-cp";
    let pods = json(&["--namespace", SYSTEM, "get", "pods", "--selector", selector]).await?;
    let serves = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        let ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
        ready && pod["metadata"]["deletionTimestamp"].is_null()
    };
    let pods = pods["items"].as_array().context("pods")?;
    let names = pods.iter().filter(serves).filter_map(|pod| pod["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// The REST API of one replica, whichever the Service would choose.
struct Api {
    address: String,
    token: String,
    client: reqwest::Client,
    /// Forwards to the pod, as long as the value lives.
    _forward: Child,
}

impl Api {
    async fn of(pod: &str) -> anyhow::Result<Self> {
        let command = ["--namespace", SYSTEM, "exec", pod, "--", "/usr/local/bin/ursa-cp", "admin-token"];
        let token = kubectl(&command).await?.trim().to_owned();
        // Served on the pod's loopback only, which is where the kubelet forwards to.
        let mut forward = Command::new("kubectl")
            .args([
                "--namespace",
                SYSTEM,
                "port-forward",
                "--address",
                "127.0.0.1",
                &format!("pod/{pod}"),
                ":5681",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(forward.stdout.take().context("no output")?).lines();
        let first = tokio::time::timeout(Duration::from_secs(10), lines.next_line());
        let first = first.await.context("nothing is forwarded")??.context("nothing is forwarded")?;
        // `Forwarding from 127.0.0.1:41234 -> 5681`
        let address = first.split_whitespace().nth(2).with_context(|| format!("no address: {first}"))?;
        // What it says of each connection must be read, or it stops to say anything.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        Ok(Self { address: address.to_owned(), token, client, _forward: forward })
    }

    async fn insights(&self, mesh: &str) -> anyhow::Result<Vec<Value>> {
        let url = format!("http://{}/meshes/{mesh}/dataplaneinsights", self.address);
        let answer = self.client.get(url).bearer_auth(&self.token).send().await?.error_for_status()?;
        let list: Value = answer.json().await?;
        Ok(list["items"].as_array().context("items")?.clone())
    }
}

/// What any replica shows of the mesh's dataplanes.
pub(super) async fn insights(mesh: &str) -> anyhow::Result<Vec<Value>> {
    let replicas = replicas().await?;
    Api::of(replicas.first().context("no replica serves")?).await?.insights(mesh).await
}

/// Whether a replica shows all pods of the namespace, connected and with a certificate.
async fn shows_all(kind: &Kind, pod: &str) -> anyhow::Result<()> {
    let expected = json(&["--namespace", &kind.name, "get", "pods"]).await?;
    let mut expected: Vec<String> = expected["items"]
        .as_array()
        .context("pods")?
        .iter()
        .filter_map(|pod| Some(format!("{}.{}", pod["metadata"]["name"].as_str()?, kind.name)))
        .collect();
    expected.sort();
    let insights = Api::of(pod).await?.insights(&kind.name).await?;
    let good = insights.iter().map(|insight| &insight["spec"]).filter(|spec| {
        spec["connected"] == true && !spec["certificate"].is_null() && spec["unheardSince"].is_null()
    });
    let mut good: Vec<String> =
        good.filter_map(|spec| spec["dataplane"].as_str()).map(str::to_owned).collect();
    good.sort();
    anyhow::ensure!(
        !expected.is_empty() && good == expected,
        "{pod} shows {insights:?}, not all of {expected:?}"
    );
    Ok(())
}

async fn all_replicas_show_all(kind: &Kind) -> anyhow::Result<()> {
    let replicas = replicas().await?;
    anyhow::ensure!(replicas.len() >= 2, "these replicas serve: {replicas:?}");
    for pod in &replicas {
        shows_all(kind, pod).await?;
    }
    Ok(())
}

/// The pod of the replica that leads.
async fn leader() -> anyhow::Result<String> {
    let lease = json(&["--namespace", SYSTEM, "get", "lease", "ursa-cp"]).await?;
    let holder = lease["spec"]["holderIdentity"].as_str().context("nobody leads")?;
    let (pod, _) = holder.split_once('_').context("POD_ID")?;
    Ok(pod.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_knows_every_proxy_also_after_the_leader_is_gone() -> anyhow::Result<()> {
    with("replicas", async |kind| {
        // Several, so that not all of them talk to one replica.
        kind.mtls("Strict").await?;
        tokio::try_join!(kind.server("web"), kind.client("client"))?;
        kind.kubectl(&["scale", "deployment/web", "--replicas", "4"]).await?;
        kind.ready("web").await?;
        eventually("every replica shows all pods", BOUND, async || all_replicas_show_all(kind).await).await?;
        let leader = eventually("somebody leads", BOUND, async || leader().await).await?;
        kubectl(&["--namespace", SYSTEM, "delete", "pod", &leader, "--wait=false"]).await?;
        eventually("another one leads, and every replica shows all pods again", BOUND, async || {
            let now = self::leader().await?;
            anyhow::ensure!(now != leader, "{now} leads still");
            all_replicas_show_all(kind).await
        })
        .await
    })
    .await
}
