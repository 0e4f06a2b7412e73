//! Resources as `kubectl get` shows them.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde_json::Value;
use ursa_crds::Kind;
use ursa_e2e::cluster::{Cluster, judged_kinds};
use ursa_e2e::eventually;
use ursa_e2e::kind::{SOON, SYSTEM, install, json};

/// Titles of the columns that show nothing.
fn empty(columns: Vec<(String, Value)>) -> BTreeSet<String> {
    let says_nothing =
        |cell: &Value| cell.is_null() || *cell == "" || *cell == "<unknown>" || *cell == "<none>";
    columns.into_iter().filter(|(_, cell)| says_nothing(cell)).map(|(title, _)| title).collect()
}

/// Of a kind that has several forms, each has a sample.
async fn apply_samples(cluster: &Cluster, kind: Kind) -> anyhow::Result<Vec<String>> {
    let path = format!("{}/../config/samples/{}.yaml", env!("CARGO_MANIFEST_DIR"), kind.info().singular);
    let samples = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let mut names = Vec::new();
    for sample in samples.split("---\n") {
        // In the test's own namespace.
        let sample = sample.replace(", namespace: ursa-system", "");
        let stored = cluster.apply(&sample).await.with_context(|| format!("the sample of {kind}"))?;
        names.extend(stored.metadata.name);
    }
    Ok(names)
}

/// Titles of the columns that show nothing of any of these objects.
async fn columns_that_show_nothing(
    cluster: &Cluster,
    kind: Kind,
    names: &[String],
) -> anyhow::Result<BTreeSet<String>> {
    let mut of_all: Option<BTreeSet<String>> = None;
    for name in names {
        let columns = cluster.columns(kind, name).await?;
        anyhow::ensure!(columns.first().is_some_and(|(title, _)| title == "Name"), "{columns:?}");
        let empty = empty(columns);
        of_all = Some(of_all.map_or_else(|| empty.clone(), |before| &before & &empty));
    }
    Ok(of_all.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_taken_and_every_column_shows_something() -> anyhow::Result<()> {
    install().await?;
    let cluster = Cluster::connect("samples").await?;
    for kind in judged_kinds() {
        let expected: &[&str] = match kind {
            // What the status of an ingress shows, the test of ingresses looks at: no operator acts in this namespace.
            Kind::ZoneIngress => &["Address", "Port", "Ready", "Reason", "Services"],
            // Global tells; the test of zones looks at it.
            Kind::Zone => &["State"],
            _ => &[],
        };
        let names = apply_samples(&cluster, kind).await?;
        let what = format!("every column of {kind} shows something");
        let shown = eventually(&what, SOON, async || {
            let empty = columns_that_show_nothing(&cluster, kind, &names).await?;
            anyhow::ensure!(empty.iter().eq(expected), "but for {empty:?}");
            Ok(())
        });
        let shown = shown.await;
        for name in &names {
            cluster.delete(kind, name).await?;
        }
        shown?;
    }
    let columns = cluster.columns_of(&format!("namespaces/{SYSTEM}/controlplanes/ursa")).await?;
    anyhow::ensure!(empty(columns.clone()).is_empty(), "{columns:?}");
    cluster.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_of_a_control_plane_is_taken() -> anyhow::Result<()> {
    install().await?;
    let path = format!("{}/../config/samples/controlplane.yaml", env!("CARGO_MANIFEST_DIR"));
    let dry_run = ["apply", "--server-side", "--dry-run=server", "--force-conflicts", "--filename", &path];
    let taken = json(&dry_run).await?;
    anyhow::ensure!(taken["spec"]["replicas"] == 2, "{taken}");
    Ok(())
}
