//! On a real Kubernetes API server: the definitions, and a control plane whose store it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use ursa_crds::Kind;
use ursa_e2e::cluster::{Cluster, judged_kinds, parse};
use ursa_e2e::{Banner, MTLS, Workload, World, answer, eventually, permission, refused};

const SOON: Duration = Duration::from_secs(10);

/// A file of the repository.
fn file(path: &str) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_invalid_is_refused_with_the_reason() -> anyhow::Result<()> {
    let cluster = Cluster::connect("invalid").await?;
    for kind in judged_kinds() {
        let text = file(&format!("e2e/tests/invalid/{}.yaml", kind.info().singular))?;
        for document in text.split("---\n") {
            let expected = document.lines().next().and_then(|line| line.strip_prefix("# refused: "));
            let expected =
                expected.with_context(|| format!("{kind}: a document says first why it is refused"))?;
            let error = cluster.create(&parse(document)?).await.map(drop).map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|e| e.contains(expected)), "{kind}: {expected}: {error:?}");
        }
    }
    cluster.end().await
}

/// What a program prints.
async fn printed(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = tokio::process::Command::new(program).args(arguments).output().await;
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    anyhow::ensure!(output.status.success(), "{program}: {}", text(output.stderr));
    Ok(text(output.stdout))
}

/// Objects by kind and name. Empty lists and maps, which a chart cannot leave out, say nothing.
fn objects(yaml: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    fn prune(value: &mut Value) {
        if let Value::Object(fields) = value {
            fields.values_mut().for_each(prune);
            fields.retain(|_, field| *field != json!([]) && *field != json!({}));
        }
        if let Value::Array(items) = value {
            items.iter_mut().for_each(prune);
        }
    }
    let documents = ursa_crds::parse_documents(yaml.as_bytes())?.into_iter().map(|mut object| {
        prune(&mut object);
        (format!("{} {}", object["kind"], object["metadata"]["name"]), object)
    });
    Ok(documents.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_and_kustomize_install_the_same() -> anyhow::Result<()> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let folder = |name: &str| config.join(name).display().to_string();
    let helm = std::env::var("URSA_HELM").context("URSA_HELM is not set; see `make test`")?;
    let chart = folder("chart/ursa");
    let of_helm = printed(&helm, &["template", "ursa", &chart, "--namespace", "ursa-system"]).await?;
    let of_kustomize = printed("kubectl", &["kustomize", &folder("base")]).await?;
    let (of_helm, mut of_kustomize) = (objects(&of_helm)?, objects(&of_kustomize)?);
    // Helm makes the namespace by --create-namespace.
    anyhow::ensure!(of_kustomize.remove("\"Namespace\" \"ursa-system\"").is_some());
    assert_eq!(of_helm, of_kustomize);
    printed(&helm, &["lint", "--strict", &chart]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mesh_of_a_resource_cannot_be_changed() -> anyhow::Result<()> {
    let cluster = Cluster::connect("immutable").await?;
    let sample = file("config/samples/trafficroute.yaml")?;
    cluster.apply(&sample).await?;
    let error = cluster.apply(&sample.replace("mesh: payments", "mesh: other")).await.map(drop);
    let error = error.map_err(|error| error.to_string());
    assert!(error.as_ref().is_err_and(|e| e.contains("mesh cannot be changed")), "{error:?}");
    cluster.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_of_an_ingress_cannot_be_changed() -> anyhow::Result<()> {
    let cluster = Cluster::connect("ingress-of").await?;
    let ingress = |spec: &str| {
        format!(
            "{{apiVersion: ursamesh.io/v1alpha1, kind: ZoneIngress, metadata: {{name: ingress}}, spec: {{{spec}}}}}"
        )
    };
    cluster.apply(&ingress("controlPlaneRef: {name: ursa}")).await?;
    cluster.apply(&ingress("controlPlaneRef: {name: ursa}, replicas: 3")).await?;
    for other in ["controlPlaneRef: {name: other}", "networking: {address: 10.0.0.9}"] {
        let error = cluster.apply(&ingress(other)).await.map(drop).map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|e| e.contains("controlPlaneRef cannot be changed")), "{error:?}");
    }
    cluster.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_on_the_api_server_follows_it_and_finds_everything_again() -> anyhow::Result<()> {
    let cluster = Cluster::connect("store").await?;
    // Of an earlier run.
    let _ = cluster.api(Kind::Mesh).delete("default", &DeleteParams::default()).await;
    let world = World::new("kubernetes-store")?;
    let mut plane = world.standalone_on(&cluster, "aws").await?;
    let host = |number| world.addresses.host(1, number);
    let application = SocketAddr::new(host(4), 16379);
    let _banner = Banner::start(application, "server-1").await?;
    let server = Workload::new("server-1", host(4)).serves("server", 6379, application, &[]);
    let _server = world.agent(&plane, &server).await?;
    let outbound = SocketAddr::new(host(3), 26379);
    let client =
        Workload::new("client-1", host(3)).serves("client", 5001, SocketAddr::new(host(3), 5000), &[]);
    let _client = world.agent(&plane, &client.calls("server", 26379)).await?;
    eventually("plaintext", SOON, async || answer(outbound).await).await?;

    cluster.apply(MTLS).await?;
    eventually("mutual TLS is on: everything is refused", SOON, async || refused(outbound).await).await?;
    let allow = permission("allow-all", "Allow", "ursamesh.io/service: '*'");
    cluster.apply(&allow).await?;
    eventually("a permission by kubectl", SOON, async || answer(outbound).await).await?;
    // A permission of another namespace is not the system's: it allows nothing here.
    cluster.api(Kind::TrafficPermission).delete("allow-all", &DeleteParams::default()).await?;
    eventually("the permission is deleted", SOON, async || refused(outbound).await).await?;
    let team = Cluster::connect("team").await?;
    team.apply(&allow).await?;
    plane.api()?.apply(&permission("by-rest", "Allow", "ursamesh.io/service: nobody")).await?;
    eventually("what REST writes is a resource", SOON, async || {
        cluster.api(Kind::TrafficPermission).get("by-rest").await
    })
    .await?;
    refused(outbound).await?;
    team.end().await?;

    // All that matters is on the API server: another control plane with an empty folder goes on.
    cluster.apply(&allow).await?;
    eventually("allowed again", SOON, async || answer(outbound).await).await?;
    plane.process()?.kill()?;
    std::fs::rename(&plane.data, world.path("data-of-the-first"))?;
    plane.start().await?;
    let api = plane.api()?;
    let (_, list) = api.send(reqwest::Method::GET, "/meshes/default/dataplanes", None).await?;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list}");
    for _ in 0..20 {
        answer(outbound).await?;
    }
    cluster.api(Kind::Mesh).delete("default", &DeleteParams::default()).await?;
    cluster.end().await
}
