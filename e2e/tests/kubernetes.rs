//! On a real Kubernetes API server: the definitions, and a control plane whose store it is.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::Value;
use ursa_crds::{KINDS, Kind, Owner};
use ursa_e2e::cluster::{Cluster, parse};
use ursa_e2e::{Banner, MTLS, Workload, World, answer, eventually, permission, refused};

const SOON: Duration = Duration::from_secs(10);

/// A file of the repository.
fn file(path: &str) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))
}

/// Kinds that users write as custom resources, and ZoneIngress, which the operator takes from them.
fn kinds() -> impl Iterator<Item = Kind> {
    let written = |kind: &Kind| kind.info().owner.is_users() || kind.info().owner == Owner::Zone;
    KINDS
        .iter()
        .map(|info| info.kind)
        .filter(written)
        .filter(|kind| !matches!(kind, Kind::Secret | Kind::MeshZone))
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_taken_and_every_column_shows_something() -> anyhow::Result<()> {
    let cluster = Cluster::connect("samples").await?;
    for kind in kinds() {
        let samples = file(&format!("config/samples/{}.yaml", kind.info().singular))?;
        // Where a kind has several forms, each has a sample, and each column is of one at least.
        let mut empty: Option<BTreeSet<String>> = None;
        for sample in samples.split("---\n") {
            // In the test's own namespace.
            let sample = sample.replace(", namespace: ursa-system", "");
            let stored = cluster.apply(&sample).await.with_context(|| format!("the sample of {kind}"))?;
            let columns = cluster.columns(kind, &stored.name_any()).await?;
            assert_eq!(columns.first().map(|(title, _)| title.as_str()), Some("Name"));
            let says_nothing = |cell: &Value| cell.is_null() || cell == "" || cell == "<unknown>";
            let now = columns.into_iter().filter(|(_, cell)| says_nothing(cell)).map(|(title, _)| title);
            let now: BTreeSet<String> = now.collect();
            empty = Some(empty.map_or_else(|| now.clone(), |empty| &empty & &now));
            cluster.api(kind).delete(&stored.name_any(), &DeleteParams::default()).await?;
        }
        assert_eq!(empty.unwrap_or_default(), of_status(kind), "{kind}: columns that say nothing");
    }
    cluster.end().await
}

/// Titles of the columns that the operator and the control plane fill, neither of which is there.
fn of_status(kind: Kind) -> BTreeSet<String> {
    let versions = (kind.info().crd)().spec.versions.into_iter();
    let columns = versions.flat_map(|version| version.additional_printer_columns.unwrap_or_default());
    columns.filter(|column| column.json_path.starts_with(".status")).map(|column| column.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_invalid_is_refused_with_the_reason() -> anyhow::Result<()> {
    let cluster = Cluster::connect("invalid").await?;
    for kind in kinds() {
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
