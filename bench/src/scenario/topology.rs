//! All connect, then each kind of change: what most of a control plane's life is.

use std::path::Path;

use super::Effort;
use super::connect::{connect, memory, meshes};
use crate::changes::Place;
use crate::figures::Sheet;
use crate::fleet::Fleet;
use crate::plan::{MESH, Plan, Topology};
use crate::planes::Planes;

pub(super) async fn repetition(
    topology: Topology,
    count_of_meshes: usize,
    size: usize,
    effort: &Effort,
    folder: &Path,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let planes = Planes::start(folder, &["near", "far"]).await?;
    let others: Vec<String> = (1..count_of_meshes).map(|number| format!("mesh-{number}")).collect();
    let names: Vec<&str> = std::iter::once(MESH).chain(others.iter().map(String::as_str)).collect();
    meshes(&planes.global, &planes.zones, &names).await?;
    let (near, far_zone) = (&planes.zones[0], &planes.zones[1]);

    // One client, which calls what others call.
    let mut one = Plan::all(("far", 2), &names, topology, size);
    one.truncate(1);
    let far = Fleet::join(far_zone, one).await?;
    let fleet = connect(near, Plan::all(("near", 1), &names, topology, size), sheet).await?;
    far.quiet().await?;

    let place = Place { global: &planes.global, near, fleet: &fleet, far: Some(&far), alone: true };
    place.policies(effort.changes, sheet).await?;
    place.routes(effort.changes, sheet).await?;
    place.endpoints(effort.changes, None, sheet).await?;
    place.no_ops(2 * effort.changes, sheet).await?;
    memory(near, sheet)
}
