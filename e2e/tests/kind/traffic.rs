//! Traffic between pods: mutual TLS, permissions, routes.

use serde_json::Value;
use ursa_e2e::eventually;
use ursa_e2e::kind::{Kind, SOON, deployment, service, with};

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_labelled_namespace_are_in_the_mesh() -> anyhow::Result<()> {
    with("meshed", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"), kind.stranger("stranger"))?;
        // Nothing is enabled: everybody is answered, by every name.
        for url in ["http://web/", "http://web:80/"] {
            kind.answered("client", url).await?;
            kind.answered("stranger", url).await?;
        }
        kind.answered("client", &format!("http://{}.mesh/", kind.service("web"))).await?;

        kind.mtls("Strict").await?;
        kind.refused("client", "http://web/").await?;
        kind.refused("stranger", "http://web/").await?;

        kind.permit("client", "client", "web").await?;
        let answer = kind.answered("client", "http://web/").await?;
        let caller = format!("/service/{}/ns/{}/", kind.service("client"), kind.name);
        anyhow::ensure!(answer["caller"].as_str().is_some_and(|text| text.contains(&caller)), "{answer}");
        kind.refused("stranger", "http://web/").await?;
        kind.delete_policy("trafficpermission", "client").await?;
        kind.refused("client", "http://web/").await
    })
    .await
}

/// Two versions of a service behind one Service, and a caller.
async fn versions(kind: &Kind) -> anyhow::Result<()> {
    kind.apply(&service("web", "role: web")).await?;
    for version in ["v1", "v2"] {
        let (name, port) = (format!("web-{version}"), ["serve", "--name", version, "--http", "8080"]);
        let labels = format!("role: web, version: {version}");
        kind.apply(&deployment(&name, &port, &labels, "")).await?;
    }
    tokio::try_join!(kind.ready("web-v1"), kind.ready("web-v2"), kind.client("client"))?;
    Ok(())
}

/// A route for calls of `web`; `split` in YAML's flow style, with WEB for its service tag.
async fn route(kind: &Kind, split: &str) -> anyhow::Result<()> {
    let web = format!("ursamesh.io/service: {}", kind.service("web"));
    let split = split.replace("WEB", &web);
    let spec = format!(
        "sources: [{{match: {{ursamesh.io/service: '*'}}}}], destinations: [{{match: {{{web}}}}}], conf: {{split: {split}}}"
    );
    kind.policy("TrafficRoute", "web", &spec).await
}

/// How often each version answers, once it looks as it should.
async fn shares(kind: &Kind, what: &str, good: impl Fn(u64, u64) -> bool) -> anyhow::Result<()> {
    eventually(what, SOON, async || {
        let counts = kind.exec("client", &["count", "http://web/", "200"]).await?;
        let of = |version: &str| counts.get(version).and_then(Value::as_u64).unwrap_or_default();
        anyhow::ensure!(good(of("v1"), of("v2")), "{counts}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_shifts_traffic_between_versions() -> anyhow::Result<()> {
    with("routes", async |kind| {
        versions(kind).await?;
        kind.mtls("Strict").await?;
        kind.permit("all", "client", "web").await?;
        kind.answered("client", "http://web/").await?;
        let load = kind.load("client", "http://web/").await?;
        // 200 calls; within these bounds but for one run in a million.
        let half = |a: u64, b: u64| (60..=140).contains(&a) && a + b == 200;
        shares(kind, "both versions get their part", half).await?;
        route(kind, "[{weight: 1, destination: {WEB, version: v2}}]").await?;
        shares(kind, "all goes to v2", |_, v2| v2 == 200).await?;
        route(
            kind,
            "[{weight: 9, destination: {WEB, version: v1}}, {weight: 1, destination: {WEB, version: v2}}]",
        )
        .await?;
        shares(kind, "a tenth goes to v2", |v1, v2| (1..=50).contains(&v2) && v1 + v2 == 200).await?;
        kind.delete_policy("trafficroute", "web").await?;
        shares(kind, "both versions get their part again", half).await?;
        load.answered_all().await.map(drop)
    })
    .await
}
