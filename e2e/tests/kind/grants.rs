//! Who a pod is, by namespace and tags, and what its mesh grants it.

use ursa_e2e::eventually;
use ursa_e2e::kind::{Kind, SOON, apply, deployment, kubectl, server, with};

const MTLS: &str = "mtls: {enabledBackend: ca, backends: [{name: ca, type: Builtin}]}";

/// Lets callers with these tags call `web`, in flow style.
async fn admit(kind: &Kind, source: &str) -> anyhow::Result<()> {
    let web = kind.service("web");
    let spec = format!(
        "sources: [{{match: {{{source}}}}}], destinations: [{{match: {{ursamesh.io/service: {web}}}}}]"
    );
    kind.policy("TrafficPermission", "admit", &spec).await
}

/// Another namespace of the same mesh, as long as the test runs.
async fn beside(kind: &Kind, body: impl AsyncFnOnce(&Kind) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (mesh, name) = (&kind.name, format!("{}-b", kind.name));
    apply(&format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{ursamesh.io/sidecar-injection: enabled}}, annotations: {{ursamesh.io/mesh: {mesh}}}}}}}"
    ))
    .await?;
    let result = body(&Kind { name: name.clone() }).await;
    kubectl(&["delete", "namespace", &name, "--wait=false"]).await?;
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_let_in_by_namespace_and_by_the_tags_that_are_identity() -> anyhow::Result<()> {
    with("who", async |kind| {
        let blue = deployment("blue", &["serve"], "team: blue", "");
        kind.apply(&blue).await?;
        tokio::try_join!(kind.server("web"), kind.client("client"), kind.ready("blue"))?;
        kind.mesh(MTLS).await?;
        beside(kind, async |other| {
            other.client("client").await?;
            let url = format!("http://web.{}/", kind.name);
            admit(kind, &format!("ursamesh.io/namespace: {}", kind.name)).await?;
            kind.known("client", &url).await?;
            other.refused("client", &url).await?;
            admit(kind, &format!("ursamesh.io/namespace: {}", other.name)).await?;
            other.known("client", &url).await?;
            kind.refused("client", &url).await?;

            // What no mesh declares proves nothing, and who writes it is told what to do.
            let refusal = admit(kind, "team: blue").await.err().map(|error| error.to_string());
            let refusal = refusal.unwrap_or_default();
            anyhow::ensure!(refusal.contains("identityTags"), "not refused with the reason: {refusal:?}");
            kind.mesh(&format!("{MTLS}, identityTags: [{{key: team, namespaces: [{}]}}]", kind.name)).await?;
            // The webhook hears of the mesh as soon as everybody does.
            eventually("the mesh's tags may be used", SOON, async || admit(kind, "team: blue").await).await?;
            kind.known("blue", &url).await?;
            kind.refused("client", &url).await?;
            other.refused("client", &url).await?;
            // The same label where it is not granted.
            other.apply(&blue).await?;
            other.ready("blue").await?;
            other.refused("blue", &url).await?;
            kind.known("blue", &url).await.map(drop)
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_has_another_name_once_it_is_granted() -> anyhow::Result<()> {
    with("named", async |kind| {
        let name = format!("books-{}", kind.name);
        let metadata = "kind: Service, metadata: {name: web";
        let wished = server("web").replacen(
            metadata,
            &format!("{metadata}, annotations: {{ursamesh.io/service: {name}}}"),
            1,
        );
        anyhow::ensure!(wished.contains(&name), "{wished}");
        kind.apply(&wished).await?;
        tokio::try_join!(kind.ready("web"), kind.client("client"))?;
        kind.mesh(MTLS).await?;
        kind.permit("all", "*", "*").await?;
        let (own, granted) =
            (format!("http://{}.mesh/", kind.service("web")), format!("http://{name}.mesh/"));
        kind.known("client", &own).await?;
        kind.refused("client", &granted).await?;
        kind.mesh(&format!("{MTLS}, services: [{{name: {name}, namespaces: [{}]}}]", kind.name)).await?;
        kind.known("client", &granted).await?;
        // Its address is the same.
        kind.known("client", "http://web/").await?;
        kind.mesh(&format!("{MTLS}, services: [{{name: {name}, namespaces: [elsewhere]}}]")).await?;
        kind.refused("client", &granted).await?;
        kind.known("client", &own).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_no_member_is_out() -> anyhow::Result<()> {
    with("members", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"))?;
        kind.mesh(&format!("{MTLS}, members: {{namespaces: [{}]}}", kind.name)).await?;
        kind.permit("all", "*", "*").await?;
        kind.known("client", "http://web/").await?;
        beside(kind, async |other| {
            other.apply(&deployment("client", &["serve"], "", "")).await?;
            eventually("its sidecar is told why", SOON * 3, async || {
                let logs = ["logs", "deployment/client", "--container", "ursa-dp", "--tail", "50"];
                let said = other.kubectl(&logs).await?;
                anyhow::ensure!(said.contains("spec.members"), "{said}");
                Ok(())
            })
            .await?;
            // Once it is one, the same pod starts.
            let both = format!("{MTLS}, members: {{namespaces: [{}, {}]}}", kind.name, other.name);
            kind.mesh(&both).await?;
            other.ready("client").await?;
            other.known("client", &format!("http://web.{}/", kind.name)).await?;
            kind.mesh(&format!("{MTLS}, members: {{namespaces: [{}]}}", kind.name)).await?;
            kind.known("client", "http://web/").await.map(drop)
        })
        .await
    })
    .await
}
