//! Who gets in: by mode, by permission, by what the client is; and what happens to connections that are open.

use serde_json::Value;
use ursa_e2e::kind::{Kind, SOON, apply, deployment, kubectl, with};
use ursa_e2e::{eventually, rounds};

use super::replicas::{BOUND, insights};

/// Envoy's drain time, and some seconds.
const CUT_WITHIN: std::time::Duration = std::time::Duration::from_secs(12);

/// What a client hears of a server that speaks first.
async fn heard(kind: &Kind, from: &str, address: &str) -> anyhow::Result<String> {
    let said = kind.exec(from, &["listen", address]).await?;
    Ok(said["heard"].as_str().unwrap_or_default().to_owned())
}

/// Whether a client is answered, by HTTP and by a server that speaks first; a refused one hears not one byte.
async fn gets_in(kind: &Kind, from: &str, host: &str) -> anyhow::Result<(bool, bool)> {
    let http = kind.call(from, &format!("http://{host}/")).await.is_ok();
    let banner = heard(kind, from, &format!("{host}:9000")).await?;
    anyhow::ensure!(banner.is_empty() || banner == "web speaks first\n", "half a banner: {banner:?}");
    Ok((http, !banner.is_empty()))
}

/// A pod of another mesh, in a namespace of its own.
async fn foreigner(kind: &Kind) -> anyhow::Result<String> {
    let name = format!("{}-other", kind.name);
    apply(&format!("{{apiVersion: ursamesh.io/v1alpha1, kind: Mesh, metadata: {{name: {name}}}, spec: {{mtls: {{enabledBackend: ca, backends: [{{name: ca, type: Builtin}}]}}}}}}")).await?;
    let labels = "ursamesh.io/sidecar-injection: enabled";
    let client = deployment("foreigner", &["serve"], labels, "").replace(
        "metadata: {labels:",
        &format!("metadata: {{annotations: {{ursamesh.io/mesh: {name}}}, labels:"),
    );
    kind.apply(&client).await?;
    kind.ready("foreigner").await?;
    Ok(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_in_by_mode_permission_and_client() -> anyhow::Result<()> {
    with("table", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"), kind.stranger("stranger"))?;
        let other = foreigner(kind).await?;
        // Of the mesh's client, the stranger, and the other mesh's client.
        let table = [
            ("off", "none", [true, true, false]),
            ("Permissive", "none", [false, true, false]),
            ("Permissive", "allow", [true, true, false]),
            ("Permissive", "deny", [false, true, false]),
            ("Strict", "none", [false, false, false]),
            ("Strict", "allow", [true, false, false]),
            ("Strict", "deny", [false, false, false]),
        ];
        for (mode, permission, expected) in table {
            match mode {
                "off" => kind.mesh("").await?,
                mode => kind.mtls(mode).await?,
            }
            match permission {
                "allow" => kind.permit("allow", "client", "web").await?,
                "deny" => {
                    let tags =
                        |name: &str| format!("[{{match: {{ursamesh.io/service: {}}}}}]", kind.service(name));
                    let spec =
                        format!("action: Deny, sources: {}, destinations: {}", tags("client"), tags("web"));
                    kind.policy("TrafficPermission", "deny", &spec).await?;
                }
                _ => {
                    let all = kubectl(&[
                        "--namespace",
                        "ursa-system",
                        "get",
                        "trafficpermissions",
                        "--output",
                        "name",
                    ])
                    .await?;
                    for (name, _) in [("allow", ""), ("deny", "")] {
                        if all.contains(&format!("/{}.{name}", kind.name)) {
                            kind.delete_policy("trafficpermission", name).await?;
                        }
                    }
                }
            }
            for (client, expected) in ["client", "stranger", "foreigner"].into_iter().zip(expected) {
                let what = format!(
                    "{mode:10} {permission:5} {client:9} {}",
                    if expected { "gets in" } else { "is refused" }
                );
                eventually(&what, SOON, async || {
                    let seen = gets_in(kind, client, "web").await?;
                    anyhow::ensure!(seen == (expected, expected), "{what}: HTTP and TCP: {seen:?}");
                    Ok(())
                })
                .await?;
            }
        }
        kubectl(&["delete", "mesh", &other]).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowing_ends_what_it_forbids_and_an_addition_nothing() -> anyhow::Result<()> {
    with("narrowing", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"))?;
        kind.mtls("Strict").await?;
        kind.permit("allow", "client", "web").await?;
        kind.answered("client", "http://web/").await?;
        let held = eventually("a connection to the echo", SOON, async || {
            kind.start("client", &["hold", "web:9001"]).await
        });
        let mut held = held.await?;
        let mut asking = kind.start("client", &["hold-http", "web:80"]).await?;
        kind.permit("more", "nobody", "web").await?;
        kind.permit("others", "*", "nobody").await?;
        kind.answered("client", "http://web/").await?;
        kind.delete_policy("trafficpermission", "allow").await?;
        // The connection stays, and the next request on it is refused.
        let refused = tokio::time::timeout(CUT_WITHIN, asking.said()).await??;
        anyhow::ensure!(refused["status"] == 403, "{refused}");
        println!("refused after {} answers on the same connection", refused["answered"]);
        let ended = tokio::time::timeout(CUT_WITHIN, held.said()).await??;
        anyhow::ensure!(ended["cut"] == Value::Bool(true), "{ended}");
        println!("cut after {} ms of its life", ended["milliseconds"]);
        kind.refused("client", "http://web/").await?;
        let nothing = heard(kind, "client", "web:9000").await?;
        anyhow::ensure!(nothing.is_empty(), "a refused client heard {nothing:?}");
        Ok(())
    })
    .await
}

/// The insight of a workload's only pod names the only pod of another as let in without an identity: in the clear, at the
/// server's HTTP port.
async fn names_as_let_in(kind: &Kind, server: &str, caller: &str) -> anyhow::Result<()> {
    let path = "jsonpath={.items[*].status.podIP}";
    let selector = format!("app={caller}");
    let address = kind.kubectl(&["get", "pods", "--selector", &selector, "--output", path]).await?;
    let address = address.trim();
    anyhow::ensure!(address.parse::<std::net::IpAddr>().is_ok(), "{caller} is at {address:?}");
    eventually(&format!("the insight of {server} names {caller}"), BOUND, async || {
        let insights = insights(&kind.name).await?;
        let of_server = |spec: &&Value| {
            spec["dataplane"].as_str().is_some_and(|name| name.starts_with(&format!("{server}-")))
        };
        let spec = insights.iter().map(|insight| &insight["spec"]).find(of_server);
        let let_in = spec.and_then(|spec| spec["unauthenticatedPeers"].as_array());
        let named = let_in.into_iter().flatten().any(|peer| {
            (&peer["address"], &peer["transport"], &peer["port"]) == (&address.into(), &"Plaintext".into(), &8080.into())
                && peer["count"].as_u64() > Some(0)
                // It is not in the mesh, so there is no dataplane at its address.
                && peer["dataplane"].is_null()
        });
        anyhow::ensure!(named, "{address} is not named: {let_in:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn from_permissive_to_strict_the_mesh_loses_nothing() -> anyhow::Result<()> {
    with("strict", async |kind| {
        tokio::try_join!(kind.server("web"), kind.client("client"), kind.stranger("stranger"))?;
        kind.mtls("Permissive").await?;
        kind.permit("allow", "client", "web").await?;
        kind.known("client", "http://web/").await?;
        kind.answered("stranger", "http://web/").await?;
        // Before Strict one can see whom it will refuse.
        names_as_let_in(kind, "web", "stranger").await?;
        let load = kind.load("client", "http://web/").await?;
        let held = kind.start("client", &["hold", "web:9001"]).await?;
        for round in 0..rounds(1, 20) {
            if round > 0 {
                kind.mtls("Permissive").await?;
                kind.answered("stranger", "http://web/").await?;
            }
            kind.mtls("Strict").await?;
            kind.refused("stranger", "http://web/").await?;
            kind.answered("client", "http://web/").await?;
        }
        let held = held.stop().await?;
        anyhow::ensure!(held["cut"] == Value::Bool(false), "a connection of the mesh was cut: {held}");
        load.answered_all().await.map(drop)
    })
    .await
}
