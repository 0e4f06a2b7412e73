//! Resources as `kubectl get` shows them.

use anyhow::Context as _;
use serde_json::Value;
use ursa_crds::{KINDS, Kind, Owner};
use ursa_e2e::cluster::Cluster;
use ursa_e2e::eventually;
use ursa_e2e::kind::{SOON, SYSTEM, install, json};

/// Kinds with a sample that control planes judge.
fn kinds() -> impl Iterator<Item = Kind> {
    let written = |kind: &Kind| kind.info().owner.is_users() || kind.info().owner == Owner::Zone;
    let kinds = KINDS.iter().map(|info| info.kind).filter(written);
    kinds.filter(|kind| !matches!(kind, Kind::Secret | Kind::MeshZone))
}

/// Fails if a column shows nothing.
fn filled(columns: &[(String, Value)]) -> anyhow::Result<()> {
    anyhow::ensure!(columns.first().is_some_and(|(title, _)| title == "Name"), "{columns:?}");
    let empty = |cell: &Value| cell.is_null() || *cell == "" || *cell == "<unknown>" || *cell == "<none>";
    match columns.iter().find(|(_, cell)| empty(cell)) {
        Some((title, _)) => anyhow::bail!("column {title} is empty: {columns:?}"),
        None => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_taken_and_every_column_shows_something() -> anyhow::Result<()> {
    install().await?;
    let cluster = Cluster::connect("samples").await?;
    for kind in kinds() {
        let path = format!("{}/../config/samples/{}.yaml", env!("CARGO_MANIFEST_DIR"), kind.info().singular);
        let sample = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let stored = cluster.apply(&sample).await.with_context(|| format!("the sample of {kind}"))?;
        let name = stored.metadata.name.unwrap_or_default();
        let what = format!("every column of {kind} shows something");
        let shown = eventually(&what, SOON, async || filled(&cluster.columns(kind, &name).await?)).await;
        cluster.delete(kind, &name).await?;
        shown?;
    }
    filled(&cluster.columns_of(&format!("namespaces/{SYSTEM}/controlplanes/ursa")).await?)?;
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
