//! Changes of what runs, under load: nobody loses a request.

use std::time::Duration;

use anyhow::Context as _;
use ursa_e2e::kind::{SYSTEM, json, kubectl, with};
use ursa_e2e::{eventually, rounds};

/// A replica that is told to end serves on for five seconds.
const ENDED: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_rolled_loses_no_request() -> anyhow::Result<()> {
    with("rolled", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"))?;
        kind.kubectl(&["scale", "deployment/web", "--replicas", "3"]).await?;
        kind.ready("web").await?;
        kind.mtls("Strict").await?;
        kind.permit("all", "client", "web").await?;
        kind.answered("client", "http://web/").await?;
        let load = kind.load("client", "http://web/").await?;
        let anew = kind.start("client", &["load", "--anew", "http://web/"]).await?;
        for _ in 0..rounds(1, 10) {
            kind.kubectl(&["rollout", "restart", "deployment/web"]).await?;
            kind.ready("web").await?;
        }
        load.answered_all().await?;
        anew.answered_all().await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_rolled_costs_no_request() -> anyhow::Result<()> {
    with("cp-rolled", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"))?;
        kind.mtls("Strict").await?;
        kind.permit("all", "client", "web").await?;
        kind.answered("client", "http://web/").await?;
        let load = kind.load("client", "http://web/").await?;
        // The API server asks the control plane about each of these writes.
        let mesh = ["patch", "mesh", &kind.name, "--type=merge", "--dry-run=server", "--patch"];
        let permissive = [&mesh[..], &[r#"{"spec":{"mtls":{"mode":"Permissive"}}}"#]].concat();
        let writes = async {
            loop {
                kubectl(&permissive).await.context("a user's write while the control plane is rolled")?;
            }
        };
        tokio::select! {
            rolled = roll() => rolled?,
            refused = writes => return refused,
        }
        load.answered_all().await?;
        // Whichever replica the sidecars talk to now tells them what is new.
        kind.delete_policy("trafficpermission", "all").await?;
        kind.refused("client", "http://web/").await?;
        kind.permit("all", "client", "web").await?;
        kind.answered("client", "http://web/").await.map(drop)
    })
    .await
}

async fn roll() -> anyhow::Result<()> {
    for _ in 0..rounds(1, 10) {
        kubectl(&["--namespace", SYSTEM, "rollout", "restart", "deployment/ursa-cp"]).await?;
        let status = ["--namespace", SYSTEM, "rollout", "status", "deployment/ursa-cp", "--timeout", "120s"];
        kubectl(&status).await.context("the control plane comes back")?;
        eventually("all that were told to end have ended", ENDED, async || {
            let pods = ["--namespace", SYSTEM, "get", "pods", "--selector", "app.kubernetes.io/name=ursa-cp"];
            let pods = json(&pods).await?;
            let ending = pods["items"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
            let ending = ending.count();
            anyhow::ensure!(ending == 0, "{ending} of them have not");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
