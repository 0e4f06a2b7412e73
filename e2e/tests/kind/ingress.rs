//! A zone ingress that the operator sets up, at a port of the node: there is no load balancer here.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use ursa_e2e::eventually;
use ursa_e2e::kind::{SOON, SYSTEM, apply, condition, json, kubectl, ursactl, with};

const KINDS: &str = "serviceaccounts,services,deployments,poddisruptionbudgets,networkpolicies,pods";

async fn get(kind: &str, name: &str) -> anyhow::Result<Value> {
    json(&["--namespace", SYSTEM, "get", kind, name]).await
}

/// Where the ingress says that it is reached, once it is ready in the state that was asked for last.
async fn reached(name: &str) -> anyhow::Result<SocketAddr> {
    let found = get("zoneingress", name).await?;
    let status = &found["status"];
    anyhow::ensure!(status["observedGeneration"] == found["metadata"]["generation"], "{status}");
    anyhow::ensure!(condition(&found, "Ready").as_deref() == Some("True"), "{status}");
    anyhow::ensure!(condition(&found, "Advertised").as_deref() == Some("True"), "{status}");
    anyhow::ensure!(status["readyReplicas"] == 2, "{status}");
    let address = status["address"].as_str().context("an address")?.parse()?;
    let port = status["port"].as_u64().context("a port")?.try_into()?;
    Ok(SocketAddr::new(address, port))
}

/// A ClientHello of TLS 1.2 for this server name.
/// Source: <https://www.rfc-editor.org/rfc/rfc5246#section-7.4.1.2>, <https://www.rfc-editor.org/rfc/rfc6066#section-3>.
fn client_hello(name: &str) -> Vec<u8> {
    fn sized(prefix: usize, content: &[u8]) -> Vec<u8> {
        let length = content.len().to_be_bytes();
        [&length[length.len() - prefix..], content].concat()
    }
    let host = [vec![0], sized(2, name.as_bytes())].concat();
    let server_name = [vec![0, 0], sized(2, &sized(2, &host))].concat();
    let hello = [
        vec![3, 3],
        vec![7; 32],
        sized(1, &[]),
        sized(2, &[0x13, 0x01, 0xc0, 0x2b]),
        sized(1, &[0]),
        sized(2, &server_name),
    ]
    .concat();
    let handshake = [vec![1], sized(3, &hello)].concat();
    [vec![22, 3, 1], sized(2, &handshake)].concat()
}

/// Something listens there, and closes on who asks for a server that it does not know, without a word.
async fn closes_without_a_word(at: SocketAddr) -> anyhow::Result<()> {
    let exchange = async {
        let mut stream = TcpStream::connect(at).await?;
        stream.write_all(&client_hello("nobody.ursa")).await?;
        let mut answer = Vec::new();
        // A reset is an end, too.
        let _ = stream.read_to_end(&mut answer).await;
        anyhow::ensure!(answer.is_empty(), "it said {answer:?}");
        Ok(())
    };
    timeout(SOON, exchange).await.with_context(|| format!("{at} keeps the connection open"))?
}

/// Names of everything that belongs to the ingress.
async fn all_of(name: &str) -> anyhow::Result<Vec<String>> {
    let selector = format!("ursamesh.io/zone-ingress={SYSTEM}.{name}");
    let found =
        kubectl(&["--namespace", SYSTEM, "get", KINDS, "--selector", &selector, "--output", "name"]).await?;
    Ok(found.lines().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_is_set_up_kept_and_removed() -> anyhow::Result<()> {
    with("ingress", async |kind| {
        kind.server("web").await?;
        kind.mtls("Strict").await?;
        let (name, proxy) = (format!("in-{}", kind.name), format!("in-{}-proxy", kind.name));
        let manifest = ursactl(&["install", "zone-ingress", "--name", &name, "--type", "node-port"]).await?;
        apply(&manifest).await?;
        let result = lives(&name, &proxy).await;
        kubectl(&["--namespace", SYSTEM, "delete", "zoneingress", &name, "--timeout", "60s"]).await?;
        result?;
        eventually("nothing of it is left", Duration::from_mins(1), async || {
            let left = all_of(&name).await?;
            anyhow::ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await
    })
    .await
}

async fn lives(name: &str, proxy: &str) -> anyhow::Result<()> {
    let at = eventually("both replicas serve", Duration::from_mins(2), async || reached(name).await).await?;
    let service = get("service", proxy).await?;
    anyhow::ensure!(service["spec"]["ports"][0]["nodePort"] == at.port(), "{at}: {}", service["spec"]);
    let nodes = json(&["get", "nodes"]).await?;
    let addresses = nodes["items"].as_array().into_iter().flatten();
    let mut addresses = addresses.filter_map(|node| node["status"]["addresses"].as_array()).flatten();
    anyhow::ensure!(addresses.any(|found| found["address"] == at.ip().to_string()), "{at} is no node's");
    // The node's own rules follow the Service in a moment.
    eventually("it is reached there", SOON, async || closes_without_a_word(at).await).await?;

    let shown = kubectl(&["--namespace", SYSTEM, "get", "zi", name, "--no-headers"]).await?;
    let cells: Vec<&str> = shown.split_whitespace().collect();
    let address = at.ip().to_string();
    anyhow::ensure!(cells[..4] == [name, "ursa", &address, "True"], "{shown}");
    eventually("it says how many services it passes on", SOON * 3, async || {
        let services = get("zoneingress", name).await?["status"]["services"].as_u64();
        anyhow::ensure!(services >= Some(1), "{services:?}");
        Ok(())
    })
    .await?;
    is_restricted(proxy).await?;

    kubectl(&["--namespace", SYSTEM, "delete", "service", proxy]).await?;
    let at = eventually("the Service is made anew", SOON * 3, async || {
        let at = reached(name).await?;
        let service = get("service", proxy).await?;
        anyhow::ensure!(service["spec"]["ports"][0]["nodePort"] == at.port(), "{at}");
        anyhow::Ok(at)
    })
    .await?;
    eventually("it is reached there again", SOON, async || closes_without_a_word(at).await).await
}

/// Its pods may do nothing, and have no certificate.
async fn is_restricted(proxy: &str) -> anyhow::Result<()> {
    let account = format!("system:serviceaccount:{SYSTEM}:{proxy}");
    let may = ["auth", "can-i", "--list", "--as", &account, "--namespace", SYSTEM, "--no-headers"];
    let may = kubectl(&may).await?;
    for word in ["secrets", "pods", "zoneingresses", "configmaps"] {
        anyhow::ensure!(!may.contains(word), "it may do something with {word}: {may}");
    }
    let deployment = get("deployment", proxy).await?;
    let pod = &deployment["spec"]["template"]["spec"];
    anyhow::ensure!(pod["securityContext"]["runAsUser"] == 5678, "{pod}");
    anyhow::ensure!(pod["automountServiceAccountToken"] == false, "{pod}");
    Ok(())
}
